"""How much each layer bears: its weights stored small, all others as they are, results compared.

Nothing is converted per layer: the small weights come from one file in which all are small, and
stand in for those of the original program, one layer at a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreml_lab.improve.optimizing.allocation import Choice
from coreml_lab.program import mil
from coreml_lab.program.graph import Array, Graph, Node, Operand, Value
from coreml_lab.program.program import Program
from coreml_lab.run.engine import Options
from coreml_lab.run.portable import PortableEngine

STORED = "constexpr_"
# The choice of leaving a layer as it is.
WHOLE = ""


@dataclass(frozen=True)
class Way:
    """A way to store weights: a package in which all are stored so, and bits per weight in it."""

    package: Path
    bits: int


@dataclass(frozen=True)
class Layer:
    """A layer with weights: what it loses for each way to store them."""

    name: str
    op: str
    choices: Mapping[str, Choice]


def sensitivities(
    program: Program,
    ways: Mapping[str, Way],
    data: Sequence[Mapping[str, Array]],
) -> Iterator[Layer]:
    """Each layer of a program with what it loses when it alone is stored as in each of the files.

    Args:
        program: the original.
        ways: a name -> a way to store weights, and a package in which all of them are stored so.
        data: what results are compared on, name -> array as the program takes them.

    Losses are relative L2 errors over all outputs.
    """
    want = _outputs(program, program.graph, data)
    small = {name: {n.name: n for n in mil.read(way.package).ops} for name, way in ways.items()}
    for node in program.graph.ops:
        kept = _weights(node)
        if not kept:
            continue
        choices = {WHOLE: Choice(sum(a.nbytes for a in kept.values()), 0.0)}
        for name, nodes in small.items():
            changed = _small(nodes[node.name]) if node.name in nodes else {}
            if not changed or not set(changed) <= set(kept):
                continue
            got = _outputs(program, exchanged(program.graph, {node.name: changed}), data)
            whole = sum(a.nbytes for k, a in kept.items() if k not in changed)
            size = whole + sum(_stored(v, ways[name].bits) for v in changed.values())
            choices[name] = Choice(size, _loss(got, want))
        if len(choices) > 1:
            yield Layer(node.name, node.op, choices)


def exchanged(graph: Graph, operands: Mapping[str, Mapping[str, Value]]) -> Graph:
    """The graph with other operands for some operations: name -> parameter -> value."""
    new: dict[Node, Node] = {}

    def value(old: Value) -> Value:
        return Value(new.get(old.node, old.node), old.index)

    def operand(old: Operand) -> Operand:
        return tuple(map(value, old)) if isinstance(old, tuple) else value(old)

    for node in graph.ops:
        other = operands.get(node.name, {})
        inputs = {k: operand(v) for k, v in node.inputs.items()} | dict(other)
        attrs = {k: a for k, a in node.attrs.items() if k not in other}
        new[node] = dataclasses.replace(node, inputs=inputs, attrs=attrs)
    return Graph(
        {k: value(v) for k, v in graph.outputs.items()},
        graph.inputs,
        graph.states,
        {k: value(v) for k, v in graph.updates.items()},
    )


def _weights(node: Node) -> dict[str, Array]:
    """The arrays of real numbers that an operation holds."""
    if node.op.startswith(STORED):
        return {}
    held = {k: v.const for k, v in node.inputs.items() if isinstance(v, Value)}
    arrays = {k: a for k, a in (held | dict(node.attrs)).items() if isinstance(a, np.ndarray)}
    return {k: a for k, a in arrays.items() if a.dtype.kind == "f" and a.size > 1}


def _small(node: Node) -> dict[str, Value]:
    """The operands that are stored small."""
    values = {k: v for k, v in node.inputs.items() if isinstance(v, Value)}
    return {k: v for k, v in values.items() if v.node.op.startswith(STORED)}


def _stored(value: Value, bits: int) -> int:
    """Bytes of a weight in a file; a byte here holds one of its numbers, of ``bits`` bits there."""
    if value.const is not None:
        return value.const.nbytes
    node = value.node
    arrays = [v.const for v in node.operands() if v.const is not None]
    arrays += [a for a in node.attrs.values() if isinstance(a, np.ndarray)]
    data = max(arrays, key=lambda a: a.size)
    return math.ceil(data.size * bits / 8) + sum(a.nbytes for a in arrays if a is not data)


def _outputs(
    program: Program, graph: Graph, data: Sequence[Mapping[str, Array]]
) -> list[Mapping[str, Array]]:
    changed = Program(program.info, program.package, graph)
    loaded = PortableEngine().load(changed, "coreml:0", Options())
    return [loaded.run(each) for each in data]


def _loss(got: Sequence[Mapping[str, Array]], want: Sequence[Mapping[str, Array]]) -> float:
    wrong = whole = 0.0
    for one, other in zip(got, want, strict=True):
        for name, exact in other.items():
            if exact.dtype.kind == "f":
                wide = exact.astype(np.float64)
                wrong += float(np.square(one[name] - wide).sum())
                whole += float(np.square(wide).sum())
    return math.sqrt(wrong / whole) if whole else 0.0
