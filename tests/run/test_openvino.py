"""OpenVINO on our ONNX bytes: every sample of every op, states, spans, and what it must refuse."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import EngineUnavailable, UnsupportedOp
from coreml_lab.program.graph import Array, Graph
from coreml_lab.program.mil.tools import mb
from coreml_lab.run import choice, openvino_onnx
from coreml_lab.run.engine import Options
from coreml_lab.run.lowering.lowered import opened
from coreml_lab.run.openvino_onnx import OpenVINOEngine, OpenVINOProgram
from coreml_lab.run.openvino_refusals import refusal
from tests.support.op_cases import (
    CASES,
    Case,
    Results,
    assert_agrees,
    expected,
    parameters,
    record,
    run_together,
)
from tests.support.seam_models import counter
from tests.support.stateful import build

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")

LOWERED = [c for c in CASES if c.op.onnx is not None]


class _Bare:
    """A program that is nothing but its graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    bare: Any = _Bare(graph)
    program = opened(
        bare, None, lambda f: OpenVINOProgram(f, "coreml:0", Options(), {}), faithful=False
    )
    return program.run(feeds)


@functools.cache
def results(family: str) -> Results:
    cases = [c for c in LOWERED if c.op.family == family and not refusal(record(c, {}))]
    return run_together(cases, run, alone=lambda c: bool(c.limit("portable")))


@pytest.mark.parametrize("case", parameters("portable", cases=LOWERED))
def test_openvino_agrees_with_the_body_or_is_kept_from_it(case: Case) -> None:
    if any(a.dtype.kind == "f" and np.isnan(a).any() for a in case.fed):
        pytest.skip("OpenVINO does not carry NaN everywhere: its module says so")
    if why := refusal(record(case, {})):
        pytest.skip(f"refused: {why}")
    got = results(case.op.family)[case.id]
    if isinstance(got, Exception):
        raise got
    assert_agrees(got, expected(case))


def small() -> cl.Model:
    w = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    return cl.compile(
        lambda x: ops.relu(ops.conv(x, w, pad_type="same")),
        x=cl.spec(1, 3, 16, 16),
        engine="openvino",
    )


def test_a_model_asked_for_openvino_runs_there_and_says_so(cache_dir: Path) -> None:
    model = small()
    x = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)
    assert model.plan.engine == "openvino"
    assert "OpenVINO" in model.plan.title
    got = model.predict({"x": x})
    portable = cl.load(model.program.package, engine="portable").predict({"x": x})
    for name, array in portable.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_spans_are_credited_to_operations_of_the_program() -> None:
    model = small()
    runs = model.trace({"x": np.zeros((1, 3, 16, 16), np.float32)}, runs=2)
    told = {n for s in runs[0].spans for n in (s.node, *s.fused)}
    assert {op.name for op in model.info.ops if op.op in {"conv", "relu"}} <= told
    assert all(s.duration_ns >= 0 and s.engine == "openvino" for s in runs[1].spans)


def test_what_openvino_computes_differently_is_refused_with_the_reason() -> None:
    x = cl.spec(1, 3, 8, 7)
    with pytest.raises(UnsupportedOp, match="ceil_mode"):
        cl.compile(
            lambda x: ops.max_pool(
                x,
                kernel_sizes=[3, 2],
                strides=[3, 2],
                pad_type="custom",
                pad=[1, 1, 0, 0],
                ceil_mode=True,
            ),
            x=x,
            engine="openvino",
        )


def test_faithful_precision_is_refused_because_rounding_would_be_removed() -> None:
    with pytest.raises(UnsupportedOp, match="rounding"):
        cl.compile(ops.exp, x=cl.spec(3), engine="openvino", precision="faithful")


def test_the_verdict_is_kept_so_that_a_warm_start_needs_no_graph(cache_dir: Path) -> None:
    model = small()
    verdicts = list(cache_dir.glob("*-openvino/refused.txt"))
    assert [v.read_text() for v in verdicts] == [""]
    again = cl.load(model.program.package, engine="openvino")
    assert again.plan.engine == "openvino"


def test_without_the_package_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_onnx, "package_version", lambda name: "")
    assert "pip install" in OpenVINOEngine().available().reason
    with pytest.raises(EngineUnavailable, match="not installed"):
        small()


def test_states_carry_from_step_to_step(tmp_path: Path) -> None:
    package = tmp_path / "counter.mlpackage"
    counter().save(str(package))
    model = cl.load(package, engine="openvino")
    state, x = model.make_state(), np.array([[1, 2, 3, 4]], np.float16)
    for step in range(1, 4):
        (y,) = model.predict({"x": x}, state=state).values()
        np.testing.assert_array_equal(y, step * x)
    (name,) = state.names
    np.testing.assert_array_equal(state.read(name), 3 * x)


class _Timed:
    """A loaded program that computes y = 2 x and takes a given time."""

    states: Mapping[str, Any] = {}

    def __init__(self, seconds: float, factor: float = 2) -> None:
        self.seconds, self.factor = seconds, factor

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        time.sleep(self.seconds)
        return {"y": inputs["x"] * self.factor}


def chosen(second: Any) -> choice.Choice:
    first: Any = _Timed(0.01)
    return choice.fastest(("portable", first), [("other", second)], {"x": np.ones(3)})


def test_the_faster_engine_is_chosen_with_its_figures() -> None:
    found = chosen(lambda: _Timed(0.0))
    assert found.engine == "other"
    assert "ms on portable" in found.why


def test_a_slower_engine_is_not_chosen() -> None:
    assert chosen(lambda: _Timed(0.03)).engine == "portable"


def test_a_fast_engine_with_other_results_is_not_chosen() -> None:
    found = chosen(lambda: _Timed(0.0, factor=2.1))
    assert found.engine == "portable"
    assert "differ" in found.why


def test_an_engine_that_refuses_the_program_leaves_the_first_one() -> None:
    def refuse() -> Any:
        raise UnsupportedOp("no such op", engine="other")

    found = chosen(refuse)
    assert found.engine == "portable"
    assert "no such op" in found.why


def test_auto_measures_once_and_remembers(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cl.configure(rivals=True)
    package = small().program.package
    first = cl.load(package)
    assert "measured" in first.plan.reason
    monkeypatch.setattr(choice, "fastest", None)  # a second measurement would fail
    again = cl.load(package)
    assert again.plan == first.plan


@pytest.mark.parametrize("inside", [False, True])
def test_equal_values_are_ordered_by_their_place(inside: bool, tmp_path: Path) -> None:
    def ranked(x: Any) -> Any:
        if not inside:
            return mb.topk(x=x, k=200)[1]
        total = mb.reduce_sum(x=x, axes=[0, 1], keep_dims=False)
        return mb.cond(
            pred=mb.greater(x=total, y=0.0),
            _true_fn=lambda: mb.topk(x=x, k=200)[1],
            _false_fn=lambda: mb.argsort(x=x),
        )

    package = build(tmp_path, ranked, {"x": (3, 200)})
    x = np.random.default_rng(0).integers(1, 5, (3, 200)).astype(np.float32)
    (got,) = cl.load(package, engine="openvino").predict({"x": x}).values()
    np.testing.assert_array_equal(got, np.argsort(-x, axis=-1, kind="stable"))
