"""Recovery of one failed call: whose fault it was, what is kept for later, and what is told."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from dataclasses import dataclass, field
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
    NumericalError,
    OutOfMemory,
    StateLost,
)
from coreml_lab.program.graph import TensorType
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.breaker import Breaker
from coreml_lab.run.cutting import Sizes
from coreml_lab.run.executor import Executor, Interrupted
from coreml_lab.run.recovery import Alternative, Promotion
from coreml_lab.run.state import State
from tests.run.test_faults import ONES, Script, executor, told

STATES = {"total": TensorType((2,), np.dtype(np.float32))}


class Held(State):
    """A state that is gone once it is told so."""

    gone = False

    def check_held(self) -> None:
        if self.gone:
            raise StateLost("what state 'total' held is not known any more")


@dataclass
class Stateful(Script):
    """A program whose state goes with it, where it crashes so."""

    held: Held | None = None

    def run(self, inputs: Any, state: Any = None) -> dict[str, Any]:
        if state is not None:
            if self.failures and self.held is not None:
                self.held.gone = True
            elif not self.failures:
                state.check_held()
        return super().run(inputs)


@dataclass
class Together(Script):
    """One that takes batches, and fails in them as it is told."""

    refusals: list[BaseException] = field(default_factory=list)
    batches: int = 0

    def run_batch(self, batch: Any) -> list[dict[str, Any]]:
        self.batches += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return [super(Together, self).run(each) for each in batch]


def never() -> Any:
    raise AssertionError("nothing was to be loaded")


def test_a_state_that_went_with_its_process_is_told_and_costs_no_engine() -> None:
    state = Held(STATES)
    other = Stateful()
    crashing = Stateful([EngineCrashed("gone")], held=state)
    runner, activity, _ = executor(crashing, reload=never, alternatives=[("other", never)])
    with pytest.raises(StateLost, match="not known any more"):
        runner.run(ONES, state)
    assert told(activity) == []
    runner._alternatives = [Alternative("other", lambda: other)]
    crashing.failures = [EngineError("bad")]
    assert runner.run(ONES)["y"].max() == 2
    assert told(activity) == [("EngineError", "Fallback to other", "recovered")]


def test_an_engine_that_found_only_that_the_state_is_lost_stays_an_alternative() -> None:
    state = Held(STATES)

    def late() -> Any:
        state.gone = True  # its process ends after recovery has begun
        return Stateful()

    runner, _, _ = executor(Script([EngineError("bad")]), alternatives=[("other", late)])
    with pytest.raises(StateLost):
        runner.run(ONES, state)
    assert [other.name for other in runner._alternatives] == ["other"]


def test_debug_mode_names_the_operation_each_time() -> None:
    cl.configure(recover=True)
    model = cl.compile(cl.ops.sqrt, x=cl.spec(3), debug=True, engine="portable")
    for _ in range(3):
        with pytest.raises(NumericalError) as caught:
            model.predict({"x": -np.ones(3, np.float32)})
        assert caught.value.node == "output"
    assert model.incidents == ()


def test_single_items_that_do_not_fit_either_are_told() -> None:
    @dataclass
    class Full(Script):
        def run(self, inputs: Any, state: Any = None) -> dict[str, Any]:
            self.runs += 1
            raise OutOfMemory("too large")

    full = Full()
    runner, activity, _ = executor(full, sizes=Sizes())
    with pytest.raises(ExecutionError, match=r"recovery failed \(SplitBatch\)"):
        runner.run(ONES)
    assert told(activity) == [("OutOfMemory", "SplitBatch", "failed: too large")]
    assert full.runs == 3


def test_parts_are_not_cut_further_for_another_error() -> None:
    script = Script([OutOfMemory("too large"), EngineError("bad")])
    runner, activity, _ = executor(script, sizes=Sizes())
    with pytest.raises(ExecutionError):
        runner.run(ONES)
    assert told(activity) == [("OutOfMemory", "SplitBatch", "failed: bad")]
    assert script.runs == 2


def test_a_batch_that_crashed_is_told_when_its_parts_fail_too() -> None:
    script = Together([EngineError("bad input")], refusals=[EngineCrashed("gone")])
    runner, activity, _ = executor(script)
    with pytest.raises(EngineError, match="bad input"):
        runner.run_batch([ONES, ONES])
    assert told(activity) == [("EngineCrashed", "SplitBatch", "failed: bad input")]


def test_batches_leave_a_resting_device_alone_and_speak_for_or_against_it() -> None:
    shared = Breaker(open=True, failures=3)
    device, other = Together(), Script()
    runner, _, _ = executor(device, breaker=shared, alternatives=[("other", lambda: other)])
    assert len(runner.run_batch([ONES, ONES])) == 2
    assert (device.batches, device.runs, other.runs) == (0, 0, 2)

    shared, device = Breaker(), Together(refusals=[EngineCrashed("gone")])
    runner, _, _ = executor(device, breaker=shared)
    runner.run_batch([ONES, ONES])
    device.refusals = [EngineCrashed("gone")]
    with pytest.raises(EngineCrashed):
        runner.run_batch([ONES, ONES], recover=False)
    assert shared.failures == 1
    runner.run_batch([ONES, ONES])
    assert shared.failures == 0


@pytest.mark.parametrize("step", ["reload", "fallback", "promote"])
def test_an_interrupted_step_is_one_error_and_can_be_taken_again(step: str) -> None:
    made: list[Script] = []

    def load() -> Any:
        if not made:
            made.append(Script())
            raise KeyboardInterrupt
        return Script()

    failing = Script([EngineCrashed("gone"), EngineCrashed("gone")])
    options: dict[str, dict[str, Any]] = {
        "reload": {"reload": load},
        "fallback": {"alternatives": [("other", load)]},
        "promote": {"promote": load},
    }
    script = Script(factor=np.inf) if step == "promote" else failing
    runner, activity, _ = executor(script, **options[step])
    with pytest.raises(Interrupted, match="net: interrupted after"):
        runner.run(ONES)
    assert told(activity)[0][2] == "interrupted"
    assert runner.run(ONES)["y"].max() == 2
    assert told(activity)[-1][2] == "recovered"


def test_an_interrupt_promises_nothing_of_a_state() -> None:
    runner, _, _ = executor(Script([KeyboardInterrupt(), KeyboardInterrupt()]))
    with pytest.raises(Interrupted) as caught:
        runner.run(ONES)
    assert "nothing was lost" in caught.value.hint
    with pytest.raises(Interrupted) as caught:
        runner.run(ONES, State(STATES))
    assert "nothing was lost" not in caught.value.hint
    assert "state.read" in caught.value.hint


def half() -> Script:
    return Script(factor=np.inf)


def whole() -> Script:
    return Script(factor=70000)


def test_what_was_promoted_is_loaded_again_in_fp32() -> None:
    runner, _, _ = executor(half(), promote=whole, reload=half)
    assert runner.run(ONES)["y"].max() == 70000
    runner._loaded.failures = [EngineCrashed("gone")]  # type: ignore[attr-defined]
    assert [runner.run(ONES)["y"].max() for _ in range(2)] == [70000, 70000]
    assert runner.promoted


def test_what_was_promoted_falls_back_to_fp32() -> None:
    other = Alternative("other", half, Promotion(whole))
    runner, _, _ = executor(half(), promote=whole, alternatives=[other])
    runner.run(ONES)
    runner._loaded.failures = [EngineError("bad")]  # type: ignore[attr-defined]
    assert [runner.run(ONES)["y"].max() for _ in range(2)] == [70000, 70000]
    assert (runner.promoted, runner.fallen_back_to) == (True, "other")


def test_an_engine_fallen_back_to_is_promoted_when_it_overflows() -> None:
    other = Alternative("other", half, Promotion(whole))
    runner, activity, _ = executor(Script([EngineError("bad")]), alternatives=[other])
    runner.run(ONES)
    assert runner.run(ONES)["y"].max() == 70000
    assert told(activity)[-1] == ("NumericalError", "Promote", "recovered")


def test_a_promotion_that_cannot_be_had_shows_what_fp16_makes() -> None:
    def absent() -> Any:
        raise EngineError("no such op")

    runner, activity, _ = executor(half(), promote=absent)
    for _ in range(2):
        assert np.isinf(runner.run(ONES)["y"]).all()
    assert told(activity) == [
        ("NumericalError", "Promote", "fp32 failed, no such op: it stays"),
    ]
    assert not runner.promoted


def test_what_overflows_while_another_thread_promotes_is_promoted_too() -> None:
    inside, go = threading.Event(), threading.Event()

    class Slow(Script):
        def run(self, inputs: Any, state: Any = None) -> dict[str, Any]:
            if threading.current_thread() is late:
                inside.set()
                go.wait(30)
            return super().run(inputs)

    found: list[Any] = []
    runner, _, _ = executor(Slow(factor=np.inf), promote=whole)
    late = threading.Thread(target=lambda: found.append(runner.run(ONES)["y"].max()))
    late.start()
    inside.wait(30)
    assert runner.run(ONES)["y"].max() == 70000
    go.set()
    late.join(30)
    assert found == [70000]


def test_a_batch_that_overflows_is_promoted() -> None:
    runner, activity, _ = executor(Together(factor=np.inf), promote=whole)
    assert [each["y"].max() for each in runner.run_batch([ONES, ONES])] == [70000, 70000]
    assert told(activity) == [("NumericalError", "Promote", "recovered")]


def test_a_run_tells_its_own_time() -> None:
    runner = Executor("net", Script(), activity=Activity())
    before = time.monotonic_ns()
    _, start, duration = runner.timed(ONES)
    assert before <= start <= start + duration <= time.monotonic_ns()


def test_watchers_are_told_each_runs_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(3), engine="portable")
    seen: list[int] = []
    monkeypatch.setattr(
        ACTIVITY, "watchers", [lambda _model, _inputs, start, _: seen.append(start)]
    )
    results = model._interface.results

    def late(made: Any) -> Any:
        ACTIVITY.finished.append((0, 1))  # another thread's run ends in between
        return results(made)

    monkeypatch.setattr(model._interface, "results", late)
    model.predict({"x": np.ones(3, np.float32)})
    assert seen[0] > 0


def test_the_parts_of_a_models_time_are_not_recovered_against_the_users_will(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cl.configure(recover=True)
    model = cl.compile(cl.ops.exp, x=cl.spec(3))

    def broken(inputs: Any, state: Any = None) -> Any:
        raise EngineError("the kernel is broken")

    monkeypatch.setattr(model._executor._loaded, "run", broken)
    with cl.configure(recover=False), pytest.raises(EngineError, match=r"^the kernel is broken"):
        model.split({"x": np.ones(3, np.float32)}, runs=1)
    assert model.incidents == ()


def test_a_batch_of_one_leaves_the_trial_after_a_rest_to_its_run() -> None:
    for count in (1, 2):
        shared = Breaker(open=True, failures=3)
        sound = Together()
        runner, activity, clock = executor(sound, breaker=shared, alternatives=[("other", never)])
        clock.sleep(31)
        assert len(runner.run_batch([ONES] * count)) == count
        assert (sound.runs, sound.batches, shared.open) == (count, count - 1, False)
        assert told(activity) == []


@pytest.mark.parametrize("step", ["promote", "fall back", "retry"])
def test_who_stops_a_model_inside_of_an_engine_stops_recovery(step: str) -> None:
    stop = Interrupted("the model inside was interrupted")
    inner, cause = Script([stop]), EngineError("bad")
    runner, activity, _ = {
        "promote": lambda: executor(Script(factor=np.inf), promote=lambda: inner),
        "fall back": lambda: executor(
            Script([cause]), alternatives=[("other", lambda: inner), ("third", never)]
        ),
        "retry": lambda: executor(Script([DeviceLost("gone"), stop])),
    }[step]()
    with pytest.raises(Interrupted, match="the model inside"):
        runner.run(ONES)
    assert [i.outcome for i in activity.incidents] == ["interrupted"]
    assert runner.run(ONES)["y"].max() == 2  # nothing was given up for it


@pytest.mark.parametrize("how", ["at once", "exhausted", "too late", "loaded late"])
def test_a_failure_that_nobody_keeps_lets_go_of_its_inputs(how: str) -> None:
    def broken() -> Any:
        return Script([EngineError("bad") for _ in range(9)])

    def late() -> Any:
        time.sleep(0.02)
        raise EngineError("bad")

    runner, _, _ = {
        "at once": lambda: executor(broken(), recover=False),
        "exhausted": lambda: executor(broken(), alternatives=[("a", broken), ("b", broken)]),
        "too late": lambda: executor(broken()),
        "loaded late": lambda: executor(broken(), alternatives=[("a", late)]),
    }[how]()
    given = [np.ones((4, 2), np.float32)]
    gone = weakref.ref(given[0])
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(LabError):
            runner.run({"x": given.pop()}, deadline=30.0 if how == "loaded late" else 0.0)
        assert gone() is None
    finally:
        gc.enable()
