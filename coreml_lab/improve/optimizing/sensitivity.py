"""How much each layer bears: its weights stored small, all others as they are, results compared.

Nothing is converted per layer: the small weights come from one file in which all are small, and
stand in for those of the original program, one layer at a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreml_lab.improve.losses import loss
from coreml_lab.improve.optimizing.allocation import Choice
from coreml_lab.program import mil
from coreml_lab.program.graph import Array, Graph, Node, Operand, Value
from coreml_lab.program.program import Program
from coreml_lab.run.engine import Options
from coreml_lab.run.portable import PortableEngine

STORED = "constexpr_"
# The choice of leaving a layer as it is.
WHOLE = ""
Held = Mapping[Node, Mapping[str, Array]]
Place = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Way:
    """A way to store weights: a package in which all are stored so, and bits per weight in it."""

    package: Path
    bits: int


@dataclass(frozen=True)
class Layer:
    """A layer with weights: what it loses for each way to store them.

    Attributes:
        tied: other operations that hold the same weights, which are stored once for all of them.
    """

    name: str
    op: str
    choices: Mapping[str, Choice]
    tied: tuple[str, ...] = ()


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
    held = {node: kept for node in program.graph.ops if (kept := _weights(node))}
    stored = {name: _changes(held, way.package) for name, way in ways.items()}
    for group in _groups(held, stored.values()):
        choices = {WHOLE: Choice(sum(a.nbytes for a in _once(held, group).values()), 0.0)}
        for name, changes in stored.items():
            if not all(node in changes for node in group):
                continue
            exchange = {node.name: changes[node] for node in group}
            got = _outputs(program, exchanged(program.graph, exchange), data)
            size = _size(held, changes, group, ways[name].bits)
            choices[name] = Choice(size, loss(got, want, program.info))
        if len(choices) > 1:
            first, *others = group
            yield Layer(first.name, first.op, choices, tuple(node.name for node in others))


def _changes(held: Held, package: Path) -> dict[Node, dict[str, Value]]:
    """The operands that a file stores small, of those operations that are the same there."""
    nodes = {node.name: node for node in mil.read(package).ops}
    found = {node: _small(nodes[node.name]) for node in held if node.name in nodes}
    return {node: new for node, new in found.items() if new and set(new) <= set(held[node])}


def _groups(held: Held, stored: Iterable[Mapping[Node, Mapping[str, Value]]]) -> list[list[Node]]:
    """Operations with weights; those that share one that is stored small are together."""
    groups: list[tuple[set[Place], list[Node]]] = []
    by_way = list(stored)
    for node, kept in held.items():
        keys = {key for changes in by_way for key in changes.get(node, ())}
        places, nodes = {_place(kept[key]) for key in keys}, [node]
        for group in [g for g in groups if g[0] & places]:
            groups.remove(group)
            places, nodes = places | group[0], [*group[1], *nodes]
        groups.append((places, nodes))
    return [nodes for _, nodes in groups]


def _place(array: Array) -> Place:
    """Where an array lies: the same for two that are one."""
    return array.__array_interface__["data"][0], array.shape, array.strides


def _once(held: Held, group: Sequence[Node]) -> dict[Place, Array]:
    """Each array of a group once, however many operations hold it."""
    return {_place(array): array for node in group for array in held[node].values()}


def _size(
    held: Held, changes: Mapping[Node, Mapping[str, Value]], group: Sequence[Node], bits: int
) -> int:
    """Bytes of a group's arrays in a file, where some are stored small."""
    small = {_place(held[n][k]): _stored(v, bits) for n in group for k, v in changes[n].items()}
    whole = {place: array.nbytes for place, array in _once(held, group).items()}
    return sum((whole | small).values())


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
    return [loaded.run(each, loaded.make_state() if loaded.states else None) for each in data]
