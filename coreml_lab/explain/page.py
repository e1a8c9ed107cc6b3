"""What a report consists of, before anything is drawn: a headline, tables and notes."""

from __future__ import annotations

from dataclasses import dataclass

from coreml_lab.metrics import Quantity

Cell = str | Quantity


@dataclass(frozen=True)
class Table:
    """Rows of text and quantities. ``bars`` is the column that is also drawn as bars."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    bars: int | None = None


@dataclass(frozen=True)
class Page:
    """One thing to read."""

    headline: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
