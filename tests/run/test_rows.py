"""Whether requests may share a run: rows together must give what they give alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import OutOfMemory
from coreml_lab.program.graph import Dim
from coreml_lab.run import rows
from coreml_lab.run.executor import Interrupted
from coreml_lab.run.recovering import TRIES
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, held

W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def attention(x: Any) -> Any:
    """The rows are the words of a sentence."""
    return ops.softmax(x @ x.transpose((1, 0))) @ x


APART: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: ops.relu(x @ W),
    "softmax of each row": lambda x: ops.softmax(x, axis=1),
    "normalized rows": lambda x: x - ops.reduce_mean(x, axes=[1], keep_dims=True),
}
MIXED: dict[str, Callable[[Any], Any]] = {
    "attention": attention,
    "softmax of each column": lambda x: ops.softmax(x, axis=0),
    "less the mean": lambda x: x - ops.reduce_mean(x, axes=[0], keep_dims=True),
    "sums so far": lambda x: ops.cumsum(x, axis=0),
    "less the place": lambda x: x + ops.sin(ops.cumsum(x * np.float32(0) + 1, axis=0)),
    "by the largest of all": lambda x: x / ops.reduce_max(ops.abs(x), axes=[0, 1], keep_dims=True),
    "no longer than ten": lambda x: (
        x * ops.minimum(10 / ops.reduce_l2_norm(x, axes=[0, 1], keep_dims=True), np.float32(1))
    ),
    "turned around": lambda x: ops.reverse(x, axes=[0]),
}


def compiled(network: Any, high: int = 16) -> cl.Model:
    return cl.compile(network, x=cl.spec(Dim("n", 1, high), 4), engine="portable")


@pytest.mark.parametrize("name", APART)
def test_rows_that_do_not_know_of_one_another_may_share_a_run(name: str) -> None:
    assert compiled(APART[name]).batched


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_are_computed_with_one_another_may_not(name: str) -> None:
    assert not compiled(MIXED[name]).batched


@pytest.mark.parametrize("width", [2, 4, 256, 512])
def test_the_largest_of_all_rows_shows_whichever_row_holds_it(width: int) -> None:
    network = MIXED["by the largest of all"]
    model = cl.compile(network, x=cl.spec(Dim("n", 1, 16), width), engine="portable")
    assert not model.batched


def test_what_cannot_be_tried_is_not_batched_and_tried_again(cache_dir: Any) -> None:
    model = compiled(APART["linear"])
    loaded: Any = model._executor._loaded
    whole = loaded.run

    def run(*_: Any) -> Any:
        raise IndexError("noise")

    loaded.run = run
    assert not model.batched
    assert not model.batched_known
    loaded.run = whole
    assert compiled(APART["linear"]).batched
    assert model.batched
    assert model.batched_known


def test_what_cannot_be_tried_a_few_times_is_not_batched_for_good(cache_dir: Any) -> None:
    model = compiled(APART["linear"])
    loaded: Any = model._executor._loaded
    runs: list[int] = []

    def run(*_: Any) -> Any:
        runs.append(1)
        raise IndexError("noise")

    loaded.run = run
    for _ in range(TRIES):
        assert not model.batched_known
        assert not model.batched
    assert model.batched_known
    assert not model.batched
    assert len(runs) == TRIES


def test_a_short_deadline_of_who_asks_first_keeps_nobody_apart(cache_dir: Any) -> None:
    model = compiled(APART["linear"])
    with cl.configure(deadline=1e-9):
        assert not model.batched
    assert model.batched


class Coarse:
    """An engine of which each number of rows has a kernel of its own, off by some percent."""

    def __init__(self, mix: bool) -> None:
        self._mix = mix

    def run(self, inputs: Any) -> dict[str, Any]:
        x = inputs["x"]
        y = x * (1 + 0.03 * np.sin(len(x) + np.arange(4, dtype=np.float32)))
        return {"output": y + 0.01 * x.mean(0) if self._mix else y}


def test_kernels_that_add_in_another_order_are_no_dependence() -> None:
    info = compiled(APART["linear"]).info
    assert rows._tried(Coarse(mix=False).run, info)
    assert not rows._tried(Coarse(mix=True).run, info)


def test_what_was_found_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not compiled(attention).batched

    def untried(*_: Any) -> Any:
        raise AssertionError("it was tried again")

    again = compiled(attention)
    monkeypatch.setattr(again._executor._loaded, "run", untried)
    assert not again.batched


def test_a_program_that_takes_one_row_is_not_batched() -> None:
    assert not compiled(APART["linear"], high=1).batched


@pytest.mark.parametrize("name", ["attention", "linear"])
def test_a_schedulers_results_are_those_of_predict_whatever_the_rows_are(name: str) -> None:
    model = compiled({**APART, **MIXED}[name])
    data = [
        np.random.default_rng(i).standard_normal((i % 3 + 1, 4)).astype(np.float32)
        for i in range(9)
    ]
    with Scheduler(budget=0) as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        futures = [scheduler.submit(model, {"x": x}) for x in data]
        fake.open.set()
        found = [future.result(30) for future in futures]
    for x, result in zip(data, found, strict=True):
        for key, wanted in model.predict({"x": x}).items():
            np.testing.assert_allclose(result[key], wanted, rtol=1e-5, atol=1e-6)
    assert (scheduler.statistics().largest_batch > 1) == (name == "linear")


def test_a_batch_that_does_not_fit_is_not_cut_where_rows_belong_together() -> None:
    cl.configure(recover=True)
    model = cl.compile(attention, x=cl.spec(Dim("n", 1, 16), 4))
    loaded: Any = model._executor._loaded
    whole = loaded.run

    def run(inputs: Any, state: Any = None) -> Any:
        if len(inputs["x"]) > 4:
            raise OutOfMemory("too many rows")
        return whole(inputs, state)

    loaded.run = run
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    (result,) = model.predict({"x": x}).values()  # on another engine, whole
    scores = np.exp(x @ x.T - (x @ x.T).max(1, keepdims=True))
    np.testing.assert_allclose(result, scores / scores.sum(1, keepdims=True) @ x, rtol=1e-4)
    assert [i.action.split()[0] for i in model.incidents] == ["Fallback"]


def test_who_stops_a_model_inside_of_the_trial_stops_it(cache_dir: Any) -> None:
    model = compiled(APART["linear"])
    loaded: Any = model._executor._loaded

    def stopped(*_: Any) -> Any:
        raise Interrupted("the model inside was interrupted")

    loaded.run = stopped
    with pytest.raises(KeyboardInterrupt):
        assert not model.batched
