"""A program in segments, each loaded on its engine: arrays pass between them in host memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Array, Graph, TensorType
from coreml_lab.program.parts import wire
from coreml_lab.records import OpSpan, Placement, Run
from coreml_lab.run import laps
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Border, Loaded, Shaped
from coreml_lab.run.ledger import LEDGER, Meter, Moved
from coreml_lab.run.planner import Plan, Segment
from coreml_lab.run.state import State

TRANSFER = "[transfer]"
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Piece:
    """A segment that is ready to run."""

    segment: Segment
    loaded: Loaded
    inputs: Mapping[str, TensorType]
    meter: Meter


class HybridProgram:
    """Segments, each loaded on its engine.

    Attributes:
        plan: who runs what, and why.
        crossing_bytes: what passed between segments in the last run.
        copied_bytes: how much of what segments took in had to be copied.
    """

    placements: tuple[Placement, ...] = ()
    # The segments' own are counted, each on its device.
    border = Border(copies_inputs=False, copies_outputs=False, counts=True)
    weight_bytes = 0

    def __init__(self, graph: Graph, found: Plan, pieces: Sequence[Piece]) -> None:
        self.plan = found
        self._pieces = tuple(pieces)
        names = {n: name for name, n in graph.inputs.items()}
        self._outputs = {
            k: (names.get(v.node) or wire(v), v.const) for k, v in graph.outputs.items()
        }
        self.states = {name: node.type for name, node in graph.states.items()}
        homes = {name: i for i, piece in enumerate(pieces) for name in piece.loaded.states}
        changed = [k for k, v in graph.updates.items() if v.node is not graph.states[k]]
        # An earlier segment's state is put back where a later segment fails.
        self._fragile = [k for k in changed if homes.get(k, len(pieces)) < len(pieces) - 1]
        # What no operation touches may still get an input as its contents.
        homeless = {k: graph.updates[k] for k in changed if k not in homes}
        self._given = {k: (names.get(v.node, ""), v.const) for k, v in homeless.items()}
        self._last = self._readers()
        self.crossing_bytes = self.copied_bytes = 0
        loaded = [piece.loaded for piece in pieces]
        self.per_shape = any(isinstance(one, Shaped) and one.per_shape for one in loaded)

    def _readers(self) -> dict[str, int]:
        """The last segment that reads each value; what the program hands out stays."""
        last = {name: i for i, piece in enumerate(self._pieces) for name in piece.inputs}
        kept = (*self._outputs.values(), *self._given.values())
        return last | {name: len(self._pieces) for name, _ in kept}

    @property
    def remark(self) -> str:
        """The plan's sentences."""
        notes = (f"note: {n}" for n in self.plan.notes)
        return "; ".join((*(s.reason for s in self.plan.segments), *notes))

    @property
    def title(self) -> str:
        """Who takes part, and with how much of the program."""
        counts: dict[tuple[str, str], int] = {}
        for s in self.plan.segments:
            counts[s.engine, s.device] = counts.get((s.engine, s.device), 0) + len(s.nodes)
        told = (f"{n} ops on {e} ({d})" for (e, d), n in counts.items())
        return f"Core ML program, hybrid: {', '.join(told)}"

    def make_state(self) -> HybridState:
        """New contents for the states, each where its segment runs."""
        return HybridState(self.states, [p.loaded.make_state() for p in self._pieces])

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when every segment has succeeded."""
        return self._run(inputs, state, NO_LIMIT)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``, or Timeout: segments that can be stopped are, others end the run late."""
        return self._run(inputs, state, Limit.of(seconds, "the hybrid engine"))

    def _run(
        self, inputs: Mapping[str, Array], state: State | None, limit: Limit
    ) -> dict[str, Array]:
        if state is None or not self.states:
            return self._results(self._walk(inputs, [None] * len(self._pieces), limit), inputs)
        mine = state if isinstance(state, HybridState) else self.make_state()
        if mine is not state:
            mine.assign(state)
        before = {name: mine.read(name) for name in self._fragile}
        try:
            values = self._walk(inputs, mine.parts, limit)
        except BaseException:
            for name, array in before.items():
                mine.write(name, array)
            raise
        for name, (key, const) in self._given.items():
            mine.write(name, values[key] if const is None else const)
        if mine is not state:
            state.assign(mine)
        return self._results(values, inputs)

    def _walk(
        self,
        inputs: Mapping[str, Array],
        states: Sequence[State | None],
        limit: Limit,
        seen: list[Handed] | None = None,
    ) -> dict[str, Array]:
        """Run the segments; ``seen`` gets what was handed to each."""
        values, crossing = dict(inputs), 0
        copies: list[int] = []
        for index, piece in enumerate(self._pieces):
            start = time.monotonic_ns()
            feeds = {k: _as_declared(values[k], kind) for k, kind in piece.inputs.items()}
            laps.lap("copy")
            moved = sum(a.nbytes for k, a in feeds.items() if k not in inputs)
            copies += [a.nbytes for k, a in feeds.items() if a is not values[k]]
            crossing += moved
            if seen is not None:
                seen.append(Handed(feeds, time.monotonic_ns() - start, moved))
            made = limit.run(piece.loaded, feeds, states[index])
            piece.meter.count(feeds, made)
            values |= made
            for name in [k for k in piece.inputs if self._last[k] == index]:
                del values[name]
        self.crossing_bytes, self.copied_bytes = crossing, sum(copies)
        if copies:
            LEDGER.account("cpu").moved(Moved(sent=sum(copies), copies=len(copies)))
        return values

    def _results(self, values: Arrays, inputs: Mapping[str, Array]) -> Arrays:
        """Arrays that are nobody else's: no constant, no input, and none of them twice."""
        results, taken = {}, {id(a) for a in inputs.values()}
        for name, (key, const) in self._outputs.items():
            array = values[key] if const is None else const
            results[name] = own = array.copy() if const is not None or id(array) in taken else array
            taken.add(id(own))
        return results

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences: each segment's own trace, laid end to end with the transfers.

        A transfer is what it takes to hand arrays over in the host's memory, measured; the way to
        a device and back belongs to the segment's run. States begin as zeros.
        """
        seen: list[Handed] = []
        self._walk(inputs, self.make_state().parts, NO_LIMIT, seen)
        traces = [
            piece.loaded.trace(handed.feeds, runs)
            for piece, handed in zip(self._pieces, seen, strict=True)
        ]
        return tuple(self._joined(i, [t[i] for t in traces], seen) for i in range(runs))

    def _joined(self, index: int, parts: Sequence[Run], seen: Sequence[Handed]) -> Run:
        """One run out of those of the segments."""
        start = at = parts[0].start_ns if parts else time.monotonic_ns()
        spans: list[OpSpan] = []
        before = "inputs"
        for run, piece, handed in zip(parts, self._pieces, seen, strict=True):
            segment = piece.segment
            if handed.bytes:
                spans.append(_transfer(f"[{before} to {segment.engine}]", segment, at, handed))
            at += handed.spent_ns
            moved = at - run.start_ns
            spans += [dataclasses.replace(s, start_ns=s.start_ns + moved) for s in run.spans]
            at += run.duration_ns
            before = segment.engine
        return Run(index, start, at - start, tuple(spans), instrumented=True)


@dataclass(frozen=True)
class Handed:
    """What a segment was handed in one run, how long that took, and the bytes of other segments."""

    feeds: Mapping[str, Array]
    spent_ns: int
    bytes: int


def _transfer(label: str, segment: Segment, at: int, handed: Handed) -> OpSpan:
    where = (segment.engine, segment.device)
    return OpSpan(label, TRANSFER, *where, at, handed.spent_ns, handed.bytes, Provenance.MEASURED)


def _as_declared(array: Array, kind: TensorType) -> Array:
    """The array itself, where it is contiguous and of the declared type."""
    if array.dtype == kind.dtype and array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array, kind.dtype).reshape(array.shape)


class HybridState(State):
    """States that live with the segments; each name belongs to one of them."""

    def __init__(self, types: Mapping[str, TensorType], parts: Sequence[State]) -> None:
        self.types = dict(types)
        self.parts = list(parts)
        self._owner = {name: each for each in parts for name in each.types}
        # What no operation touches lives here.
        rest = State({name: kind for name, kind in types.items() if name not in self._owner})
        self._owner |= dict.fromkeys(rest.types, rest)

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        self.check(name)
        return self._owner[name].read(name)

    def write(self, name: str, array: Array) -> None:
        """Replace what it holds."""
        self._owner[name].write(name, self.fitted(name, array))
