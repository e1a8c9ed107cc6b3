"""Long batches in slices: the same results, one run, and only where rows are independent."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import Timeout
from coreml_lab.program.graph import Dim
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.call import Call, Limit
from coreml_lab.run.slices import Slices

ROWS = np.random.default_rng(0).random((7, 4)).astype(np.float32)


def loaded(network: Any) -> Any:
    return cl.compile(network, x=cl.spec(Dim("rows", 1, 16), 4), name="rows")


@pytest.mark.parametrize("most", [1, 3, 7, 50])
def test_results_are_those_of_the_whole_and_it_is_one_run(most: int) -> None:
    def network(x: Any) -> Any:
        return cl.ops.softmax(x * np.float32(3), axis=-1)

    (want,) = loaded(network).predict({"x": ROWS}).values()
    with cl.configure(rows=most, rivals=False):
        model = loaded(network)
    assert isinstance(model._executor, Slices)
    before = ACTIVITY.total
    (got,) = model.predict({"x": ROWS}).values()
    assert ACTIVITY.total == before + 1
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_rows_that_depend_on_one_another_stay_together() -> None:
    def network(x: Any) -> Any:
        return x - cl.ops.reduce_mean(x, axes=[0], keep_dims=True)

    (want,) = loaded(network).predict({"x": ROWS}).values()
    with cl.configure(rows=2, rivals=False):
        (got,) = loaded(network).predict({"x": ROWS}).values()
    np.testing.assert_array_equal(got, want)


def test_slices_share_one_deadline() -> None:
    def network(x: Any) -> Any:
        return cl.ops.exp(x)

    with cl.configure(rows=2, rivals=False):
        model = loaded(network)
    (got,) = model.predict({"x": ROWS}, deadline=60).values()
    np.testing.assert_allclose(got, np.exp(ROWS), rtol=1e-6)
    given, began = list[float](), model._executor._loaded

    class Late:
        def run_within(self, seconds: float, inputs: Any, state: Any = None) -> Any:
            given.append(seconds)
            time.sleep(0.02)
            return began.run(inputs)

    late = Late()
    with pytest.raises(Timeout, match="was stopped"):
        model._executor._run(late, Call({"x": ROWS}, None, Limit.of(0.05, "net")))
    assert given == sorted(given, reverse=True)
    assert 0 < len(given) < 4


def test_a_trial_has_the_time_of_the_call_that_asks_first(cache_dir: Any) -> None:
    with cl.configure(rows=2, rivals=False):
        model = loaded(cl.ops.sinh)
    runner, go = model._executor, threading.Event()
    whole: Any = runner._independent
    runner._independent = lambda at: go.wait(30) and whole(at)
    begin = time.monotonic()
    with pytest.raises(Timeout, match="was stopped"):
        model.predict({"x": ROWS}, deadline=0.05)
    assert time.monotonic() - begin < 5
    go.set()
    (got,) = model.predict({"x": ROWS}, deadline=60).values()
    np.testing.assert_allclose(got, np.sinh(ROWS), rtol=1e-5)
    assert model.batched
