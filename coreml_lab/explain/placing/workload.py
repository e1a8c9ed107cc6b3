"""What there is to do in an operation: arithmetic and bytes, by its kind. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coreml_lab.program.graph import (
    CONTROL_FLOW,
    Array,
    Dim,
    Node,
    Operand,
    TensorType,
    Value,
)

CONVOLUTIONS = frozenset({"conv", "conv_transpose", "conv_quantized"})
MATRICES = frozenset({"linear", "matmul", "einsum"})
RECURRENT = frozenset({"lstm", "gru", "rnn"})
ATTENTION = "scaled_dot_product_attention"
KINDS: Mapping[str, str] = {
    **dict.fromkeys(CONVOLUTIONS, "conv"),
    **dict.fromkeys(MATRICES, "matmul"),
    **dict.fromkeys(RECURRENT, "recurrent"),
    ATTENTION: "attention",
    **dict.fromkeys(
        ("softmax", "layer_norm", "instance_norm", "batch_norm", "l2_norm", "local_response_norm"),
        "normalization",
    ),
    **dict.fromkeys(("avg_pool", "max_pool", "l2_pool", "cumsum", "topk"), "normalization"),
    **dict.fromkeys(
        ("transpose", "reshape", "reshape_like", "expand_dims", "squeeze", "flatten2d", "split",
         "slice_by_index", "slice_by_size", "slice_update", "pad", "tile", "reverse", "gather",
         "gather_nd", "gather_along_axis", "scatter", "scatter_nd", "scatter_along_axis",
         "depth_to_space", "space_to_depth", "pixel_shuffle", "pixel_unshuffle", "batch_to_space",
         "space_to_batch", "sliding_windows", "crop"),
        "layout",
    ),
    **dict.fromkeys(("concat", "stack"), "concat"),
    **dict.fromkeys(
        ("resize", "resize_bilinear", "resize_nearest_neighbor", "upsample_bilinear",
         "upsample_nearest_neighbor", "resample", "affine", "crop_resize"),
        "resize",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """What an operation computes and moves.

    Attributes:
        kind: what it is to a processor: ``conv``, ``depthwise``, ``matmul``, ``attention``,
            ``recurrent``, ``normalization``, ``elementwise``, ``layout``, ``concat``, ``resize``.
        flops: multiplications and additions.
        read: bytes of the values it reads that are not weights; ``written`` of its results.
        weights: bytes of its weights, as they are stored.
        largest: bytes of the largest value that it reads or writes.
        int8: whether it multiplies int8 by int8 (weights and activations quantized).
        scores: bytes of what attention makes inside: a number per query and key.
    """

    kind: str
    flops: float
    read: float
    written: float
    weights: float
    largest: float
    int8: bool = False
    scores: float = 0.0

    @property
    def moved(self) -> float:
        """Bytes of everything that it reads and writes."""
        return self.read + self.written + self.weights

    @property
    def halved(self) -> Workload:
        """The same in a type of half the size: fp16 for fp32."""
        names = ("read", "written", "weights", "largest", "scores")
        return replace(self, **{name: getattr(self, name) / 2 for name in names})


class Sizes:
    """Sizes of values: a flexible dimension has the size it was given, or its lower bound."""

    def __init__(self, bound: Mapping[str, int] | None = None) -> None:
        self._bound = dict(bound or {})

    def shape(self, kind: TensorType) -> list[int]:
        """The shape as numbers."""
        return [
            self._bound.get(d.name, max(1, d.low)) if isinstance(d, Dim) else d for d in kind.shape
        ]

    def bytes(self, kind: TensorType) -> float:
        """Bytes of a value."""
        return float(math.prod(self.shape(kind)) * kind.dtype.itemsize)


def fixed(value: Value) -> bool:
    """Whether a value is a weight: a constant, or one that is unpacked from stored weights."""
    return value.const is not None or value.node.op.startswith("constexpr_")


def workload(node: Node, sizes: Sizes) -> Workload:
    """What there is to do in ``node``; a loop or branch counts as its blocks run once."""
    operands = [v for v in node.operands() if not fixed(v)]
    inside = [n for n in node.nested if n.op not in CONTROL_FLOW] if node.blocks else []
    written = sum(sizes.bytes(t) for t in node.types)
    values = [*(v.type for v in operands), *node.types]
    weights = sum(map(_weights, (node, *node.nested)))
    if node.op.startswith("gather"):
        weights = min(weights, written)  # of a table only the rows that are asked for are read
    return Workload(
        kind=kind(node),
        flops=sum(_flops(n, sizes) for n in (inside or [node])),
        read=sum(sizes.bytes(v.type) for v in operands),
        written=written,
        weights=weights,
        largest=max((sizes.bytes(t) for t in values), default=0.0),
        int8=_int8(node),
        scores=_scores(node, sizes),
    )


def _weights(node: Node) -> float:
    """Bytes of the constants that an operation reads, as they are stored: weights of several too.

    Of weights that are unpacked when they are read it is what they are unpacked from.
    """
    arrays = [v.const for v in node.operands() if v.const is not None]
    arrays += [a for a in node.attrs.values() if isinstance(a, np.ndarray)]
    packed = (v.node for v in node.operands() if v.node.op.startswith("constexpr_"))
    return sum(map(_stored, arrays)) + sum(map(_weights, packed))


def _stored(array: Array) -> float:
    """Bytes of an array as it is stored: numbers of fewer than eight bits lie close together."""
    told: Mapping[str, Any] = array.dtype.metadata or {}
    narrow = told.get("true_dtype")
    bits = 8 * array.dtype.itemsize if narrow is None else narrow.get_bitwidth()
    return array.size * bits / 8


def kind(node: Node) -> str:
    """What an operation is to a processor."""
    found = KINDS.get(node.op) or (
        "normalization" if node.op.startswith("reduce_") else "elementwise"
    )
    if found == "conv" and _groups(node) > 1:
        held = weight_shape(node)
        return "depthwise" if held and held[1] == 1 else found
    return found


def weight_shape(node: Node) -> tuple[int, ...]:
    """The shape of an operation's ``weight``; empty where it has none or it is not fixed."""
    operand = node.inputs.get("weight")
    if isinstance(operand, Value):
        return operand.type.sizes if operand.type.static else ()
    return tuple(getattr(node.attrs.get("weight"), "shape", ()))


def stored(node: Node) -> bool:
    """Whether its ``weight`` is stored as it is: fixed, and not unpacked from something smaller."""
    operand = node.inputs.get("weight")
    return "weight" in node.attrs or (isinstance(operand, Value) and operand.const is not None)


def _groups(node: Node) -> int:
    return int(node.attrs.get("groups", 1))


def _packed(node: Node) -> Iterator[str]:
    """Names of the operations that unpack its weights."""
    for value in node.operands():
        if value.node.op.startswith("constexpr_"):
            yield value.node.name


def _int8(node: Node) -> bool:
    """Whether weights and activations are both quantized to 8 bits."""
    x = node.inputs.get("x")
    if KINDS.get(node.op) not in {"conv", "matmul"} or not isinstance(x, Value):
        return False
    return x.node.op == "dequantize" and any(True for _ in _packed(node))


def _flops(node: Node, sizes: Sizes) -> float:
    """Two for each number of a kernel and each place it is used at; one per number elsewhere."""
    counted = COUNTED.get(node.op)
    found = counted(node, sizes) if counted is not None else None
    return float(math.prod(sizes.shape(node.type))) if found is None else found


def _convolution(node: Node, sizes: Sizes) -> float | None:
    held, out = weight_shape(node), sizes.shape(node.type)
    return 2.0 * math.prod(held) * math.prod(out) / max(1, out[1]) if held else None


def _transposed(node: Node, sizes: Sizes) -> float | None:
    held, given = weight_shape(node), sizes.shape(_first(node))
    return 2.0 * math.prod(held) * given[0] * math.prod(given[2:]) if held else None


def _product(node: Node, sizes: Sizes) -> float:
    return 2.0 * math.prod(sizes.shape(node.type)) * inner(node, sizes)


def _einsum(node: Node, sizes: Sizes) -> float:
    """As if it summed over the last dimension of its first operand."""
    given = sizes.shape(_first(node)) or [1]
    return 2.0 * math.prod(sizes.shape(node.type)) * given[-1]


def inner(node: Node, sizes: Sizes) -> int:
    """How many products each number of a matrix product adds up."""
    if node.op == "linear":
        return (weight_shape(node) or (1, 1))[-1]
    return _inner(node, sizes) if node.op == "matmul" else 1


def _inner(node: Node, sizes: Sizes) -> int:
    shape = sizes.shape(_first(node)) or [1]
    turned = bool(node.attrs.get("transpose_x", False))
    return shape[-2] if turned and len(shape) > 1 else shape[-1]


def _attention(node: Node, sizes: Sizes) -> float:
    """Two products: queries with keys, and what comes of it with values."""
    query, key, value = (_named(node, n) for n in ("query", "key", "value"))
    if query is None or key is None or value is None:
        return 0.0
    q, k, v = sizes.shape(query), sizes.shape(key), sizes.shape(value)
    return 2.0 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _scores(node: Node, sizes: Sizes) -> float:
    query, key = _named(node, "query"), _named(node, "key")
    if node.op != ATTENTION or query is None or key is None:
        return 0.0
    return float(math.prod(sizes.shape(query)[:-1]) * sizes.shape(key)[-2] * query.dtype.itemsize)


def _recurrent(node: Node, sizes: Sizes) -> float:
    """Two for each number of its matrices, in every step of every sequence."""
    held = [a for name, a in node.attrs.items() if name.startswith("weight")]
    shapes = [getattr(a, "shape", ()) for a in held]
    operands: list[Operand] = [o for name, o in node.inputs.items() if name.startswith("weight")]
    shapes += [o.type.sizes for o in operands if isinstance(o, Value) and o.type.static]
    steps = math.prod(sizes.shape(_first(node))[:2])
    return 2.0 * steps * sum(math.prod(s) for s in shapes)


def _first(node: Node) -> TensorType:
    return next((v.type for v in node.operands()), node.type)


def _named(node: Node, name: str) -> TensorType | None:
    operand = node.inputs.get(name)
    return operand.type if isinstance(operand, Value) else None


Counted = Callable[[Node, Sizes], float | None]
COUNTED: Mapping[str, Counted] = {
    "conv": _convolution,
    "conv_quantized": _convolution,
    "conv_transpose": _transposed,
    "linear": _product,
    "matmul": _product,
    "einsum": _einsum,
    ATTENTION: _attention,
    **dict.fromkeys(sorted(RECURRENT), _recurrent),
}
