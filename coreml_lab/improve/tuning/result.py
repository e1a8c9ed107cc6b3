"""What tuning found: every trial, those that nothing else beats, and pages to look at. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.explain import draw
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.improve.tuning.evaluation import Measured
from coreml_lab.improve.tuning.space import NOTHING, Configuration
from coreml_lab.measure.intervals import CONFIDENCE, quantile_interval
from coreml_lab.metrics import Provenance, Quantity

# Objective -> what is made small, of a measured trial.
OBJECTIVES: dict[str, Callable[[Measured], float]] = {
    "latency": lambda m: m.ratio,
    "size": lambda m: float(m.size),
    "loss": lambda m: m.loss,
    "memory": lambda m: _or_nan(m.memory),
    "cpu_time": lambda m: _or_nan(m.cpu),
    "energy": lambda m: _or_nan(m.energy),
}
AXES = {
    "latency": ("time ÷ original", "{ratio}"),
    "size": ("size of the file", "By"),
    "loss": ("loss", "1"),
    "memory": ("memory beyond an idle process", "By"),
    "cpu_time": ("CPU time ÷ original", "{ratio}"),
    "energy": ("gross energy per inference", "J"),
}

# Columns that only those see who asked for them.
MORE = ("memory", "cpu_time", "energy")
CHANCE = "The best of many trials is in part the one that had luck with its timing."


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else float(number)


@dataclass(frozen=True)
class Trial:
    """One configuration and what became of it.

    Attributes:
        measured: what was found; None where it failed.
        failure: why it failed, or empty.
        kept: whether its loss is within the tolerance.
    """

    number: int
    configuration: Configuration
    measured: Measured | None = None
    failure: str = ""
    kept: bool = False

    @property
    def found(self) -> Measured:
        """What was found.

        Raises:
            LabError: where the trial failed.
        """
        if self.measured is None:
            raise LabError(f"trial {self.number} failed: {self.failure}", hint="look at another")
        return self.measured


@dataclass(frozen=True, repr=False)
class Tuning(Shown):
    """All trials; ``front`` are those that nothing beats in every objective.

    Attributes:
        baseline: the model as it was, tried as any other.
        notes: what is to know about how it was done.
    """

    program: str
    objectives: tuple[str, ...]
    tolerance: float
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    edit: Any = field(default=None, compare=False, metadata={"transient": True})

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials within the tolerance that none beats, best in the first objective first."""
        kept = [t for t in self.trials if t.kept]
        points = [self.point(t) for t in kept]
        best = [
            t for t, p in zip(kept, points, strict=True) if not any(beats(q, p) for q in points)
        ]
        unique = {self.point(t): t for t in reversed(best)}
        return tuple(sorted(unique.values(), key=self.point))

    def point(self, trial: Trial) -> tuple[float, ...]:
        """The objectives' values; all are better where smaller."""
        return tuple(OBJECTIVES[name](trial.found) for name in self.objectives)

    @property
    def drop(self) -> bool:
        """Whether losses are drops of a metric, in its own unit, and no relative errors."""
        return any(t.measured is not None and t.measured.drop for t in self.trials)

    @property
    def tried(self) -> int:
        """How many trials were measured: the best of them is in part the luckiest."""
        return sum(t.measured is not None for t in self.trials)

    def best(self, objective: str | None = None) -> Trial:
        """The trial within the tolerance that is best in one objective (default: the first).

        Raises:
            UnknownParameter: for an objective that was not asked for.
            LabError: where no trial is within the tolerance; says which came nearest.
        """
        name = self.objectives[0] if objective is None else objective
        if name not in self.objectives:
            raise UnknownParameter(
                f"there is no objective {name!r}", hint="one of " + ", ".join(self.objectives)
            )
        if not self.front:
            raise LabError(
                f"no trial keeps the tolerance {self.tolerance:g}{self._nearest()}",
                hint="allow more loss, or other choices",
            )
        where = self.objectives.index(name)
        return min(self.front, key=lambda t: self.point(t)[where])

    def _nearest(self) -> str:
        ran = [t for t in self.trials if t.measured and math.isfinite(t.measured.loss)]
        if not ran:
            return ": none could be run"
        near = min(ran, key=lambda t: t.found.loss)
        return f"; nearest came {str(near.configuration) or NOTHING} with {near.found.loss:.3g}"

    def apply(self, trial: Trial | None = None) -> Any:
        """The edited model of a trial (default: the best): ``.model``, ``.save(path)``.

        Settings of loading are not part of a file: they are in ``trial.configuration.settings``.
        """
        chosen = self.best() if trial is None else trial
        return self.edit(chosen.configuration.actions)

    @property
    def figures(self) -> Mapping[str, draw.Drawer]:
        """The first two objectives against each other (a single one against the loss)."""
        axes = (*self.objectives, "loss", "latency")
        across, up = axes[0], next(axis for axis in axes if axis != axes[0])
        best = {id(trial) for trial in self.front}
        rows = [
            (
                str(trial.configuration) or NOTHING,
                _quantity(across, trial.found, self.tried),
                _quantity(up, trial.found, self.tried),
                "best" if id(trial) in best else "kept" if trial.kept else "beyond",
            )
            for trial in self.trials
            if trial.measured is not None
        ]
        named = [_named(axis, drop=self.drop) for axis in (across, up)]
        title = f"{self.program}: {named[0]} against {named[1]}"
        return draw.of_front("front", rows, title, (named[0], named[1]))

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        front = self.front
        ran = self.tried
        failed = len(self.trials) - ran
        told = f"{self.program}: {ran} trials measured, {failed} failed, {len(front)} on the front"
        tables = [self._table("Front: nothing is better in every objective", front)]
        others = [t for t in self.trials if t not in front and t.measured is not None]
        tables.append(self._table("Other trials", others))
        broken = tuple(
            (str(t.configuration) or NOTHING, t.failure) for t in self.trials if t.failure
        )
        if broken:
            tables.append(Table("Failed", ("configuration", "why"), broken))
        return Page(told, tuple(tables), (*self.notes, *self._chance()))

    def _chance(self) -> tuple[str, ...]:
        """What choosing the best of many means for its time."""
        if self.tried < 2:  # noqa: PLR2004 - one was not chosen among others
            return ()
        wider = f"Intervals are wider for it: all {self.tried} hold together in 95 % of searches."
        return (f"{CHANCE} {wider} Without an interval, pairs were too few for that.",)

    def _table(self, caption: str, trials: Sequence[Trial]) -> Table:
        columns = ["configuration", "time ÷ original [95 %]", "time per inference", "size"]
        more = [name for name in MORE if name in self.objectives]
        columns += [*(AXES[name][0] for name in more), _named("loss", drop=self.drop), "kept"]
        return Table(caption, tuple(columns), tuple(_row(t, more, self.tried) for t in trials))


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``one`` is nowhere larger and somewhere smaller."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def _named(objective: str, *, drop: bool) -> str:
    """What an objective is called; a metric's drop is no loss of outputs."""
    return "drop of the metric" if objective == "loss" and drop else AXES[objective][0]


def widened(found: Measured, tried: int) -> tuple[float, float] | tuple[None, None]:
    """The interval of a trial's ratio that holds for all that were tried together (Bonferroni).

    Trials from before their pairs were kept have the interval of one alone.
    """
    if not found.ratios or tried < 2:  # noqa: PLR2004 - one alone
        return (None, None) if found.low is None or found.high is None else (found.low, found.high)
    ends = quantile_interval(found.ratios, 0.5, 1 - (1 - CONFIDENCE) / tried)
    return (None, None) if ends is None else ends


def _quantity(objective: str, found: Measured, tried: int) -> Quantity:
    """One objective of a trial, with its interval where it has one."""
    value, unit = OBJECTIVES[objective](found), AXES[objective][1]
    if not math.isfinite(value):
        return Quantity(math.nan, unit, Provenance.UNAVAILABLE, note="not a number, or not asked")
    unit = "{value}" if objective == "loss" and found.drop else unit
    ends: tuple[float, float] | tuple[None, None] = (None, None)
    if objective == "latency":
        ends = widened(found, tried)
    elif objective == "memory" and len(set(found.memories)) > 1:
        ends = float(min(found.memories)), float(max(found.memories))
    return Quantity(value, unit, Provenance.MEASURED, *ends)


def _row(trial: Trial, more: Sequence[str], tried: int) -> tuple[Cell, ...]:
    found, measured = trial.found, Provenance.MEASURED
    return (
        str(trial.configuration) or NOTHING,
        _quantity("latency", found, tried),
        Quantity(found.latency, "s", measured),
        Quantity(found.size, "By", measured),
        *(_quantity(name, found, tried) for name in more),
        _quantity("loss", found, tried),
        "yes" if trial.kept else "no: beyond the tolerance",
    )
