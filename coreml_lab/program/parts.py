"""Parts of a program: some of its operations, as a graph of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from coreml_lab.program.graph import LEAVES, Block, Graph, Node, Operand, Value

# What they draw differs from run to run, though they may read nothing but constants.
DRAWING = "random_"


def wire(value: Value) -> str:
    """What a value is called where it crosses from one part to another."""
    name = value.node.name
    return name if value.index == 0 else f"{name} result {value.index}"


def fixed(graph: Graph, order: Iterable[Node] = ()) -> frozenset[Node]:
    """The operations that always give the same: each part that reads them has its own copy.

    Args:
        graph: the whole program.
        order: its nodes, where they are already at hand.
    """
    kept = {v.node for v in (*graph.outputs.values(), *graph.updates.values())}
    found: set[Node] = set()
    for node in order or graph:
        if node.op in LEAVES or node in kept:
            continue
        if all(v.node.op == "const" or v.node in found for v in node.operands()) and not any(
            n.op.startswith(DRAWING) for n in (node, *node.nested)
        ):
            found.add(node)
    return frozenset(found)


def part(
    graph: Graph, names: AbstractSet[str], states: Iterable[str], still: AbstractSet[Node]
) -> Graph:
    """The operations of ``names`` as a graph; what they read from others becomes an input.

    Args:
        graph: the whole program.
        names: the operations; whatever is read between two of them must be among them.
        states: those that live in this part; nothing outside of it may touch them.
        still: what ``fixed`` found in the graph.
    """
    inside = [n for n in graph.ops if n.name in names and n not in still]
    cut = _Cut(graph, still)
    for node in inside:
        cut.new[node] = cut.node(node)
    own = set(inside)
    read = {v for n in graph.ops if n not in own and n not in still for v in n.operands()}
    read |= {*graph.outputs.values()}
    made = (Value(n, i) for n in inside for i in range(len(n.types)))
    kept = {name: graph.states[name] for name in states}
    return Graph(
        {wire(v): cut.value(v) for v in made if v in read},
        cut.inputs,
        kept,
        {name: cut.value(graph.updates[name]) for name in kept},
    )


class _Cut:
    """Copies operations, with an input in the place of each value that comes from elsewhere."""

    def __init__(self, graph: Graph, still: AbstractSet[Node]) -> None:
        self.new: dict[Node, Node] = {}
        self.inputs: dict[str, Node] = {}
        self._still = still
        self._named = {n: name for name, n in graph.inputs.items()}

    def value(self, value: Value) -> Value:
        node = value.node
        if node in self.new:
            return Value(self.new[node], value.index)
        if node.op in {"const", "state"} or node in self._still:
            return value
        name = self._named.get(node) or wire(value)
        if name not in self.inputs:
            own = node.op == "input"
            self.inputs[name] = node if own else Node("input", (value.type,), name=name)
        return Value(self.inputs[name])

    def node(self, node: Node) -> Node:
        inputs = {k: self._operand(v) for k, v in node.inputs.items()}
        blocks = tuple(self._block(b) for b in node.blocks)
        return dataclasses.replace(node, inputs=inputs, blocks=blocks)

    def _operand(self, operand: Operand) -> Operand:
        if isinstance(operand, tuple):
            return tuple(self.value(v) for v in operand)
        return self.value(operand)

    def _block(self, block: Block) -> Block:
        self.new |= {n: n for n in block.inputs}
        nodes = []
        for inner in block.nodes:
            self.new[inner] = self.node(inner)
            nodes.append(self.new[inner])
        return Block(block.inputs, tuple(nodes), tuple(self.value(v) for v in block.outputs))
