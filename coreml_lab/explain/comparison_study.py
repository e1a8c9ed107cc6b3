"""The state of a comparison that is being measured: stage by stage within a budget.

What has been measured lies in the study; ``comparison_result.built`` makes a result of it at any
time, also after an interrupt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.explain.agreement import Tally
from coreml_lab.explain.comparison_arms import Absent, Candidate, Movable
from coreml_lab.explain.energy import energy
from coreml_lab.explain.energy_rows import EnergyRow
from coreml_lab.measure.alone import Alone, alone
from coreml_lab.measure.intervals import student
from coreml_lab.measure.rounds import CpuTime, Round
from coreml_lab.metrics import Quantity
from coreml_lab.program.liveness import ActivationPlan
from coreml_lab.records import Run

# Told what is being done, and how much of the whole is done, from 0 to 1.
Progress = Callable[[str, float], None]
# The share of what is left of the budget that a stage may take.
SHARE = {"numbers": 0.3, "time": 0.5, "operations": 0.3, "batches": 0.4, "memory": 0.7}
# What a comparison is: begun whatever loading has left of the budget, with this share of it.
ALWAYS = {"numbers": 0.0, "time": 0.2}
BATCHES = (1, 4, 16)
# The group of what several counters tell together.
TOTAL = "total"
UNCOUNTED = "no counter here tells of the device that does the work"


def silent(stage: str, done: float) -> None:
    """Tell nobody."""
    del stage, done


@dataclass(frozen=True)
class Joules:
    """Energy of an inference with its 95 % interval; ``degrees`` of freedom are behind that.

    Attributes:
        group: of the counters that told it: ``package``, ``gpu/0``, ``total`` …
        title: what a person calls them.
        total: the same by all counters that can be added up, where there are several.
    """

    value: Quantity
    degrees: int = 0
    group: str = ""
    title: str = ""
    total: Joules | None = None

    @property
    def counter(self) -> str:
        """What it was told by: one board is as good as another, a total is what it is made of."""
        return self.title if self.group == TOTAL else self.group.partition("/")[0]

    def beside(self, other: Joules) -> tuple[Joules, Joules] | None:
        """Both by counters of one kind, or None: joules of a board and of a CPU are no ratio."""
        if self.counter == other.counter:
            return self, other
        whole, rest = self.total, other.total
        return (whole, rest) if whole and rest and whole.counter == rest.counter else None

    def within(self, confidence: float) -> Quantity:
        """The same with an interval that holds with another confidence."""
        low, high = self.value.low, self.value.high
        if not self.degrees or low is None or high is None or math.isnan(self.value.value):
            return self.value
        wider = student(self.degrees, confidence) / student(self.degrees)
        low, high = (self.value.value + (e - self.value.value) * wider for e in (low, high))
        return replace(self.value, low=low, high=high)


def joules(model: Movable, inputs: Mapping[str, Any], seconds: float) -> Joules:
    """Energy of one inference above idle, by the counter of the device that does the work."""
    found = energy(model, inputs, seconds=seconds)
    if found.main is None:
        missing = "; ".join(d.reason for d in found.measurement.missing if d.reason)
        return Joules(Quantity.unavailable("J", missing or UNCOUNTED))
    total = next((_counted(row) for row in found.rows if row.group == TOTAL), None)
    return replace(_counted(found.main), total=total)


def _counted(row: EnergyRow) -> Joules:
    return Joules(row.above_idle, row.degrees, row.group, row.title)


def by_itself(model: Any, inputs: Mapping[str, Any], seconds: float) -> Iterator[Alone]:
    """The model in processes of its own."""
    return alone(model, inputs, seconds=seconds)


@dataclass(frozen=True)
class Tools:
    """What measures: handed in, so that tests need no machine."""

    clock: Clock = SYSTEM
    cpu: CpuTime = time.process_time_ns
    alone: Callable[[Any, Mapping[str, Any], float], Iterable[Alone]] = by_itself
    joules: Callable[[Any, Mapping[str, Any], float], Joules] = joules


@dataclass
class Study:
    """What is compared, and what has been measured of it so far.

    Attributes:
        numbers: arm -> how far its results are from the baseline's, or why that is not known.
        rounds: one turn of every arm each.
        traces: arm -> its instrumented runs, or why there are none.
        batches: number of examples -> the arms that take so many, and their rounds.
        refused: arm -> number of examples -> why it does not take so many.
        alone: arm -> what was seen of it in processes of its own: cold, then warm.
        plans: arm -> how its activations lie, or why that is not known.
        joules: arm -> energy of an inference.
        reasons: (stage, arm) -> why something was not measured.
        unfinished: the stages that were not begun, or not ended.
    """

    arms: list[Candidate]
    absent: list[Absent]
    inputs: Mapping[str, Any]
    seconds: float
    tools: Tools
    start_ns: int
    base: int = 0
    pairs: int = 20
    data: Iterable[Mapping[str, Any]] = ()
    sizes: tuple[int, ...] = BATCHES
    progress: Progress = silent
    numbers: dict[str, Tally | str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    traces: dict[str, tuple[Run, ...] | str] = field(default_factory=dict)
    batches: dict[int, tuple[tuple[str, ...], list[Round]]] = field(default_factory=dict)
    refused: dict[str, dict[int, str]] = field(default_factory=dict)
    alone: dict[str, tuple[Alone, ...]] = field(default_factory=dict)
    plans: dict[str, ActivationPlan | str] = field(default_factory=dict)
    joules: dict[str, Joules] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    deadline_ns: float = math.inf
    stages: tuple[str, ...] = ()
    _done: float = 0.0

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self.tools.clock

    @property
    def baseline(self) -> Candidate:
        """What the others are divided by."""
        return self.arms[self.base]

    @property
    def left(self) -> float:
        """Seconds that the stage still has."""
        return max(0.0, (self.deadline_ns - self.clock.now_ns()) / 1e9)

    @property
    def late(self) -> bool:
        """Whether the stage's time is up."""
        return self.clock.now_ns() > self.deadline_ns

    @property
    def spent(self) -> str:
        """Why something was not measured any more."""
        return f"the budget of {self.seconds:g} s was spent"

    def tell(self, stage: str, done: float) -> None:
        """Report how far a stage is, as a share of all stages."""
        before = self.stages.index(stage)
        self._done = max(self._done, (before + min(1.0, done)) / len(self.stages))
        self.progress(stage, self._done)

    def measure(self, stages: Mapping[str, Callable[[Study], None]]) -> None:
        """Go through the stages; those for which no time is left are not begun."""
        end = self.start_ns + self.seconds * 1e9
        self.stages = tuple(stages)
        self.unfinished = dict.fromkeys(stages, "interrupted before it was measured")
        for stage, work in stages.items():
            now = self.clock.now_ns()
            if now > end and stage not in ALWAYS:
                self.unfinished[stage] = self.spent
                continue
            share = SHARE.get(stage, 1.0) if stage != self.stages[-1] else 1.0
            least = ALWAYS.get(stage, 0.0) * self.seconds * 1e9
            self.deadline_ns = now + max(least, share * (end - now))
            self.tell(stage, 0.0)
            work(self)
            del self.unfinished[stage]
        self.progress("done", 1.0)
