"""The reference engine: NumPy bodies of the op declarations. Slow, and right by definition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import (
    CONTROL_FLOW,
    LEAVES,
    Array,
    Block,
    Graph,
    Node,
    Value,
)
from coreml_lab.program.program import Program
from coreml_lab.records import OpSpan, Run
from coreml_lab.run import laps
from coreml_lab.run.bodies import declared, evaluate
from coreml_lab.run.engine import Availability, Border, Options, stopped, unsupported
from coreml_lab.run.state import State

# Told of an operation, everything known so far, and its results.
Watch = Callable[[Node, Mapping[Value, Array], tuple[Array, ...]], None]


@dataclass(frozen=True)
class ReferenceEngine:
    """Runs the definition of each op; computes fp16 in fp32 and stores it rounded."""

    name: str = "reference"
    devices: tuple[str, ...] = ("cpu",)

    def title(self, device: str) -> str:  # noqa: ARG002 - one title
        """What arms and panels call it."""
        return "Core ML program, reference engine (NumPy, CPU)"

    def available(self) -> Availability:
        """NumPy is always here."""
        return Availability(True, version=f"numpy {np.__version__}")

    def supports(self, node: Node) -> bool:
        """Whether the op is declared."""
        return node.op in LEAVES | CONTROL_FLOW or node.op in declared()

    def load(self, program: Program, device: str, options: Options) -> ReferenceProgram:  # noqa: ARG002 - NumPy has its own threads
        """Check that every op is declared."""
        for node in (*program.graph.ops, *program.graph.nested):
            if not self.supports(node):
                raise unsupported(node, self.name, "reference")
        return ReferenceProgram(program.graph, device)


class ReferenceProgram:
    """A graph that is walked op by op."""

    border = Border(copies_inputs=False, copies_outputs=False)

    def __init__(self, graph: Graph, device: str) -> None:
        self._graph = graph
        self._device = device
        nodes = (*graph, *graph.nested)
        self._held = {id(a) for n in nodes for a in n.attrs.values() if isinstance(a, np.ndarray)}
        self.states = {name: node.type for name, node in graph.states.items()}

    def run(
        self,
        inputs: Mapping[str, Array],
        state: State | None = None,
        watch: Watch | None = None,
    ) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        outputs = self._walk(inputs, None, state, watch)
        laps.lap("framework")
        return outputs

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; the time is looked at after each operation."""
        end = time.monotonic() + seconds

        def watch(*_: object) -> None:
            if time.monotonic() > end:
                raise stopped(seconds, "the reference engine")

        return self._walk(inputs, None, state, watch)

    def make_state(self) -> State:
        """Zeros for every state of the program."""
        return State(self.states)

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences with a span per op."""
        found = []
        for index in range(runs):
            spans: list[OpSpan] = []
            start = time.monotonic_ns()
            self._walk(inputs, spans, self.make_state())
            found.append(
                Run(index, start, time.monotonic_ns() - start, tuple(spans), instrumented=True)
            )
        return tuple(found)

    def _walk(
        self,
        inputs: Mapping[str, Array],
        spans: list[OpSpan] | None,
        state: State | None,
        watch: Watch | None = None,
    ) -> dict[str, Array]:
        made: dict[Value, Array] = {
            Value(n): np.asarray(inputs[k]) for k, n in self._graph.inputs.items()
        }
        if state is not None:
            made |= {Value(n): state.read(k) for k, n in self._graph.states.items()}
        for node in self._graph:
            if node.op == "const":
                made[Value(node)] = np.asarray(node.attrs["val"])
            elif node.op not in LEAVES:
                start = time.monotonic_ns()
                results = compute(node, made, watch)
                if spans is not None:
                    moved = sum(made[v].nbytes for v in node.operands()) + sum(
                        r.nbytes for r in results
                    )
                    spans.append(
                        OpSpan(
                            node.name,
                            node.op,
                            "reference",
                            self._device,
                            start,
                            time.monotonic_ns() - start,
                            moved,
                            Provenance.MEASURED,
                        )
                    )
                made.update({Value(node, i): r for i, r in enumerate(results)})
                if watch is not None:
                    watch(node, made, results)
        if state is not None:
            for name, value in self._graph.updates.items():
                state.write(name, made[value])
        return self._results(made, inputs)

    def _results(
        self, made: Mapping[Value, Array], inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Arrays in memory of their own: no view, no input, no constant, and none of them twice."""
        results, taken = {}, self._held | {id(a) for a in inputs.values()}
        for name, value in self._graph.outputs.items():
            array = made[value]
            own = array.base is None and array.flags.owndata and id(array) not in taken
            results[name] = array if own else array.copy()
            taken.add(id(results[name]))
        return results


def compute(
    node: Node, made: Mapping[Value, Array], watch: Watch | None = None
) -> tuple[Array, ...]:
    """The results of one op by its NumPy body, stored in their declared types.

    ``watch`` is told of every operation inside its blocks.

    Raises:
        EngineError: when the body fails; the message names the op.
    """
    if node.op in CONTROL_FLOW:
        return _control(node, made, watch)
    return evaluate(node, made.__getitem__)


def _control(node: Node, made: Mapping[Value, Array], watch: Watch | None) -> tuple[Array, ...]:
    """``cond`` and ``while_loop``: their blocks are run as often as it takes."""
    if node.op == "cond":
        (pred,) = (v for k, v in node.inputs.items() if k == "pred")
        branch = node.blocks[0 if made[pred].item() else 1]  # type: ignore[index]
        return _run_block(branch, (), made, watch)
    going_on, body = node.blocks
    values = tuple(made[v] for v in node.inputs["loop_vars"])  # type: ignore[union-attr]
    while _run_block(going_on, values, made, watch)[0].item():
        values = _run_block(body, values, made, watch)
    return values


def _run_block(
    block: Block,
    inputs: tuple[Array, ...],
    made: Mapping[Value, Array],
    watch: Watch | None,
) -> tuple[Array, ...]:
    inside = dict(made)
    inside.update({Value(n): a for n, a in zip(block.inputs, inputs, strict=True)})
    for node in block.nodes:
        results = compute(node, inside, watch)
        inside.update({Value(node, i): r for i, r in enumerate(results)})
        if watch is not None:
            watch(node, inside, results)
    return tuple(inside[v] for v in block.outputs)
