"""Deadlines of native runs: they hold for all that a run waits for, and nothing is begun twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import Timeout
from tests.support.native import Double
from tests.support.sampling import until

pytestmark = pytest.mark.slow  # a new worker imports coremltools: seconds

X = {"x": np.ones((2, 8), np.float32)}
# What a deadline may be late by, on a machine that is busy with other tests.
LATE = 1.5


def compiled() -> Any:
    return cl.compile(lambda x: {"y": cl.ops.mul(x, 2.0)}, x=cl.spec(2, 8), engine="coreml")


def unloaded(model: Any) -> Any:
    """The model as one that the worker, which another has replaced, does not know."""
    works(model)
    model._executor._loaded._place[0] = -1
    return model


def works(model: Any, **given: Any) -> None:
    np.testing.assert_array_equal(model.predict(X, **given)["y"], X["x"] * 2)


def stopped(model: Any, words: str, deadline: float = 0.3) -> Timeout:
    begin = time.monotonic()
    with pytest.raises(Timeout, match=words) as caught:
        model.predict(X, deadline=deadline)
    assert time.monotonic() - begin < deadline + LATE
    return caught.value


def test_a_run_waits_for_another_thread_no_longer_than_its_deadline(mac: Double) -> None:
    model = compiled()
    works(model)
    before, asked = mac.worker.pid, len(mac.calls("predict"))
    mac.fail("predict-slow")
    other = threading.Thread(target=works, args=(model,))
    other.start()
    until(lambda: len(mac.calls("predict")) > asked)
    assert not stopped(model, "busy with other runs for the").ended
    other.join()
    works(model)
    assert mac.worker.pid == before


def test_a_prediction_that_had_to_wait_for_others_is_not_the_end_of_the_worker(mac: Double) -> None:
    model = compiled()
    works(model)
    before = mac.worker.pid
    for last in ("predict-slow", "predict-hang"):
        asked = len(mac.calls("predict"))
        mac.fail("predict-slow")
        other = threading.Thread(target=works, args=(model,))
        other.start()
        until(lambda: len(mac.calls("predict")) > asked)  # noqa: B023 - called at once
        mac.fail(last)
        assert not stopped(model, "still predicting when .* waits for it", deadline=2.0).ended
        other.join()
        assert mac.worker.pid == before
        works(model)  # waits for what is left of the two seconds
        assert (mac.worker.pid == before) == (last == "predict-slow")


def test_a_worker_that_starts_is_left_to_it_and_serves_the_next_run(mac: Double) -> None:
    model = compiled()
    works(model)
    mac.worker.stop()
    error = stopped(model, r"still starting when .* over: it goes on, and the next run waits")
    assert not error.ended
    starting = mac.worker.pid
    stopped(model, "still starting")
    works(model, deadline=120.0)
    assert mac.worker.pid == starting


def test_a_load_that_takes_longer_than_every_deadline_is_done_once(mac: Double) -> None:
    model, other = unloaded(compiled()), compiled()
    before, loads = mac.worker.pid, len(mac.calls("load"))
    mac.fail("load-slow")
    stopped(model, r"still loading when .* were over")
    stopped(model, r"still loading when .* were over")
    works(model)
    works(other)
    assert (mac.worker.pid, len(mac.calls("load"))) == (before, loads + 1)


def test_a_load_that_hangs_is_ended_at_its_own_limit_by_whoever_comes_then(mac: Double) -> None:
    other = compiled()
    with cl.configure(worker_timeout=6.0):
        hanging = unloaded(compiled())
    mac.fail("load-hang")
    stopped(hanging, r"still loading when .* were over")
    hung = mac.worker.pid
    works(other)  # waits out the rest of the six seconds, and has another worker
    assert mac.worker.pid not in {None, hung}


def test_a_load_that_fails_when_nobody_waits_is_begun_anew_by_the_next_run(mac: Double) -> None:
    model, other = unloaded(compiled()), compiled()
    loads = len(mac.calls("load"))
    mac.fail("load-late")
    stopped(model, "still loading")
    works(other)  # a refusal is nothing to it
    works(model)
    assert len(mac.calls("load")) == loads + 2


def test_a_worker_that_dies_when_nobody_waits_for_it_is_replaced(mac: Double) -> None:
    model, other = unloaded(compiled()), compiled()
    mac.fail("load-hang")
    stopped(model, "still loading")
    link = mac.worker._link
    assert link is not None
    link.process.kill()
    stopped(model, "still starting")
    link = mac.worker._link
    assert link is not None
    link.process.kill()
    works(other)
    works(model)


def test_a_compiler_is_ended_at_the_deadline_of_a_run_that_needs_it(
    mac: Double, cache_dir: Path
) -> None:
    model = unloaded(compiled())
    for entry in cl.cache().entries():
        if entry.key.endswith("-coreml"):
            cl.cache().clear(entry.key)
    mac.fail("compile-hang")
    assert stopped(model, "still compiling after").ended
    works(model)
