"""report(): a recording in words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.explain.facts import Facts, KindFact, OpFact, added, facts
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.renderers import trace
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import show
from coreml_lab.records import Recording

# Kinds of operations listed one by one.
KINDS = 12


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A headline, tables and notes; ``recording`` is what they were made of."""

    headline: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    recording: Recording = field(repr=False)

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return Page(self.headline, self.tables, self.notes)

    def to_trace(self) -> str:
        """The recording's timeline as JSON for Perfetto (ui.perfetto.dev)."""
        return trace.render(self.recording)

    def figure(self, *, top: int = 20) -> Any:
        """Time per operation as a Bokeh figure, for ``bokeh.plotting.show``."""
        from coreml_lab.explain.figures import op_times  # noqa: PLC0415 - half a second

        return op_times(facts(self.recording), top=top)


def report(recording: Recording, *, top: int = 20) -> Report:
    """Explain a recording.

    Args:
        recording: what ``cl.profile`` gave.
        top: how many operations are listed one by one; the others are added up.
    """
    found = facts(recording)
    tables = [_latency(found), _ops(found, top), _kinds(found), _own_work(found)]
    tables += [_metrics(found), _incidents(found), _environment(found)]
    return Report(_headline(found), tuple(t for t in tables if t.rows), _notes(found), recording)


def _headline(found: Facts) -> str:
    name = f"{found.program.name} on {found.plan.title}"
    if not found.runs:
        return f"{name}: no run was timed"
    text = f"{name}: {show(found.latency.p50)} per inference (median of {found.runs})"
    busiest = next((k for k in found.kinds if math.isfinite(k.share.value)), None)
    if busiest is None:
        return text
    return f"{text}; {busiest.op} takes {show(busiest.share)} of the time in operations"


def _latency(found: Facts) -> Table:
    latency = found.latency
    rows: tuple[tuple[Cell, ...], ...] = (
        ("median", latency.p50),
        ("95th percentile", latency.p95),
        ("99th percentile", latency.p99),
        ("fastest", latency.fastest),
        ("mean", latency.mean),
        ("inferences per second, back to back", latency.throughput),
    )
    caption = f"Time per inference ({found.runs} runs, not instrumented)"
    return Table(caption, ("", "value"), rows if found.runs else ())


def _ops(found: Facts, top: int) -> Table:
    rows = [_op_row(op) for op in found.ops[:top]]
    rest = found.ops[top:]
    if rest:
        sums = [added([getattr(op, name) for op in rest]) for name in ("time", "share", "weights")]
        rows.append((f"{len(rest)} others", "", *sums))
    caption = f"Time per operation (median of {found.traced} instrumented runs)"
    columns = ("operation", "type", "time per run", "share", "weights")
    return Table(caption, columns, tuple(rows), bars=2)


def _op_row(op: OpFact) -> tuple[Cell, ...]:
    kind = op.op + (f" (with {', '.join(_counted(op.fused))})" if op.fused else "")
    return (op.node, kind, op.time, op.share, op.weights if op.weights.value else "none")


def _counted(names: Sequence[str]) -> Iterator[str]:
    """``relu, mul ×3``: equal names once, with their number."""
    for name in dict.fromkeys(names):
        count = names.count(name)
        yield name if count == 1 else f"{name} ×{count}"


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
    return Table("Time per type of operation", columns, tuple(rows), bars=2)


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
    return Table("The machine meanwhile", ("metric", "typical", "highest"), rows)


def _incidents(found: Facts) -> Table:
    rows = tuple((i.error, i.message, i.action, i.outcome) for i in found.incidents)
    return Table("Incidents", ("error", "message", "action", "outcome"), rows)


def _environment(found: Facts) -> Table:
    rows = tuple((name, value) for name, value in found.environment.items())
    return Table("Where", ("", "what"), rows)


def _notes(found: Facts) -> tuple[str, ...]:
    notes = []
    if found.runs:
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
