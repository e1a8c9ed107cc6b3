"""A page as plain text for terminals."""

from __future__ import annotations

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.units import LEGEND, missing, show
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Quantity


def render(page: Page) -> str:
    """Headline, aligned tables, notes, legend."""
    parts = [legible(page.headline, SENTENCE), *map(_table, page.tables)]
    notes = "\n".join(f"* {legible(note, SENTENCE)}" for note in page.notes)
    return "\n\n".join([*parts, *([notes] if notes else []), LEGEND]) + "\n"


def plain(cell: Cell) -> str:
    """A cell's text, on one line."""
    return show(cell) if isinstance(cell, Quantity) else legible(cell)


def _table(table: Table) -> str:
    rows = [[plain(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    right = [table.numeric(i) for i in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths).rstrip()
    why = [f"  {reason}" for reason in reasons(table)]
    return "\n".join([legible(table.caption, SENTENCE), lines[0], rule, *lines[1:], *why])


def reasons(table: Table) -> list[str]:
    """Why what is missing in a table is missing: each reason once, with the rows it is true of."""
    found: dict[str, list[str]] = {}
    for row in table.rows:
        for cell in row:
            if isinstance(cell, Quantity) and missing(cell) and cell.note:
                rows = found.setdefault(cell.note, [])
                rows += [plain(row[0])] if plain(row[0]) not in rows else []
    return [
        f"{legible(', '.join(rows), SENTENCE)}: unavailable, {legible(note, SENTENCE)}"
        for note, rows in found.items()
    ]
