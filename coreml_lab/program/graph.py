"""The one graph: immutable nodes, in the vocabulary of MIL, Core ML's intermediate language."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
# What has its value before the program runs, and the operations that run blocks.
LEAVES = frozenset({"input", "state", "const"})
CONTROL_FLOW = frozenset({"cond", "while_loop"})


@dataclass(frozen=True)
class Dim:
    """A flexible dimension: equal names are equal sizes; ``high`` 0 means no upper bound."""

    name: str
    low: int = 1
    high: int = 0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TensorType:
    """Shape and element type of a value."""

    shape: tuple[int | Dim, ...]
    dtype: np.dtype[Any]

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def static(self) -> bool:
        """Whether every dimension is a known number."""
        return all(isinstance(d, int) for d in self.shape)

    @property
    def empty(self) -> bool:
        """Whether it is known to have no elements."""
        return self.static and 0 in self.shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a static type; a flexible dimension is an error of the caller."""
        if not self.static:
            raise ValueError(f"{self} has flexible dimensions")
        return tuple(int(d) for d in self.shape if isinstance(d, int))

    def __str__(self) -> str:
        return f"{MIL_NAME.get(self.dtype.name, self.dtype.name)}[{','.join(map(str, self.shape))}]"


# NumPy's name of an element type -> MIL's.
MIL_NAME = {"float32": "fp32", "float16": "fp16", "bool": "bool"} | {
    f"{u}int{n}": f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)
}
NUMPY_NAME = {mil: name for name, mil in MIL_NAME.items()}


@dataclass(frozen=True)
class Value:
    """One result of a node."""

    node: Node
    index: int = 0

    @property
    def type(self) -> TensorType:
        """Its shape and element type."""
        return self.node.types[self.index]

    @property
    def const(self) -> Array | None:
        """The array it always is, or None where that is only known when it runs."""
        return self.node.attrs["val"] if self.node.op == "const" else None


Operand = Value | tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """A nested piece of program: the branches and bodies of control flow.

    Attributes:
        inputs: what the operation hands it each time; nodes called ``input``.
        nodes: what it runs, in order; they may also read values from around the operation.
        outputs: what it hands back.
    """

    inputs: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]

    @functools.cached_property
    def captured(self) -> tuple[Value, ...]:
        """Values from outside that it reads, constants among them, each once."""
        own = {*self.inputs, *self.nodes}
        read = [v for n in self.nodes for v in n.operands()]
        return tuple(dict.fromkeys(v for v in (*read, *self.outputs) if v.node not in own))


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One operation. ``op`` and its parameters bear MIL's names.

    Attributes:
        inputs: operands: a value, or a tuple of values for a list (``concat``'s ``values``).
        attrs: constants: Python scalars, strings, lists or arrays; a const's array is read-only.
        types: one per result.
        name: MIL's name of the first result; unique in a program.
        where: where it comes from, for messages.
        opset: the MIL opset version its meaning follows (15 for iOS15 … 18 for iOS18).
    """

    op: str
    types: tuple[TensorType, ...]
    inputs: Mapping[str, Operand] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    name: str = ""
    where: str = ""
    opset: int = 18

    def __post_init__(self) -> None:
        value = self.attrs.get("val") if self.op == "const" else None
        if isinstance(value, np.ndarray) and value.flags.writeable:
            # Whoever is shown a constant must not change the program through it.
            shown = value.view()
            shown.flags.writeable = False
            object.__setattr__(self, "attrs", {**self.attrs, "val": shown})

    @property
    def type(self) -> TensorType:
        """The first result's type."""
        return self.types[0]

    def given(self, name: str) -> Any:
        """A parameter: a value, several, or a constant as it stands; None where it is not given."""
        return self.inputs.get(name, self.attrs.get(name))

    def operands(self) -> Iterator[Value]:
        """Every value it reads, lists flattened; what its blocks read from outside comes last."""
        for operand in self.inputs.values():
            if isinstance(operand, tuple):
                yield from operand
            else:
                yield operand
        for block in self.blocks:
            yield from block.captured

    @property
    def nested(self) -> tuple[Node, ...]:
        """The nodes inside its blocks, at any depth."""
        return tuple(n for b in self.blocks for inner in b.nodes for n in (inner, *inner.nested))

    def __repr__(self) -> str:
        return f"{self.name or '·'} = {signature(self)}"


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """Outputs, and through them every node they need; iterating gives execution order.

    Attributes:
        inputs: in the order of the interface; an input that nothing reads is still part of it.
        states: what lives from run to run: a node called ``state`` holds the old contents.
        updates: per state, the contents after a run; that node itself where nothing changes them.
    """

    outputs: Mapping[str, Value]
    inputs: Mapping[str, Node] = field(default_factory=dict)
    states: Mapping[str, Node] = field(default_factory=dict)
    updates: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {n.name: n for n in _order(self.outputs.values()) if n.op == "input"}
        object.__setattr__(
            self,
            "inputs",
            {**dict(self.inputs), **{k: v for k, v in found.items() if k not in self.inputs}},
        )

    def __iter__(self) -> Iterator[Node]:
        return _order((*self.outputs.values(), *self.updates.values()))

    def __repr__(self) -> str:
        return f"Graph({', '.join(self.inputs)} -> {', '.join(self.outputs)}: {len(self.ops)} ops)"

    @property
    def ops(self) -> tuple[Node, ...]:
        """The nodes that do work: all but inputs, states and constants."""
        return tuple(n for n in self if n.op not in LEAVES)

    @property
    def nested(self) -> tuple[Node, ...]:
        """The nodes inside blocks, at any depth."""
        return tuple(inner for node in self.ops for inner in node.nested)

    def key(self) -> str:
        """Content hash: equal for equal programs, in any process."""
        digest = hashlib.sha256()
        place: dict[Node, int] = {}
        for node in self:
            place[node] = len(place)
            _feed(digest, node, place)
        for kind, values in (("", self.outputs), ("state ", self.updates)):
            for name, value in values.items():
                digest.update(f"{kind}{name}={place[value.node]}.{value.index};".encode())
        return digest.hexdigest()[:32]


def _order(outputs: Any) -> Iterator[Node]:
    """Depth first and iterative: real networks are deeper than Python's stack."""
    done: set[Node] = set()
    for output in outputs:
        stack: list[tuple[Node, bool]] = [(output.node, False)]
        while stack:
            node, ready = stack.pop()
            if node in done:
                continue
            if ready:
                done.add(node)
                yield node
            else:
                stack.append((node, True))
                stack.extend((v.node, False) for v in reversed(list(node.operands())))


def _feed(digest: Any, node: Node, place: dict[Node, int]) -> None:
    name = node.name if node.op in {"input", "state"} else ""
    digest.update(f"{node.op}/{name}/{node.opset}/{[str(t) for t in node.types]}".encode())
    if node.op == "input":  # its bounds are part of the interface; elsewhere they follow
        bounds = [(d.low, d.high) for t in node.types for d in t.shape if isinstance(d, Dim)]
        digest.update(f"{bounds or ''}".encode())
    for key, operand in node.inputs.items():
        values = operand if isinstance(operand, tuple) else (operand,)
        digest.update(f"{key}={[(place[v.node], v.index) for v in values]}".encode())
    for key, attr in sorted(node.attrs.items()):
        array = np.asarray(attr)
        digest.update(f"{key}:{array.dtype}{array.shape}".encode())
        digest.update(
            np.ascontiguousarray(array).tobytes() if array.dtype != object else repr(attr).encode()
        )
    for block in node.blocks:
        digest.update(f"block of {len(block.inputs)}".encode())
        for inner in (*block.inputs, *block.nodes):
            place[inner] = len(place)
            _feed(digest, inner, place)
        digest.update(f"{[(place[v.node], v.index) for v in block.outputs]}".encode())


def signature(node: Node) -> str:
    """``conv(x: fp32[1,3,8,8], weight: fp32[4,3,3,3])``: how messages name an operation."""

    def show(operand: Operand) -> str:
        return (
            "(" + ", ".join(str(v.type) for v in operand) + ")"
            if isinstance(operand, tuple)
            else str(operand.type)
        )

    return f"{node.op}({', '.join(f'{k}: {show(v)}' for k, v in node.inputs.items())})"


def listing(graph: Graph) -> str:
    """The program as text, one line per operation."""
    lines = [f"input {name}: {node.type}" for name, node in graph.inputs.items()]
    lines += [f"state {name}: {node.type}" for name, node in graph.states.items()]
    lines += _lines(graph.ops, "")
    return "\n".join(
        [*lines, *(f"output {name}: {value.type}" for name, value in graph.outputs.items())]
    )


def _lines(nodes: Iterable[Node], indent: str) -> Iterator[str]:
    for node in nodes:
        types = ", ".join(map(str, node.types))
        yield f"{indent}{node.name or '·'} = {signature(node)} -> {types}"
        for i, block in enumerate(node.blocks):
            yield f"{indent}  block {i}({', '.join(str(n.type) for n in block.inputs)})"
            yield from _lines(block.nodes, indent + "    ")
