"""Graphs and engines for splitting: operations that only add, on engines that refuse at will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import LabError, UnsupportedOp
from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value
from coreml_lab.program.program import Program
from coreml_lab.records import OpInfo, Run
from coreml_lab.run.engine import Availability, Options
from coreml_lab.run.hybrid import HybridEngine, Seat
from coreml_lab.run.reference import ReferenceEngine, ReferenceProgram
from coreml_lab.run.split.program import HybridProgram
from coreml_lab.run.state import State

SHAPE = (4, 256)
SIZE = 4.0 * 4 * 256
KIND = TensorType(SHAPE, np.dtype(np.float32))


def added(name: str, *operands: Value) -> Value:
    """An operation that adds two values, or one to itself."""
    x, y = operands[0], operands[-1]
    return Value(Node("add", (KIND,), {"x": x, "y": y}, name=name))


def graph_of(reads: Sequence[tuple[int, int]], outputs: Sequence[int] = (-1,)) -> Graph:
    """A graph of additions: which earlier values (0 is the input) each of them reads."""
    values = [Value(Node("input", (KIND,), name="x"))]
    for i, (a, b) in enumerate(reads):
        values.append(added(f"op_{i}", values[a], values[b]))
    return Graph({f"out_{k}": values[i] for k, i in enumerate(outputs)})


def chain(count: int) -> Graph:
    """Operations one after the other."""
    return graph_of([(i, i) for i in range(count)])


def infos(graph: Graph) -> tuple[OpInfo, ...]:
    """A row per operation, each of a kind of its own: its costs can be set alone."""
    return tuple(OpInfo(n.name, n.name, SHAPE, "fp32", work=n.name) for n in graph.ops)


@dataclass
class Engine:
    """NumPy that refuses some operations: beforehand, when it loads, or when it runs."""

    name: str
    devices: tuple[str, ...] = ("cpu",)
    lacks: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    names_it: bool = True
    fails: LabError | None = None
    loaded: list[tuple[str, ...]] = field(default_factory=list)

    def title(self, device: str) -> str:
        return f"{self.name} on {device}"

    def available(self) -> Availability:
        return Availability(True, version="1")

    def supports(self, node: Node) -> bool:
        return node.op not in self.lacks

    def load(self, program: Program, device: str, options: Options) -> Running:
        ops = (*program.graph.ops, *program.graph.nested)
        for node in ops:
            if node.op in self.refuses:
                named = node.name if self.names_it else ""
                raise UnsupportedOp(f"{self.name} will not run {node.op}", node=named)
        self.loaded.append(tuple(n.name for n in program.graph.ops))
        return Running(ReferenceEngine().load(program, device, options), self)


class Running:
    """A program of NumPy's that fails when its engine is told to."""

    def __init__(self, inner: ReferenceProgram, engine: Engine) -> None:
        self.inner, self._engine, self.states = inner, engine, inner.states

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        if self._engine.fails is not None:
            raise self._engine.fails
        return self.inner.run(inputs, state)

    def make_state(self) -> State:
        return self.inner.make_state()

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        return self.inner.trace(inputs, runs)


def seats(*engines: Any) -> tuple[Seat, ...]:
    """Each on its first device; whoever comes later only helps out."""
    return tuple(Seat(e, e.devices[0], 100.0 if i else 1.0) for i, e in enumerate(engines))


def load(source: Program, *engines: Any) -> HybridProgram:
    """The program on these engines."""
    return HybridEngine(seats(*engines)).load(source, "cpu", Options())
