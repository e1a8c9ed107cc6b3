"""The roofline: arithmetic per byte of each operation against what the hardware could do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.plotting import figure

from coreml_lab.explain.facts import OpFact
from coreml_lab.explain.figures.look import (
    DASHES,
    Columns,
    frame,
    legend,
    look,
    nothing,
    plain,
    source,
    told,
)
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance

TITLE = "Roofline: arithmetic against traffic"


@dataclass(frozen=True)
class Roof:
    """What hardware could do at most: operations and bytes per second, and how that is known."""

    title: str
    flops: float
    bandwidth: float
    provenance: Provenance


def roofline(ops: Sequence[OpFact], roofs: Sequence[Roof], *, dark: bool = False) -> figure:
    """Operations as points at their measured rate; roofs as lines, dashed where estimated.

    S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009. Left of a roof's bend an
    operation waits for memory, right of it for arithmetic. The arithmetic of an operation is
    estimated from its shapes and weights; those for which it is not known are left out.
    """
    colours = look(dark)
    known = [op for op in ops if op.flops.value > 0 and op.moved.value > 0 and op.time.value > 0]
    if not known:
        why = next((op.flops.note for op in ops if op.flops.note), "no operation was timed")
        return nothing(TITLE, why, colours)
    x = [op.flops.value / op.moved.value for op in known]
    y = [op.flops.value / op.time.value / 1e9 for op in known]
    plot = frame(
        TITLE,
        colours,
        height=320,
        x="arithmetic per byte (estimated from shapes)",
        y="10⁹ operations per second",
        x_axis_type="log",
        y_axis_type="log",
    )
    columns: Columns = {
        "x": x,
        "y": y,
        "node": [op.node for op in known],
        "op": [op.op for op in known],
        "shown": [show(op.time) for op in known],
        "rate": [f"{value:.3g}" for value in y],
        "size": [6 + 14 * (op.time.value / known[0].time.value) ** 0.5 for op in known],
    }
    drawn = plot.scatter(
        x="x",
        y="y",
        size="size",
        fill_color=colours.cpu,
        fill_alpha=0.6,
        line_color=colours.ink,
        line_alpha=0.5,
        legend_label="operations (area: time)",
        source=source(columns),
    )
    told(plot, [drawn], [("", "@node"), ("type", "@op"), ("time", "@shown"), ("10⁹/s", "@rate")])
    at = np.geomspace(min(x) / 2, max(x) * 2, 60)
    for roof, colour, dash in zip(roofs, colours.series[1:], DASHES[1:], strict=False):
        plot.line(
            at,
            np.minimum(roof.flops, at * roof.bandwidth) / 1e9,
            line_color=colour,
            line_dash="solid" if roof.provenance is Provenance.MEASURED else dash,
            line_width=2,
            legend_label=plain(f"{roof.title} ({roof.provenance.value})"),
        )
    legend(plot, colours)
    return plot
