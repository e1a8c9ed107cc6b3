"""Bars with intervals: ratios on a logarithmic axis, or quantities from zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange, Range1d
from bokeh.models.annotations import Span, TeeHead, Whisker
from bokeh.plotting import figure

from coreml_lab.explain.figures.look import (
    HATCHES,
    Columns,
    Look,
    frame,
    look,
    nothing,
    source,
    told,
    unique,
)
from coreml_lab.explain.units import explained, missing, scale
from coreml_lab.metrics import Quantity

ROW, FRAME = 30, 100
# Of the drawn range, beside what reaches furthest.
MARGIN = 0.06
RATIO = "{ratio}"


@dataclass(frozen=True)
class Bar:
    """One bar: what it is, how much, and on which device (for its colour)."""

    name: str
    quantity: Quantity
    device: str = "cpu"


def bars(rows: Sequence[Bar], title: str, *, axis: str = "", dark: bool = False) -> figure:
    """One bar per row, its interval as a whisker; rows share one unit.

    Ratios reach from 1, on a logarithmic axis: a third is as far as threefold. A range without a
    best value is a bar from its one end to the other. What is unavailable has a row without a bar,
    and its reason in the tooltip.
    """
    colours = look(dark)
    drawn = [row for row in rows if not missing(row.quantity) and _end(row.quantity) > 0]
    if not drawn:
        why = next((row.quantity.note for row in rows if row.quantity.note), "nothing was measured")
        return nothing(title, why, colours)
    unit = drawn[0].quantity.unit
    largest = max(_end(row.quantity) for row in drawn)
    factor, shown = (1.0, "×") if unit == RATIO else scale(largest, unit)
    told_names = unique([row.name for row in rows])
    plot = frame(
        title,
        colours,
        height=FRAME + ROW * len(rows),
        x=f"{axis} ({shown})" if axis else shown,
        x_range=_range(drawn, factor),
        x_axis_type="log" if unit == RATIO else "auto",
        y_range=FactorRange(factors=told_names[::-1]),
    )
    _bars(plot, rows, told_names, factor, colours)
    if unit == RATIO:
        line: dict[str, Any] = {"line_color": colours.ink, "line_dash": "dashed"}
        plot.add_layout(Span(location=1.0, dimension="height", **line))
    plot.ygrid.visible = False
    return plot


def _range(rows: Sequence[Bar], factor: float) -> Range1d:
    """Wide enough for the whiskers, too, which a range by itself does not see."""
    highest = max(_end(row.quantity) for row in rows) / factor
    if rows[0].quantity.unit != RATIO:
        return Range1d(start=0, end=highest * (1 + MARGIN))
    known = (v for r in rows for v in (r.quantity.value, r.quantity.low) if v is not None and v > 0)
    low, high = min((1.0, *known)), max(1.0, highest)
    beside = max(high / low, 1 + MARGIN) ** MARGIN
    return Range1d(start=low / beside, end=high * beside)


def _bars(
    plot: figure, rows: Sequence[Bar], names: Sequence[str], factor: float, colours: Look
) -> None:
    base = 1.0 if rows[0].quantity.unit == RATIO else 0.0
    ends = [_ends(row.quantity, base) for row in rows]
    columns: Columns = {
        "name": list(names),
        "from": [low / factor for low, _ in ends],
        "to": [high / factor for _, high in ends],
        "shown": [explained(row.quantity) for row in rows],
        "note": [row.quantity.note for row in rows],
        "colour": [colours.device(row.device) for row in rows],
        "hatch": [HATCHES[row.quantity.provenance] for row in rows],
    }
    drawn = plot.hbar(
        y="name",
        left="from",
        right="to",
        height=0.55,
        fill_color="colour",
        fill_alpha=0.8,
        line_color=None,
        hatch_pattern="hatch",
        hatch_color=colours.ink,
        hatch_alpha=0.4,
        source=source(columns),
    )
    told(plot, [drawn], [("", "@name"), ("", "@shown"), ("", "@note")])
    _whiskers(plot, rows, names, factor, colours)


def _end(quantity: Quantity) -> float:
    """The largest number that is drawn of a quantity."""
    return max(v for v in (quantity.value, quantity.high, 0.0) if v is not None and v == v)  # noqa: PLR0124 - not NaN


def _ends(quantity: Quantity, base: float) -> tuple[float, float]:
    """From where to where its bar reaches."""
    if missing(quantity):
        return base, base
    if math.isnan(quantity.value) and quantity.low is not None and quantity.high is not None:
        return quantity.low, quantity.high
    return base, quantity.value if quantity.value > 0 else base


def _whiskers(
    plot: figure, rows: Sequence[Bar], names: Sequence[str], factor: float, colours: Look
) -> None:
    least = 0.0 if rows[0].quantity.unit != RATIO else 1e-9
    known = [
        (name, max(row.quantity.low / factor, least), row.quantity.high / factor)
        for name, row in zip(names, rows, strict=True)
        if row.quantity.low is not None
        and row.quantity.high is not None
        and math.isfinite(row.quantity.value)
    ]
    if known:
        name, low, high = (list(column) for column in zip(*known, strict=True))
        spread = ColumnDataSource({"name": name, "low": low, "high": high})
        heads: dict[str, Any] = {
            end: TeeHead(line_color=colours.ink, size=8) for end in ("lower_head", "upper_head")
        }
        whisker = Whisker(
            base="name", lower="low", upper="high", dimension="width", source=spread,
            line_color=colours.ink, line_width=1.5, **heads,
        )  # fmt: skip
        plot.add_layout(whisker)
