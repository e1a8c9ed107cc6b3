"""report(): a recording in words and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coreml_lab.explain import draw, memory, timing
from coreml_lab.explain.facts import Facts, KindFact, added, facts
from coreml_lab.explain.given import Given, recorded, result
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.renderers import otlp, prometheus, trace
from coreml_lab.explain.shown import Drawer, Shown
from coreml_lab.explain.units import show
from coreml_lab.records import Recording

# Kinds of operations listed one by one.
KINDS = 12
# Operations that are listed with the memory they need.
MEMORY_TOP = 10


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A headline, tables and notes; ``recording`` is what they were made of."""

    headline: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    recording: Recording = field(repr=False)
    parts: tuple[Shown, ...] = ()
    top: int = 20

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return Page(self.headline, self.tables, self.notes)

    def to_trace(self) -> str:
        """The recording's timeline as JSON for Perfetto (ui.perfetto.dev)."""
        return trace.render(self.recording)

    def to_prometheus(self) -> str:
        """The recording in Prometheus' text format, names and units as it spells them."""
        return prometheus.render(self.recording)

    def to_otlp(self) -> str:
        """The recording's metrics as JSON in the shape of OpenTelemetry's protocol."""
        return otlp.render(self.recording)

    @property
    def figures(self) -> Mapping[str, Drawer]:
        """Those of the recording, then those of what was reported with it."""
        drawn = draw.of_recording(self.recording, self.top)
        return {**drawn, **{n: d for part in self.parts for n, d in part.figures.items()}}

    def figure(self, name: str = "", *, top: int | None = None, dark: bool = False) -> Any:
        """One of the ``figures`` (without a name, time per operation), for ``bokeh.plotting.show``.

        Args:
            name: which one.
            top: how many operations are drawn, where it is not as many as are listed.
            dark: whether it is drawn for dark ground.

        Raises:
            UnknownParameter: where there is none of that name.
        """
        shown = self if top is None else replace(self, top=top)
        return Shown.figure(shown, name, dark=dark)

    def _formats(self) -> dict[str, Callable[[], str]]:
        traces = {".trace.json": self.to_trace, ".perfetto.json": self.to_trace}
        return {
            **traces,
            ".prom": self.to_prometheus,
            ".otlp.json": self.to_otlp,
            **super()._formats(),
        }


def report(recording: Given, *parts: Shown, top: int = 20) -> Report:
    """Explain a recording, and what else was found about its model.

    Args:
        recording: what ``cl.profile`` gave, or the file it was saved to.
        parts: other results to tell in the same report: a comparison, energy, placement.
        top: how many operations are listed one by one; the others are added up.
    """
    recording = recorded(recording, "report")
    parts = tuple(map(result, parts))
    found = facts(recording)
    tables = [*timing.tables(recording, found, top), _kinds(found), _own_work(found)]
    tables += [memory.operations(found, MEMORY_TOP), *(t for part in parts for t in _told(part))]
    tables += [_metrics(found)]
    tables += [_incidents(found), _environment(found)]
    notes = (
        *timing.notes(recording, found),
        *_notes(recording, found),
        *(n for part in parts for n in (part.page.headline, *part.page.notes)),
    )
    shown = tuple(t for t in tables if t.rows)
    return Report(_headline(found), shown, tuple(notes), recording, parts, top)


def _told(part: Shown) -> tuple[Table, ...]:
    """The tables of another result; its figures stand beside the first of them."""
    tables = part.page.tables
    placed = {name for table in tables for name in table.figures}
    free = tuple(name for name in part.figures if name not in placed)
    if not tables or not free:
        return tables
    first = replace(tables[0], figures=(*tables[0].figures, *free))
    return (first, *tables[1:])


def _headline(found: Facts) -> str:
    name = f"{found.program.name} on {found.plan.title}"
    if not found.runs:
        return f"{name}: no run was timed"
    text = f"{name}: {show(found.latency.p50)} per inference (median of {found.runs})"
    busiest = next((k for k in found.kinds if math.isfinite(k.share.value)), None)
    if busiest is None:
        return text
    return f"{text}; {busiest.op} takes {show(busiest.share)} of the time in operations"


def _kinds(found: Facts) -> Table:
    def row(kind: KindFact) -> tuple[Cell, ...]:
        return (kind.op, str(kind.count), kind.time, kind.share)

    rows = [row(kind) for kind in found.kinds[:KINDS]]
    rest = found.kinds[KINDS:]
    if rest:
        count = str(sum(kind.count for kind in rest))
        sums = added([kind.time for kind in rest]), added([kind.share for kind in rest])
        rows.append((f"{len(rest)} other types", count, *sums))
    columns = ("type", "operations", "time per run", "share")
    return Table("Time per type of operation", columns, tuple(rows), bars=2, figures=("treemap",))


def _own_work(found: Facts) -> Table:
    rows: list[tuple[Cell, ...]] = [(op.node, op.op, op.time, op.share) for op in found.own_work]
    if found.traced:
        rows.append(("between operations", "call, scheduling, copies", found.between, ""))
    caption = "The engine's own work, which belongs to no operation"
    return Table(caption, ("where", "what", "time per run", "share"), tuple(rows))


def _metrics(found: Facts) -> Table:
    rows = tuple(
        (m.label, m.typical, "" if m.highest is None else m.highest) for m in found.metrics
    )
    columns = ("metric", "typical", "highest")
    return Table("The machine meanwhile", columns, rows, figures=("memory", "power", "cpu"))


def _incidents(found: Facts) -> Table:
    rows = tuple((i.error, i.message, i.action, i.outcome) for i in found.incidents)
    return Table("Incidents", ("error", "message", "action", "outcome"), rows)


def _environment(found: Facts) -> Table:
    rows = tuple((name, value) for name, value in found.environment.items())
    return Table("Where", ("", "what"), rows)


def _notes(recording: Recording, found: Facts) -> tuple[str, ...]:
    notes = []
    if found.runs and recording.overhead is None:
        notes.append(f"Recording adds {show(found.overhead)} to a run; no time shown includes it.")
    if math.isfinite(found.slowdown.value):
        notes.append(
            f"An instrumented run takes {show(found.slowdown)} the time of a plain one: "
            "times per operation are those of instrumented runs, time per inference is not."
        )
    elif found.runs:
        notes.append(f"Times per operation are unavailable: {found.traced_time.note}.")
    if found.runs and not found.metrics:
        notes.append("No sample fell into the runs: they were over before the sampler's next tick.")
    return tuple(notes)
