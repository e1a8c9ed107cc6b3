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
        memory: bytes beyond an idle process; None where they are not known, ``unknown`` says why.
        cpu: CPU time of this process per inference, by that of what held before.
        energy: joules per inference, where they were asked for.
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


@dataclass(frozen=True)
class Entry:
    """A candidate and what became of it.

    Attributes:
        verdict: ``accepted``, ``rejected``, ``not resolved`` or ``failed``.
    """

    title: str
    configuration: Configuration
    verdict: str
    reason: str
    evidence: Evidence | None = None

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
    """

    name: str
    goal: str
    tolerance: float
    before: Evidence
    after: Evidence
    ledger: tuple[Entry, ...]
    configuration: Configuration
    notes: tuple[str, ...] = ()
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
            ("loss", "", Quantity(after.loss, "1", MEASURED), ""),
        ]
        if after.energy is not None:
            rows.insert(-1, ("energy per inference", before.energy or "", after.energy, ""))
        return Table(
            "Before and after", ("", "before", "after", "after ÷ before [95 %]"), tuple(rows)
        )

    def _entries(self) -> Table:
        columns = ("candidate", "verdict", "why", "time ÷ before it [95 %]", "size", "loss")
        return Table("What was tried", columns, tuple(_row(e) for e in self.ledger))


def _row(entry: Entry) -> tuple[Cell, ...]:
    found = entry.evidence
    if found is None:
        return entry.title, entry.verdict, entry.reason, "", "", ""
    return (
        entry.title,
        entry.verdict,
        entry.reason,
        _ratio(found),
        _bytes(found.size),
        Quantity(found.loss, "1", MEASURED),
    )


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
    return _bytes(found.memory)


def _memories(before: Evidence, after: Evidence) -> Cell:
    if not before.memory or after.memory is None:
        return ""
    return _part(after.memory, before.memory)
