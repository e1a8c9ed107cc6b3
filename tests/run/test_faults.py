"""Faults while programs run: what is tried, what is told, and that nothing is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.clock import FakeClock
from coreml_lab.errors import (
    DeviceLost,
    EngineCrashed,
    EngineError,
    ExecutionError,
    InputError,
    LabError,
    Timeout,
)
from coreml_lab.program.graph import Array, Dim
from coreml_lab.run import breaker as breakers
from coreml_lab.run.activity import Activity
from coreml_lab.run.breaker import Breaker
from coreml_lab.run.executor import Executor

ONES = {"x": np.ones((4, 2), np.float32)}


@dataclass
class Script:
    """A loaded program that fails as it is told, then multiplies its input."""

    failures: list[BaseException] = field(default_factory=list)
    factor: float = 2
    runs: int = 0
    states: Mapping[str, Any] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Any], state: Any = None) -> dict[str, Any]:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        return {"y": inputs["x"] * np.float32(self.factor)}


@dataclass
class Stoppable(Script):
    """One that can be stopped, and hangs as long as it is told."""

    hang: float = 0.0

    def run_within(self, seconds: float, inputs: Any, state: Any = None) -> dict[str, Any]:
        if self.hang > seconds:
            raise Timeout("stopped")
        return self.run(inputs)


def executor(script: Any, **options: Any) -> tuple[Executor, Activity, FakeClock]:
    activity, clock = Activity(), FakeClock()
    return Executor("net", script, activity=activity, clock=clock, **options), activity, clock


def told(activity: Activity) -> list[tuple[str, str, str]]:
    return [(i.error, i.action, i.outcome) for i in activity.incidents]


def test_a_crashed_engine_is_loaded_again_and_the_run_repeated() -> None:
    crashed, fresh = Script([EngineCrashed("gone")]), Script()
    runner, activity, _ = executor(crashed, reload=lambda: fresh)
    assert runner.run(ONES)["y"].max() == 2
    assert told(activity) == [("EngineCrashed", "Restart", "recovered")]
    runner.run(ONES)
    assert (crashed.runs, fresh.runs) == (1, 2)


def test_a_device_that_stays_lost_is_retried_reloaded_and_left_for_another() -> None:
    lost = [DeviceLost("gone") for _ in range(3)]
    again = Script([DeviceLost("still gone")])
    other = Script()
    runner, activity, clock = executor(
        Script([*lost]), reload=lambda: again, alternatives=[("other", lambda: other)]
    )
    assert runner.run(ONES)["y"].max() == 2
    assert [i[1] for i in told(activity)] == ["Retry", "Restart", "Fallback to other"]
    assert clock.slept == [0.05, 0.1]
    assert runner.fallen_back_to == "other"


def test_alternatives_that_cannot_load_are_passed_over() -> None:
    def absent() -> Any:
        raise EngineError("no GPU")

    sound = Script()
    runner, activity, _ = executor(
        Script([EngineError("bad")]), alternatives=[("a GPU", absent), ("cpu", lambda: sound)]
    )
    runner.run(ONES)
    assert told(activity) == [("EngineError", "Fallback to cpu", "recovered")]


def test_what_overflows_in_fp16_is_promoted_to_fp32() -> None:
    half, whole = Script(factor=np.inf), Script(factor=70000)
    runner, activity, _ = executor(half, promote=lambda: whole)
    assert runner.run(ONES)["y"].max() == 70000
    assert told(activity) == [("NumericalError", "Promote", "recovered")]
    runner.run(ONES)
    assert (half.runs, whole.runs) == (1, 2)


def test_what_is_infinite_in_fp32_too_stays_in_fp16() -> None:
    half, whole = Script(factor=np.inf), Script(factor=np.inf)
    runner, activity, _ = executor(half, promote=lambda: whole)
    for _ in range(3):
        assert np.isinf(runner.run(ONES)["y"]).all()
    assert (half.runs, whole.runs) == (3, 1)
    assert "not finite in fp32 either" in told(activity)[0][2]


def test_inputs_that_are_not_finite_are_no_fault_of_fp16() -> None:
    runner, activity, _ = executor(Script(), promote=Script)
    runner.run({"x": np.full((1, 1), np.inf, np.float32)})
    assert told(activity) == []


def test_a_device_that_keeps_failing_is_left_alone_and_tried_again_later() -> None:
    shared, clock = Breaker(), FakeClock()
    device = Script()

    def crashing() -> Script:
        """Works once after it was loaded, then crashes."""
        device.failures = []
        return device

    options: dict[str, Any] = {"clock": clock, "breaker": shared, "reload": crashing}
    first = Executor("net", device, activity=Activity(), **options)
    for _ in range(breakers.FAILURES):
        device.failures = [EngineCrashed("gone")]
        first.run(ONES)  # recovered by a restart each time
    assert shared.open

    used, sound, activity = device.runs, Script(), Activity()
    others: Any = [("other", lambda: sound)]
    Executor("net", device, others, activity=activity, **options).run(ONES)
    assert (device.runs, sound.runs) == (used, 1)
    assert told(activity) == [("DeviceResting", "Fallback to other", "recovered")]

    clock.advance(breakers.REST_S + 1)
    Executor("net", device, others, activity=activity, **options).run(ONES)
    assert device.runs == used + 1
    assert not shared.open


def test_a_run_that_can_be_stopped_is_stopped_at_its_deadline() -> None:
    runner, _, _ = executor(Stoppable(hang=9.0))
    with pytest.raises(Timeout):
        runner.run(ONES, deadline=0.1)
    assert runner.run(ONES)["y"].max() == 2


def test_recovery_has_the_time_that_is_left_of_the_deadline() -> None:
    crashed, hanging, other = Script([EngineCrashed("gone")]), Stoppable(hang=9.0), Script()
    others = [("other", lambda: other)]
    runner, activity, _ = executor(crashed, reload=lambda: hanging, alternatives=others)
    assert runner.run(ONES, deadline=5.0)["y"].max() == 2
    assert [(action, outcome) for _, action, outcome in told(activity)] == [
        ("Restart", "failed: stopped"),
        ("Fallback to other", "recovered"),
    ]


def test_nothing_is_tried_when_the_time_is_over() -> None:
    def slow() -> Any:
        time.sleep(0.06)
        return Stoppable()

    def never() -> Any:
        raise AssertionError("the time was over")

    crashed = Script([EngineCrashed("gone")])
    runner, activity, _ = executor(crashed, reload=slow, alternatives=[("other", never)])
    with pytest.raises(ExecutionError, match="gone; recovery failed"):
        runner.run(ONES, deadline=0.05)
    ((error, action, outcome),) = told(activity)
    assert (error, action) == ("EngineCrashed", "Restart")
    assert "net was stopped: the run took longer than 0.05 s" in outcome
    assert runner.run(ONES)["y"].max() == 2


def test_an_engine_that_the_deadline_cut_off_is_there_for_the_next_call() -> None:
    def slow() -> Any:
        time.sleep(0.06)
        return Stoppable()

    broken = Script([EngineError("bad"), EngineError("bad")])
    runner, activity, _ = executor(broken, alternatives=[("other", slow)])
    with pytest.raises(ExecutionError, match="bad; recovery failed"):
        runner.run(ONES, deadline=0.05)
    assert runner.run(ONES)["y"].max() == 2
    assert told(activity)[-1] == ("EngineError", "Fallback to other", "recovered")


def test_a_promotion_that_the_deadline_cut_off_is_made_by_the_next_call() -> None:
    def slow() -> Any:
        time.sleep(0.06)
        return Stoppable()

    runner, activity, _ = executor(Script(factor=np.inf), promote=slow)
    with pytest.raises(ExecutionError, match="not finite in fp16; recovery failed"):
        runner.run(ONES, deadline=0.05)
    assert runner.run(ONES)["y"].max() == 2
    assert told(activity)[-1] == ("NumericalError", "Promote", "recovered")


def test_a_late_result_of_what_cannot_be_stopped_is_given_and_told() -> None:
    @dataclass
    class Slow(Script):
        def run(self, inputs: Any, state: Any = None) -> dict[str, Any]:
            time.sleep(0.02)
            return super().run(inputs)

    runner, activity, _ = executor(Slow())
    assert runner.run(ONES, deadline=0.001)["y"].max() == 2
    assert told(activity)[0][0] == "Timeout"
    assert "came late" in told(activity)[0][2]


def long_program() -> cl.Model:
    w = np.eye(256, dtype=np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        for _ in range(400):
            x = ops.tanh(ops.matmul(x, w))
        return x

    return cl.compile(net, x=cl.spec(Dim("n", 1, 8192), 256))


@pytest.mark.parametrize("engine", ["portable", "reference"])
def test_a_real_engine_is_stopped_and_stays_usable(engine: str) -> None:
    model = cl.load(long_program().program.package, engine=engine)
    big = {"x": np.ones((8192, 256), np.float32)}
    begin = time.monotonic()
    with pytest.raises(Timeout, match="was stopped"):
        model.predict(big, deadline=0.05)
    spent = time.monotonic() - begin
    begin = time.monotonic()
    small = model.predict({"x": np.ones((1, 256), np.float32)}, deadline=60)
    assert spent < 30, "it ran on after its deadline"
    assert all(np.isfinite(a).all() for a in small.values())


def test_a_configured_deadline_holds_for_models_that_are_compiled_already() -> None:
    model = cl.load(long_program().program.package, engine="reference")
    big = {"x": np.ones((8192, 256), np.float32)}
    small = {"x": np.ones((1, 256), np.float32)}
    for inputs in (big, [big, small]):
        with cl.configure(deadline=0.05), pytest.raises(Timeout, match="was stopped"):
            model.predict(inputs)
    with cl.configure(deadline=0.0001):
        assert len(model.predict([small, small], deadline=0)) == 2
    assert all(np.isfinite(a).all() for a in model.predict(small).values())


@pytest.mark.parametrize("deadline", [-1, float("nan"), "soon"])
def test_a_deadline_that_is_no_time_is_refused(deadline: Any) -> None:
    model = cl.compile(ops.exp, x=cl.spec(3))
    with pytest.raises(InputError, match="no number of seconds") as caught:
        model.predict({"x": np.zeros(3, np.float32)}, deadline=deadline)
    assert "0 means no limit" in caught.value.hint


def test_incidents_are_told_by_the_model_and_its_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    cl.configure(recover=True)
    model = cl.compile(ops.exp, x=cl.spec(3))

    def broken(inputs: Any, state: Any = None) -> Any:
        raise EngineError("the kernel is broken")

    monkeypatch.setattr(model._executor._loaded, "run", broken)
    x = np.ones(3, np.float32)
    (y,) = model.predict({"x": x}).values()
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    assert [i.error for i in model.incidents] == ["EngineError"]
    assert "fell back to" in repr(model)
    assert "1 incident" in repr(model)


def test_recovery_is_turned_off_for_models_that_are_loaded_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cl.configure(recover=True)
    model = cl.compile(ops.exp, x=cl.spec(3))

    def broken(inputs: Any, state: Any = None) -> Any:
        raise EngineError("the kernel is broken")

    monkeypatch.setattr(model._executor._loaded, "run", broken)
    x = {"x": np.zeros(3, np.float32)}
    for inputs in (x, [x, x]):
        with (
            cl.configure(recover=False),
            pytest.raises(EngineError, match=r"^the kernel is broken"),
        ):
            model.predict(inputs)
    assert model.incidents == ()
    assert len(model.predict([x, x])) == 2
    assert [i.error for i in model.incidents] == ["EngineError"]


def test_an_engine_asked_for_by_name_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cl.configure(recover=True)
    model = cl.compile(ops.exp, x=cl.spec(3), engine="portable")

    def broken(inputs: Any, state: Any = None) -> Any:
        raise EngineError("the kernel is broken")

    monkeypatch.setattr(model._executor._loaded, "run", broken)
    with pytest.raises(EngineError, match="the kernel is broken"):
        model.predict({"x": np.ones(3, np.float32)})


def test_threads_that_fail_together_move_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Script([EngineError("bad") for _ in range(100)])
    made: list[Script] = []

    def load() -> Any:
        made.append(Script())
        return made[-1]

    runner, _, _ = executor(broken, alternatives=[("other", load), ("third", load)])
    results: list[Any] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        results.append(runner.run(ONES)["y"].max())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2] * 8
    assert len(made) == 1


def test_eight_threads_predict_load_and_unload_at_once() -> None:
    package = cl.compile(lambda x: ops.relu(x) + 1, x=cl.spec(2, 3)).program.package
    shared = cl.load(package)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(5):
                model = cl.load(package) if i % 2 else shared
                x = np.full((2, 3), seed - i, np.float32)
                (y,) = model.predict({"x": x}).values()
                np.testing.assert_array_equal(y, np.maximum(x, 0) + 1)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_engine_that_disappears_leaves_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cl.compile(ops.exp, x=cl.spec(3), engine="portable")
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    x = np.ones(3, np.float32)
    assert model.predict({"x": x})  # what is loaded goes on
    with pytest.raises(LabError):
        cl.load(model.program.package, engine="portable")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_the_parent_goes_on_after_a_fork_of_the_kernel_process() -> None:
    model = cl.compile(ops.exp, x=cl.spec(3))
    x: Array = np.ones(3, np.float32)
    want = model.predict({"x": x})
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    for name, array in model.predict({"x": x}).items():
        np.testing.assert_array_equal(array, want[name])
