"""What every segment takes on every place, and the best way through the row of operations.

Of the table of starts by ends only some rows exist at a time. A cell that breaks a limit of memory
costs more than any way that breaks none: it is taken where there is no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_lab.run.split.aims import Aim, Memory
from coreml_lab.run.split.costs import Costs
from coreml_lab.run.split.crossing import Crossing, Matrix
from coreml_lab.run.split.layout import Layout
from coreml_lab.run.split.places import Place

# Start, end and place of a segment.
Cut = tuple[int, int, int]
# Numbers of a block of rows: as many as a processor's cache holds.
BLOCK = 1 << 17
# A thousandth of all memory above a limit weighs as much as the whole plan's time.
STEEP = 1000.0


@dataclass(frozen=True)
class _Cells:
    """Some ends by some starts: what crosses, how much, and the largest operation inside."""

    ends: slice
    starts: slice
    bytes: Matrix
    count: Matrix
    arrays: Matrix


class Table:
    """Segments' costs by places."""

    def __init__(self, layout: Layout, places: Sequence[Place], costs: Costs, aim: Aim) -> None:
        self.layout, self.places, self.aim = layout, places, aim
        self.costs = [costs.table(p.engine, p.device, layout.works) for p in places]
        self.crossing, self.memories = Crossing(layout), aim.memories(places)
        self._worth = np.array([aim.weight(p) for p in places])
        scale = self._worth * [p.handicap for p in places]
        seconds = np.array([[c.seconds for c in row] for row in self.costs])
        self._seconds = _summed(seconds * scale[:, None])
        self._lacking = _summed([[n.name in p.lacks for n in layout.nodes] for p in places])
        works = layout.works
        self.weights = np.array([w.weights for w in works])
        self._held, self._arrays = _summed(self.weights), np.array([w.arrays for w in works])
        self._elements = _summed([w.elements for w in works])
        self.limits = [
            min((m.limit for m in self.memories if i in m.places), default=math.inf)
            for i in range(len(places))
        ]
        self._most = self._held[-1] + self.crossing.most[0] + self._arrays.max(initial=0.0)
        self._tight = {i: limit for i, limit in enumerate(self.limits) if self._most > limit}
        self.penalty = self._penalty()
        self._known: dict[tuple[int, int], Matrix] = {}

    def _penalty(self) -> float:
        """More than any way takes, however it is cut."""
        size, number = self.crossing.most
        starts = [
            w * (p.speed.call + number * p.speed.latency + size / p.speed.link)
            for w, p in zip(self._worth, self.places, strict=True)
        ]
        return float(self._seconds[:, -1].sum() + max(starts) * len(self.layout.nodes))

    def values(self, start: int, end: int) -> Matrix:
        """Weighted seconds of one segment by places; infinite where it cannot or may not go."""
        if (start, end) not in self._known:
            size, number = (np.full((1, 1), v, np.float64) for v in self.crossing.of(start, end))
            largest = self._arrays[start:end].max(keepdims=True)[None]
            cells = _Cells(slice(end, end + 1), slice(start, start + 1), size, number, largest)
            self._known[start, end] = self._values(cells, self._seconds, 0.0)[:, 0, 0]
        return self._known[start, end]

    def working(self, start: int, end: int) -> float:
        """Bytes that a segment takes, at least, beside its weights."""
        return max(self.crossing.of(start, end)[0], float(self._arrays[start:end].max()))

    def needed(self, start: int, end: int) -> float:
        """Bytes that a segment takes, at least: more may be there at once."""
        return float(self.weights[start:end].sum()) + self.working(start, end)

    def taken(self, memory: Memory, cuts: Sequence[Cut]) -> float:
        """Bytes of all segments in a memory: weights stay, arrays come one segment at a time."""
        own = [(start, end) for start, end, place in cuts if place in memory.places]
        held = sum(float(self.weights[start:end].sum()) for start, end in own)
        return held + max((self.working(*cut) for cut in own), default=0.0)

    def full(self, cuts: Sequence[Cut]) -> list[Memory]:
        """The memories in which segments take more than they may."""
        return [m for m in self.memories if self.taken(m, cuts) > m.limit]

    def value(self, cuts: Sequence[Cut]) -> tuple[float, float]:
        """Bytes above the limits, and weighted seconds; infinite where there is no way."""
        if not cuts and self.layout.nodes:
            return math.inf, math.inf
        over = sum(self.taken(m, cuts) - m.limit for m in self.full(cuts))
        return over, sum(float(self.values(s, e)[place]) for s, e, place in cuts)

    def best(self, surcharge: Matrix | None = None) -> tuple[Cut, ...]:
        """The best way: no two neighbours on one place; ``surcharge``: by place and operation."""
        count, rows = len(self.layout.nodes), self._seconds
        if surcharge is not None:
            rows = rows + _summed(surcharge)
        closed = {cut for low, high in self.layout.whole for cut in range(low + 1, high + 1)}
        ways = _Ways(len(self.places), count)
        for cells in self._blocks():
            found = self._values(cells, rows, self.penalty)
            for end in range(cells.ends.start, cells.ends.stop):
                if end not in closed:
                    ways.close(end, found[:, end - cells.ends.start, :end])
        return ways.back()

    def _blocks(self) -> Iterator[_Cells]:
        """Every cell, some rows of ends at a time."""
        count = len(self.layout.nodes)
        above = np.zeros(count + 1)
        for first, size, number in self.crossing.blocks(_rows(count, len(self.places))):
            last = first + len(size)
            ends, starts = np.arange(first, last), np.arange(last)
            largest = np.zeros_like(size)
            if self._tight:
                np.copyto(largest, self._arrays[ends - 1][:, None], where=starts < ends[:, None])
                np.maximum(largest[0], above[:last], out=largest[0])
                np.maximum.accumulate(largest, 0, out=largest)
                above[:last] = largest[-1]
            yield _Cells(slice(first, last), slice(0, last), size, number, largest)

    def _values(self, at: _Cells, seconds: Matrix, penalty: float) -> Matrix:
        """Weighted seconds by place, end and start; ``penalty`` for breaking a limit of memory."""
        found = _between(seconds, at)
        for i, (place, worth) in enumerate(zip(self.places, self._worth, strict=True)):
            thumb = place.speed
            found[i] += worth * thumb.call
            if thumb.latency:
                found[i] += at.count * (worth * thumb.latency) + at.bytes * (worth / thumb.link)
        if self._lacking.any():
            found[_between(self._lacking, at) > 0] = np.inf
        over = self._over(at)
        self._bar_little(found, at, over)
        for index, bytes_ in over.items():
            found[index] += np.where(bytes_ > 0, penalty * (1 + STEEP * bytes_ / self._most), 0.0)
        return found

    def _over(self, at: _Cells) -> dict[int, Matrix]:
        """Bytes above the limit, for places where there may be too many."""
        if not self._tight:
            return {}
        needed = _between(self._held, at) + np.maximum(at.bytes, at.arrays)
        return {i: needed - limit for i, limit in self._tight.items()}

    def _bar_little(self, found: Matrix, at: _Cells, over: dict[int, Matrix]) -> None:
        """Keep little work from GPUs, where another place has the operations and the memory."""
        smallest = self.aim.strategy.smallest
        gpus = [i for i, p in enumerate(self.places) if p.gpu]
        if not smallest or not gpus:
            return
        elsewhere = np.zeros(found.shape[1:], bool)
        for i, row in enumerate(found):
            if i not in gpus:
                elsewhere |= np.isfinite(row) & (over[i] <= 0 if i in over else True)
        barred = (_between(self._elements, at) < smallest) & elsewhere
        for i in gpus:
            found[i][barred] = np.inf


class _Ways:
    """The best ways to each end so far, by the place of the last segment."""

    def __init__(self, places: int, count: int) -> None:
        self._all, self._count = np.arange(places), count
        self._value = np.full((places, count + 1), np.inf)
        # The best to a start whose last segment is on another place.
        self._before = np.full((places, count + 1), np.inf)
        self._before[:, 0] = 0.0
        self._came = np.zeros((places, count + 1), np.int64)

    def close(self, end: int, found: Matrix) -> None:
        """Segments that end here, by place and start."""
        whole = self._before[:, :end] + found
        starts = whole.argmin(1)
        value = whole[self._all, starts]
        self._came[:, end], self._value[:, end] = starts, value
        first = value.argmin()
        self._before[:, end] = value[first]
        value[first] = np.inf
        self._before[first, end] = value.min()

    def back(self) -> tuple[Cut, ...]:
        """The best way to the last end; none where there is no way."""
        cuts: list[Cut] = []
        end, last = self._count, self._value[:, self._count].copy()
        while end and np.isfinite(last).any():
            place = int(last.argmin())
            start = int(self._came[place, end])
            cuts.append((start, end, place))
            last, end = self._value[:, start].copy(), start
            last[place] = np.inf
        return tuple(reversed(cuts))


def _rows(count: int, places: int) -> int:
    return max(1, BLOCK // (places * (count + 1)))


def _between(sums: Matrix, at: _Cells) -> Matrix:
    """What running sums grow by between starts and ends."""
    grown: Matrix = sums[..., at.ends, None] - sums[..., None, at.starts]
    return grown


def _summed(values: Matrix | Sequence[object]) -> Matrix:
    """Sums of the first none, one, two … values of each row."""
    rows = np.asarray(values, np.float64)
    return np.concatenate([np.zeros((*rows.shape[:-1], 1)), rows.cumsum(-1)], -1)
