"""plan(): which engine runs which operations, and why. Pure: data in, data out.

Operations stand in a row; a segment is a stretch of it on one engine and device. What a segment
reads from outside and what others read of it passes through the host's memory, so the cost of a
segment depends on nothing but itself, and dynamic programming finds the best cuts of the row. Two
rows are tried: the program's own, and one that keeps together what the same engines can run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Graph
from coreml_lab.records import OpInfo
from coreml_lab.run.split.costs import Cost, Costs, Speed, speed, worst
from coreml_lab.run.split.layout import Layout, grouped, lay_out
from coreml_lab.run.split.strategy import Conditions, Strategy
from coreml_lab.run.split.wording import both, named, sized, told

Matrix = np.ndarray[Any, np.dtype[np.float64]]
# How much energy counts, at least, while heat slows the machine down.
HEAT = {"serious": 1.0, "critical": 2.0}
GPUS = frozenset({"cuda", "metal", "opencl"})


@dataclass(frozen=True)
class Place:
    """An engine on a device.

    Attributes:
        lacks: operations that cannot run there, and why.
        handicap: how much more than elsewhere a second of work counts.
    """

    engine: str
    device: str
    lacks: Mapping[str, str] = field(default_factory=dict, hash=False)
    handicap: float = 1.0

    @property
    def speed(self) -> Speed:
        """The rule of thumb for it."""
        return speed(self.engine, self.device)

    @property
    def gpu(self) -> bool:
        """Whether it is a device of its own, to which little work is not sent."""
        return self.device.partition(":")[0] in GPUS

    def __str__(self) -> str:
        return f"{self.engine} ({self.device})"


@dataclass(frozen=True)
class Segment:
    """A stretch of the program on one engine; ``reason`` is a sentence with its numbers.

    ``cost`` is that of the operations, ``transfer`` that of starting and of moving arrays.
    """

    engine: str
    device: str
    nodes: tuple[str, ...]
    cost: Cost
    transfer: Cost
    reason: str


@dataclass(frozen=True)
class Plan:
    """Segments in the order in which they run; printed, it is a sentence for each."""

    segments: tuple[Segment, ...]
    strategy: Strategy
    total: Cost
    notes: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        """Whether more than one engine takes part."""
        return len({(s.engine, s.device) for s in self.segments}) > 1

    def __str__(self) -> str:
        count = len(self.segments)
        head = f"{count} segment{'s' if count != 1 else ''}, {told(self.total)} in all"
        return "\n".join(
            [f"{head}; strategy {self.strategy.name}", *(s.reason for s in self.segments)]
            + [f"note: {note}" for note in self.notes]
        )

    __repr__ = __str__


def plan(
    graph: Graph,
    infos: Sequence[OpInfo],
    places: Sequence[Place],
    costs: Costs,
    *,
    strategy: Strategy,
    conditions: Conditions | None = None,
) -> Plan:
    """Split a program over engines.

    Args:
        graph: the program.
        infos: its operations as its description has them, by which costs are looked up.
        places: the engines on their devices, the preferred first: it wins ties.
        costs: what operations take; rules of thumb stand for what was never measured.
        strategy: what to aim at.
        conditions: the machine at this moment.

    Raises:
        UnsupportedOp: where no engine here runs an operation.
    """
    layout = lay_out(graph, infos)
    aim = _Aim.of(strategy, conditions or Conditions())
    layouts = [layout]
    if any(p.lacks for p in places):
        able = _able(layout, places)
        order = grouped(layout, able)
        if order != sorted(order):
            layouts.append(layout.reordered(order))
    tables = [_Table(each, places, costs, aim) for each in layouts]
    best = min(tables, key=lambda t: t.value)
    if not math.isfinite(best.value):
        # A threshold left no way: what engines lack still holds.
        aim = dataclasses.replace(aim, smallest=0, limits={}, notes=(*aim.notes, _LIFTED))
        best = min((_Table(e, places, costs, aim) for e in layouts), key=lambda t: t.value)
    if not math.isfinite(best.value):
        raise UnsupportedOp(
            "no engine here runs all operations that touch one state",
            hint="such operations are not split: " + "; ".join(_states(layout)),
        )
    return best.plan()


_LIFTED = "the thresholds of size and memory left no way to run it, and were lifted"


def _able(layout: Layout, places: Sequence[Place]) -> list[frozenset[int]]:
    """Per operation, which places can run it."""
    able = [
        frozenset(i for i, p in enumerate(places) if n.name not in p.lacks) for n in layout.nodes
    ]
    for node, found in zip(layout.nodes, able, strict=True):
        if not found:
            why = "; ".join(f"{p}: {p.lacks[node.name]}" for p in places)
            raise UnsupportedOp(
                f"no engine here runs {node.name} ({node.op}): {why}", node=node.name
            )
    return able


def _states(layout: Layout) -> list[str]:
    return [f"{name}: {', '.join(sorted(nodes))}" for name, nodes in layout.states.items()]


@dataclass(frozen=True)
class _Aim:
    """The strategy as the machine's conditions change it, and the sentences about that."""

    strategy: Strategy
    energy: float
    smallest: int
    limits: Mapping[str, float]
    notes: tuple[str, ...]

    @staticmethod
    def of(strategy: Strategy, now: Conditions) -> _Aim:
        energy, share, notes = strategy.energy, strategy.memory, []
        if now.power == "battery" and strategy.energy_on_battery > energy:
            energy = strategy.energy_on_battery
            notes.append(f"energy counts by {energy:g}: the machine runs on its battery")
        if HEAT.get(now.thermal, 0.0) > energy:
            energy = HEAT[now.thermal]
            notes.append(f"energy counts by {energy:g}: heat slows the machine ({now.thermal})")
        if now.pressure >= strategy.pressure:
            share /= 2
            notes.append(
                f"memory is short (pressure {now.pressure:.2g}): half as much of it is used"
            )
        limits = {device: share * free for device, free in now.free.items()}
        return _Aim(strategy, energy, strategy.smallest, limits, tuple(notes))

    def weight(self, place: Place) -> float:
        """What a second is worth there."""
        return float(place.speed.watts**self.energy)


class _Table:
    """Every segment's cost, and the best way through the row."""

    def __init__(self, layout: Layout, places: Sequence[Place], costs: Costs, aim: _Aim) -> None:
        self._layout, self._places, self._aim = layout, places, aim
        self._costs = [costs.table(p.engine, p.device, layout.works) for p in places]
        self._bytes, self._count = _crossing(layout)
        self._matrices = np.stack([self._matrix(i, p) for i, p in enumerate(places)])
        self.value, self._cuts = self._best()

    def _matrix(self, index: int, place: Place) -> Matrix:
        """Weighted seconds of each segment: a row per end, a column per start."""
        thumb, aim = place.speed, self._aim
        seconds = _summed([c.seconds for c in self._costs[index]])
        found = (seconds[:, None] - seconds[None, :]) * place.handicap + thumb.call
        if thumb.latency:
            found += self._count * thumb.latency + self._bytes / thumb.link
        found *= aim.weight(place)
        missing = [n.name in place.lacks for n in self._layout.nodes]
        if any(missing):
            lacking = _summed(missing)
            found[lacking[:, None] > lacking[None, :]] = np.inf
        if aim.smallest and place.gpu:
            elements = _summed([w.elements for w in self._layout.works])
            found[elements[:, None] - elements[None, :] < aim.smallest] = np.inf
        if place.device in aim.limits:
            held = _summed([w.weights for w in self._layout.works])
            found[held[:, None] - held[None, :] + self._bytes > aim.limits[place.device]] = np.inf
        return found

    def _best(self) -> tuple[float, list[tuple[int, int, int]]]:
        """The least weighted seconds, and the segments: start, end, place."""
        count = len(self._layout.nodes)
        if not count:
            return 0.0, []
        best = np.full(count + 1, np.inf)
        best[0] = 0.0
        closed = {cut for low, high in self._layout.whole for cut in range(low + 1, high + 1)}
        came: list[tuple[int, int]] = [(0, 0)] * (count + 1)
        for end in range(1, count + 1):
            if end in closed:
                continue
            found = best[:end] + self._matrices[:, end, :end]
            place, start = divmod(int(found.argmin()), end)
            best[end], came[end] = found[place, start], (start, place)
        cuts, end = [], count
        while end and math.isfinite(best[count]):
            start, place = came[end]
            cuts.append((start, end, place))
            end = start
        return self._unless_whole(float(best[count]), cuts[::-1])

    def _unless_whole(
        self, value: float, cuts: list[tuple[int, int, int]]
    ) -> tuple[float, list[tuple[int, int, int]]]:
        """One engine alone, unless the split is clearly better."""
        alone = self._matrices[:, -1, 0]
        index = int(alone.argmin())
        if len(cuts) > 1 and alone[index] <= value * self._aim.strategy.gain:
            return float(alone[index]), [(0, len(self._layout.nodes), index)]
        return value, cuts

    def plan(self) -> Plan:
        """The best way, in sentences."""
        segments = tuple(self._segment(*cut) for cut in self._cuts)
        kinds = [c.provenance for s in segments for c in (s.cost, s.transfer) if c.seconds]
        total = sum(s.cost.seconds + s.transfer.seconds for s in segments)
        return Plan(segments, self._aim.strategy, Cost(total, worst(kinds)), self._notes())

    def _segment(self, start: int, end: int, index: int) -> Segment:
        place = self._places[index]
        nodes = tuple(n.name for n in self._layout.nodes[start:end])
        cost, moved = self._cost(start, end, index), self._transfer(start, end, place)
        whole = both(cost, moved)
        reason = (
            f"{named(nodes)} on {place}: {told(cost)} there, {told(whole)} with start and transfer"
        )
        reason += self._against(start, end, index, whole.seconds)
        reason = "; ".join((reason, *self._left_out(start, end), *self._refusals(start, end)))
        return Segment(place.engine, place.device, nodes, cost, moved, reason)

    def _against(self, start: int, end: int, index: int, seconds: float) -> str:
        """What the best of the others would take in all, and why not it where that is less."""
        values = self._matrices[:, end, start].copy()
        values[index] = np.inf  # as where something is lacking, or a threshold decides
        other = int(values.argmin())
        if not math.isfinite(values[other]):
            return ""
        place, rival = self._places[index], self._places[other]
        whole = both(self._cost(start, end, other), self._transfer(start, end, rival))
        sentence = f", against {told(whole)} on {rival}"
        if whole.seconds < seconds:
            helper = rival.handicap > place.handicap
            sentence += ", which only helps out" if helper else ", which draws more power"
        return sentence

    def _left_out(self, start: int, end: int) -> list[str]:
        """The places that could run a segment, and which threshold keeps it from them."""
        found: dict[str, list[str]] = {}
        for index, place in enumerate(self._places):
            barred = self._able(index, start, end) and np.isinf(self._matrices[index, end, start])
            if barred and (why := self._threshold(place, start, end)):
                found.setdefault(why, []).append(str(place))
        return [
            f"{' and '.join(who)} are left out: {why}"
            if len(who) > 1
            else f"{who[0]} is left out: {why}"
            for why, who in found.items()
        ]

    def _threshold(self, place: Place, start: int, end: int) -> str:
        """Which threshold keeps a segment from a place; nothing where none does."""
        works, aim = self._layout.works[start:end], self._aim
        results = sum(w.elements for w in works)
        if place.gpu and results < aim.smallest:
            return f"{results:,.0f} results, the strategy sends {aim.smallest:,} or more"
        needed = sum(w.weights for w in works) + float(self._bytes[end, start])
        allowed = aim.limits.get(place.device, math.inf)
        if needed > allowed:
            return f"it needs {sized(needed)}, and may take {sized(allowed)}"
        return ""

    def _cost(self, start: int, end: int, index: int) -> Cost:
        parts = self._costs[index][start:end]
        return Cost(sum(c.seconds for c in parts), worst(c.provenance for c in parts))

    def _transfer(self, start: int, end: int, place: Place) -> Cost:
        thumb = place.speed
        seconds = thumb.call + float(self._count[end, start] * thumb.latency)
        seconds += float(self._bytes[end, start]) / thumb.link
        return Cost(seconds, Provenance.ESTIMATED)

    def _able(self, index: int, start: int, end: int) -> bool:
        lacks = self._places[index].lacks
        return not any(n.name in lacks for n in self._layout.nodes[start:end])

    def _refusals(self, start: int, end: int) -> list[str]:
        """Why places cannot take a segment: the first operation that each lacks."""
        found: dict[str, list[str]] = {}
        for place in self._places:
            lacking = [n.name for n in self._layout.nodes[start:end] if n.name in place.lacks]
            if lacking:
                why = f"cannot run {named(lacking)}: {place.lacks[lacking[0]]}"
                found.setdefault(why, []).append(str(place))
        return [f"{' and '.join(who)} {why}" for why, who in found.items()]

    def _notes(self) -> tuple[str, ...]:
        """Where the numbers come from, besides what the conditions changed."""
        costs = [c for row in self._costs for c in row]
        known = sum(c.provenance is not Provenance.ESTIMATED for c in costs)
        notes = [f"{known} of {len(costs)} times come from recordings, the rest are rules of thumb"]
        if self._aim.energy and len({p.speed.watts for p in self._places}) > 1:
            notes.append("watts are rules of thumb")
        return (*self._aim.notes, *notes)


def _summed(values: Sequence[float]) -> Matrix:
    """Sums of the first none, one, two … values."""
    return np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])


def _crossing(layout: Layout) -> tuple[Matrix, Matrix]:
    """Bytes and number of the values that a segment takes in or hands out: [end, start]."""
    count = len(layout.nodes)
    # Rectangles of segments: first and last end, first and last start (half open), and bytes.
    found: list[tuple[int, int, int, int, float]] = []
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
    corners = np.array(found or [(0, 0, 0, 0, 0.0)]).T
    return _filled(count, corners[:4], corners[4]), _filled(count, corners[:4], corners[4] ** 0)


def _filled(count: int, corners: Matrix, size: Matrix) -> Matrix:
    """The sum of rectangles: their corners are marked, running sums along both sides fill them."""
    low, high, left, right = corners.astype(np.int64)
    marks = np.zeros((count + 2) ** 2)
    for row, column, sign in ((low, left, 1), (high, left, -1), (low, right, -1), (high, right, 1)):
        marks += np.bincount(row * (count + 2) + column, sign * size, marks.size)
    square: Matrix = marks.reshape(count + 2, count + 2).cumsum(0).cumsum(1)
    return square[:-1, :-1]
