"""What a report consists of, before anything is drawn: a headline, tables and notes."""

from __future__ import annotations

from dataclasses import dataclass

from coreml_lab.metrics import Quantity

Cell = str | Quantity


@dataclass(frozen=True)
class Table:
    """Rows of text and quantities.

    Attributes:
        bars: the column that is also drawn as bars.
        figures: names of the figures that belong beside it, where there is room for any.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    bars: int | None = None
    figures: tuple[str, ...] = ()

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, which stand to the right."""
        return any(isinstance(row[column], Quantity) for row in self.rows)


@dataclass(frozen=True)
class Page:
    """One thing to read."""

    headline: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
