"""Debug mode: every result of a run is looked at; the first that is not finite stops it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coreml_lab.errors import NumericalError
from coreml_lab.program.graph import (
    CONTROL_FLOW,
    Array,
    Graph,
    Node,
    TensorType,
    Value,
)
from coreml_lab.program.program import Program
from coreml_lab.records import Run
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Availability, Engine, Loaded, Options
from coreml_lab.run.nonfinite import LARGEST_HALF, Fault, error, find, given
from coreml_lab.run.reference import ReferenceEngine, ReferenceProgram, compute
from coreml_lab.run.state import State

TITLE = ", stopping at the first value that is not finite"
SINGLE = np.dtype(np.float32)


@dataclass(frozen=True)
class Debugging:
    """An engine whose runs stop at the first operation that makes NaN or infinity."""

    engine: Engine

    @property
    def name(self) -> str:
        """What it is called without debugging."""
        return self.engine.name

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it drives."""
        return self.engine.devices

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of devices among which the engine looks for its own; none: it has a list."""
        return getattr(self.engine, "kinds", ())

    def title(self, device: str) -> str:
        """The engine's own title, and that it stops."""
        return self.engine.title(device) + TITLE

    def available(self) -> Availability:
        """Whether the engine is."""
        return self.engine.available()

    def supports(self, node: Node) -> bool:
        """Whether the engine has the operation."""
        return self.engine.supports(node)

    def load(self, program: Program, device: str, options: Options) -> Loaded:
        """Make it ready to run with every result an output; they are all held at once."""
        if isinstance(self.engine, ReferenceEngine):
            return Stepped(program, self.engine.load(program, device, options))
        return Exposed(program, self.engine, device, options)


class _Watch:
    """Looks at each operation as it has run, and raises; minus infinities of ``log`` wait."""

    def __init__(self, program: Program, *, rounded: bool, limit: Limit = NO_LIMIT) -> None:
        self.program = program
        self.rounded = rounded
        self.limit = limit
        self.waiting: Fault | None = None

    def __call__(self, node: Node, made: Mapping[Value, Array], results: tuple[Array, ...]) -> None:
        if self.limit.over:
            raise self.limit.stopped()
        if node.op in CONTROL_FLOW:
            return
        fault = find(node, made, results)
        if fault is None:
            return
        if not fault.by_definition:
            raise self.error(fault)
        self.waiting = self.waiting or fault

    def error(self, fault: Fault) -> NumericalError:
        ops = self.program.graph.ops
        around = next((f"{n.op} {n.name!r}" for n in ops if fault.node in n.nested), "")
        return error(fault, self.program.info, inside=around, rounded=self.rounded)

    def finish(self, outputs: Mapping[str, Array]) -> None:
        """An output that is infinite is the fault of who made the first infinity."""
        shown = any(a.dtype.kind == "f" and np.isinf(a).any() for a in outputs.values())
        if self.waiting is not None and shown:
            raise self.error(self.waiting)


def _begin(
    graph: Graph, inputs: Mapping[str, Array], state: State | None, program: str
) -> dict[Value, Array]:
    """What is known before anything runs; NaN in it is told at once."""
    made = {Value(n): np.asarray(n.attrs["val"]) for n in graph if n.op == "const"}
    held = {name: state.read(name) for name in graph.states} if state is not None else {}
    for what, nodes, arrays in (
        ("input", graph.inputs, inputs),
        ("state", graph.states, held),
    ):
        for name, array in arrays.items():
            problem = given(name, array, program, what)
            if problem is not None:
                raise problem
            made[Value(nodes[name])] = array
    return made


class Stepped:
    """The reference engine, watched operation by operation, those inside loops among them."""

    def __init__(self, program: Program, loaded: ReferenceProgram) -> None:
        self._program = program
        self._loaded = loaded
        self.states = loaded.states

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference, or the error of the first operation that makes NaN or infinity."""
        return self._run(inputs, state, NO_LIMIT)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; the time is looked at after each operation."""
        return self._run(inputs, state, Limit.of(seconds, "the reference engine"))

    def _run(
        self, inputs: Mapping[str, Array], state: State | None, limit: Limit
    ) -> dict[str, Array]:
        _begin(self._program.graph, inputs, state, self._program.info.name)
        watch = _Watch(self._program, rounded=True, limit=limit)
        # The state is written when all is well.
        kept = None if state is None else _copy(state)
        outputs = self._loaded.run(inputs, kept, watch)
        watch.finish(outputs)
        if state is not None and kept is not None:
            state.assign(kept)
        return outputs

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        return self._loaded.make_state()

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """Instrumented inferences, which are not watched."""
        return self._loaded.trace(inputs, runs)


class Exposed:
    """Any engine, with every result an output: the whole run is looked at when it is over."""

    def __init__(self, program: Program, engine: Engine, device: str, options: Options) -> None:
        self._program = program
        self._options = options
        self._device, self._engine = device, engine
        graph = program.graph
        values = [Value(node, i) for node in graph.ops for i in range(len(node.types))]
        self._results = {value: f"result {i}" for i, value in enumerate(values)}
        outputs = {**graph.outputs, **{n: _unrounded(v) for v, n in self._results.items()}}
        # The key is that of another program: an engine keeps what it makes of it under that key.
        info = dataclasses.replace(program.info, key=f"{program.key}-debug")
        exposed = Program(info, program.package, dataclasses.replace(graph, outputs=outputs))
        self._loaded = engine.load(exposed, device, options)
        self.states = self._loaded.states

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference, or the error of the first operation that makes NaN or infinity."""
        return self._run(inputs, state, NO_LIMIT)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; the engine is stopped where it can be."""
        return self._run(inputs, state, Limit.of(seconds, self._program.info.name))

    def _run(
        self, inputs: Mapping[str, Array], state: State | None, limit: Limit
    ) -> dict[str, Array]:
        graph = self._program.graph
        made = _begin(graph, inputs, state, self._program.info.name)
        kept = None
        if state is not None:
            kept = self._loaded.make_state()
            kept.assign(state)
        found = limit.run(self._loaded, inputs, kept)
        made |= {value: found[result] for value, result in self._results.items()}
        watch = _Watch(self._program, rounded=self._options.faithful)
        for node in graph.ops:
            results = tuple(made[Value(node, i)] for i in range(len(node.types)))
            watch(node, made, results)
            if node.op in CONTROL_FLOW and not all(map(_finite, results)):
                self._look_inside(node, made, results)
        outputs = {k: found[k] for k in graph.outputs}
        watch.finish(outputs)
        self._border(made, outputs)
        if state is not None and kept is not None:
            state.assign(kept)
        return outputs

    def _look_inside(
        self, node: Node, made: Mapping[Value, Array], results: tuple[Array, ...]
    ) -> None:
        """Run a loop or branch again, operation by operation: whose fault is it?"""
        compute(node, made, _Watch(self._program, rounded=True))
        for index, result in enumerate(results):
            fault = Fault(node, index, result, ())
            if result.dtype.kind == "f" and fault.nan and not _nan_in(node, made):
                # The reference engine's numbers differ: the operation around it is what is known.
                raise error(fault, self._program.info)

    def _border(self, made: Mapping[Value, Array], outputs: Mapping[str, Array]) -> None:
        """A value that only the declared type of an output cannot hold."""
        for name, value in self._program.graph.outputs.items():
            inside, outside = made.get(value), outputs[name]
            if inside is None or outside.dtype != np.float16:
                continue
            if np.isinf(outside).any() and not np.isinf(inside).any():
                most = float(np.abs(inside[np.isfinite(inside)]).max())
                raise NumericalError(
                    f"{self._program.info.name}: output {name!r}, made by {value.node.op} "
                    f"{value.node.name!r}, is fp16, which ends at {LARGEST_HALF}; it holds "
                    f"{int(np.isinf(outside).sum())} larger values, up to {most:.6g}",
                    node=value.node.name,
                    hint="scale it down before the output, or convert the model with fp32 outputs",
                )

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        return self._loaded.make_state()

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """Instrumented inferences of the program as it is, which are not watched."""
        plain = self._engine.load(self._program, self._device, self._options)
        return plain.trace(inputs, runs)


def _unrounded(value: Value) -> Value:
    """A result as it is inside: as an fp16 output it would be rounded on its way out."""
    if value.type.dtype != np.float16:
        return value
    kind = TensorType(value.type.shape, SINGLE)
    name = f"{value.node.name} debug {value.index}"
    return Value(Node("cast", (kind,), {"x": value}, {"dtype": "fp32"}, name=name))


def _copy(state: State) -> State:
    copy = State(state.types)
    copy.assign(state)
    return copy


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _nan_in(node: Node, made: Mapping[Value, Array]) -> bool:
    arrays = [made[v] for v in node.operands()]
    return any(a.dtype.kind == "f" and bool(np.isnan(a).any()) for a in arrays)
