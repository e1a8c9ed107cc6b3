"""A picture without a page: for viewers without a kernel, untrusted notebooks and terminals.

Untrusted notebooks keep tables, inline styles and ``data:`` images, and nothing else; so that is
all there is here.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from coreml_lab.explain.picture.data import Box, Picture
from coreml_lab.explain.units import bare, round_digits

# Okabe-Ito, as on the page; a kind that is left out is grey.
COLOURS = {
    "conv": "#0072b2", "matrix": "#009e73", "attention": "#cc79a7", "recurrent": "#8b5fbf",
    "norm": "#e69f00", "activation": "#d55e00", "pool": "#56b4e9", "reduce": "#b5a400",
    "cast": "#a0522d", "resize": "#3d8b8b", "layout": "#9a9a9a", "port": "#555555",
}  # fmt: skip
GREY = "#767676"
TITLES = {"ne": "Neural Engine", "gpu": "GPU", "cpu": "CPU", "": "before it runs"}
LEFT = "text-align:left;padding:1px 12px 1px 0"
# Boxes of a still picture, and how it is set.
MOST = 400
WIDE, HIGH, ACROSS, DOWN, PER_COLUMN = 104, 18, 14, 14, 26
SIZE = 900


def to_text(pictures: Sequence[Picture]) -> str:
    """The summary for a terminal."""
    return "\n".join(line for each in pictures for line in _lines(each))


def to_html(pictures: Sequence[Picture], css_class: str = "") -> str:
    """A still picture and a table of each model."""
    named = f' class="{escape(css_class)}"' if css_class else ""
    foot = (
        '<p style="font-size:12px;margin:4px 0">The picture to walk in needs a running kernel.</p>'
    )
    return f"<div{named}>{''.join(map(_html, pictures))}{foot}</div>"


def _lines(told: Picture) -> Iterable[str]:
    yield f"coreml_lab inspector: {told.name} ({told.detail})"
    for title, text in _rows(told):
        yield f"  {title:<12} {text}"


def _html(told: Picture) -> str:
    rows = "".join(
        f'<tr><th scope="row" style="{LEFT};font-weight:400">{escape(title)}</th>'
        f'<td style="{LEFT}">{escape(text)}</td></tr>'
        for title, text in _rows(told)
    )
    data = base64.b64encode(to_svg(told).encode()).decode()
    caption = escape(f"{told.name}, {told.detail}")
    alt = escape(f"graph of {told.name}", quote=True)
    return (
        f'<table style="border-collapse:collapse;font-size:12px;line-height:16px">'
        f'<caption style="text-align:left;font-weight:600;padding:4px 0">{caption}</caption>'
        f"<tbody>{rows}</tbody></table>"
        f'<img alt="{alt}" style="max-width:100%" src="data:image/svg+xml;base64,{data}">'
    )


def _rows(told: Picture) -> Iterable[tuple[str, str]]:
    ops = [box for box in told.nodes if box.kind == "op"]
    yield "kinds", _counted(Counter(box.op for box in ops))
    bits = Counter(f"{box.bits} bits" for box in ops if box.bits is not None)
    weights = sum(w.bytes / max(1, w.users) for box in ops for w in box.weights)
    yield "weights", f"{bare(round_digits(weights), 'By')}: {_counted(bits)}" if bits else "none"
    placed = Counter(TITLES.get(row.device, row.device) for row in told.placing.rows.values())
    title = "Core ML" if told.placing.how == "planned" else f"on {told.placing.title} ≈"
    yield title, told.placing.missing or _counted(placed)
    times = [row.seconds for row in told.timed.rows.values() if row.seconds is not None]
    said = f"{bare(round_digits(sum(times)), 's')} in {len(times)} ops, {told.timed.title}"
    yield "time", told.timed.missing or said


def _counted(found: Counter[str], most: int = 8) -> str:
    parts = [f"{name} {count}" for name, count in found.most_common(most)]
    rest = len(found) - most
    return ", ".join([*parts, *([f"{rest} more kinds"] if rest > 0 else [])])


def to_svg(told: Picture) -> str:
    """Boxes in layers, in columns from left to right; colour is the kind of operation."""
    nodes = told.nodes[:MOST]
    spots = _spots(nodes)
    wide = max((x for x, _ in spots), default=0) + WIDE
    high = max((y for _, y in spots), default=0) + HIGH
    lines = "".join(
        _line(spots[arrow.node], spots[i])
        for i, box in enumerate(nodes)
        for arrow in box.inputs
        if arrow.node < len(nodes)
    )
    boxes = "".join(_box(box, *spot) for box, spot in zip(nodes, spots, strict=True))
    more = len(told.nodes) - len(nodes)
    note = (
        f'<text x="0" y="{high + 14}" font-size="11">{more} more are left out</text>'
        if more
        else ""
    )
    scale = min(1.0, SIZE / max(wide, 1))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{(wide + 8) * scale:.0f}" '
        f'height="{(high + 22) * scale:.0f}" viewBox="-4 -4 {wide + 8} {high + 22}" '
        f'font-family="sans-serif"><rect x="-4" y="-4" width="100%" height="100%" fill="#fff"/>'
        f'<g fill="none" stroke="{GREY}" stroke-opacity=".6">{lines}</g>'
        f"{boxes}{note}</svg>"
    )


def layers(nodes: Sequence[Box]) -> list[int]:
    """The longest path to each box from above; what a box reads stands before it."""
    found: list[int] = []
    for i, box in enumerate(nodes):
        above = [found[arrow.node] for arrow in box.inputs if arrow.node < i]
        found.append(max(above, default=-1) + 1)
    return found


def _spots(nodes: Sequence[Box]) -> list[tuple[float, float]]:
    """Left and top of each box: layers downwards, broken into columns."""
    layer = layers(nodes)
    widths: Counter[int] = Counter()
    for each in layer:
        widths[each // PER_COLUMN] = max(widths[each // PER_COLUMN], layer.count(each))
    left, lefts = 0, {}
    for column in sorted(widths):
        lefts[column] = left
        left += widths[column] * (WIDE + ACROSS) + ACROSS
    taken: Counter[int] = Counter()
    spots: list[tuple[float, float]] = []
    for each in layer:
        column = each // PER_COLUMN
        x = lefts[column] + taken[each] * (WIDE + ACROSS)
        taken[each] += 1
        spots.append((x, (each % PER_COLUMN) * (HIGH + DOWN)))
    return spots


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0, x1, y1 = start[0] + WIDE / 2, start[1] + HIGH, end[0] + WIDE / 2, end[1]
    if x0 == x1 and y1 > y0:
        return f'<path d="M{x0:g} {y0:g}V{y1:g}"/>'
    return f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + 20:g} {x1:g} {y1 - 20:g} {x1:g} {y1:g}"/>'


def _box(box: Box, x: float, y: float) -> str:
    colour = COLOURS.get(box.family, GREY)
    text = box.op if box.kind == "op" else box.name
    text = text if len(text) <= 16 else text[:15] + "…"  # noqa: PLR2004 - what fits in a box
    place = f'x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="3"'
    return (
        f'<rect {place} fill="#fff"/><rect {place} fill="{colour}" '
        f'fill-opacity=".22" stroke="{colour}"/><text x="{x + 6:g}" y="{y + 13:g}" '
        f'font-size="11">{escape(text)}</text>'
    )
