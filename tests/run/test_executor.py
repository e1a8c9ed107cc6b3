"""The executor: what it does when a run fails, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.errors import (
    DeviceLost,
    EngineError,
    ExecutionError,
    InputError,
    LabError,
    OutOfMemory,
)
from coreml_lab.records import Run
from coreml_lab.run.activity import Activity
from coreml_lab.run.cutting import Sizes
from coreml_lab.run.executor import Executor, Interrupted

ONES = {"x": np.ones((4, 2), np.float32)}


@dataclass
class Script:
    """A loaded program that fails as it is told, then doubles its input."""

    failures: list[BaseException] = field(default_factory=list)
    largest: int = 99
    batches: list[int] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.batches.append(len(inputs["x"]))
        if self.failures:
            raise self.failures.pop(0)
        if len(inputs["x"]) > self.largest:
            raise OutOfMemory("too large")
        return {"y": inputs["x"] * 2}

    def trace(self, inputs: Mapping[str, Any], runs: int) -> tuple[Run, ...]:
        raise KeyboardInterrupt


def executor(script: Script, **options: Any) -> tuple[Executor, Activity, FakeClock]:
    activity, clock = Activity(), FakeClock()
    return Executor("net", script, activity=activity, clock=clock, **options), activity, clock


def test_a_finished_run_is_counted() -> None:
    runner, activity, _ = executor(Script())
    runner.run(ONES)
    assert activity.total == len(activity.finished) == 1
    assert activity.incident_total == 0


def test_a_lost_device_is_tried_again_with_longer_waits() -> None:
    runner, activity, clock = executor(Script([DeviceLost("gone"), DeviceLost("gone")]))
    assert runner.run(ONES)["y"].max() == 2
    assert clock.slept == [0.05, 0.1]
    assert [(i.error, i.action, i.outcome) for i in activity.incidents] == [
        ("DeviceLost", "Retry", "recovered")
    ]


def test_out_of_memory_splits_the_batch_until_it_fits() -> None:
    script = Script(largest=1)
    runner, activity, _ = executor(script, sizes=Sizes())
    assert runner.run(ONES)["y"].shape == (4, 2)
    assert script.batches == [4, 2, 1, 1, 2, 1, 1]
    assert activity.incidents[0].action == "SplitBatch"


def test_a_batch_that_cannot_be_split_is_not_split() -> None:
    runner, activity, _ = executor(Script(largest=1))
    with pytest.raises(OutOfMemory):
        runner.run(ONES)
    assert activity.incident_total == 0


def test_an_engine_error_falls_back_and_stays_there() -> None:
    broken, sound = Script([EngineError("bad"), EngineError("bad")]), Script()
    runner, activity, _ = executor(broken, alternatives=[("other", lambda: sound)])
    runner.run(ONES)
    runner.run(ONES)
    assert len(broken.batches) == 1
    assert len(sound.batches) == 2
    assert activity.incidents[0].action == "Fallback to other"


def test_exhausted_recovery_tells_the_story() -> None:
    broken = Script([EngineError("still bad")])
    runner, activity, _ = executor(
        Script([EngineError("bad")]), alternatives=[("b", lambda: broken)]
    )
    with pytest.raises(ExecutionError, match="recovery failed") as caught:
        runner.run(ONES)
    assert caught.value.incidents == tuple(activity.incidents)
    assert "still bad" in caught.value.incidents[0].outcome


def test_without_recovery_the_first_error_is_raised() -> None:
    runner, activity, _ = executor(Script([DeviceLost("gone")]), recover=False)
    with pytest.raises(DeviceLost):
        runner.run(ONES)
    assert activity.incident_total == 0


def test_the_callers_faults_are_not_recovered() -> None:
    runner, _, clock = executor(Script([InputError("wrong")]))
    with pytest.raises(InputError):
        runner.run(ONES)
    assert clock.slept == []


def test_an_interrupt_is_one_lab_error_and_still_an_interrupt() -> None:
    runner, activity, _ = executor(Script([KeyboardInterrupt()]))
    with pytest.raises(Interrupted, match="interrupted after") as caught:
        runner.run(ONES)
    assert isinstance(caught.value, LabError)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert "try: run the cell again" in str(caught.value)
    assert activity.total == 0
    assert runner.run(ONES)["y"].max() == 2
    with pytest.raises(Interrupted):
        runner.trace(ONES, 3)
