"""plan(): which engine runs which operations, and why. Pure: data in, data out.

Operations stand in a row; a segment is a stretch of it on one engine and device. What a segment
reads from outside and what others read of it passes through the host's memory, so the cost of a
segment depends on nothing but itself, and dynamic programming finds the best cuts of the row. Two
rows are tried: the program's own, and one that keeps together what the same engines can run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Graph
from coreml_lab.records import OpInfo
from coreml_lab.run.split.aims import Aim
from coreml_lab.run.split.costs import Cost, Costs, worst
from coreml_lab.run.split.fitting import fitted
from coreml_lab.run.split.layout import Layout, grouped, lay_out
from coreml_lab.run.split.places import Place
from coreml_lab.run.split.strategy import Conditions, Strategy
from coreml_lab.run.split.table import Cut, Table
from coreml_lab.run.split.wording import both, named, sized, told


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
    aim = Aim.of(strategy, conditions or Conditions())
    tables = [Table(each, places, costs, aim) for each in _rows(layout, places)]
    ways = [(table, fitted(table)) for table in tables]
    table, cuts = min(ways, key=lambda way: way[0].value(way[1]))
    if not cuts and layout.nodes:
        raise UnsupportedOp(
            "no engine here runs all operations that touch one state",
            hint="such operations are not split: " + "; ".join(_states(layout)),
        )
    return _Sentences(table, cuts).plan()


def _rows(layout: Layout, places: Sequence[Place]) -> list[Layout]:
    """The program's own order, and the one that keeps together what the same places can run."""
    if not any(p.lacks for p in places):
        return [layout]
    order = grouped(layout, _able(layout, places))
    return [layout] if order == sorted(order) else [layout, layout.reordered(order)]


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


class _Sentences:
    """A way through the row in words."""

    def __init__(self, table: Table, cuts: Sequence[Cut]) -> None:
        self._table, self._cuts = table, cuts
        self._layout, self._places, self._aim = table.layout, table.places, table.aim

    def plan(self) -> Plan:
        """Every segment and all of them, with the reasons."""
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
        barred = self._barred(start, end, index)
        reason += self._against(start, end, index, whole.seconds, barred)
        reason = "; ".join((reason, *self._left_out(barred), *self._refusals(start, end)))
        return Segment(place.engine, place.device, nodes, cost, moved, reason)

    def _against(
        self, start: int, end: int, index: int, seconds: float, barred: Mapping[int, str]
    ) -> str:
        """What the best of the others would take in all, and why not it where that is less."""
        values = self._table.values(start, end).copy()
        values[[index, *barred]] = np.inf  # as where something is lacking
        other = int(values.argmin())
        if not math.isfinite(values[other]):
            return ""
        place, rival = self._places[index], self._places[other]
        whole = both(self._cost(start, end, other), self._transfer(start, end, rival))
        sentence = f", against {told(whole)} on {rival}"
        if whole.seconds < seconds and rival.handicap > place.handicap:
            sentence += ", which only helps out"
        elif whole.seconds < seconds and self._aim.weight(rival) > self._aim.weight(place):
            sentence += ", which draws more power"
        return sentence

    def _barred(self, start: int, end: int, index: int) -> dict[int, str]:
        """The places that could run a segment, and which threshold keeps it from them."""
        others = [i for i in range(len(self._places)) if i != index and self._able(i, start, end)]
        found = {i: self._threshold(i, start, end) for i in others}
        return {i: why for i, why in found.items() if why}

    def _left_out(self, barred: Mapping[int, str]) -> list[str]:
        found: dict[str, list[str]] = {}
        for index, why in barred.items():
            found.setdefault(why, []).append(str(self._places[index]))
        return [
            f"{' and '.join(who)} are left out: {why}"
            if len(who) > 1
            else f"{who[0]} is left out: {why}"
            for why, who in found.items()
        ]

    def _threshold(self, index: int, start: int, end: int) -> str:
        """Which threshold keeps a segment from a place; nothing where none does."""
        table, least = self._table, self._aim.strategy.smallest
        if not math.isfinite(table.values(start, end)[index]):
            return f"{self._results(start, end):,.0f} results, the strategy sends {least:,} or more"
        needed, allowed = table.needed(start, end), table.limits[index]
        if needed > allowed:
            return f"it needs {sized(needed)}, and may take {sized(allowed)}"
        others = [cut for cut in self._cuts if cut[:2] != (start, end)]
        for memory in (m for m in table.memories if index in m.places):
            needed = table.taken(memory, [*others, (start, end, index)])
            if needed > memory.limit:
                allowed = memory.limit
                return (
                    f"with other segments it needs {sized(needed)}, and may take {sized(allowed)}"
                )
        return ""

    def _results(self, start: int, end: int) -> float:
        return sum(w.elements for w in self._layout.works[start:end])

    def _cost(self, start: int, end: int, index: int) -> Cost:
        parts = self._table.costs[index][start:end]
        return Cost(sum(c.seconds for c in parts), worst(c.provenance for c in parts))

    def _transfer(self, start: int, end: int, place: Place) -> Cost:
        size, number = self._table.crossing.of(start, end)
        thumb = place.speed
        return Cost(thumb.call + number * thumb.latency + size / thumb.link, Provenance.ESTIMATED)

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
        """What the conditions changed, what was lifted, and where the numbers come from."""
        costs = [c for row in self._table.costs for c in row]
        known = sum(c.provenance is not Provenance.ESTIMATED for c in costs)
        notes = [f"{known} of {len(costs)} times come from recordings, the rest are rules of thumb"]
        if self._aim.energy and len({p.speed.watts for p in self._places}) > 1:
            notes.append("watts are rules of thumb")
        crowded = self._crowded()
        pressed = [self._aim.pressed] if self._aim.pressed and not crowded else []
        return (*self._aim.notes, *pressed, *self._little(), *crowded, *notes)

    def _little(self) -> list[str]:
        """Segments that go to a GPU in spite of their size."""
        found = []
        for start, end, index in self._cuts:
            place, results = self._places[index], self._results(start, end)
            if place.gpu and results < self._aim.strategy.smallest:
                who = named([n.name for n in self._layout.nodes[start:end]])
                found.append(
                    f"the threshold of size was lifted for {who}, {results:,.0f} results: "
                    f"no place but {place} has the operations and the memory"
                )
        return found

    def _crowded(self) -> list[str]:
        """Memories of which more is taken than may be."""
        table = self._table
        return [
            f"the limit of memory was lifted on {m.device}, {sized(table.taken(m, self._cuts))} "
            f"where {sized(m.limit)} may be taken: nothing else was found to run it"
            for m in table.full(self._cuts)
        ]
