"""A page as plain text for terminals."""

from __future__ import annotations

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.units import LEGEND, show
from coreml_lab.metrics import Quantity


def render(page: Page) -> str:
    """Headline, aligned tables, notes, legend."""
    parts = [page.headline, *map(_table, page.tables)]
    notes = "\n".join(f"* {note}" for note in page.notes)
    return "\n\n".join([*parts, *([notes] if notes else []), LEGEND]) + "\n"


def plain(cell: Cell) -> str:
    """A cell's text."""
    return show(cell) if isinstance(cell, Quantity) else cell


def _table(table: Table) -> str:
    rows = [table.columns, *([plain(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    right = [_numeric(table, i) for i in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([table.caption, lines[0], rule, *lines[1:]])


def _numeric(table: Table, column: int) -> bool:
    return any(isinstance(row[column], Quantity) for row in table.rows)
