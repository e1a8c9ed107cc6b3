"""A leak shows in every window; what is kept once does not, and noise is not called a leak."""

from __future__ import annotations

import mmap
import threading
from collections import deque

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError
from coreml_lab.measure.leaks import Counter, Growth, counters, of_model, small_ring, watch
from coreml_lab.run.activity import ACTIVITY


def counted(levels, tolerance=0.0):
    """A counter that is read once before the windows and once after each."""
    rows = iter(levels)
    return Counter("fake", "By", lambda: float(next(rows)), lambda _: tolerance)


def growth(levels, tolerance=0.0):
    return watch(lambda: None, [counted(levels, tolerance)], runs=10).growths[0]


def test_growth_in_every_window_is_a_leak_and_told_per_run():
    found = growth([0, 100, 200, 290, 400, 500, 600])
    assert found.leaks
    assert (found.per_run, found.low, found.high) == (10, 9, 11)


def test_one_window_without_growth_is_enough_to_doubt():
    found = growth([0, 100, 200, 200, 300, 400, 500])
    assert not found.leaks
    assert found.bound == 0


def test_what_is_kept_once_is_no_leak():
    assert not growth([0, 9000, 9000, 9000, 9000, 9000, 9000]).leaks


def test_growth_within_the_tolerance_is_no_leak_but_bounds_one():
    found = growth([0, 100, 200, 300, 400, 500, 600], tolerance=640)
    assert not found.leaks
    assert found.bound == 64


def test_memory_that_goes_up_and_down_is_no_leak():
    assert not growth([0, 500, 100, 600, 200, 700, 300]).leaks


def test_what_is_not_told_is_not_judged():
    found = Growth("x", "By", (float("nan"),) * 6, 0.0, 10)
    assert not found.known
    assert not found.leaks


@pytest.mark.parametrize(("runs", "windows"), [(0, 6), (10, 5)])
def test_too_few_windows_for_a_verdict_are_refused(runs, windows):
    with pytest.raises(LabError, match="no verdict"):
        watch(lambda: None, [], runs=runs, windows=windows)


def test_progress_is_told_after_each_window():
    told = []
    watch(lambda: None, [], runs=1, windows=6, progress=lambda done, of: told.append((done, of)))
    assert told == [(i, 6) for i in range(1, 7)]


def test_a_planted_leak_of_objects_is_found_with_its_line():
    kept = []
    found = watch(lambda: kept.append(object()), counters("cpu"), runs=400)
    assert "Python objects" in [g.name for g in found.leaks]
    (grown,) = [g for g in found.leaks if g.name == "Python objects"]
    assert grown.per_run == pytest.approx(1, abs=0.2)
    assert found.places[0][0].startswith(__file__)


def test_a_planted_leak_of_memory_is_found_with_its_size():
    kept = []

    def work():
        # Pages of its own: the allocator may have some left that would hide an array.
        pages = mmap.mmap(-1, 64 * 1024)
        pages.write(bytes(64 * 1024))
        kept.append(pages)

    found = watch(work, counters("cpu"), runs=20)
    (grown,) = [g for g in found.leaks if g.unit == "By"]
    assert grown.per_run == pytest.approx(64 * 1024, rel=0.3)


def test_a_planted_leak_of_threads_is_found():
    stop = threading.Event()
    kept = []

    def work():
        kept.append(threading.Thread(target=stop.wait, daemon=True))
        kept[-1].start()

    try:
        found = watch(work, counters("cpu"), runs=2)
    finally:
        stop.set()
        for thread in kept:
            thread.join()
    assert "threads" in [g.name for g in found.leaks]


def test_a_clean_model_does_not_leak():
    model = cl.compile(lambda x: cl.ops.relu(x=x), x=cl.spec(4, 8), name="net")
    found = of_model(model, {"x": np.ones((4, 8), np.float32)}, runs=150)
    assert found.leaks == ()
    assert found.places == ()


def test_a_model_that_keeps_its_results_is_found_out():
    model = cl.compile(lambda x: cl.ops.relu(x=x), x=cl.spec(4, 8), name="net")
    kept = []

    class Hoarder:
        info, plan = model.info, model.plan

        def predict(self, inputs):
            kept.append(model.predict(inputs))
            return kept[-1]

        def trace(self, inputs, runs):
            raise NotImplementedError

    found = of_model(Hoarder(), {"x": np.ones((4, 8), np.float32)}, runs=150)
    assert "Python objects" in [g.name for g in found.leaks]


def test_the_ring_of_finished_runs_is_small_meanwhile_and_whole_afterwards(monkeypatch):
    monkeypatch.setattr(ACTIVITY, "finished", deque([(i, 1) for i in range(200)], maxlen=1000))
    ring = ACTIVITY.finished
    with small_ring(64):
        ACTIVITY.finished.append((200, 1))
        ACTIVITY.total += 1
        assert len(ACTIVITY.finished) == 64
    assert ACTIVITY.finished is ring
    assert list(ring) == [(i, 1) for i in range(201)]
