"""A program as its planner sees it: operations in a row, and the values that cross between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coreml_lab.program.graph import LEAVES, Graph, Node, Value
from coreml_lab.program.parts import fixed
from coreml_lab.records import OpInfo
from coreml_lab.run.split.costs import Work, nbytes, work


@dataclass(frozen=True)
class Wire:
    """A value between operations: the place of its maker (-1: an input) and of each reader.

    What the program hands out has a last reader behind the end.
    """

    bytes: float
    maker: int
    readers: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Operations in an order in which they can run.

    Attributes:
        nodes: the operations; those that always give the same come with their readers.
        carried: per operation, the fixed ones that come with it.
        works: what there is to do in each.
        wires: the values between them.
        states: which operations touch each state.
    """

    nodes: tuple[Node, ...]
    carried: Mapping[str, tuple[Node, ...]]
    works: tuple[Work, ...]
    wires: tuple[Wire, ...]
    states: Mapping[str, frozenset[str]]

    @property
    def whole(self) -> tuple[tuple[int, int], ...]:
        """Stretches (first and last operation) that may not be cut: what touches one state."""
        place = {n.name: i for i, n in enumerate(self.nodes)}
        found = ([place[n] for n in names] for names in self.states.values() if names)
        return tuple((min(places), max(places)) for places in found)

    def reordered(self, order: Sequence[int]) -> Layout:
        """The same in another order in which it can run."""
        place = {old: new for new, old in enumerate(order)} | {-1: -1, len(order): len(order)}
        wires = (
            Wire(w.bytes, place[w.maker], tuple(sorted(place[r] for r in w.readers)))
            for w in self.wires
        )
        nodes = tuple(self.nodes[i] for i in order)
        works = tuple(self.works[i] for i in order)
        return Layout(nodes, self.carried, works, tuple(wires), self.states)


def lay_out(graph: Graph, infos: Sequence[OpInfo]) -> Layout:
    """The layout of a program, in the graph's own order."""
    row = list(graph)
    still = fixed(graph, row)
    nodes = [n for n in row if n.op not in LEAVES and n not in still]
    known = {info.name: info for info in infos}
    carried = {n.name: _carried(n, still) if still else () for n in nodes}
    works = tuple(_works(nodes, carried, known))
    return Layout(tuple(nodes), carried, works, _wires(graph, nodes), touched(graph, nodes))


def _works(
    nodes: Sequence[Node], carried: Mapping[str, Sequence[Node]], known: Mapping[str, OpInfo]
) -> Iterator[Work]:
    """What there is to do in each; a constant that several carry counts for the first of them."""
    counted: set[Node] = set()
    for node in nodes:
        fresh = [n for n in carried[node.name] if n not in counted and n.name in known]
        counted.update(fresh)
        held = sum(known[n.name].weight_bytes for n in fresh)
        yield work(node, known.get(node.name) or _info(node), held)


def _info(node: Node) -> OpInfo:
    """A row for an operation that the description lacks: nothing measured stands for it."""
    return OpInfo(node.name, node.op, ("?",), node.type.dtype.name)


def _carried(node: Node, still: frozenset[Node]) -> tuple[Node, ...]:
    found: dict[Node, None] = {}
    waiting = [v.node for v in node.operands() if v.node in still]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += [v.node for v in one.operands() if v.node in still]
    return tuple(found)


def _wires(graph: Graph, nodes: Sequence[Node]) -> tuple[Wire, ...]:
    place = {n: i for i, n in enumerate(nodes)}
    readers: dict[Value, list[int]] = {}
    for i, node in enumerate(nodes):
        for value in node.operands():
            if value.node in place or value.node.op == "input":
                readers.setdefault(value, []).append(i)
    for value in graph.outputs.values():
        if value.node in place:
            readers.setdefault(value, []).append(len(nodes))
    return tuple(
        Wire(nbytes(v.type), place.get(v.node, -1), tuple(sorted(set(at))))
        for v, at in readers.items()
    )


def touched(graph: Graph, nodes: Sequence[Node]) -> dict[str, frozenset[str]]:
    """Per state, the operations that read it or make what it holds next."""
    own, result = set(nodes), {}
    for name, state in graph.states.items():
        read = {n.name for n in nodes if any(v.node is state for v in n.operands())}
        update = graph.updates[name].node
        result[name] = frozenset(read | ({update.name} if update in own else set()))
    return result


def grouped(layout: Layout, kinds: Sequence[frozenset[int]]) -> list[int]:
    """Another order: as long as possible with operations that the same engines can run.

    Args:
        layout: the program.
        kinds: per operation, which engines can run it.
    """
    reads: dict[int, set[int]] = {i: set() for i in range(len(layout.nodes))}
    feeds: dict[int, set[int]] = {i: set() for i in range(len(layout.nodes))}
    for wire in layout.wires:
        for reader in wire.readers:
            if wire.maker >= 0 and reader < len(layout.nodes):
                reads[reader].add(wire.maker)
                feeds[wire.maker].add(reader)
    left = {i: len(makers) for i, makers in reads.items()}
    ready = [i for i, count in left.items() if not count]
    order: list[int] = []
    now: frozenset[int] | None = None
    while ready:
        same = [i for i in ready if kinds[i] == now]
        # Nothing of the kind is left: the most capable kind comes next, in the old order.
        most = max(len(kinds[i]) for i in ready)
        pick = min(same or [i for i in ready if len(kinds[i]) == most])
        now = kinds[pick]
        ready.remove(pick)
        order.append(pick)
        for reader in feeds[pick]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    return order
