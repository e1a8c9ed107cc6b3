"""Every sample in every element type that MIL admits, and without elements. Names no op."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from coreml_lab.errors import EngineError, LabError
from coreml_lab.program.graph import Array
from coreml_lab.program.ops import OPS
from tests.support.op_cases import CASES, Results, assert_agrees, record, run_together
from tests.support.op_engines import by_definition, onnx_runtime, pytorch, walked
from tests.support.op_variants import (
    Variant,
    dtype_variants,
    empty_variants,
    flexible,
    sizes,
)

# What stored ops and lists are made of has tests of its own.
PLAIN = [o for o in OPS.values() if not (o.stored and o.name != "cast") and not o.opaque]
EACH_OP = pytest.mark.parametrize("name", [o.name for o in PLAIN])
NEWEST = 18


@functools.cache
def typed() -> dict[str, list[Variant]]:
    """Per op, its variants in other element types, as far as MIL admits them."""
    found: dict[str, list[Variant]] = {o.name: [] for o in PLAIN}
    for case in dtype_variants(NEWEST):
        if case.op.name in found and admitted(case):
            found[case.op.name].append(case)
    return found


def admitted(case: Variant) -> bool:
    """Whether MIL's type inference takes it."""
    try:
        record(case, {})
    except LabError:
        return False
    return True


def disagreements(
    cases: Iterable[Variant], results: Results, want: Callable[[Variant], tuple[Array, ...]]
) -> list[str]:
    """What is wrong with each case that is not as it should be."""
    found = []
    for case in cases:
        got = results[case.id]
        if isinstance(got, Exception):
            found.append(f"{case.id}: {got!r:.300}")
            continue
        try:
            assert_agrees(got, want(case), "fp16" if half(case) else "fp32")
        except AssertionError as error:
            found.append(f"{case.id}: {' '.join(str(error).split())[:300]}")
    return found


def half(case: Variant) -> bool:
    """Whether an operand is in half precision."""
    return any(getattr(v, "dtype", None) == np.float16 for v in case.sample.values())


@EACH_OP
@pytest.mark.parametrize("faithful", [False, True], ids=["widened", "faithful"])
def test_onnx_agrees_with_the_definition_in_every_element_type(name: str, faithful: bool) -> None:
    cases = [c for c in typed()[name] if not c.limit("portable") and half(c) >= faithful]
    run = functools.partial(onnx_runtime, faithful=faithful)
    got = run_together(cases, run, alone=lambda _: False)
    assert not disagreements(cases, got, by_definition)


@pytest.mark.torch
@EACH_OP
def test_torch_agrees_with_the_definition_in_every_element_type(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    cases = [c for c in typed()[name] if not c.limit("pytorch")]
    got = run_together(cases, pytorch, alone=lambda _: False)
    assert not disagreements(cases, got, by_definition)


@pytest.mark.sweep
@EACH_OP
def test_without_elements_engines_agree_or_refuse(name: str) -> None:
    """Nothing but an engine's own error may come of it: some kernels would end the process."""
    cases = [c for c in empty_variants() if c.op.name == name and admitted(c)]
    done, got = [], {}
    for case in cases:
        result = run_together([case], onnx_runtime, alone=lambda _: False)[case.id]
        try:
            want = by_definition(case)
        except EngineError:
            continue
        if isinstance(result, REFUSALS):
            continue
        # MIL's own rules do not look at every size.
        if [w.shape for w in want] == [k.shape for k in record(case, {}).types]:
            done.append(case)
            got[case.id] = result
    assert not disagreements(done, got, by_definition)


@pytest.mark.sweep
@EACH_OP
@pytest.mark.parametrize("empty", [False, True], ids=["as it is", "0"])
def test_a_size_that_is_only_known_when_it_runs_changes_nothing(name: str, empty: bool) -> None:
    for case in [c for c in CASES if c.op.name == name and not c.limit("portable")]:
        for size in sizes(case):
            try:
                graph, feeds = flexible(case, size, empty=empty)
                want = walked(graph, feeds)
                got = onnx_runtime(graph, feeds)
            except REFUSALS as error:
                # A size that MIL or a parameter fixes; of no elements, most operations make none.
                if not empty and not isinstance(error, LabError):
                    raise
                continue
            if not empty or all(a.size for a in want.values()):
                assert_agrees(got.values(), tuple(want.values()))


REFUSALS = (LabError, Fail, InvalidArgument, RuntimeException, InvalidGraph)
