"""Recovery in time: deadlines hold while it goes on, and speak against no device."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    DeviceLost,
    EngineCrashed,
    EngineError,
    ExecutionError,
    LabError,
    OutOfMemory,
    Timeout,
)
from coreml_lab.run import breaker as breakers
from coreml_lab.run.breaker import Breaker
from coreml_lab.run.call import Limit
from coreml_lab.run.cutting import Sizes
from tests.run.test_faults import ONES, Script, Stoppable, executor, told
from tests.run.test_recovering import never


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_deadline_holds_while_another_thread_recovers() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> Any:
        begun.set()
        go.wait(30)
        return Script()

    broken = Script([EngineError("bad"), EngineError("bad")])
    runner, _, _ = executor(broken, alternatives=[("other", slow)])
    thread = in_thread(lambda: runner.run(ONES))
    begun.wait(30)
    begin = time.monotonic()
    with pytest.raises(ExecutionError, match="bad; recovery failed") as caught:
        runner.run(ONES, deadline=0.1)
    assert time.monotonic() - begin < 5
    assert "net was stopped" in caught.value.incidents[0].outcome
    go.set()
    thread.join(30)
    assert runner.run(ONES, deadline=5)["y"].max() == 2


def test_a_deadline_holds_while_an_engine_is_loaded_which_the_next_call_finds() -> None:
    made: list[Script] = []
    go = threading.Event()

    def slow() -> Any:
        go.wait(30)
        made.append(Script())
        return made[-1]

    broken = Script([EngineError("bad") for _ in range(9)])
    runner, activity, _ = executor(broken, alternatives=[("other", slow)])
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(ExecutionError, match="bad; recovery failed"):
            runner.run(ONES, deadline=0.1)
    assert time.monotonic() - begin < 5
    go.set()
    assert runner.run(ONES)["y"].max() == 2
    assert len(made) == 1
    assert told(activity)[-1] == ("EngineError", "Fallback to other", "recovered")


def test_what_was_loaded_too_late_is_let_go_of_where_it_is_not_needed() -> None:
    runner, _, _ = executor(
        Stoppable([EngineCrashed("gone")]), reload=lambda: time.sleep(0.2) or Script()
    )
    with pytest.raises(ExecutionError):
        runner.run(ONES, deadline=0.05)
    assert runner._loading._begun
    runner.run(ONES, deadline=5)
    assert not runner._loading._begun


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_what_a_parent_was_loading_a_forked_child_loads_itself() -> None:
    broken = Script([EngineError("bad") for _ in range(9)])
    parent = os.getpid()

    def load() -> Any:
        if os.getpid() == parent:
            time.sleep(1)
        return Script()

    runner, _, _ = executor(broken, alternatives=[("other", load)])
    with pytest.raises(ExecutionError):
        runner.run(ONES, deadline=0.05)
    child = os.fork()
    if child == 0:
        os._exit(0 if runner.run(ONES)["y"].max() == 2 else 1)
    end = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.05)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_waits_between_retries_end_with_the_deadline() -> None:
    lost = Script([DeviceLost("busy") for _ in range(9)])
    runner, _, clock = executor(lost)
    with pytest.raises(LabError, match="busy"):
        runner.run(ONES, deadline=0.01)
    assert sum(clock.slept) <= 0.02


def test_deadlines_that_are_too_short_do_not_speak_against_the_device() -> None:
    shared = Breaker()
    runner, _, _ = executor(Stoppable(hang=9.0), breaker=shared, alternatives=[("other", never)])
    for _ in range(breakers.FAILURES):
        with pytest.raises(Timeout):
            runner.run(ONES, deadline=1e-9)
    assert (shared.failures, shared.open) == (0, False)


def test_one_whose_process_must_be_ended_does() -> None:
    @dataclass
    class Deaf(Script):
        def run_within(self, seconds: float, inputs: Any, state: Any = None) -> Any:
            time.sleep(seconds)
            raise Timeout("its process was ended", ended=True)

    shared = Breaker()
    runner, _, _ = executor(Deaf(), breaker=shared)
    for _ in range(breakers.FAILURES):
        with pytest.raises(Timeout):
            runner.run(ONES, deadline=0.01)
    assert shared.open


def test_a_timeout_of_the_engine_itself_is_recovered_where_there_is_time() -> None:
    for deadline in (0.0, 60.0):
        slow = Script([Timeout("still loading after 12 s")])
        runner, activity, _ = executor(slow, alternatives=[("other", Script)])
        assert runner.run(ONES, deadline=deadline)["y"].max() == 2
        assert told(activity) == [("Timeout", "Fallback to other", "recovered")]
        (runner, _, _) = executor(Script([Timeout("still loading after 12 s")]))
        with pytest.raises(Timeout, match="still loading"):
            runner.run(ONES, deadline=deadline)


def test_failures_of_an_engine_that_was_left_do_not_speak_against_the_next() -> None:
    arrived, go = threading.Semaphore(0), threading.Event()

    class Crashing(Script):
        def run(self, inputs: Any, state: Any = None) -> dict[str, Any]:
            if threading.current_thread() is not first:
                arrived.release()
                go.wait(30)
            raise EngineCrashed("gone")

    runner, _, _ = executor(Crashing(), alternatives=[("second", Script), ("third", never)])
    first = threading.Thread(target=runner.run, args=(ONES,))
    late = [in_thread(lambda: runner.run(ONES)) for _ in range(breakers.FAILURES)]
    for _ in late:
        arrived.acquire(timeout=30)
    first.start()
    first.join(30)
    go.set()
    for thread in late:
        thread.join(30)
    assert runner.fallen_back_to == "second"
    assert not runner._breaker.open
    runner.run(ONES)
    assert runner.fallen_back_to == "second"


@pytest.mark.parametrize("script", [Script, Stoppable])
def test_a_late_result_is_given_whatever_it_is(script: Any) -> None:
    class Late(script):  # type: ignore[misc]
        def run(self, inputs: Any, state: Any = None) -> Any:
            time.sleep(0.05)
            return super().run(inputs)

    runner, activity, _ = executor(Late(factor=np.inf), promote=never)
    assert np.isinf(runner.run(ONES, deadline=0.01)["y"]).all()
    ((error, _, outcome),) = told(activity)
    assert (error, outcome.endswith("cannot be stopped: the result came late")) == ("Timeout", True)
    assert outcome.startswith("it was in an operation" if script is Stoppable else "its engine")


def test_a_trial_whether_rows_are_independent_ends_with_the_call_and_goes_on_for_the_next() -> None:
    go, trials = threading.Event(), list[bool]()

    def slow(_: Any) -> bool:
        trials.append(go.wait(30))
        return True

    class Small(Script):
        def run(self, inputs: Any, state: Any = None) -> Any:
            if len(inputs["x"]) > 2:
                raise OutOfMemory("it does not fit")
            return super().run(inputs)

    runner, _, _ = executor(Small(), sizes=Sizes(), independent=slow)
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(ExecutionError, match="does not fit"):
            runner.run(ONES, deadline=0.05)
    assert time.monotonic() - begin < 5
    go.set()
    assert runner.run(ONES, deadline=30)["y"].shape == ONES["x"].shape
    assert (trials, runner.batched) == ([True], True)


def test_a_trial_that_fails_within_a_deadline_is_made_again() -> None:
    found = iter([None, True])
    runner, _, _ = executor(Script(), sizes=Sizes(), independent=lambda _: next(found))
    limit = Limit.of(30, "net")
    assert [runner.batched_within(limit) for _ in range(3)] == [False, True, True]


def test_a_deadline_beyond_what_threads_can_wait_is_none() -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(2), engine="portable")
    with pytest.MonkeyPatch.context() as patch:
        failed = list[Any]()
        patch.setattr(threading, "excepthook", failed.append)
        model.predict({"x": np.ones(2, np.float32)}, deadline=1e10)
        time.sleep(0.05)
    assert failed == []
