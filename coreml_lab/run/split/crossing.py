"""What segments take in and hand out: bytes and number of the values, for every start and end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from coreml_lab.run.split.layout import Layout

Matrix = np.ndarray[Any, np.dtype[np.float64]]
Corners = np.ndarray[Any, np.dtype[np.int64]]


class Crossing:
    """Each value crosses for rectangles of segments (ends by starts), which are added up."""

    def __init__(self, layout: Layout) -> None:
        self._count = len(layout.nodes)
        found = np.array(_rectangles(layout) or [(0, 0, 0, 0, 0.0)]).T
        self._corners, self._bytes = found[:4].astype(np.int64), found[4]
        low, high, left, right = self._corners
        rows, signs = np.concatenate([low, low, high, high]), np.repeat([1, -1, -1, 1], len(low))
        order = rows.argsort(kind="stable")
        self._rows = rows[order]
        self._columns = np.concatenate([left, right, left, right])[order]
        self._marks = np.stack([np.tile(self._bytes, 4) * signs, signs])[:, order]

    @property
    def most(self) -> tuple[float, int]:
        """Bytes and number that no segment exceeds."""
        return float(self._bytes.sum()), len(self._bytes)

    def of(self, start: int, end: int) -> tuple[float, int]:
        """Bytes and number of one segment."""
        low, high, left, right = self._corners
        inside = (low <= end) & (end < high) & (left <= start) & (start < right)
        return float(self._bytes[inside].sum()), int(inside.sum())

    def blocks(self, rows: int) -> Iterator[tuple[int, Matrix, Matrix]]:
        """First end, and bytes and number by end and start, some ends at a time.

        Corners are marked, running sums along both sides fill the rectangles.
        """
        width = self._count + 2
        above: Matrix = np.zeros((2, width))
        for first in range(1, self._count + 1, rows):
            last = min(first + rows, self._count + 1)
            low, high = np.searchsorted(self._rows, [first, last])
            cells = (self._rows[low:high] - first) * width + self._columns[low:high]
            size = (last - first) * width
            marks = [np.bincount(cells, m[low:high], size) for m in self._marks]
            filled: Matrix = np.asarray(marks, np.float64).reshape(2, last - first, width)
            filled[:, 0] += above
            filled = filled.cumsum(1)
            above = filled[:, -1]
            yield first, *filled[:, :, :last].cumsum(2)


def _rectangles(layout: Layout) -> Sequence[tuple[int, int, int, int, float]]:
    """Of segments: first and last end, first and last start (half open), and bytes."""
    count, found = len(layout.nodes), list[tuple[int, int, int, int, float]]()
    for wire in layout.wires:
        before = wire.maker + 1
        for reader in wire.readers:
            if reader < count:
                # Taken in by segments that start behind the maker and reach this first reader.
                found.append((reader + 1, count + 1, before, reader + 1, wire.bytes))
            before = reader + 1
        if wire.maker >= 0:
            # Handed out by segments around the maker that end before the last reader.
            found.append((wire.maker + 1, wire.readers[-1] + 1, 0, wire.maker + 1, wire.bytes))
    return found
