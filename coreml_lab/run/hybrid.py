"""The hybrid engine: a program whose parts run on several engines, as its plan says.

Arrays pass between parts in the host's memory, as they are: nothing is copied unless an engine
gives an array that is not contiguous, or of another type than the program declares. fp16 values
that cross are rounded to fp16. Core ML itself takes no part: it has a split of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, UnsupportedOp
from coreml_lab.program.graph import Graph, Node
from coreml_lab.program.parts import fixed, part
from coreml_lab.program.program import Program, port
from coreml_lab.records import ProgramInfo
from coreml_lab.run.engine import Availability, Bordered, Engine, Loaded, Options, weighed
from coreml_lab.run.ledger import LEDGER, Meter
from coreml_lab.run.planner import Plan, Segment, plan
from coreml_lab.run.split.costs import Costs
from coreml_lab.run.split.layout import lay_out, touched
from coreml_lab.run.split.learned import how
from coreml_lab.run.split.places import Place
from coreml_lab.run.split.program import HybridProgram, Piece
from coreml_lab.run.split.strategy import BALANCED, Conditions, Strategy

NAME = "hybrid"
# The engine that runs everything, slowly.
LAST = "reference"
# Engine, device and operation, and why it does not run there.
Refusals = dict[tuple[str, str, str], str]
Kind = tuple[str, str]
Names = tuple[str, ...]
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

    def plan(self, program: Program, options: Options | None = None) -> Plan:
        """What it would do with a program; nothing is loaded, so refusals may follow."""
        refused = _lacking(self.seats, program.graph)
        return self._plan(program, refused, options or Options())

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
            found = self._plan(program, refused, options)
            used = {s.engine for s in found.segments}
            if self.keeps and self.keeps not in used and used <= {LAST}:
                raise UnsupportedOp(
                    f"all of {program.info.name} would go to the {LAST} engine, and none of it to "
                    f"{self.keeps}"
                )
            try:
                pieces = [self._piece(program, s, options, made) for s in found.segments]
            except _Refused as refusal:
                refused |= refusal.lacks
                continue
            program.release()
            return HybridProgram(graph, found, pieces)

    def _plan(self, program: Program, refused: Refusals, options: Options) -> Plan:
        places = [Place(s.engine.name, s.device, _of(refused, s), s.handicap) for s in self.seats]
        costs = dataclasses.replace(self.costs, how=how(options))
        ops, aim, now = program.info.ops, self.strategy, self.conditions
        return plan(program.graph, ops, places, costs, strategy=aim, conditions=now)

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
        cut = Part(program, segment.nodes)
        inputs = {name: node.type for name, node in cut.graph.inputs.items()}
        loaded = self._loaded(program, cut, segment, options)
        account = LEDGER.account(segment.device)
        account.hold(loaded, weighed(loaded, cut.info))
        border = loaded.border if isinstance(loaded, Bordered) else None
        made[key] = Piece(segment, loaded, inputs, Meter(account, border))
        return made[key]

    def _loaded(self, program: Program, cut: Part, segment: Segment, options: Options) -> Loaded:
        """A segment on its engine, or which operations do not run where."""
        name, device = segment.engine, segment.device
        seat = next(s for s in self.seats if (s.engine.name, s.device) == (name, device))
        try:
            return seat.engine.load(cut, device, options)
        except UnsupportedOp as error:
            guilty = _culprits(seat, program, segment, options, error)
            devices = [s.device for s in self.seats if s.engine.name == name]
            lacks = {(name, d, n): error.message for d in devices for n in guilty}
            raise _Refused(lacks) from error
        except EngineError as error:
            # The engine's other devices may do.
            gone = isinstance(error, EngineUnavailable)
            lost = [n.name for n in program.graph.ops] if gone else segment.nodes
            raise _Refused({(name, device, n): error.message for n in lost}) from error


def _of(refused: Refusals, seat: Seat) -> dict[str, str]:
    own = (seat.engine.name, seat.device)
    return {node: why for (*place, node), why in refused.items() if tuple(place) == own}


class _Refused(Exception):
    """An engine refused a segment: which operations it lacks, where, and why."""

    def __init__(self, lacks: Refusals) -> None:
        super().__init__()
        self.lacks = lacks


def _has(engine: Engine, node: Node) -> bool:
    return all(engine.supports(n) for n in (node, *node.nested))


def _lacking(seats: Sequence[Seat], graph: Graph) -> Refusals:
    """What engines say beforehand that they cannot run, on whatever device."""
    found: Refusals = {}
    layout = lay_out(graph, ())
    for engine in {s.engine.name: s.engine for s in seats}.values():
        own = [s.device for s in seats if s.engine.name == engine.name]
        for node in layout.nodes:
            lacking = [n for n in (node, *layout.carried[node.name]) if not _has(engine, n)]
            if lacking:
                why = f"it has no {lacking[0].op!r}"
                found |= {(engine.name, device, node.name): why for device in own}
    return found


def _culprits(
    seat: Seat, program: Program, segment: Segment, options: Options, error: UnsupportedOp
) -> list[str]:
    """Who is to blame for a refusal: the operation it names and those like it, or each is asked."""
    kinds = {n.name: _kind(n) for n in program.graph.ops if n.name in segment.nodes}
    named = [n.name for n in program.graph.ops if error.node in (n.name, *_inside(n))]
    blamed = {kinds[n] for n in named if n in kinds}
    asked = {} if blamed else _asked(program.graph, segment, kinds)
    # Those that are asked with others come last: one of these may be known to be to blame.
    for kind, group in sorted(asked.items(), key=lambda item: len(item[1])):
        known = any(kinds[n] in blamed for n in group)
        if not known and _refuses(seat, Part(program, group), options):
            blamed.add(kind)
    # Where nobody is to blame alone, they are together.
    return [n for n, kind in kinds.items() if kind in blamed] or list(kinds)


def _asked(graph: Graph, segment: Segment, kinds: Mapping[str, Kind]) -> dict[Kind, Names]:
    """Per kind of operation, the fewest that an engine can be asked for with one of them."""
    found: dict[Kind, Names] = {}
    owned = [names & kinds.keys() for names in touched(graph, graph.ops).values()]
    for name, kind in kinds.items():
        group = _together(segment.nodes, name, owned)
        if len(group) < len(found.get(kind, segment.nodes)) or kind not in found:
            found[kind] = group
    return found


def _together(row: Names, name: str, owned: Sequence[AbstractSet[str]]) -> Names:
    """The stretch of a row around an operation that tears no state apart."""
    low = high = row.index(name)
    while True:
        inside = {*row[low : high + 1]}
        places = [row.index(n) for names in owned if names & inside for n in names]
        wider = min([low, *places]), max([high, *places])
        if wider == (low, high):
            return row[low : high + 1]
        low, high = wider


def _refuses(seat: Seat, cut: Part, options: Options) -> bool:
    try:
        seat.engine.load(cut, seat.device, options)
    except UnsupportedOp:
        return True
    except EngineError:  # says nothing about what it lacks
        return False
    return False


def _inside(node: Node) -> list[str]:
    return [inner.name for inner in node.nested]


def _kind(node: Node) -> Kind:
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
    names = {n.name for n in graph.ops}
    return dataclasses.replace(
        whole,
        key=f"{whole.key}-part-{digest}",
        inputs=tuple(port(k, n.type) for k, n in graph.inputs.items()),
        outputs=tuple(port(k, v.type) for k, v in graph.outputs.items()),
        ops=tuple(op for op in whole.ops if op.name in names),  # the fixed ones among them
        labels=(),
    )
