"""The measuring behind a comparison: stage by stage within a budget, interruptible between any two.

What has been measured lies in the study; ``comparison.built`` makes a result of it at any time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.clock import Clock
from coreml_lab.errors import EngineUnavailable, LabError, NumericalError
from coreml_lab.explain.agreement import Tally
from coreml_lab.explain.comparison_arms import Absent, Candidate
from coreml_lab.measure.blocks import Block, sized
from coreml_lab.measure.rounds import CpuTime, Round, rounds
from coreml_lab.records import Run

# Told what is being done, and how much of the whole is done, from 0 to 1.
Progress = Callable[[str, float], None]
TRACED = 5
# The share of what is left of the budget that a stage may take.
SHARE = {"numbers": 0.3, "time": 0.6, "operations": 0.5}


def silent(stage: str, done: float) -> None:
    """Tell nobody."""
    del stage, done


@dataclass
class Study:
    """What is compared, and what has been measured of it so far.

    Attributes:
        numbers: arm -> how far its results are from the baseline's, or why that is not known.
        rounds: one turn of every arm each.
        traces: arm -> its instrumented runs, or why there are none.
        unfinished: the stages that were not begun, or not ended.
    """

    arms: list[Candidate]
    absent: list[Absent]
    inputs: Mapping[str, Any]
    clock: Clock
    seconds: float
    start_ns: int
    base: int = 0
    pairs: int = 20
    data: Iterable[Mapping[str, Any]] = ()
    progress: Progress = silent
    cpu: CpuTime = time.process_time_ns
    numbers: dict[str, Tally | str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    traces: dict[str, tuple[Run, ...] | str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    deadline_ns: float = math.inf
    _done: float = 0.0

    @property
    def baseline(self) -> Candidate:
        """What the others are divided by."""
        return self.arms[self.base]

    @property
    def late(self) -> bool:
        """Whether the stage's time is up."""
        return self.clock.now_ns() > self.deadline_ns

    def tell(self, stage: str, done: float) -> None:
        """Report how far a stage is, as a share of all stages."""
        order = list(STAGES)
        self._done = max(self._done, (order.index(stage) + min(1.0, done)) / len(order))
        self.progress(stage, self._done)

    def measure(self, stages: Sequence[str]) -> None:
        """Go through the stages; those for which no time is left are not begun."""
        end = self.start_ns + self.seconds * 1e9
        self.unfinished = dict.fromkeys(stages, "interrupted before it was measured")
        for place, stage in enumerate(stages):
            now = self.clock.now_ns()
            # The first two are what a comparison is: they are begun whatever the budget.
            if now > end and stage not in {"numbers", "time"}:
                self.unfinished[stage] = self.spent
                continue
            share = SHARE.get(stage, 1.0) if place + 1 < len(stages) else 1.0
            self.deadline_ns = now + share * (end - now)
            self.tell(stage, 0.0)
            STAGES[stage](self)
            del self.unfinished[stage]
        self.progress("done", 1.0)

    @property
    def spent(self) -> str:
        """Why something was not measured any more."""
        return f"the budget of {self.seconds:g} s was spent"


def numbers(study: Study) -> None:
    """Every arm's results against the baseline's; an arm that cannot run becomes absent."""
    first = _results(study, study.inputs, drop=True)
    if not study.arms:
        told = "; ".join(f"{a.name}: {a.reason}" for a in study.absent)
        hint = next((a.hint for a in study.absent if a.hint), "cl.devices() lists what is here")
        raise EngineUnavailable(f"nothing can be compared here: {told}", reason=told, hint=hint)
    study.numbers = {a.name: Tally() for a in study.arms if a is not study.baseline}
    _compare(study, first)
    for count, example in enumerate(study.data):
        if study.late:
            break
        _compare(study, _results(study, example))
        study.tell("numbers", 1 - 1 / (count + 2))


def _results(
    study: Study, inputs: Mapping[str, Any], *, drop: bool = False
) -> dict[str, Mapping[str, Any]]:
    found = {}
    base = study.baseline if study.arms else None
    for arm in tuple(study.arms):
        try:
            found[arm.name] = arm.model.predict(inputs)
        except LabError as error:
            if not drop or isinstance(error, KeyboardInterrupt):
                raise
            study.arms.remove(arm)
            study.absent.append(Absent(arm.name, arm.device, error.message, error.hint))
    study.base = study.arms.index(base) if base in study.arms else max(0, len(study.arms) - 1)
    return found


def _compare(study: Study, found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, tally in study.numbers.items():
        if isinstance(tally, Tally):
            try:
                tally.add(found[name], found[study.baseline.name])
            except NumericalError as error:
                study.numbers[name] = error.message


def timing(study: Study) -> None:
    """All arms in turns, as often as was asked for and the budget allows."""
    works = [_work(arm, study.inputs) for arm in study.arms]
    block = _block(works, study)
    start = study.clock.now_ns()
    for found in rounds(works, block, clock=study.clock, cpu=study.cpu):
        study.rounds.append(found)
        spent = (study.clock.now_ns() - start) / max(1, study.deadline_ns - start)
        study.tell("time", max(len(study.rounds) / study.pairs, spent))
        if len(study.rounds) >= study.pairs or study.late:
            return


def _work(arm: Candidate, inputs: Mapping[str, Any]) -> Callable[[], object]:
    predict = arm.model.predict
    return lambda: predict(inputs)


def _block(works: Sequence[Callable[[], object]], study: Study) -> Block:
    """Blocks as long as helps, but so short that the rounds fit into their time."""
    block = sized(works, study.clock)
    begin = study.clock.now_ns()
    for work in works:
        work()
    once = max(1, study.clock.now_ns() - begin)
    left = max(0.0, study.deadline_ns - study.clock.now_ns())
    fits = left / study.pairs / once
    if block.settle + block.repeats <= fits:
        return block
    repeats = max(1, math.floor(fits * block.repeats / (block.settle + block.repeats)))
    return Block(max(0, min(block.settle, math.floor(fits) - repeats)), repeats)


def operations(study: Study) -> None:
    """A few instrumented runs of each arm."""
    for place, arm in enumerate(study.arms):
        if study.late:
            study.traces[arm.name] = study.spent
            continue
        try:
            study.traces[arm.name] = arm.model.trace(study.inputs, runs=TRACED)
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            study.traces[arm.name] = error.message
        study.tell("operations", (place + 1) / len(study.arms))


STAGES: dict[str, Callable[[Study], None]] = {
    "numbers": numbers,
    "time": timing,
    "operations": operations,
}
