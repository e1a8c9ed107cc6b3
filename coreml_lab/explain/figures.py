"""Bokeh figures of what a recording says: facts in, figure out."""

from __future__ import annotations

import math

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool
from bokeh.plotting import figure

from coreml_lab.explain.facts import Facts
from coreml_lab.explain.units import scale, show

# Okabe-Ito blue for the program's operations, orange for what the engine does besides.
PROGRAM, ENGINE = "#0072B2", "#E69F00"
ROW = 22
FRAME = 90


def op_times(facts: Facts, *, top: int = 20) -> figure:
    """Horizontal bars: time per run of the slowest operations, the engine's own work in orange."""
    every = sorted((*facts.ops, *facts.own_work), key=lambda op: -op.time.value)
    # The same name may stand for two things the engine does; bars need names of their own.
    ops = list({f"{op.node} · {op.op}": op for op in every}.items())[:top]
    factor, unit = scale(max((op.time.value for _, op in ops), default=1.0), "s")
    names = [name for name, _ in ops]
    plot = figure(
        x_range=DataRange1d(start=0),
        y_range=FactorRange(factors=names[::-1]),
        height=FRAME + ROW * max(1, len(ops)),
        sizing_mode="stretch_width",
        title=f"{facts.program.name}: time per operation, median of {facts.traced} runs",
        x_axis_label=f"time per run ({unit}, {_provenance(facts)})",
        toolbar_location=None,
    )
    source = ColumnDataSource(
        {
            "name": names,
            "time": [op.time.value / factor for _, op in ops],
            "shown": [show(op.time) for _, op in ops],
            "share": [show(op.share) for _, op in ops],
            "colour": [ENGINE if op.own_work else PROGRAM for _, op in ops],
        }
    )
    plot.hbar(y="name", right="time", height=0.7, color="colour", source=source)
    plot.add_tools(HoverTool(tooltips=[("", "@name"), ("time", "@shown"), ("share", "@share")]))
    plot.ygrid.visible = False
    return plot


def _provenance(facts: Facts) -> str:
    kinds = {op.time.provenance.value for op in facts.ops if math.isfinite(op.time.value)}
    return ", ".join(sorted(kinds)) or "nothing measured"
