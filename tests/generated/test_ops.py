"""Every op in every language it speaks, against its own NumPy body. Nothing here names an op."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.config import configure
from coreml_lab.program.graph import Array, Graph, Value
from coreml_lab.program.mil import inference
from coreml_lab.program.mil.tools import LOCK, TARGET, Function, SSAOpRegistry, mb
from coreml_lab.program.ops import OPS, Op
from coreml_lab.program.tensors import Tensor
from coreml_lab.run import compiler
from tests.support.op_cases import (
    CASES,
    LIMITED,
    Case,
    Results,
    assert_agrees,
    expected,
    fits,
    parameters,
    record,
    run_together,
)
from tests.support.op_engines import onnx_runtime, pytorch

EACH_OP = pytest.mark.parametrize(
    "op", [pytest.param(o, id=f"{o.family}-{o.name}") for o in OPS.values()]
)


# Lists and states have no tensors in MIL to ask about.
EACH_TENSOR_OP = pytest.mark.parametrize(
    "op", [pytest.param(o, id=f"{o.family}-{o.name}") for o in OPS.values() if not o.opaque]
)


@functools.cache
def lowered(name: str) -> Results:
    """The ONNX results of a whole family."""
    cases = [c for c in CASES if c.op.family == name and c.op.onnx is not None]
    return run_together(cases, onnx_runtime, alone=lambda c: bool(c.limit("portable")))


@pytest.mark.parametrize(
    "case", parameters("portable", cases=[c for c in CASES if c.op.onnx is not None])
)
def test_onnx_lowering_agrees_with_the_body(case: Case) -> None:
    got = lowered(case.op.family)[case.id]
    if isinstance(got, Exception):
        raise got
    assert_agrees(got, expected(case))


@pytest.mark.parametrize("case", parameters())
def test_inferred_type_is_the_type_of_the_body(case: Case) -> None:
    types = record(case, {}).types
    want = expected(case)
    assert len(types) == len(want)
    for kind, value in zip(types, want, strict=True):
        assert fits(kind, value), f"MIL infers {kind}, the body gives {value.dtype}{value.shape}"


@pytest.mark.parametrize("case", parameters("apple", cases=[c for c in CASES if not c.op.opaque]))
def test_body_agrees_with_apples_evaluation(case: Case) -> None:
    with np.errstate(all="ignore"):
        value = inference.apple_value(case.op.name, {**case.operands, **case.attrs})
    if value is None:
        pytest.skip(f"MIL does not evaluate {case.op.name}")
    assert_agrees(value, expected(case))


@functools.cache
def on_torch(name: str) -> Results:
    """The results of a whole family on the PyTorch engine, without Core ML's passes."""
    cases = [c for c in CASES if c.op.family == name]
    return run_together(cases, pytorch, alone=lambda c: bool(c.limit("pytorch")))


@pytest.mark.torch
@pytest.mark.parametrize("case", parameters("pytorch"))
def test_torch_lowering_agrees_with_the_body(case: Case) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    got = on_torch(case.op.family)[case.id]
    if isinstance(got, Exception):
        raise got
    assert_agrees(got, expected(case))


@pytest.mark.torch
@pytest.mark.parametrize(
    "case", parameters("captured", cases=[c for c in CASES if not c.limit("pytorch")])
)
def test_a_device_is_not_asked_for_what_it_holds_unless_sizes_depend_on_it(case: Case) -> None:
    """What a CUDA graph can hold: no reads of the device, and no constants made anew."""
    pytest.importorskip("torch", reason="torch is not installed")
    from tests.support.remote import Remote, asking_is_an_error

    feeds: dict[str, Array] = {}
    node = record(case, feeds)
    if not all(kind.static for kind in node.types):
        pytest.skip("the size of its result is only known when it has run")
    graph = Graph({f"y{i}": Value(node, i) for i in range(len(node.types))})
    remote = Remote(graph)
    if not remote.plan.static:
        pytest.skip("it draws new numbers in every run")
    remote.run(feeds)
    made = remote.space.made
    with asking_is_an_error():
        remote.run(feeds)
    assert remote.space.made == made, "constants are moved to the device in every run"


@functools.cache
def in_halves(name: str, folder: Path) -> Results:
    """What a family computes after Core ML's passes in fp16 tensors, as GPUs hold them."""
    import torch

    from coreml_lab.run.steps.border import Types, queued
    from coreml_lab.run.steps.plan import plan
    from coreml_lab.run.steps.space import Space

    def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = {k: Tensor(v, "coreml:0") for k, v in graph.outputs.items()}
        with configure(cache_dir=folder):
            built = compiler.compile(outputs, precision="fp16", engine="reference").program.graph
        space = Space(torch, native=True)
        types = Types(
            {k: n.type for k, n in built.inputs.items()},
            {},
            {k: v.type for k, v in built.outputs.items()},
        )
        given = {
            k: space.entered(np.asarray(feeds[k], n.type.dtype).reshape(n.type.sizes))
            for k, n in built.inputs.items()
        }
        with torch.inference_mode():
            made = queued(plan(built, space), given, {}, types)
        # A package has no tensors of rank 0, in or out.
        whole = {k: v.type.sizes if v.type.static else None for k, v in graph.outputs.items()}
        arrays = {k: v.numpy() for k, v in made.outputs.items()}
        return {k: a if whole[k] is None else a.reshape(whole[k]) for k, a in arrays.items()}

    cases = [c for c in CASES if c.op.family == name and not road(c)]
    return run_together(cases, run, alone=lambda c: bool(c.limit("pytorch", "fp16")))


@pytest.mark.torch
@pytest.mark.parametrize(
    "case", parameters("pytorch", "fp16", cases=[c for c in CASES if not c.op.stored])
)
def test_torch_computes_in_fp16_as_the_body_in_single_precision(
    case: Case, session_cache: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    got = in_halves(case.op.family, session_cache)[case.id]
    if isinstance(got, Exception):
        raise got
    assert_agrees(got, expected(case, "fp16"), "fp16")


def road(case: Case) -> str:
    """Why a case cannot be a model of its own, or an empty string."""
    if case.op.stored:
        return "only coremltools' passes write it"
    return ""


@functools.cache
def compiled(name: str, precision: str, engine: str, folder: Path) -> Results:
    """What a whole family computes after Core ML's passes, on an engine."""

    def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = {k: Tensor(v, "coreml:0") for k, v in graph.outputs.items()}
        with configure(cache_dir=folder):
            device = "cpu" if engine == "pytorch" else "coreml"
            model = compiler.compile(outputs, precision=precision, device=device, engine=engine)
            return model.predict(feeds)

    cases = [c for c in CASES if c.op.family == name and not road(c)]
    return run_together(cases, run, alone=lambda c: bool(c.limit(engine, precision)))


ROADS = [
    pytest.param(
        *case.values,
        engine,
        precision,
        id=f"{case.id}-{engine}-{precision}",
        marks=[*case.marks, *([pytest.mark.torch] if engine == "pytorch" else [])],
    )
    for engine in ("portable", "reference", "pytorch")
    for precision in ("fp32", "fp16")
    for case in parameters(engine, precision, cases=[c for c in CASES if not road(c)])
]


@pytest.mark.parametrize(("case", "engine", "precision"), ROADS)
def test_engine_agrees_after_core_mls_passes(
    case: Case, engine: str, precision: str, session_cache: Path
) -> None:
    if engine == "pytorch":
        pytest.importorskip("torch", reason="torch is not installed")
    got = compiled(case.op.family, precision, engine, session_cache)[case.id]
    if isinstance(got, Exception):
        raise got
    assert_agrees(got, expected(case, precision), precision)


@EACH_TENSOR_OP
def test_parameters_are_mils_and_keyword_only_where_mil_wants_a_constant(op: Op) -> None:
    given = {p.name: p.kind is p.KEYWORD_ONLY for p in op.signature.parameters.values()}
    assert given == inference.parameters(op.name)


@EACH_TENSOR_OP
def test_defaults_are_mils(op: Op) -> None:
    known, formulas = mil_defaults(op)
    for parameter in op.signature.parameters.values():
        mine = parameter.default
        if parameter.name not in known:
            assert mine is parameter.empty, f"MIL requires {parameter.name}"
        elif mine is None:
            assert known[parameter.name] is None or parameter.name in formulas, (
                f"MIL's default of {parameter.name} is fixed"
            )
        else:
            assert mine is not parameter.empty, (
                f"MIL has a default for {parameter.name}: {known[parameter.name]!r}"
            )
            want = np.asarray(known[parameter.name])
            np.testing.assert_array_equal(
                np.asarray(mine, want.dtype if want.dtype.kind in "fiu" else None), want
            )


def mil_defaults(op: Op) -> tuple[dict[str, Any], set[str]]:
    """MIL's defaults for the first sample, and which of them depend on the operands."""
    kind = SSAOpRegistry.core_ops[op.name][TARGET]
    optional = {k for k, v in kind.input_spec.input_types.items() if v.optional}
    case = Case(op, 0)
    with (
        LOCK,
        Function({"unused": mb.placeholder(shape=(1,))}, opset_version=TARGET),
        np.errstate(all="ignore"),
    ):
        result = getattr(mb, op.name)(**case.operands, **case.attrs)
        first = result[0] if isinstance(result, tuple | list) else result
        defaults = {
            k: v
            for d in ([first.op.default_inputs()] if first.op is not None else [])
            for k, v in d.items()
        }
    try:
        fixed = set(dict(kind.default_inputs(object()).items()))
    except (AttributeError, TypeError):  # it asks the operands, or the class it extends
        fixed = set()
    return {k: defaults.get(k) for k in optional}, set(defaults) - fixed


@EACH_OP
def test_samples_change_every_default(op: Op) -> None:
    defaults = {
        p.name: p.default for p in op.signature.parameters.values() if p.default is not p.empty
    }
    unchanged = {k for k, v in defaults.items() if all(_same(s.get(k, v), v) for s in op.samples)}
    assert not unchanged


def _same(value: Any, default: Any) -> bool:
    return (
        value is None
        if default is None
        else value is not None and bool(np.array_equal(value, default))
    )


@EACH_OP
def test_docstring_opens_with_one_sentence(op: Op) -> None:
    summary = op.doc.splitlines()[0] if op.doc else ""
    assert summary.endswith("."), f"the summary must be one sentence: {summary!r}"
    assert inspect.getdoc(op.reference) == op.doc


@EACH_OP
def test_op_has_samples_and_limits_that_mean_something(op: Op) -> None:
    assert op.samples
    assert all(
        m.engine in LIMITED and m.why and -1 <= m.sample < len(op.samples) for m in op.limits
    )
