"""The hybrid engine: a program whose parts run on several engines, as its plan says.

Arrays pass between parts in the host's memory, as they are: nothing is copied unless an engine
gives an array that is not contiguous, or of another type than the program declares. fp16 values
that cross are rounded to fp16. Core ML itself takes no part: it has a split of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, UnsupportedOp
from coreml_lab.program.graph import Graph, Node
from coreml_lab.program.parts import fixed, part
from coreml_lab.program.program import Program, port
from coreml_lab.records import ProgramInfo
from coreml_lab.run.engine import Availability, Bordered, Engine, Options, weighed
from coreml_lab.run.ledger import LEDGER, Meter
from coreml_lab.run.planner import Place, Plan, Segment, plan
from coreml_lab.run.split.costs import Costs
from coreml_lab.run.split.layout import lay_out, touched
from coreml_lab.run.split.program import HybridProgram, Piece
from coreml_lab.run.split.strategy import BALANCED, Conditions, Strategy

NAME = "hybrid"
# Core ML runs packages, not parts, and places their operations itself.
WHOLE_ONLY = frozenset({"coreml"})


@dataclass(frozen=True)
class Seat:
    """An engine that may take part, the device it would use, and what is said against it."""

    engine: Engine
    device: str
    handicap: float = 1.0


@dataclass(frozen=True)
class HybridEngine:
    """Plans a program over its seats and runs the segments one after another.

    Attributes:
        seats: who may take part, the preferred first.
        costs, strategy, conditions: what the planner goes by.
        keeps: the engine that must have something of the program; "" for none.
    """

    seats: tuple[Seat, ...]
    costs: Costs = field(default_factory=Costs)
    strategy: Strategy = BALANCED
    conditions: Conditions = field(default_factory=Conditions)
    keeps: str = ""
    name: str = NAME

    @property
    def devices(self) -> tuple[str, ...]:
        """Those of its seats, each once."""
        return tuple(dict.fromkeys(d for s in self.seats for d in (s.device, *s.engine.devices)))

    def title(self, device: str) -> str:  # noqa: ARG002 - a loaded program has a title of its own
        """What may take part."""
        return "Core ML program, hybrid: " + ", ".join(s.engine.name for s in self.seats)

    def available(self) -> Availability:
        """Whether any engine is."""
        if not self.seats:
            return Availability(False, "no engine here can run parts of a program")
        return Availability(True, version=" + ".join(s.engine.name for s in self.seats))

    def supports(self, node: Node) -> bool:
        """Whether any engine has the operation."""
        return any(_has(s.engine, node) for s in self.seats)

    def plan(self, program: Program) -> Plan:
        """What it would do with a program; nothing is loaded, so refusals may follow."""
        return self._plan(program, _lacking(self.seats, program.graph))

    def load(self, program: Program, device: str, options: Options) -> HybridProgram:
        """Plan it and load each segment; what an engine then refuses is planned elsewhere."""
        del device  # each seat has its own
        if not self.seats:
            raise EngineUnavailable(self.available().reason, hint="engine='auto'")
        graph = program.graph
        if any(v.node.op == "state" for v in graph.outputs.values()):
            raise UnsupportedOp("a program that hands out a state as it was is not split")
        refused = _lacking(self.seats, graph)
        made: dict[tuple[str, str, tuple[str, ...]], Piece] = {}
        while True:
            found = self._plan(program, refused)
            if self.keeps and self.keeps not in {s.engine for s in found.segments}:
                raise UnsupportedOp(f"nothing of {program.info.name} is left for {self.keeps}")
            try:
                pieces = [self._piece(program, s, options, made) for s in found.segments]
            except _Refused as refusal:
                refused |= refusal.lacks
                continue
            program.release()
            return HybridProgram(graph, found, pieces)

    def _plan(self, program: Program, refused: Mapping[tuple[str, str], str]) -> Plan:
        places = [
            Place(s.engine.name, s.device, _of(refused, s.engine.name), s.handicap)
            for s in self.seats
        ]
        ops, aim = program.info.ops, self.strategy
        now = self.conditions
        return plan(program.graph, ops, places, self.costs, strategy=aim, conditions=now)

    def _piece(
        self,
        program: Program,
        segment: Segment,
        options: Options,
        made: dict[tuple[str, str, tuple[str, ...]], Piece],
    ) -> Piece:
        """A loaded segment; what was loaded for an earlier plan serves again."""
        key = (segment.engine, segment.device, segment.nodes)
        if key in made:
            return dataclasses.replace(made[key], segment=segment)
        seat = next(s for s in self.seats if (s.engine.name, s.device) == key[:2])
        cut = Part(program, segment.nodes)
        inputs = {name: node.type for name, node in cut.graph.inputs.items()}
        try:
            loaded = seat.engine.load(cut, seat.device, options)
        except UnsupportedOp as error:
            raise _Refused(_culprits(seat, program, segment, options, error)) from error
        except EngineError as error:
            lost = [n.name for n in program.graph.ops] if _gone(error) else segment.nodes
            raise _Refused({(seat.engine.name, n): error.message for n in lost}) from error
        account = LEDGER.account(segment.device)
        account.hold(loaded, weighed(loaded, cut.info))
        border = loaded.border if isinstance(loaded, Bordered) else None
        made[key] = Piece(segment, loaded, inputs, Meter(account, border))
        return made[key]


def _gone(error: EngineError) -> bool:
    return isinstance(error, EngineUnavailable)


def _of(refused: Mapping[tuple[str, str], str], engine: str) -> dict[str, str]:
    return {node: why for (name, node), why in refused.items() if name == engine}


class _Refused(Exception):
    """An engine refused a segment: which operations it lacks, and why."""

    def __init__(self, lacks: Mapping[tuple[str, str], str]) -> None:
        super().__init__()
        self.lacks = lacks


def _has(engine: Engine, node: Node) -> bool:
    return all(engine.supports(n) for n in (node, *node.nested))


def _lacking(seats: Sequence[Seat], graph: Graph) -> dict[tuple[str, str], str]:
    """What engines say beforehand that they cannot run."""
    found: dict[tuple[str, str], str] = {}
    layout = lay_out(graph, ())
    for seat in seats:
        for node in layout.nodes:
            lacking = [n for n in (node, *layout.carried[node.name]) if not _has(seat.engine, n)]
            if lacking:
                found[seat.engine.name, node.name] = f"it has no {lacking[0].op!r}"
    return found


def _culprits(
    seat: Seat, program: Program, segment: Segment, options: Options, error: UnsupportedOp
) -> dict[tuple[str, str], str]:
    """Who is to blame for a refusal: the operation it names and those like it, or each is asked."""
    nodes = {n.name: n for n in program.graph.ops if n.name in segment.nodes}
    named = next((n for n in nodes.values() if error.node in (n.name, *_inside(n))), None)
    blamed = {_kind(named)} if named is not None else set()
    kinds = {_kind(n): n for n in nodes.values()} if not blamed else {}
    for kind, node in kinds.items():
        try:
            seat.engine.load(Part(program, (node.name,)), seat.device, options)
        except UnsupportedOp:
            blamed.add(kind)
    # Where nobody is to blame alone, they are together.
    guilty = [n for n in nodes.values() if _kind(n) in blamed] or list(nodes.values())
    return {(seat.engine.name, n.name): error.message for n in guilty}


def _inside(node: Node) -> list[str]:
    return [inner.name for inner in node.nested]


def _kind(node: Node) -> tuple[str, str]:
    """Equal for operations that an engine has or lacks together: weights do not matter for it."""
    plain = {k: v for k, v in node.attrs.items() if not isinstance(v, np.ndarray) or v.size <= 1}
    given = sorted((k, repr(v)) for k, v in plain.items())
    types = [(v.type.rank, v.type.dtype.name) for v in node.operands()]
    return node.op, f"{given} {types} {sorted(node.inputs)}"


class Part(Program):
    """Some operations of a program, as a program."""

    def __init__(self, whole: Program, nodes: tuple[str, ...]) -> None:
        graph, names = whole.graph, frozenset(nodes)
        owned = touched(graph, graph.ops)
        states = [k for k, users in owned.items() if users and users <= names]
        torn = [k for k, users in owned.items() if users & names and k not in states]
        news = [graph.updates[k].node for k in states]
        if torn or any(n.op == "state" and n not in map(graph.states.get, states) for n in news):
            raise UnsupportedOp(f"a state would live in two segments: {(torn or states)[0]!r}")
        made = part(graph, names, states, fixed(graph))
        super().__init__(_described(made, whole.info, nodes), whole.package, made)

    def release(self) -> None:
        """Keep it: the package that it could be read from again is the whole program's."""


def _described(graph: Graph, whole: ProgramInfo, nodes: tuple[str, ...]) -> ProgramInfo:
    digest = hashlib.sha256("\0".join(nodes).encode()).hexdigest()[:16]
    names = frozenset(nodes)
    return dataclasses.replace(
        whole,
        key=f"{whole.key}-part-{digest}",
        inputs=tuple(port(k, n.type) for k, n in graph.inputs.items()),
        outputs=tuple(port(k, v.type) for k, v in graph.outputs.items()),
        ops=tuple(op for op in whole.ops if op.name in names),
        labels=(),
    )
