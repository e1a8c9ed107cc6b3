"""What a program's values take in memory while it runs: who is alive when, from exact sizes. Pure.

Operations run in the order of the graph. A value lives from the operation that makes it to its last
reader; results of the program live to its end. What only renames a value (a reshape) makes no new
one. An engine that computes in place lets an elementwise operation write over an operand that
nobody reads after it. What engines work in besides (padded copies, unfolded convolutions) is not
in it: it is an estimate of an engine's memory, and exact about the values themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.graph import LEAVES, Block, Graph, Node, TensorType, Value

VIEWS = frozenset({"reshape", "expand_dims", "squeeze", "identity", "flatten2d"})
# Elementwise: the result may take the place of an operand of its size.
_ELEMENTWISE = (
    "abs acos add asin atan batch_norm ceil clamped_relu clip cos elu erf exp exp2 floor gelu "
    "leaky_relu log maximum minimum mul prelu real_div relu relu6 round rsqrt scaled_tanh sigmoid "
    "sigmoid_hard sign silu sin softplus softsign sqrt square sub tanh threshold thresholded_relu"
)
IN_PLACE = frozenset(_ELEMENTWISE.split())
WIDE = 4


@dataclass(frozen=True)
class Held:
    """A value that is alive at the peak."""

    node: str
    op: str
    bytes: int
    where: str = ""


@dataclass(frozen=True)
class StepMemory:
    """One operation: what is alive while it runs, what it makes, what is let go after it."""

    node: str
    op: str
    live: int
    made: int
    freed: int
    where: str = ""


@dataclass(frozen=True)
class ActivationPlan:
    """Activations of one inference, in bytes.

    Attributes:
        steps: every operation in its order.
        peak: the most that is alive at once.
        at: the operation that runs then; "" where there is none.
        alive: what is alive then, the largest first.
        inputs: the arrays that are fed, which are the caller's.
        outputs: the results; part of what is alive at the end.
        states: what the program remembers.
        constants: weights, and what is computed from nothing else, in the types they have here.
    """

    steps: tuple[StepMemory, ...]
    peak: int
    at: str
    alive: tuple[Held, ...]
    inputs: int
    outputs: int
    states: int
    constants: int


@dataclass(frozen=True)
class Manner:
    """How an engine keeps values.

    Attributes:
        in_place: whether an elementwise operation may write over its operand.
        widened: whether fp16 and small integers are kept in 4 bytes.
    """

    in_place: bool = True
    widened: bool = False


def liveness(
    graph: Graph, shapes: Mapping[str, Sequence[int]] | None = None, manner: Manner | None = None
) -> ActivationPlan:
    """Who is alive when.

    Args:
        graph: the program.
        shapes: input -> shape, where inputs are flexible.
        manner: how the engine keeps values; by default in place and in their own types.

    Raises:
        InputError: where a size is only known when the program runs.
    """
    sizes = _Sizes(graph, shapes or {}, manner or Manner())
    fixed = _constants(graph)
    ops = [n for n in graph if n.op not in LEAVES and n not in fixed]
    ends = (*graph.outputs.values(), *graph.updates.values())
    walk = _Walk(sizes, fixed, ends)
    steps = walk.through(ops)
    return replace(
        walk.plan(steps),
        inputs=sum(sizes.of(n.type) for n in graph.inputs.values()),
        outputs=sum(sizes.of(v.type) for v in graph.outputs.values()),
        states=sum(sizes.of(n.type) for n in graph.states.values()),
        constants=_read(ops, fixed, sizes),
    )


class _Sizes:
    """Bytes of a type, with the flexible dimensions bound to what was given."""

    def __init__(self, graph: Graph, shapes: Mapping[str, Sequence[int]], manner: Manner) -> None:
        self.manner = manner
        self._dims: dict[str, int] = {}
        for name, shape in shapes.items():
            declared = graph.inputs[name].type.shape if name in graph.inputs else ()
            for dim, size in zip(declared, shape, strict=False):
                if not isinstance(dim, int):
                    self._dims[dim.name] = size

    def of(self, kind: TensorType) -> int:
        item = kind.dtype.itemsize
        if self.manner.widened and kind.dtype.kind in "fiu":
            item = max(item, WIDE)
        return item * math.prod(self._size(dim, kind) for dim in kind.shape)

    def _size(self, dim: object, kind: TensorType) -> int:
        if isinstance(dim, int):
            return dim
        try:
            return self._dims[str(dim)]
        except KeyError:
            raise InputError(
                f"the size of {kind} is only known when the program runs",
                hint="give the shapes of the inputs; a measured run tells the rest",
            ) from None


class _Walk:
    """Goes through operations in order and keeps what is alive."""

    def __init__(self, sizes: _Sizes, fixed: set[Node], ends: Iterable[Value]) -> None:
        self.sizes, self.fixed = sizes, fixed
        self.ends = {self.root(v) for v in ends}
        self.alive: dict[Value, int] = {}
        self.live = self.most = 0
        self.at: Node | None = None
        self.then: dict[Value, int] = {}

    def root(self, value: Value) -> Value:
        """The value in whose memory it lies."""
        while value.node.op in VIEWS and value.node not in self.fixed:
            value = value.node.inputs["x"]  # type: ignore[assignment]
        return value

    def through(self, ops: Sequence[Node]) -> list[StepMemory]:
        """Every operation; what it reads for the last time is let go after it."""
        last = {self.root(v): node for node in ops for v in node.operands()}
        return [self._step(node, last) for node in ops]

    def _step(self, node: Node, last: Mapping[Value, Node]) -> StepMemory:
        results = [] if node.op in VIEWS else [Value(node, i) for i in range(len(node.types))]
        sizes = {v: self.sizes.of(v.type) for v in results}
        dying = {self.root(v) for v in node.operands()} - self.ends
        dying = {v for v in dying if last[v] is node and v in self.alive}
        taken = self._taken(node, sizes, dying)
        self.alive.update(sizes)
        self.live += sum(sizes.values()) - taken
        within = max((self._inside(block) for block in node.blocks), default=0)
        now = self.live + within
        if now > self.most:
            self.most, self.at, self.then = now, node, dict(self.alive)
        # A result that nobody reads is let go at once.
        dying |= {v for v in sizes if v not in last and v not in self.ends}
        freed = sum(self.alive.pop(v) for v in dying)
        self.live -= freed - taken
        return StepMemory(node.name, node.op, now, sum(sizes.values()), freed, node.where)

    def _taken(self, node: Node, sizes: Mapping[Value, int], dying: Iterable[Value]) -> int:
        """Bytes of the operand that the result is written over."""
        if not self.sizes.manner.in_place or node.op not in IN_PLACE or len(sizes) != 1:
            return 0
        (size,) = sizes.values()
        return size if any(self.alive[v] == size for v in dying) else 0

    def _inside(self, block: Block) -> int:
        """What a branch or body needs at most, besides what is alive around it."""
        inner = _Walk(self.sizes, self.fixed, block.outputs)
        inner.through([n for n in block.nodes if n.op not in LEAVES and n not in self.fixed])
        return inner.most

    def plan(self, steps: Sequence[StepMemory]) -> ActivationPlan:
        """What was found; sizes that are not of operations are still to be filled in."""
        held = sorted(self.then.items(), key=lambda pair: -pair[1])
        alive = tuple(Held(v.node.name, v.node.op, size, v.node.where) for v, size in held)
        at = "" if self.at is None else self.at.name
        return ActivationPlan(tuple(steps), self.most, at, alive, 0, 0, 0, 0)


def _constants(graph: Graph) -> set[Node]:
    """Constants, and operations on nothing else: engines compute those once."""
    found: set[Node] = set()
    for node in graph:
        operands = list(node.operands())
        if node.op == "const" or (
            operands and not node.blocks and all(v.node in found for v in operands)
        ):
            found.add(node)
    return found


def _read(ops: Sequence[Node], fixed: set[Node], sizes: _Sizes) -> int:
    """Constants that operations read while the program runs, each once."""
    every = [n for op in ops for n in (op, *op.nested)]
    values = {v for n in every for v in n.operands() if v.node in fixed}
    arrays = {id(a): a for n in every for a in n.attrs.values() if isinstance(a, np.ndarray)}
    types = [TensorType(a.shape, a.dtype) for a in arrays.values()]
    return sum(map(sizes.of, (*types, *(v.type for v in values))))
