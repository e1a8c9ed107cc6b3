"""Regions of the user's code: nested, decorated, across threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.clock import FakeClock
from coreml_lab.errors import InputError
from coreml_lab.measure import regions
from coreml_lab.measure.profiler import Profile
from coreml_lab.measure.regions import region
from coreml_lab.probes.disturbance import Reading
from tests.support.fakes import MS, FakeModel, FakeSource

X = {"x": np.ones((1, 8), "float32")}


@pytest.fixture
def kept(monkeypatch):
    found = []
    monkeypatch.setattr(region, "watchers", [found.append])
    return found


def test_regions_nest_and_know_what_is_around_them(kept):
    clock = FakeClock()
    with region("outer", clock=clock):
        clock.advance(0.001)
        with region("inner", clock=clock):
            clock.advance(0.002)
    inner, outer = kept
    assert (inner.name, inner.parent, inner.start_ns, inner.duration_ns) == (
        "inner",
        outer.index,
        MS,
        2 * MS,
    )
    assert (outer.name, outer.parent, outer.duration_ns) == ("outer", None, 3 * MS)
    assert regions.current() is None


def test_a_function_is_a_region_in_each_call_even_inside_itself(kept):
    @region("fall")
    def fall(depth: int) -> int:
        """Fall."""
        return depth if not depth else fall(depth - 1)

    assert fall(2) == 0
    assert fall.__doc__ == "Fall."
    innermost, middle, outermost = kept
    assert [innermost.parent, middle.parent] == [middle.index, outermost.index]


def test_a_coroutine_is_a_region_until_it_has_finished_and_tasks_do_not_mix(kept):
    @region("task")
    async def task(name: str) -> None:
        with region(name):
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(task("a"), task("b"))

    # In a thread of its own: a browser test may have left a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, both()).result()
    parents = {r.name: r.parent for r in kept if r.name != "task"}
    tasks = {r.index for r in kept if r.name == "task"}
    assert set(parents.values()) == tasks
    assert len(tasks) == 2


def test_a_region_ends_when_its_code_fails(kept):
    def fails() -> None:
        with region("broken"):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fails()
    assert [r.name for r in kept] == ["broken"]
    assert regions.current() is None


def test_a_thread_has_regions_of_its_own_and_can_be_given_a_parent(kept):
    def work(parent) -> None:
        with region("alone"):
            pass
        with region("part", parent=parent):
            assert regions.current() is not None

    with region("whole") as here:
        thread = threading.Thread(target=work, args=(here,), name="helper")
        thread.start()
        thread.join()
    alone, part, whole = kept
    assert (alone.parent, part.parent, part.thread) == (None, whole.index, "helper")
    assert whole.thread == "MainThread"


def test_one_object_may_be_open_in_several_threads(kept):
    shared, gate = region("same"), threading.Barrier(2)

    def work() -> None:
        with shared:
            gate.wait(60)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.name for r in kept] == ["same", "same"]
    assert [r.parent for r in kept] == [None, None]


def test_a_generator_is_refused_with_what_to_do_instead():
    def tokens():
        yield 1

    with pytest.raises(InputError, match="tokens is a generator") as caught:
        region("decode")(tokens)
    assert "with cl.region('decode')" in caught.value.hint


@pytest.mark.parametrize("name", ["", "  ", 5])
def test_a_region_has_a_name(name):
    with pytest.raises(InputError, match="has a name"):
        region(name)


def test_a_recording_holds_the_regions_and_its_runs_name_theirs():
    model = FakeModel()
    watching = Profile(
        clock=model.clock,
        source=FakeSource(),
        machine=lambda: Reading(model.clock.now_ns()),
    )
    with watching as p:
        with region("decode", clock=model.clock):
            for _ in range(2):
                with region("step", clock=model.clock):
                    model.predict(X)
        model.predict(X)
    found = p.recording
    names = {r.index: r.name for r in found.regions}
    assert list(names.values()) == ["decode", "step", "step"]
    plain = [run for run in found.runs if not run.instrumented]
    assert [names.get(run.region) for run in plain] == ["step", "step", None]
    assert not regions.WATCHERS
    assert cl.Recording.from_json(found.to_json()) == found


def test_nobody_is_told_of_regions_when_nothing_is_profiled():
    with region("unheard"):
        assert regions.current() is not None
    assert regions.current() is None
    assert cl.region is region
