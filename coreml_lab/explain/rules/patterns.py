"""Shapes that operations make together: what a converter took apart, or left in twice. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Graph, Node, Value

SCALING = frozenset({"mul", "add", "sub", "real_div"})
SQUARES = frozenset({"square", "mul", "pow"})
ROOTS = frozenset({"sqrt", "rsqrt"})
# What may stand between the product of queries and keys and the softmax: scale and mask.
BETWEEN = frozenset({"mul", "add", "real_div", "cast", "select"})
CUBE = 3.0
IMAGE = 4


@dataclass(frozen=True)
class Wiring:
    """Who reads what."""

    graph: Graph
    readers: dict[Node, list[Node]]

    @staticmethod
    def of(graph: Graph) -> Wiring:
        """The wiring of a graph."""
        readers: dict[Node, list[Node]] = defaultdict(list)
        for node in graph.ops:
            for value in node.operands():
                readers[value.node].append(node)
        return Wiring(graph, dict(readers))

    def only_reader(self, node: Node) -> Node | None:
        """The one operation that reads a node, where there is one and it is no output."""
        if any(v.node is node for v in self.graph.outputs.values()):
            return None
        found = self.readers.get(node, [])
        return found[0] if len(found) == 1 else None


def read(node: Node, name: str = "x") -> Node:
    """The operation that makes an operand; the node itself where it has none of that name."""
    value = node.inputs.get(name)
    return value.node if isinstance(value, Value) else node


def foldable(wiring: Wiring) -> Iterator[tuple[Node, Node]]:
    """Convolutions followed by a batch norm, or by a scale or shift that is constant."""
    for node in wiring.graph.ops:
        if node.op not in {"conv", "linear"}:
            continue
        after = wiring.only_reader(node)
        if after is None:
            continue
        if (after.op == "batch_norm" and node.op == "conv") or (
            after.op in {"mul", "add", "sub"} and _per_channel(node, after)
        ):
            yield node, after


def _per_channel(node: Node, after: Node) -> bool:
    constants = [v.const for v in after.operands() if v.const is not None]
    if len(constants) != 1 or not node.type.static:
        return False
    rank, array = node.type.rank, constants[0]
    axis = 1 if node.op == "conv" else rank - 1
    shape = (1,) * (rank - array.ndim) + array.shape
    sizes = node.type.sizes
    return array.size == 1 or all(
        n == 1 or (i == axis and n == sizes[i]) for i, n in enumerate(shape)
    )


def norms(graph: Graph) -> Iterator[Node]:
    """Roots over the mean of squared differences to a mean: layer norms that were written out."""
    for node in graph.ops:
        if node.op in ROOTS and _variance(read(node), steps=2):
            yield node


def _variance(node: Node, steps: int) -> bool:
    if node.op == "add" and steps:
        return any(_variance(v.node, steps - 1) for v in node.operands() if v.const is None)
    if node.op != "reduce_mean":
        return False
    squared = read(node)
    if squared.op not in SQUARES:
        return False
    difference = read(squared)
    return difference.op == "sub" and any(v.node.op == "reduce_mean" for v in difference.operands())


def gelus(graph: Graph) -> Iterator[Node]:
    """``erf``, or ``tanh`` of something with a cube: gelus that were written out."""
    for node in graph.ops:
        if node.op == "erf" or (node.op == "tanh" and _cubic(node, steps=4)):
            yield node


def _cubic(node: Node, steps: int) -> bool:
    if not steps:
        return False
    for value in node.operands():
        inner = value.node
        if inner.op == "pow" and any(
            v.const is not None and v.const.size == 1 and float(v.const.ravel()[0]) == CUBE
            for v in inner.operands()
        ):
            return True
        if inner.op in SCALING and _cubic(inner, steps - 1):
            return True
    return False


def attentions(wiring: Wiring) -> Iterator[Node]:
    """Softmaxes between two products: attention that was written out."""
    for node in wiring.graph.ops:
        if node.op != "softmax":
            continue
        after = wiring.only_reader(node)
        if after is not None and after.op == "matmul" and _product(read(node), steps=3):
            yield node


def _product(node: Node, steps: int) -> bool:
    if node.op == "matmul":
        return all(v.const is None for v in node.operands())
    return (
        node.op in BETWEEN
        and steps > 0
        and any(_product(v.node, steps - 1) for v in node.operands() if v.const is None)
    )


def undone(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Transpositions that the next one undoes, and reshapes that follow a reshape."""
    for node in graph.ops:
        before = read(node)
        if node.op == "transpose" == before.op or node.op == "reshape" == before.op:
            yield before, node


def columns(graph: Graph) -> Iterator[Node]:
    """Convolutions over images of one column, longer than wide: sequences on the wrong axis."""
    for node in graph.ops:
        if node.op == "conv" and node.type.rank == IMAGE:
            high, wide = read(node).type.shape[2:]
            if wide == 1 and node.type.shape[3] == 1 and high != 1:
                yield node


def padded(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Convolutions behind a pad of zeros that they could do themselves."""
    for node in graph.ops:
        before = read(node)
        if node.op == "conv" and before.op == "pad" and _setting(before, "mode") == "constant":
            value = _setting(before, "constant_val")
            if value is None or not np.any(value):
                yield before, node


def _setting(node: Node, name: str) -> Any:
    """A parameter that is constant; None where there is none."""
    held = node.inputs.get(name)
    return held.const if isinstance(held, Value) else node.attrs.get(name)


def unread(graph: Graph, kept: Sequence[str]) -> list[str]:
    """Inputs that no operation reads."""
    used = {v.node for n in graph.ops for v in n.operands()}
    used |= {v.node for v in (*graph.outputs.values(), *graph.updates.values())}
    return [name for name, node in graph.inputs.items() if node not in used and name in kept]
