"""Every op that draws random numbers: seeds, fresh numbers, their law. Nothing here names an op."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.config import configure
from coreml_lab.program.graph import Array, Graph, Node, Value
from coreml_lab.program.ops import OPS, Law
from coreml_lab.program.tensors import Tensor
from coreml_lab.run import compiler
from coreml_lab.run.model import Model
from tests.support.op_cases import CASES, Case, program

RANDOM = tuple(case for case in CASES if case.op.law is not None)
# Fewer numbers than these say little about a distribution.
ENOUGH = 500
LARGE = [pytest.param(c, id=c.id) for c in RANDOM if np.size(c.op.reference(**c.sample)) >= ENOUGH]
DEVICE = {"portable": "coreml", "reference": "coreml", "pytorch": "cpu"}
FRESH = -1


def compiled(case: Case, seed: int, engine: str, folder: Path) -> tuple[Model, dict[str, Array]]:
    """A program of the case twice over, with ``seed``, and what to feed it."""
    graph, feeds = program([case])
    (node,) = graph.ops
    outputs = {}
    for name in ("first", "second"):
        attrs = {**node.attrs, "seed": seed}
        twin = Node(node.op, node.types, node.inputs, attrs, name=name)
        outputs[f"{name}_out"] = Tensor(Value(twin), "coreml:0")
    with configure(cache_dir=folder):
        return compiler.compile(outputs, device=DEVICE[engine], engine=engine), feeds


def drawn_by(engine: str, case: Case, seed: int, folder: Path) -> Callable[[], list[Array]]:
    """A function that draws: two arrays each time."""
    if engine == "pytorch":
        pytest.importorskip("torch", reason="torch is not installed")
    model, feeds = compiled(case, seed, engine, folder)
    return lambda: [model.predict(feeds)[f"{name}_out"] for name in ("first", "second")]


def law_of(case: Case) -> Law:
    """What the case's numbers follow."""
    assert case.op.law is not None
    return case.op.law(**case.sample)


def assert_follows(drawn: Array, law: Law) -> None:
    """Pearson's test per distribution, far beyond chance, and no trace of the number before."""
    edges = np.asarray(law.edges)
    if law.whole:
        np.testing.assert_array_equal(drawn, np.round(drawn))
    for numbers, shares in zip(drawn.reshape(len(law.shares), -1), law.shares, strict=True):
        assert numbers.min() >= edges[0]
        assert numbers.max() < edges[-1]
        counts = np.bincount(np.searchsorted(edges, numbers, "right") - 1, minlength=len(shares))
        assert not counts[shares == 0].any()
        wanted = shares[shares > 0] * len(numbers)
        away = ((counts[shares > 0] - wanted) ** 2 / wanted).sum()
        freedom = len(wanted) - 1
        # Less likely than one in a thousand million, for up to twenty cells.
        assert away < freedom + 9 * np.sqrt(2 * freedom) + 25, f"{away:.1f} of {freedom}"
        assert_unrelated(numbers[1:], numbers[:-1])


def assert_unrelated(a: Array, b: Array, law: Law | None = None) -> None:
    """Pearson's correlation is that of chance, in each part that has a distribution of its own."""
    parts = 1 if law is None else len(law.shares)
    for one, two in zip(a.reshape(parts, -1), b.reshape(parts, -1), strict=True):
        found = np.corrcoef(one.astype(np.float64), two.astype(np.float64))[0, 1]
        assert abs(found) < 6.5 / np.sqrt(one.size)


@pytest.fixture(params=["portable", "reference", pytest.param("pytorch", marks=pytest.mark.torch)])
def engine(request: Any) -> str:
    """Each way to run an operation."""
    return str(request.param)


@pytest.mark.parametrize("case", LARGE)
def test_numbers_follow_the_law_and_a_seed_repeats_them(
    case: Case, engine: str, session_cache: Path
) -> None:
    law = law_of(case)
    draw = drawn_by(engine, case, 12345, session_cache)
    (first, twin), (again, _) = draw(), draw()
    assert_follows(first, law)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, twin)
    (other, _) = drawn_by(engine, case, 12346, session_cache)()
    assert_unrelated(first, other, law)


@pytest.mark.parametrize("case", LARGE)
def test_without_a_seed_every_operation_and_run_has_numbers_of_its_own(
    case: Case, engine: str, session_cache: Path
) -> None:
    law = law_of(case)
    draw = drawn_by(engine, case, FRESH, session_cache)
    four = [*draw(), *draw()]
    for i, numbers in enumerate(four):
        assert_follows(numbers, law)
        for other in four[:i]:
            assert_unrelated(numbers, other, law)


@pytest.mark.parametrize("case", LARGE)
def test_two_sessions_do_not_repeat_each_other(case: Case, session_cache: Path) -> None:
    one, two = (drawn_by("portable", case, FRESH, session_cache)()[0] for _ in range(2))
    assert_unrelated(one, two, law_of(case))


def test_every_random_operation_has_a_large_sample_and_a_seed() -> None:
    named = {o.name for o in OPS.values() if o.law is not None}
    assert named
    assert named == {case.values[0].op.name for case in LARGE}
    assert all("seed" in o.signature.parameters for o in OPS.values() if o.law is not None)


def test_a_law_is_refused_where_it_does_not_hold() -> None:
    law = Law((0.0, 0.5, 1.0), np.array([[0.5, 0.5]]))
    right = np.random.default_rng(0).random(5000)
    assert_follows(right, law)
    for wrong in (right * 0.9, np.sort(right), right + 0.1):
        with pytest.raises(AssertionError):
            assert_follows(wrong, law)


def test_the_graph_keeps_both_of_two_equal_draws() -> None:
    (case, *_) = (c.values[0] for c in LARGE)
    graph, _ = program([case])
    (node,) = graph.ops
    twin = Node(node.op, node.types, node.inputs, node.attrs)
    assert len(Graph({"a": Value(node), "b": Value(twin)}).ops) == 2
