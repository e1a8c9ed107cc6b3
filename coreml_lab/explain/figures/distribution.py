"""How long inferences took: a histogram, its median with interval, and the 95th percentile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models.annotations import BoxAnnotation, Span
from bokeh.plotting import figure

from coreml_lab.explain.facts import Latency
from coreml_lab.explain.figures.look import Columns, frame, legend, look, nothing, source, told
from coreml_lab.explain.units import digits, scale, show
from coreml_lab.samples import Array

MOST_BINS = 60
# The axis reaches so many times as far beyond the 95th percentile as that is from the fastest.
TAILS = 2
TITLE = "Time per inference"


def latency(seconds: Sequence[float], facts: Latency, *, dark: bool = False) -> figure:
    """A histogram of durations; the median's interval is a band, where it is known.

    Args:
        seconds: of each run that was not instrumented.
        facts: what the lines stand for.
        dark: whether it is drawn on dark ground.
    """
    colours = look(dark)
    if not len(seconds):
        return nothing(TITLE, "no run was timed", colours)
    factor, unit = scale(facts.p50.value, "s")
    every = np.asarray(seconds) / factor
    values = every[every <= _reach(every)]
    lost = len(every) - len(values)
    cut = f", {lost} of more than {digits(_reach(every))} {unit} not drawn" if lost else ""
    edges = np.histogram_bin_edges(values, "auto")
    if len(edges) > MOST_BINS + 1:
        edges = np.histogram_bin_edges(values, MOST_BINS)
    counts, edges = np.histogram(values, edges)
    plot = frame(
        f"{TITLE}: {len(every)} runs, median {show(facts.p50)}{cut}",
        colours,
        x=f"time per inference ({unit}, measured)",
        y="runs",
        y_range=(0, float(counts.max()) * 1.1),
    )
    columns: Columns = {
        "left": edges[:-1].tolist(),
        "right": edges[1:].tolist(),
        "count": counts.tolist(),
    }
    drawn = plot.quad(
        left="left",
        right="right",
        top="count",
        bottom=0,
        fill_color=colours.cpu,
        fill_alpha=0.75,
        line_color=colours.line,
        source=source(columns),
    )
    told(plot, [drawn], [("from", f"@left {unit}"), ("to", f"@right {unit}"), ("runs", "@count")])
    middle = facts.p50
    if middle.low is not None and middle.high is not None:
        band: dict[str, Any] = {"left": middle.low / factor, "right": middle.high / factor}
        plot.add_layout(BoxAnnotation(**band, fill_color=colours.transfer, fill_alpha=0.25))
    for name, quantity, dash in (("median", middle, "solid"), ("p95", facts.p95, "dashed")):
        if math.isfinite(quantity.value):
            style: dict[str, Any] = {"line_color": colours.incident, "line_dash": dash}
            at = quantity.value / factor
            plot.add_layout(Span(location=at, dimension="height", line_width=2, **style))
            plot.line([], [], legend_label=f"{name} {show(quantity)}", line_width=2, **style)
    legend(plot, colours)
    return plot


def _reach(values: Array) -> float:
    """How far the axis reaches: a few runs far beyond all others would leave these one bar."""
    tail = float(np.quantile(values, 0.95))
    return tail + TAILS * (tail - float(values.min()))
