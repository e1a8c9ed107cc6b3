"""A program's graph as boxes, arrows and groups (pure)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from coreml_lab.explain.picture.data import Arrow, Box, Group
from coreml_lab.explain.picture.grouping import by_names, by_repeats
from coreml_lab.explain.picture.weights import STORED, constants, users, widest
from coreml_lab.explain.picture.words import FAMILIES, type_text
from coreml_lab.legible import legible
from coreml_lab.program.graph import CONTROL_FLOW, Block, Graph, Node, TensorType, Value
from coreml_lab.program.ops.registry import OPS

BLOCKS = {"cond": ("then", "otherwise"), "while_loop": ("condition", "body")}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Boxes and groups of a graph; ``folded`` operations only unpack weights, and have no box."""

    nodes: tuple[Box, ...]
    groups: tuple[Group, ...]
    folded: int


def drawn(graph: Graph, where: Mapping[str, str] | None = None) -> Drawn:
    """The boxes of ``graph``: inputs, states, operations in their order, outputs.

    Args:
        graph: a program's operations.
        where: operation -> the line that wrote it, where more is known than the graph has.
    """
    return _Drawing(graph, where or {}).all()


class _Drawing:
    """Gives each node its place, from the outside in."""

    def __init__(self, graph: Graph, where: Mapping[str, str]) -> None:
        self._graph, self._where = graph, where
        self._users = users(graph)
        self._place: dict[Node, int] = {}
        self._nodes: list[Box] = []
        self._groups: list[Group] = []

    def all(self) -> Drawn:
        ops = [n for n in self._graph.ops if not n.op.startswith(STORED)]
        for name, node in {**self._graph.inputs, **self._graph.states}.items():
            self._leaf(node, name, "state" if node.op == "state" else "input", -1)
        groups, place = self._grouped(ops)
        self._groups = groups
        for node, group in zip(ops, place, strict=True):
            self._op(node, group)
        for name, value in self._graph.outputs.items():
            self._end(name, value, "output", -1)
        for name, value in self._graph.updates.items():
            if value.node is not self._graph.states.get(name):
                self._end(name, value, "state", -1)
        folded = len(self._graph.ops) - len(ops)
        return Drawn(tuple(self._nodes), tuple(self._groups), folded)

    def _grouped(self, ops: Sequence[Node]) -> tuple[list[Group], list[int]]:
        groups, place = by_names([node.name for node in ops])
        if groups:
            return groups, place
        at = {node: i for i, node in enumerate(ops)}
        reads = [[at[v.node] for v in node.operands() if v.node in at] for node in ops]
        return by_repeats([_sign(node) for node in ops], reads)

    def _leaf(self, node: Node, name: str, kind: str, group: int) -> None:
        self._place[node] = len(self._nodes)
        box = Box(
            legible(name), kind, "state" if kind == "state" else "port", kind, group, (),
            tuple(map(type_text, node.types)), size(node.types), (), (), None, "",
        )  # fmt: skip
        self._nodes.append(box)

    def _op(self, node: Node, group: int) -> None:
        weights, params = constants(node, self._users)
        self._place[node] = place = len(self._nodes)
        known = OPS.get(node.op)
        family = (
            "control"
            if node.op in CONTROL_FLOW
            else FAMILIES.get(known.family if known else "", "other")
        )
        self._nodes.append(
            Box(
                name=legible(node.name), op=legible(node.op), family=family, kind="op", group=group,
                inputs=tuple(self._arrows(node)), types=tuple(map(type_text, node.types)),
                bytes=size(node.types), params=params, weights=weights, bits=widest(weights),
                where=legible(self._where.get(node.name) or node.where),
            )
        )  # fmt: skip
        if node.blocks:
            self._inside(node, place, group)

    def _inside(self, node: Node, place: int, group: int) -> None:
        """The blocks of control flow: a group each, in a group that is the operation."""
        whole = len(self._groups)
        self._groups.append(Group(legible(node.name), "op", group, owner=place))
        titles = BLOCKS.get(node.op, ())
        for i, block in enumerate(node.blocks):
            own = len(self._groups)
            title = titles[i] if i < len(titles) else str(i + 1)
            self._groups.append(Group(title, "block", whole, owner=place))
            self._block(block, own)

    def _block(self, block: Block, group: int) -> None:
        for inner in block.inputs:
            self._leaf(inner, inner.name, "input", group)
        for inner in block.nodes:
            if not inner.op.startswith(STORED) and inner.op != "const":
                self._op(inner, group)
        for i, value in enumerate(block.outputs):
            self._end(f"{value.node.name or i + 1}", value, "output", group)

    def _end(self, name: str, value: Value, kind: str, group: int) -> None:
        """What leaves: an output, the next contents of a state, what a block hands back."""
        source = self._place.get(value.node)
        arrows = () if source is None else (Arrow("", source, value.index),)
        self._nodes.append(
            Box(
                legible(name), kind, "state" if kind == "state" else "port", kind, group, arrows,
                (type_text(value.type),), size((value.type,)), (), (), None, "",
            )
        )  # fmt: skip

    def _arrows(self, node: Node) -> Iterable[Arrow]:
        for param, operand in node.inputs.items():
            for value in operand if isinstance(operand, tuple) else (operand,):
                if value.node in self._place:
                    yield Arrow(legible(param), self._place[value.node], value.index)


def size(types: Sequence[TensorType]) -> int | None:
    """Bytes of values; None where a size is only known when it runs."""
    if not all(kind.static for kind in types):
        return None
    total = 0
    for kind in types:
        count = kind.dtype.itemsize
        for length in kind.sizes:
            count *= length
        total += count
    return total


def _sign(node: Node) -> str:
    """What makes two operations alike: type, results, and shapes of what they read."""
    read = [str(v.type) for v in node.operands()]
    return f"{node.op} {[str(t) for t in node.types]} {read}"
