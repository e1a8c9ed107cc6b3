"""A page as HTML that survives an untrusted notebook.

Only tables, inline styles and SVG images as data: notebooks strip scripts, style sheets and inline
SVG from what they do not trust.
"""

from __future__ import annotations

import base64
import html
import math

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.units import MARKS, explained, missing, show
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Quantity

BAR_WIDTH = 120
BAR_HEIGHT = 10
# The blue that stands for the CPU and the portable engine; it reads on light and dark ground.
BAR_COLOUR = "#2a86c4"
# A name is broken where it is longer than this, and nowhere before: "batch_norm_14 4" is no name.
NAME = "text-align:left;min-width:9em;max-width:24em;overflow-wrap:break-word"


def render(page: Page) -> str:
    """Headline, tables with caption and scope, notes, legend."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in page.notes)
    return (
        '<div style="font-variant-numeric:tabular-nums">'
        f"<p><strong>{escape(page.headline)}</strong></p>"
        + "".join(map(table, page.tables))
        + (f"<ul>{notes}</ul>" if notes else "")
        + f"<p><small>{legend()}</small></p></div>"
    )


def escape(text: str) -> str:
    """``text`` of anyone as text and attribute of HTML."""
    return html.escape(legible(text, SENTENCE))


def legend() -> str:
    """What the marks mean."""
    return " &nbsp; ".join(f"{mark} {provenance.value}" for provenance, mark in MARKS.items())


def table(table: Table) -> str:
    """One table with its caption."""
    heads = [_head(table, place, name) for place, name in enumerate(table.columns)]
    if table.bars is not None:
        heads.append('<th scope="col"></th>')
    longest = _longest(table)
    body = "".join(f"<tr>{_row(table, row, longest)}</tr>" for row in table.rows)
    caption = f'<caption style="text-align:left">{escape(table.caption)}</caption>'
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f"<table>{caption}{head}<tbody>{body}</tbody></table>"


def _head(table: Table, place: int, name: str) -> str:
    """Above numbers to the right, as they are."""
    side = "right" if table.numeric(place) else "left"
    return f'<th scope="col" style="text-align:{side}">{escape(name)}</th>'


def _row(table: Table, row: tuple[Cell, ...], longest: float) -> str:
    first = f'<th scope="row" style="{NAME}">{_cell(row[0])}</th>'
    cells = [first, *(f'<td style="{_side(c)}">{_cell(c)}</td>' for c in row[1:])]
    if table.bars is not None:
        cells.append(f'<td style="text-align:left">{_bar(row[table.bars], longest)}</td>')
    return "".join(cells)


def _side(cell: Cell) -> str:
    """Numbers to the right and on one line, words to the left; reasons may take several."""
    if not isinstance(cell, Quantity):
        return "text-align:left"
    return "text-align:right" + ("" if missing(cell) else ";white-space:nowrap")


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Quantity):
        return escape(legible(cell))
    if missing(cell):
        return f"<em>{escape(explained(cell))}</em>"
    shown = show(cell)
    said = cell.provenance.value + (f": {cell.note}" if cell.note else "")
    number, _, mark = shown.rpartition(" ")
    label = escape(said)
    return f'{escape(number)} <span title="{label}" aria-label="{label}">{mark}</span>'


def _longest(table: Table) -> float:
    if table.bars is None:
        return 0.0
    found = (row[table.bars] for row in table.rows)
    sizes = [c.value for c in found if isinstance(c, Quantity) and math.isfinite(c.value)]
    return max(sizes, default=0.0)


def _bar(cell: Cell, longest: float) -> str:
    if not isinstance(cell, Quantity) or not math.isfinite(cell.value) or longest <= 0:
        return ""
    width = max(1, round(BAR_WIDTH * cell.value / longest))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{BAR_HEIGHT}">'
        f'<rect width="100%" height="100%" fill="{BAR_COLOUR}"/></svg>'
    )
    # The number stands beside it: a screen reader need not hear the bar.
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="" src="data:image/svg+xml;base64,{data}">'
