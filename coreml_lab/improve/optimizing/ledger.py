"""What optimizing did: every candidate with its evidence and verdict, and what came of it all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import show
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.metrics import Provenance, Quantity

MEASURED = Provenance.MEASURED


@dataclass(frozen=True)
class Evidence:
    """What was measured of one configuration.

    Attributes:
        size: bytes of the file.
        ratio: time by that of what held before, with its 95 % interval.
        latency: seconds per inference, median.
        against: the same of what held before, measured in turns with it.
        loss: relative L2 error against the original on the data, or the drop of the metric.
        memory: bytes beyond an idle process, the median of ``memories``, which were measured one
            after another; None where they are not known, ``unknown`` says why.
        cpu: CPU time of this process per inference, by that of what held before.
        energy: joules per inference beyond those of the idle machine, where they were asked for.
        gross: the same with idle power.
    """

    size: int
    ratio: float
    low: float | None
    high: float | None
    latency: float
    against: float
    loss: float
    memory: int | None = None
    unknown: str = ""
    cpu: float | None = None
    energy: Quantity | None = None
    memories: tuple[int, ...] = ()
    gross: Quantity | None = None

    @property
    def held(self) -> tuple[int, int] | None:
        """The least and the most memory that was measured; None where it is not known."""
        if self.memory is None:
            return None
        return min(self.memories, default=self.memory), max(self.memories, default=self.memory)


@dataclass(frozen=True)
class Entry:
    """A candidate and what became of it.

    Attributes:
        verdict: ``accepted``, ``rejected``, ``not resolved`` or ``failed``.
        against: what held before it, and what it was timed against.
    """

    title: str
    configuration: Configuration
    verdict: str
    reason: str
    evidence: Evidence | None = None
    against: Configuration = field(default_factory=Configuration)

    @property
    def accepted(self) -> bool:
        """Whether it was kept."""
        return self.verdict == "accepted"


@dataclass(frozen=True, repr=False)
class Optimized(Shown):
    """A model after optimizing: ``.model``, ``.ledger``, ``.save(path)``.

    Attributes:
        before: the original, measured as all else.
        after: what holds now, measured anew against the original.
        ledger: every candidate, in the order in which they were tried.
        configuration: what was done, and the settings the model is loaded with.
        metric: whether losses are drops of a metric, in its own unit, and no relative errors.
    """

    name: str
    goal: str
    tolerance: float
    before: Evidence
    after: Evidence
    ledger: tuple[Entry, ...]
    configuration: Configuration
    notes: tuple[str, ...] = ()
    metric: bool = False
    edit: Any = field(default=None, compare=False, metadata={"transient": True})

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.ledger)

    @property
    def model(self) -> Any:
        """The model as it is now, loaded with the settings that were found best."""
        return self.edit.load(self.configuration.settings)

    @property
    def package(self) -> Path:
        """Its file, there until Python ends: ``save`` keeps one."""
        path: Path = self.edit.package
        return path

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to a new ``.mlpackage``; the ledger to ``.html``, ``.md`` or ``.json``.

        Raises:
            LabError: where there is a package already.
        """
        if Path(path).suffix != ".mlpackage":
            return super().save(path)
        saved: Path = self.edit.save(path)
        return saved

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        kept = [e.title for e in self.ledger if e.accepted]
        told = f"{self.name}, for {self.goal}: {', then '.join(kept) or 'nothing was kept'}"
        told += (
            f"; time {show(_ratio(self.after))}, size {_share(self.after.size, self.before.size)}"
        )
        return Page(told, (self._totals(), self._entries()), self.notes)

    def _totals(self) -> Table:
        before, after = self.before, self.after
        rows: list[tuple[Cell, ...]] = [
            ("time per inference", _time(after.against), _time(after.latency), _ratio(after)),
            (
                "size of the file",
                _bytes(before.size),
                _bytes(after.size),
                _part(after.size, before.size),
            ),
            (
                "memory beyond an idle process",
                _memory(before),
                _memory(after),
                _memories(before, after),
            ),
            ("CPU time per inference", "", "", _cpu(after)),
            (self._lost, "", self._loss(after), ""),
        ]
        if after.energy is not None:
            rows[-1:-1] = _energies(before, after)
        return Table(
            "Before and after", ("", "before", "after", "after ÷ before [95 %]"), tuple(rows)
        )

    def _entries(self) -> Table:
        columns = ("candidate", "verdict", "why", "time ÷ before it [95 %]", "size", self._lost)
        return Table("What was tried", columns, tuple(map(self._row, self.ledger)))

    def _row(self, entry: Entry) -> tuple[Cell, ...]:
        told, found = (entry.title, entry.verdict, entry.reason), entry.evidence
        if found is None:
            return (*told, "", "", "")
        return (*told, _ratio(found), _bytes(found.size), self._loss(found))

    @property
    def _lost(self) -> str:
        return "drop of the metric" if self.metric else "loss"

    def _loss(self, found: Evidence) -> Quantity:
        # A metric has a unit of its own, which nobody told: five points are not 500 %.
        return Quantity(found.loss, "{value}" if self.metric else "1", MEASURED)


def _energies(before: Evidence, after: Evidence) -> list[tuple[Cell, ...]]:
    kinds = ("above idle", before.energy, after.energy), ("gross", before.gross, after.gross)
    return [(f"energy per inference, {what}", a or "", b or "", "") for what, a, b in kinds]


def _ratio(found: Evidence) -> Quantity:
    return Quantity(found.ratio, "{ratio}", MEASURED, found.low, found.high)


def _time(seconds: float) -> Quantity:
    return Quantity(seconds, "s", MEASURED)


def _bytes(count: int) -> Quantity:
    return Quantity(count, "By", MEASURED)


def _part(after: int, before: int) -> Quantity:
    return Quantity(after / before, "{ratio}", MEASURED)


def _share(after: int, before: int) -> str:
    return show(_part(after, before))


def _cpu(found: Evidence) -> Cell:
    return "" if found.cpu is None else Quantity(found.cpu, "{ratio}", MEASURED)


def _memory(found: Evidence) -> Quantity:
    if found.memory is None:
        return Quantity(float("nan"), "By", Provenance.UNAVAILABLE, note=found.unknown)
    low, high = found.held or (None, None)
    ends = (low, high) if low != high else (None, None)
    return Quantity(found.memory, "By", MEASURED, *ends)


def _memories(before: Evidence, after: Evidence) -> Cell:
    if not before.memory or after.memory is None:
        return ""
    return _part(after.memory, before.memory)
