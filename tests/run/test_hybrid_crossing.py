"""What crosses between segments of a hybrid program: loops, small types, states, open sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Node
from coreml_lab.program.mil.tools import mb
from coreml_lab.run import compiler
from coreml_lab.run.portable import PortableEngine
from coreml_lab.run.reference import ReferenceEngine
from coreml_lab.run.split.program import HybridProgram
from tests.support.seam_models import counter
from tests.support.splits import SHAPE, load
from tests.support.stateful import build

ops = cl.ops
RNG = np.random.default_rng(3)
X = RNG.standard_normal(SHAPE).astype(np.float32)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Picky(PortableEngine):
    """The portable engine without some operations."""

    lacks: frozenset[str] = frozenset()

    def supports(self, node: Node) -> bool:
        return node.op not in Picky.lacks


def split(package: Path, lacks: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> HybridProgram:
    """A package on the portable engine, some kinds of operations on the reference engine."""
    monkeypatch.setattr(Picky, "lacks", frozenset(lacks))
    return load(cl.load(package).program, Picky(compiler.cache()), ReferenceEngine())


@pytest.mark.filterwarnings("ignore")
def test_a_loop_that_reads_values_of_other_segments_is_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(x: Any) -> Any:
        base = mb.exp(x=x)

        def body(i: Any, y: Any) -> Any:
            return mb.add(x=i, y=1.0), mb.mul(x=y, y=mb.add(x=base, y=i))

        loop = mb.while_loop(
            _cond=lambda i, y: mb.less(x=i, y=3.0),
            _body=body,
            loop_vars=(mb.reduce_sum(x=x, keep_dims=False), x),
        )
        return mb.tanh(x=loop[1])

    package = build(tmp_path, net, {"x": (3,)})
    x = np.array([-1, 0.5, 0.25], np.float32)
    (want,) = cl.load(package).predict({"x": x}).values()
    for lacks in (["while_loop"], ["exp", "tanh"], ["add"]):
        loaded = split(package, lacks, monkeypatch)
        assert loaded.plan.split
        (got,) = loaded.run({"x": x}).values()
        np.testing.assert_allclose(got, want, **CLOSE)


@pytest.mark.filterwarnings("ignore")
def test_small_integers_booleans_numbers_and_lists_cross_between_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def net(x: Any) -> Any:
        flags = mb.greater(x=x, y=0.0)
        halves = mb.split(x=mb.select(cond=flags, a=x, b=mb.mul(x=x, y=-2.0)), num_splits=2, axis=1)
        most = mb.reduce_max(x=halves[1], keep_dims=False)
        places = mb.cast(x=mb.reduce_argmax(x=halves[0], axis=1, keep_dims=True), dtype="fp32")
        return mb.add(x=mb.mul(x=halves[0], y=most), y=places)

    package = build(tmp_path, net, {"x": (2, 8)})
    x = RNG.standard_normal((2, 8)).astype(np.float32)
    (want,) = cl.load(package).predict({"x": x}).values()
    for lacks in (["select"], ["split"], ["greater", "reduce_max"], ["cast"], ["mul"]):
        loaded = split(package, lacks, monkeypatch)
        assert loaded.plan.split
        (got,) = loaded.run({"x": x}).values()
        np.testing.assert_allclose(got, want, **CLOSE)


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_a_state_counts_on_two_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "counter.mlpackage"
    counter().save(str(package))
    loaded = split(package, ["add"], monkeypatch)
    state, x = loaded.make_state(), np.array([[1, 2, 3, 4]], np.float16)
    for step in range(1, 4):
        np.testing.assert_array_equal(loaded.run({"x": x}, state)["y"], step * x)


def test_flexible_sizes_cross_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from coreml_lab.program.graph import Dim

    model = cl.compile(lambda x: ops.tanh(ops.softmax(ops.relu(x))), x=cl.spec(Dim("n", 1, 64), 6))
    monkeypatch.setattr(Picky, "lacks", frozenset({"softmax"}))
    loaded = load(model.program, Picky(compiler.cache()), ReferenceEngine())
    assert len(loaded.plan.segments) == 3
    for n in (1, 5, 64):
        x = RNG.standard_normal((n, 6)).astype(np.float32)
        (got,), (want,) = loaded.run({"x": x}).values(), model.predict({"x": x}).values()
        np.testing.assert_allclose(got, want, **CLOSE)
