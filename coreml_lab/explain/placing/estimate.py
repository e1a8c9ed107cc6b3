"""Where each operation of a program would run on a chip: verdicts, route, costs, gains. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreml_lab.explain.placing import calibration, planner, roofline
from coreml_lab.explain.placing.calibration import OVERHEAD
from coreml_lab.explain.placing.estimated import (
    ESTIMATED,
    Change,
    Estimated,
    OpPlacement,
    Stretch,
    Transition,
)
from coreml_lab.explain.placing.reasons import HIGH, LOW, MEDIUM, Context, Reason
from coreml_lab.explain.placing.risks import of_program
from coreml_lab.explain.placing.segments import Map, Route
from coreml_lab.explain.placing.tables import DEVICES, Chip
from coreml_lab.explain.placing.verdicts import Verdict, judge
from coreml_lab.explain.placing.workload import Sizes, Workload, workload
from coreml_lab.metrics import Quantity
from coreml_lab.program.graph import Dim, Graph, Node
from coreml_lab.records import OpInfo, ProgramInfo
from coreml_lab.run.split.layout import Layout, Wire, grouped

UNITS: Mapping[str, tuple[str, ...]] = {
    "ALL": DEVICES,
    "CPU_AND_NE": ("cpu", "ne"),
    "CPU_AND_GPU": ("cpu", "gpu"),
    "CPU_ONLY": ("cpu",),
}
# All reasons of a program together, as a kind of change.
EVERY = "every reason"
SURE = (HIGH, MEDIUM, LOW)
# Gains below this are noise of the estimates.
SMALLEST_GAIN = 1e-6


@dataclass(frozen=True)
class _Item:
    """An operation that runs, as the planner sees it."""

    node: Node
    work: Workload
    verdict: Verdict
    planned: Mapping[str, float]
    # The work on the Neural Engine if it could run it, and what the planner would expect then.
    wish: Workload
    wished: float

    def seconds(self, device: str, chip: Chip) -> float:
        """What it takes on a device."""
        return roofline.seconds(self.wish if device == "ne" else self.work, device, chip)


def estimate(graph: Graph, info: ProgramInfo, chip: Chip, compute_units: str) -> Estimated:
    """Place a program's operations on a chip.

    Args:
        graph: the program.
        info: its description; inputs' usual shapes and operations' lines are looked up there.
        chip: what it would run on.
        compute_units: which processors may be used, a key of ``UNITS``.
    """
    bound, flexible = _flexible(graph, info)
    updates = {v.node: graph.states[k] for k, v in graph.updates.items() if k in graph.states}
    context = Context(chip, Sizes(bound), flexible or "range", updates)
    program = _Program(
        graph,
        info,
        {node: judge(node, context) for node in graph.ops},
        compute_units,
        bound,
        flexible,
    )
    return _Estimator(program, context).result()


def _flexible(graph: Graph, info: ProgramInfo) -> tuple[dict[str, int], str]:
    """Sizes of flexible dimensions by the inputs' usual shapes, and what kind of flexible it is."""
    ports = {port.name: port for port in info.inputs}
    bound: dict[str, int] = {}
    kinds: set[str] = set()
    for name, node in graph.inputs.items():
        port = ports.get(name)
        dims = [(i, d) for i, d in enumerate(node.type.shape) if isinstance(d, Dim)]
        for axis, dim in dims:
            usual = port.default_shape if port is not None else ()
            whole = len(usual) == node.type.rank
            bound[dim.name] = usual[axis] if whole else max(1, dim.low)
            kinds.add("enumerated" if port is not None and port.enumerated else "range")
    return bound, "range" if "range" in kinds else "enumerated" if kinds else ""


def _item(node: Node, verdict: Verdict, context: Context, allowed: Sequence[str]) -> _Item:
    work = workload(node, context.sizes)
    planned = {
        device: planner.expected(work, device, context.chip)
        for device in allowed
        if device in verdict.supported
    }
    # The CPU runs everything, whatever is allowed.
    planned = planned or {"cpu": planner.expected(work, "cpu", context.chip)}
    half = any(reason.kind == "precision" for reason in verdict.reasons)
    wish = work.halved if half else work
    return _Item(node, work, verdict, planned, wish, planner.expected(wish, "ne", context.chip))


@dataclass(frozen=True)
class _Program:
    """What is placed, and where it may be."""

    graph: Graph
    info: ProgramInfo
    verdicts: Mapping[Node, Verdict]
    units: str
    bound: Mapping[str, int]
    flexible: str

    def items(self, context: Context) -> list[_Item]:
        """The operations that run, in the program's order."""
        return [
            _item(node, verdict, context, UNITS[self.units])
            for node, verdict in self.verdicts.items()
            if not verdict.folded
        ]


class _Estimator:
    """The route through a program's operations, and the ones it would take if reasons were gone."""

    def __init__(self, program: _Program, context: Context) -> None:
        self._program, self._chip = program, context.chip
        self._engine = "ne" in UNITS[program.units]
        self._fixed = planner.fixed()
        self.items = self._ordered(program.items(context))
        self._map = self._mapped(frozenset())
        self.route = self._map.route
        self._seconds = self._latency(self.route)

    def _ordered(self, items: list[_Item]) -> list[_Item]:
        """The program's own order, or one that keeps together what the Neural Engine can run.

        Two such orders are tried: one begins with what it can run, one with what it cannot.
        """
        able = ["ne" in item.planned for item in items]
        if all(able) or not any(able):
            return items
        layout, wide, narrow = _layout(items), frozenset({0, 1}), frozenset({0})
        tried = [items]
        for first, last in ((wide, narrow), (narrow, wide)):
            order = grouped(layout, [first if ok else last for ok in able])
            tried.append([items[i] for i in order])
        return min(tried, key=self._cost)

    def _cost(self, items: Sequence[_Item]) -> float:
        return Map([item.planned for item in items], self._fixed).route_seconds

    def _mapped(self, freed: frozenset[str]) -> Map:
        """The map with the operations in ``freed`` allowed on the Neural Engine."""
        costs = [
            {**item.planned, "ne": item.wished} if item.node.name in freed else item.planned
            for item in self.items
        ]
        return Map(costs, self._fixed)

    def busy(self, route: Route) -> dict[str, float]:
        """Estimated seconds per device, launches with them; of changes apart."""
        found: dict[str, float] = defaultdict(float)
        for item, device in zip(self.items, route.devices, strict=True):
            found[device] += item.seconds(device, self._chip)
        for device, _, _ in route.stretches:
            found[device] += roofline.call(device, self._chip)
        if route.transitions:
            found[OVERHEAD] += route.transitions * self._fixed.switch
        return dict(found)

    def _latency(self, route: Route) -> float:
        return sum(self.busy(route).values())

    def result(self) -> Estimated:
        """Everything about the route."""
        busy, program = self.busy(self.route), self._program
        return Estimated(
            program=program.info.name,
            precision=program.info.precision,
            chip=self._chip,
            compute_units=program.units,
            ops=self._ops(),
            stretches=self._stretches(),
            transitions=self._transitions(),
            time=calibration.latency(busy),
            energy=calibration.energy(busy, self._chip),
            planned=_seconds(self.route.seconds),
            busy=busy,
            changes=self._changes(),
            risks=self._risks(),
            flexible=program.flexible,
            assumed=program.bound if program.flexible else {},
        )

    def _ops(self) -> tuple[OpPlacement, ...]:
        """Rows in the program's own order."""
        place = {item.node: i for i, item in enumerate(self.items)}
        lines = {row.name: _line(row) for row in self._program.info.ops}
        pairs = zip(self.items, self.route.devices, strict=True)
        total = sum(item.planned[device] for item, device in pairs) or 1.0
        return tuple(
            self._op(node, verdict, place.get(node), lines.get(node.name, ""), total)
            for node, verdict in self._program.verdicts.items()
        )

    def _op(
        self, node: Node, verdict: Verdict, at: int | None, line: str, total: float
    ) -> OpPlacement:
        known = (node.name, node.op, line)
        why = (verdict.supported, verdict.reasons, verdict.risks)
        if at is None:
            return OpPlacement(*known, "", *why, _seconds(0.0), 0.0, _seconds(0.0))
        item, device = self.items[at], self.route.devices[at]
        took = item.seconds(device, self._chip)
        gain = self._gain(at) if verdict.reasons and self._engine else 0.0
        weight = item.planned[device] / total
        return OpPlacement(*known, device, *why, _seconds(took), weight, _seconds(gain))

    def _gain(self, index: int) -> float:
        """What the planner would save if one operation could run on the Neural Engine."""
        best = self._map.with_op(index, "ne", self.items[index].wished)
        saved = self.route.seconds - best
        return saved if saved > SMALLEST_GAIN else 0.0

    def _stretches(self) -> tuple[Stretch, ...]:
        found = []
        for device, first, end in self.route.stretches:
            items = self.items[first:end]
            seconds = sum(item.seconds(device, self._chip) for item in items)
            overhead = roofline.call(device, self._chip)
            found.append(
                Stretch(
                    device, tuple(i.node.name for i in items),
                    _seconds(seconds), _seconds(overhead),
                )
            )  # fmt: skip
        return tuple(found)

    def _transitions(self) -> tuple[Transition, ...]:
        cost = _seconds(self._fixed.switch)
        stretches = self.route.stretches
        return tuple(
            Transition(self.items[first].node.name, before, after, cost)
            for (before, _, _), (after, first, _) in itertools.pairwise(stretches)
        )

    def _risks(self) -> tuple[Reason, ...]:
        """What endangers the program as a whole."""
        pairs = zip(self.items, self.route.devices, strict=True)
        weights = sum(item.work.weights for item, device in pairs if device == "ne")
        lengths = (end - first for device, first, end in self.route.stretches if device == "ne")
        return of_program(weights, max(lengths, default=0), self._chip)

    def _changes(self) -> tuple[Change, ...]:
        """Per reason, what its end would gain; the largest gain first."""
        if not self._engine:
            return ()
        groups: dict[tuple[str, str], list[_Item]] = defaultdict(list)
        for item in self.items:
            kinds = {_group(reason, item.node) for reason in item.verdict.reasons}
            if len(kinds) == 1:
                groups[kinds.pop()].append(item)
        found = [self._change(kind, what, items) for (kind, what), items in groups.items()]
        barred = [item for item in self.items if item.verdict.reasons]
        if len(barred) > max((len(change.nodes) for change in found), default=0):
            found.append(self._change(EVERY, "program", barred))
        return tuple(sorted(found, key=lambda c: -c.gain.value))

    def _change(self, kind: str, what: str, items: Sequence[_Item]) -> Change:
        route = self._mapped(frozenset(item.node.name for item in items)).route
        gain = self._seconds - self._latency(route)
        reasons = [r for i in items for r in i.verdict.reasons if kind in {r.kind, EVERY}]
        return Change(
            kind=kind,
            what=what,
            nodes=tuple(item.node.name for item in items),
            remedy="all that helps with each" if kind == EVERY else reasons[0].remedy,
            confidence=max((r.confidence for r in reasons), key=SURE.index),
            gain=_seconds(gain if gain > SMALLEST_GAIN else 0.0),
            transitions=route.transitions,
            share=sum(device == "ne" for device in route.devices) / len(self.items),
        )


def _seconds(value: float) -> Quantity:
    return Quantity(value, "s", ESTIMATED)


def _line(row: OpInfo) -> str:
    """The line of code that wrote an operation; its name in a file is no news."""
    return "" if row.where.endswith(f": {row.name}") else row.where


def _group(reason: Reason, node: Node) -> tuple[str, str]:
    """Operations whose reasons go away together: a program is converted to fp16 as a whole."""
    whole = reason.kind in {"precision", "flexible shape", "integers"}
    return reason.kind, "program" if whole else node.op


def _layout(items: Sequence[_Item]) -> Layout:
    """What ``grouped`` looks at: who reads what."""
    place = {item.node: i for i, item in enumerate(items)}
    readers: dict[int, set[int]] = defaultdict(set)
    for i, item in enumerate(items):
        for value in item.node.operands():
            if value.node in place:
                readers[place[value.node]].add(i)
    wires = tuple(Wire(0.0, maker, tuple(sorted(at))) for maker, at in readers.items())
    return Layout(tuple(item.node for item in items), {}, (), wires, {})
