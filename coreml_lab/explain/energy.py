"""energy(): joules per inference, by every counter that the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab import config
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import EngineUnavailable, InputError
from coreml_lab.explain import draw
from coreml_lab.explain.apportion import Share, apportioned, planned, shares
from coreml_lab.explain.energy_rows import (
    BELOW,
    EnergyRow,
    bare_digits,
    cpu_time,
    energy_rows,
    left_out,
    named,
    told,
)
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import bare, missing, show
from coreml_lab.measure.energy import GroupEnergy, Measurement, Progress, measure
from coreml_lab.measure.energy_watch import Keep, in_a_thread
from coreml_lab.measure.given import runnable
from coreml_lab.measure.recorder import Subject
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.context import context
from coreml_lab.probes.counters import Opened
from coreml_lab.probes.modelled import parse_watts
from coreml_lab.probes.protocol import Target
from coreml_lab.probes.sources import sources
from coreml_lab.records import PlanInfo, ProgramInfo

METHOD = (
    "Idle and active blocks in turns; within a block only energy between publications of the "
    "counter counts. Above idle: the mean of (active - idle power) x time per inference over the "
    "pairs, with Student's 95 % interval, steady drift taken out. Gross contains idle power."
)
GPUS = ("cuda", "opencl")
# Whose energy is told in the headline, where the model does not run on a GPU.
FIRST = ("package", "cpu", "process")
TRACED = 5
# Operations listed one by one.
TOP = 20


@dataclass(frozen=True, repr=False)
class Energy(Shown):
    """What was found; ``measurement`` holds the blocks and every publication.

    Attributes:
        rows: per group of counters; a last one, ``total``, where several can be added up.
        latency: seconds per inference while it was measured.
        cpu_time: CPU seconds per inference, of all cores, where the energy is estimated from them.
        conditions: supply, battery, heat and memory pressure, before and after.
        operations: energy per operation, apportioned; empty where it was not asked for.
        against_plan: what Core ML plans for its processors beside what they drew.
    """

    program: ProgramInfo
    plan: PlanInfo
    rows: tuple[EnergyRow, ...]
    latency: Quantity
    cpu_time: Quantity
    conditions: tuple[tuple[str, Cell, Cell], ...]
    measurement: Measurement = field(repr=False)
    operations: tuple[Share, ...] = ()
    against_plan: tuple[tuple[Cell, ...], ...] = ()

    def row(self, group: str) -> EnergyRow:
        """A row by its group.

        Raises:
            InputError: where there is none.
        """
        found = next((row for row in self.rows if row.group == group), None)
        if found is None:
            known = ", ".join(row.group for row in self.rows) or "none"
            raise InputError(f"no energy of {group!r} was measured", hint=f"there is: {known}")
        return found

    @property
    def main(self) -> EnergyRow | None:
        """The row of the device that does the work; None where nothing could be read."""
        kind, engine = self.plan.device.partition(":")[0], self.plan.engine
        on_gpu = [row for row in self.rows if row.group.startswith("gpu")]
        most = max(on_gpu, key=_drawn, default=None)  # where CUDA does not name it, the one at work
        works = most is not None and math.isfinite(most.above_idle.value)
        if kind in (*GPUS, "metal") or (engine == "hybrid" and works):
            return most or self._of(FIRST)
        return self._of((("total",) if engine in {"coreml", "hybrid"} else ()) + FIRST)

    def _of(self, order: Sequence[str]) -> EnergyRow | None:
        named = {row.group: row for row in self.rows}
        return next((named[name] for name in order if name in named), None)

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        tables = (
            _energies(self.rows),
            _against(self.against_plan),
            _operations(self.operations[:TOP], len(self.operations)),
            _counters(self.measurement),
            _conditions(self.conditions),
        )
        return Page(self._headline(), tuple(t for t in tables if t.rows), self._notes())

    @property
    def figures(self) -> Mapping[str, draw.Drawer]:
        """Joules per inference by counter: above idle where that is known, else gross."""
        rows = [
            (row.title, row.gross if missing(row.above_idle) else row.above_idle, row.group)
            for row in self.rows
        ]
        title = f"{self.program.name}: energy per inference"
        return draw.of_ratios("energy", rows, title)

    def _headline(self) -> str:
        name = f"{self.program.name} on {self.plan.title}"
        row = self.main
        if row is None:
            return f"{name}: energy is unavailable"
        if row.above_idle.provenance is Provenance.ESTIMATED:
            return f"{name}: {told(row.above_idle)} per inference, estimated from CPU time"
        if missing(row.above_idle):
            return f"{name}: {told(row.gross)} gross per inference ({row.title})"
        return f"{name}: {told(row.above_idle)} above idle per inference ({row.title})"

    def _idle_part(self) -> tuple[str, ...]:
        """How much of the gross energy is idle power: what repeats only as well as time does."""
        row = self.main
        if row is None or missing(row.idle) or missing(row.gross):
            return ()
        idle = Quantity(row.idle.value * self.latency.value, "J", Provenance.MEASURED)
        said = (
            f"Of the gross energy, {show(idle)} is idle power during an inference "
            f"({show(self.latency)}): gross energy repeats only as well as that time does."
        )
        return (said,)

    def _notes(self) -> tuple[str, ...]:
        found = self.measurement
        kinds = {d.provenance for g in found.groups for d in g.domains}
        counted = Provenance.MEASURED in kinds
        notes = [METHOD, *self._idle_part()] if found.pairs and counted else []
        if found.window is not None and counted:
            notes.append(
                f"Single window of {found.window.seconds:.1f} s: gross energy only, without an "
                "interval. Give more seconds for blocks in turns."
            )
        if Provenance.ESTIMATED in kinds:
            notes.append(
                f"The estimate is CPU time x watts per busy core (setting core_watts): where two "
                f"of them overlap, neither is less. CPU time itself: {show(self.cpu_time)} per "
                "inference."
            )
        if any(d.note.startswith("modelled by firmware") for g in found.groups for d in g.domains):
            notes.append("Apple's counters are a model in the chip's firmware, not sensors.")
        total = next((row.title for row in self.rows if row.group == "total"), "")
        left = [g for g in found.groups if total and left_out(g)]
        notes += [f"{total}: without {g.title} ({g.estimate.reason})" for g in left]
        if self.operations:
            notes.append(
                "Energy per operation is apportioned, by time or by Core ML's own weights."
            )
        return tuple(notes)


def energy(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    seconds: float = 30.0,
    operations: bool = False,
    progress: Progress | None = None,
) -> Energy:
    """Measure how much energy an inference takes.

    Args:
        model: what to run.
        inputs: name -> array, what to run it on.
        seconds: the budget. Counters that are published rarely need more (macOS 27: about 70);
            with too little, one window is measured, gross and without an interval.
        operations: also apportion the energy to operations, by some instrumented runs.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Raises:
        InputError: for a budget that is no time, or what is no model.

    An interrupt leaves what had been found on the exception: ``sys.last_value.energy``.
    """
    runnable(model, "energy")
    model.predict(inputs)  # what is started on first use is there now
    found = sources(own_target(), also=_workers(model.plan.engine), gpus=gpus_of(model.plan))
    return measured(model, inputs, found, seconds=seconds, operations=operations, progress=progress)


def measured(
    model: Subject,
    inputs: Mapping[str, Any],
    found: Sequence[Opened],
    *,
    seconds: float,
    operations: bool = False,
    progress: Progress | None = None,
    clock: Clock = SYSTEM,
    keep: Keep = in_a_thread,
    conditions: Callable[[], tuple[tuple[str, Cell], ...]] | None = None,
) -> Energy:
    """``energy`` with sources, clock and conditions handed in."""
    told_by = conditions if conditions is not None else _conditions_now
    before = told_by()

    def result(measurement: Measurement) -> Energy:
        states = zip(before, told_by(), strict=True)
        rows = tuple((name, first, last) for (name, first), (_, last) in states)
        traced = model.trace(inputs, runs=TRACED) if operations else ()
        return _result(model, measurement, rows, traced)

    try:
        measurement = measure(
            lambda: model.predict(inputs),
            found,
            seconds=seconds,
            progress=progress,
            clock=clock,
            keep=keep,
        )
    except BaseException as error:
        partial = getattr(error, "measurement", None)
        if partial is not None:
            operations = False
            error.energy = result(partial)  # type: ignore[attr-defined]
        raise
    return result(measurement)


def _result(
    model: Subject,
    measurement: Measurement,
    conditions: tuple[tuple[str, Cell, Cell], ...],
    traced: Sequence[Any],
) -> Energy:
    rows = energy_rows(measurement)
    latency = Quantity(measurement.call_s, "s", Provenance.MEASURED)
    by_group = {row.group: row.above_idle for row in rows}
    placements = model.plan.placements
    parts = shares(traced, placements, by_group) if traced else apportioned(placements, by_group)
    return Energy(
        model.info,
        model.plan,
        rows,
        latency,
        cpu_time(measurement),
        conditions,
        measurement,
        parts,
        planned(placements, by_group),
    )


def _drawn(row: EnergyRow) -> float:
    """Watts above idle; without a number, less than any."""
    watts = row.active.value - row.idle.value
    return watts if math.isfinite(watts) else -math.inf


def _cell(quantity: Quantity) -> Cell:
    return told(quantity) if quantity.note.startswith(BELOW) else quantity


def _energies(rows: Sequence[EnergyRow]) -> Table:
    columns = ("what", "above idle", "gross", "power at work", "power idle", "read from")
    cells = tuple((r.title, _cell(r.above_idle), r.gross, r.active, r.idle, r.source) for r in rows)
    return Table("Energy per inference", columns, cells)


def _counters(found: Measurement) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (g.title, named(g), g.domains[0].unit, _pace(g), g.domains[0].scope.value, _worth(g))
        for g in found.groups
    ]
    rows += [(d.title, d.source, "", "unavailable", "", d.reason) for d in found.missing]
    columns = ("counter", "source", "unit", "published", "scope", "what to know")
    return Table("Counters", columns, tuple(rows))


def _pace(group: GroupEnergy) -> str:
    pace = group.pace
    if pace.state == "silent":
        return "not while it was looked at"
    return f"every {bare(float(f'{pace.period:.2g}'), 's')}" if pace.period else "when it is read"


def _worth(group: GroupEnergy) -> str:
    found = group.estimate
    parts = [group.domains[0].note, found.reason]
    if found.marginal is not None:
        parts.append(f"resolves {bare_digits(found.floor)} per inference, {found.pairs} pairs")
    return "; ".join(part for part in parts if part)


def _against(rows: Sequence[tuple[Cell, ...]]) -> Table:
    columns = ("processor", "share of the plan", "above idle", "share of the energy", "so")
    return Table(
        "Plan against reality: what Core ML plans, and what was drawn", columns, tuple(rows)
    )


def _operations(rows: Sequence[Share], count: int) -> Table:
    cells = tuple((s.node, s.op, s.where, s.energy, s.share) for s in rows)
    columns = ("operation", "type", "on", "energy per inference", "share")
    some = f", {len(rows)} of {count}" if count > len(rows) else ""
    return Table(f"Energy per operation (apportioned{some})", columns, cells, bars=3)


def _conditions(rows: Sequence[tuple[str, Cell, Cell]]) -> Table:
    return Table("Conditions", ("what", "before", "after"), tuple(rows))


def _conditions_now() -> tuple[tuple[str, Cell], ...]:
    return context(own_target())


def own_target() -> Target:
    """This process, with the watts per core of the settings."""
    return Target(os.getpid(), parse_watts(config.current().core_watts))


def gpus_of(plan: PlanInfo) -> tuple[str, ...] | None:
    """UUIDs of the GPUs that may do the work, none for all of them; None where no GPU does.

    CUDA numbers GPUs as ``CUDA_VISIBLE_DEVICES`` says, NVIDIA's library as they stand on the bus:
    only the UUID names the same one in both.
    """
    device, kind = plan.device, plan.device.partition(":")[0]
    if kind == "cuda" and plan.engine != "hybrid":
        try:
            from coreml_lab.run.pytorch import torch_module  # noqa: PLC0415 - torch is slow

            return (str(torch_module().cuda.get_device_properties(device).uuid),)
        except (EngineUnavailable, RuntimeError, AttributeError, AssertionError):
            return ()
    return () if kind in GPUS or plan.engine == "hybrid" else None


def _workers(engine: str) -> tuple[int, ...]:
    """The process that runs Core ML, where it does."""
    if engine != "coreml":
        return ()
    from coreml_lab.run.native.process import worker  # noqa: PLC0415 - on a Mac only

    pid = worker().pid
    return () if pid is None else (pid,)
