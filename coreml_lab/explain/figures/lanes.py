"""One inference over time: operations on the lanes of their devices."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import FactorRange
from bokeh.plotting import figure

from coreml_lab.explain.figures.look import (
    HATCHES,
    Columns,
    frame,
    look,
    nothing,
    source,
    told,
    unique,
)
from coreml_lab.explain.units import scale, show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Run

LANE, FRAME = 44, 90
MOST = 1_000


def timeline(runs: Sequence[Run], *, dark: bool = False) -> figure:
    """The instrumented run of median length: each operation from its start to its end.

    The engine's own work and transfers are orange. Of more than ``MOST`` operations, the longest
    are drawn, and the title says so.
    """
    colours = look(dark)
    traced = sorted((run for run in runs if run.spans), key=lambda run: run.duration_ns)
    if not traced:
        return nothing("One inference", "no instrumented run", colours)
    run = traced[(len(traced) - 1) // 2]
    spans = sorted(run.spans, key=lambda span: -span.duration_ns)[:MOST]
    cut = f", the longest {MOST} of {len(run.spans)} operations" if len(run.spans) > MOST else ""
    factor, unit = scale(run.duration_ns / 1e9, "s")
    devices = list(dict.fromkeys(f"{s.device} · {s.engine}" for s in run.spans))
    names = dict(zip(devices, unique(devices), strict=True))
    plot = frame(
        f"One inference (run {run.index}, of median length{cut})",
        colours,
        height=FRAME + LANE * len(names),
        x=f"time since its start ({unit})",
        x_range=(0, run.duration_ns / 1e9 / factor),
        y_range=FactorRange(factors=list(names.values())[::-1]),
    )
    starts = [(s.start_ns - run.start_ns) / 1e9 / factor for s in spans]
    own = [s.op.startswith("[") for s in spans]
    columns: Columns = {
        "lane": [names[f"{s.device} · {s.engine}"] for s in spans],
        "left": starts,
        "right": [a + s.duration_ns / 1e9 / factor for a, s in zip(starts, spans, strict=True)],
        "node": [s.node for s in spans],
        "op": [s.op for s in spans],
        "shown": [show(Quantity(s.duration_ns / 1e9, "s", s.provenance)) for s in spans],
        "provenance": [s.provenance.value for s in spans],
        "colour": [
            colours.transfer if o else colours.device(s.device)
            for o, s in zip(own, spans, strict=True)
        ],
        "hatch": [HATCHES[Provenance(s.provenance)] for s in spans],
    }
    drawn = plot.hbar(
        y="lane",
        left="left",
        right="right",
        height=0.8,
        fill_color="colour",
        fill_alpha=0.85,
        line_color=colours.ink,
        line_alpha=0.35,
        line_width=0.5,
        hatch_pattern="hatch",
        hatch_color=colours.ink,
        hatch_alpha=0.4,
        source=source(columns),
    )
    rows = [("", "@node"), ("type", "@op"), ("time", "@shown"), ("known how", "@provenance")]
    told(plot, [drawn], rows)
    plot.ygrid.visible = False
    return plot
