"""Time by operation: bars of the slowest, and all of them as a treemap."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bokeh.models import DataRange1d, FactorRange
from bokeh.plotting import figure

from coreml_lab.explain.facts import Facts, OpFact
from coreml_lab.explain.figures.look import (
    HATCHES,
    Columns,
    Look,
    frame,
    look,
    nothing,
    plain,
    source,
    told,
    unique,
)
from coreml_lab.explain.units import scale, show

ROW, FRAME = 22, 90
WIDE, HIGH = 100.0, 40.0
# Width of a letter and the least height of text, in the treemap's units, on a narrow page.
LETTER, LEAST, TALL = 2.4, 3, 3.0
MOST_TILES = 400
Box = tuple[float, float, float, float]


def op_times(facts: Facts, *, top: int = 20, dark: bool = False) -> figure:
    """Horizontal bars: time per run of the slowest operations, the engine's own work in orange.

    Where nothing was traced, the figure says why.
    """
    colours, ops = look(dark), _timed(facts)[:top]
    title = f"{facts.program.name}: time per operation, median of {facts.traced} runs"
    if not ops:
        return nothing(title, facts.traced_time.note or "no operation was timed", colours)
    factor, unit = scale(max(op.time.value for op in ops), "s")
    names = unique([op.node for op in ops])
    plot = frame(
        title,
        colours,
        height=FRAME + ROW * len(ops),
        x=f"time per run ({unit}, {_provenance(ops)})",
        x_range=DataRange1d(start=0),
        y_range=FactorRange(factors=names[::-1]),
    )
    columns: Columns = {"name": names, "time": [op.time.value / factor for op in ops]}
    drawn = plot.hbar(
        y="name",
        right="time",
        height=0.7,
        fill_color="colour",
        line_color=None,
        hatch_pattern="hatch",
        hatch_color=colours.ink,
        hatch_alpha=0.4,
        source=source({**columns, **_told(ops, colours)}),
    )
    told(plot, [drawn], TOOLTIP)
    plot.ygrid.visible = False
    return plot


def op_treemap(facts: Facts, *, dark: bool = False) -> figure:
    """Every operation as a tile whose area is its time, the slowest first from the left."""
    colours, ops = look(dark), _timed(facts)[:MOST_TILES]
    title = f"{facts.program.name}: where the time in operations goes"
    if not ops:
        return nothing(title, facts.traced_time.note or "no operation was timed", colours)
    plot = frame(title, colours, height=240, x_range=(0, WIDE), y_range=(HIGH, 0))
    plot.axis.visible = plot.grid.visible = False
    times = [op.time.value for op in ops]
    boxes = tiles(times, (0.0, 0.0, WIDE, HIGH))
    columns = dict(zip(("x", "y", "w", "h"), map(list, zip(*boxes, strict=True)), strict=True))
    drawn = plot.block(
        x="x",
        y="y",
        width="w",
        height="h",
        fill_color="colour",
        fill_alpha=0.75,
        line_color=colours.line,
        hatch_pattern="hatch",
        hatch_color=colours.ink,
        hatch_alpha=0.3,
        source=source({**columns, **_told(ops, colours)}),
    )
    big = [(_lettered(o.op, b), b) for o, b in zip(ops, boxes, strict=True)]
    big = [(text, box) for text, box in big if text]
    labels: Columns = {
        "x": [box[0] + box[2] / 2 for _, box in big],
        "y": [box[1] + box[3] / 2 for _, box in big],
        "text": [text for text, _ in big],
    }
    plot.text(
        x="x", y="y", text="text", text_align="center", text_baseline="middle",
        text_color=colours.ink, text_font_size="11px", source=source(labels),
    )  # fmt: skip
    told(plot, [drawn], TOOLTIP)
    return plot


def _lettered(name: str, box: Box) -> str:
    """As much of a name as fits into a tile; nothing where that is too little."""
    room = int(box[2] / LETTER) if box[3] >= TALL else 0
    told = plain(name)
    if room < LEAST:
        return ""
    return told if len(told) <= room else f"{told[: room - 1]}…"


def tiles(sizes: Sequence[float], box: Box) -> list[Box]:
    """One rectangle ``(x, y, width, height)`` per size in ``box``, their areas in proportion.

    The squarified treemap of Bruls, Huizing and van Wijk (2000): a row along the shorter side takes
    one more as long as its worst ratio of sides gets no worse. Sizes are positive and descending.
    """
    found: list[Box] = []
    left, x, y, wide, high = list(sizes), *box
    while left:
        # What is left of the box, over what is left to place: rounding never adds up.
        area = wide * high / sum(left)
        side, row = min(wide, high), 1
        while row < len(left) and _worst(left[: row + 1], area, side) <= _worst(
            left[:row], area, side
        ):
            row += 1
        depth = sum(left[:row]) * area / side if side else 0.0
        at = 0.0
        for size in left[:row]:
            length = size * area / depth if depth else 0.0
            found.append((x, y + at, depth, length) if wide >= high else (x + at, y, length, depth))
            at += length
        x, y, wide, high = (
            (x + depth, y, wide - depth, high)
            if wide >= high
            else (x, y + depth, wide, high - depth)
        )
        wide, high, left = max(wide, 0.0), max(high, 0.0), left[row:]
    return found


def _worst(row: Sequence[float], area: float, side: float) -> float:
    whole = sum(row) * area
    if not whole or not side:
        return math.inf
    return max(side**2 * row[0] * area / whole**2, whole**2 / (side**2 * row[-1] * area))


TOOLTIP = [
    ("", "@node"),
    ("type", "@op"),
    ("time", "@shown"),
    ("share", "@share"),
    ("written in", "@where"),
]


def _timed(facts: Facts) -> list[OpFact]:
    """Operations and the engine's own work that took time, the longest first."""
    every = (*facts.ops, *facts.own_work)
    return sorted((op for op in every if op.time.value > 0), key=lambda op: -op.time.value)


def _told(ops: Sequence[OpFact], colours: Look) -> dict[str, list[str]]:
    return {
        "node": [op.node for op in ops],
        "op": [op.op for op in ops],
        "shown": [show(op.time) for op in ops],
        "share": [show(op.share) for op in ops],
        "where": [op.where or "not known" for op in ops],
        "colour": [colours.transfer if op.own_work else colours.cpu for op in ops],
        "hatch": [HATCHES[op.time.provenance] for op in ops],
    }


def _provenance(ops: Sequence[OpFact]) -> str:
    return ", ".join(sorted({op.time.provenance.value for op in ops}))
