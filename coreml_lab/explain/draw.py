"""Which figures a result has: each is made only when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coreml_lab.explain.facts import Facts, facts
from coreml_lab.metrics import METRICS, Kind, Provenance, Quantity
from coreml_lab.records import Placement, Recording
from coreml_lab.run.split import costs
from coreml_lab.samples import Samples

Drawer = Callable[..., Any]
# The machine's own memory is far above any model's, and would press its curve to the ground.
MEMORY = tuple(
    m.name
    for m in METRICS.values()
    if m.unit == "By" and m.kind is Kind.GAUGE and not m.name.startswith("system.")
)
POWER = tuple(m.name for m in METRICS.values() if m.unit == "W" and m.kind is Kind.GAUGE)


def of_recording(recording: Recording, top: int = 20) -> Mapping[str, Drawer]:
    """Drawers by name, those of data that the recording lacks among them: they say why."""
    drawers: dict[str, Drawer] = {
        "operations": lambda *, dark=False: _figures().op_times(found(), top=top, dark=dark),
        "timeline": lambda *, dark=False: _figures().timeline(recording.runs, dark=dark),
        "treemap": lambda *, dark=False: _figures().op_treemap(found(), dark=dark),
        "roofline": lambda *, dark=False: _roofline(recording, found(), dark=dark),
        "latency": lambda *, dark=False: _figures().latency(plain, found().latency, dark=dark),
        "memory": lambda *, dark=False: _levels(recording, MEMORY, "Memory", dark=dark),
        "power": lambda *, dark=False: _levels(recording, POWER, "Power", dark=dark),
    }
    plain = [run.duration_ns / 1e9 for run in recording.runs if not run.instrumented]
    if recording.plan.placements:
        title = "Core ML's plan: what each operation is meant to run on"
        drawers |= of_plan("placements", recording.plan.placements, title)

    @functools.cache
    def found() -> Any:
        return facts(recording)

    return drawers


def of_ratios(
    name: str, rows: Sequence[tuple[str, Quantity, str]], title: str
) -> dict[str, Drawer]:
    """One figure of ratios (or other quantities of one unit): (what, how much, device) each."""

    def drawn(*, dark: bool = False) -> Any:
        return _figures().bars([_figures().Bar(*row) for row in rows], title, dark=dark)

    return {name: drawn}


def of_front(
    name: str, rows: Sequence[tuple[str, Quantity, Quantity, str]], title: str, axes: Sequence[str]
) -> dict[str, Drawer]:
    """One figure of two aims against each other: (what, across, up, kind) each; see ``Spot``."""

    def drawn(*, dark: bool = False) -> Any:
        spots = [_figures().Spot(*row) for row in rows]
        return _figures().front(spots, title, x=axes[0], y=axes[1], dark=dark)

    return {name: drawn}


def of_plan(
    name: str, rows: Sequence[Placement], title: str, notes: Sequence[str] = ()
) -> dict[str, Drawer]:
    """One strip of where operations are planned to run; ``notes`` tell why not elsewhere."""

    def drawn(*, dark: bool = False) -> Any:
        return _figures().placements(rows, title=title, notes=notes, dark=dark)

    return {name: drawn}


def _figures() -> Any:
    from coreml_lab.explain import figures  # noqa: PLC0415 - half a second

    return figures


def _roofline(recording: Recording, found: Facts, *, dark: bool) -> Any:
    thumb = costs.speed(recording.plan.engine, recording.plan.device)
    roof = _figures().Roof("by rule of thumb", thumb.flops, thumb.memory, Provenance.ESTIMATED)
    return _figures().roofline(found.ops, [roof], dark=dark)


def _levels(recording: Recording, families: Sequence[str], title: str, *, dark: bool) -> Any:
    samples = Samples.of(recording.samples)
    starts = [run.start_ns for run in recording.runs if not run.instrumented]
    names = [n for f in families for n in samples.metrics if n.partition("/")[0] == f]
    return _figures().levels(samples, names, f"{title} over time", starts_ns=starts, dark=dark)
