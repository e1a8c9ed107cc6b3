"""Matrix products whose weights stay in 4 or 8 bits: which ones, and how they are computed.

There are two forms, both as exact as a product in single precision:

* *digits*: where a whole row of the weight has one scale. The input is cut into four digits of 7
  bits below its row's largest value, integers are multiplied, and the four sums are put together.
  Digits of 7 bits are what every processor multiplies with int8 without overflow.
* *blocks*: 4-bit numbers with a scale for each block go to ONNX Runtime's own MatMulNBits.

In the mode ``fast`` both are MatMulNBits, which then rounds its *input* to int8, block by block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import UnknownParameter
from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value

EXACT, FAST, OFF = "exact", "fast", "off"
MODES = (EXACT, FAST, OFF)
AFFINE, BLOCKWISE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
# Products, and which of their parameters is the weight.
WEIGHT = {"linear": "weight", "matmul": "y"}
DIGITS, BLOCKS = "digits", "blocks"
DOMAIN = "com.microsoft"

# Where the packed form was measured to be faster than the expanded one (docs/architecture.md).
DIGITS_LEAST, DIGITS_ROWS = 1 << 20, 8
BLOCKS_LEAST, BLOCKS_ROWS = 1 << 21, 64
# MatMulNBits wants powers of two; longer blocks only make its rounding of the input coarser.
SHORTEST, LONGEST = 16, 128
NIBBLE, BYTE = 4, 8


@dataclass(frozen=True)
class Weight:
    """``scale * (numbers - zero)``: a row for each output, a scale and zero for each of its blocks.

    Attributes:
        numbers: int8 or uint8 [outputs, inputs].
        scale: fp32 [outputs, blocks].
        zero: integers [outputs, blocks].
    """

    numbers: Array
    scale: Array
    zero: Array

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return int(self.numbers.shape[1] // self.scale.shape[1])

    @property
    def step(self) -> int:
        """The block of MatMulNBits: the largest power of two that divides ours, up to a limit."""
        return min(self.block & -self.block, LONGEST)

    @property
    def shift(self) -> int:
        """What makes the numbers unsigned."""
        return (1 << (self.bits - 1)) if self.numbers.dtype.kind == "i" else 0

    @functools.cached_property
    def bits(self) -> int:
        """4 where all numbers and zeros fit, else 8."""
        low = -(1 << (NIBBLE - 1)) if self.numbers.dtype.kind == "i" else 0
        ends = [f(a) for a in (self.numbers, self.zero) for f in (np.min, np.max)]
        return NIBBLE if low <= min(ends) and max(ends) < low + (1 << NIBBLE) else BYTE


@dataclass(frozen=True)
class Product:
    """A product that keeps its weight packed, and in which form."""

    weight: Weight
    form: str
    fast: bool = False


@dataclass(frozen=True)
class Plan:
    """The products that keep their weights, and the constants that nobody else reads then."""

    products: Mapping[Node, Product] = field(default_factory=dict)
    unread: frozenset[Node] = frozenset()


def allowed(mode: str) -> str:
    """The mode, if it exists.

    Raises:
        UnknownParameter: for such a one.
    """
    if mode not in MODES:
        raise UnknownParameter(f"there is no packed={mode!r}", hint=" or ".join(MODES))
    return mode


def packable(ops: Iterable[str]) -> bool:
    """Whether a program with these kinds of operations may have anything to keep packed."""
    kinds = set(ops)
    return not kinds.isdisjoint(WEIGHT) and not kinds.isdisjoint({AFFINE, BLOCKWISE})


def plan(graph: Graph, mode: str) -> Plan:
    """Which products of a graph keep their weights packed."""
    if mode == OFF:
        return Plan()
    found: dict[Node, Product] = {}
    for node in (*graph.ops, *graph.nested):
        weight = weight_of(node)
        if isinstance(weight, Weight) and (form := form_of(weight, rows(node), mode)):
            found[node] = Product(weight, form, fast=mode == FAST)
    readers: dict[Node, set[Node | None]] = {}
    for node in graph.ops:
        for value in node.operands():
            readers.setdefault(value.node, set()).add(node)
    for value in (*graph.outputs.values(), *graph.updates.values()):
        readers.setdefault(value.node, set()).add(None)
    stored = (n for n in graph.ops if n.op in {AFFINE, BLOCKWISE})
    return Plan(found, frozenset(n for n in stored if readers[n] <= found.keys()))


def weight_of(node: Node) -> Weight | str:
    """The weight of a product as it is stored, or why it is not one that can stay so."""
    operand = node.inputs.get(WEIGHT.get(node.op, ""))
    if not isinstance(operand, Value) or operand.node.op not in {AFFINE, BLOCKWISE}:
        return "not a product with a linear-quantized weight"
    if operand.type.rank != 2 or operand.node.inputs:  # noqa: PLR2004 - a matrix
        return "not a matrix of numbers stored as they are"
    if _left(node).dtype.kind != "f":
        return "a product of integers"
    numbers, scale, zero = _parameters(operand.node)
    if {numbers.dtype.kind, zero.dtype.kind} - {"i", "u"}:
        return "its numbers are not integers"
    if node.op == "matmul" and not node.attrs.get("transpose_y"):
        numbers, scale, zero = numbers.T, scale.T, zero.T
    every = numbers.shape[0] // scale.shape[0]
    scale, zero = (np.repeat(a, every, axis=0) for a in (scale, zero))
    return Weight(numbers, scale.astype(np.float32), zero.astype(np.int16))


def _parameters(stored: Node) -> tuple[Array, Array, Array]:
    """Numbers, scales and zeros, each a matrix."""
    from coreml_lab.program.ops.quantization import along  # noqa: PLC0415 - a warm cache does without them

    given = stored.attrs
    if stored.op == AFFINE:
        scale, zero = (along(given[k], 2, given["axis"]) for k in ("scale", "zero_point"))
        numbers, shape = (
            given["quantized_data"],
            np.broadcast_shapes(scale.shape, zero.shape, (1, 1)),
        )
        return numbers, np.broadcast_to(scale, shape), np.broadcast_to(zero, shape)
    numbers, scale = given["data"], given["scale"]
    return numbers, scale, given.get("offset", np.zeros(scale.shape, np.int16))


def _left(node: Node) -> TensorType:
    value = node.inputs["x"]
    assert isinstance(value, Value)  # noqa: S101 - MIL's own type rule
    return value.type


def rows(node: Node) -> int:
    """How many rows a product has on its left; 0 where that is only known when it runs."""
    shape = _left(node).shape
    if node.attrs.get("transpose_x"):
        shape = (*shape[:-2], shape[-1], shape[-2])
    known = [d for d in shape[:-1] if isinstance(d, int)]
    return math.prod(known) if len(known) == len(shape) - 1 else 0


def form_of(weight: Weight, count: int, mode: str) -> str:
    """The form that computes ``count`` rows (0: unknown), or "" where it is better expanded."""
    size, fits = weight.numbers.size, weight.step >= SHORTEST
    if mode == FAST and fits:
        return BLOCKS if size >= BLOCKS_LEAST else ""
    if weight.scale.shape[1] == 1:
        return DIGITS if size >= DIGITS_LEAST and count <= DIGITS_ROWS else ""
    if not fits or size < BLOCKS_LEAST or 1 < count < BLOCKS_ROWS:
        return ""
    return BLOCKS if weight.bits == NIBBLE else ""


def lower(o: Any, product: Product, inputs: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The nodes of a product, from what its operation was given."""
    x = inputs["x"]
    rank, shape = x.rank, x.shape
    if given.get("transpose_x"):
        shape = (*shape[:-2], shape[-1], shape[-2])
        x = o.swap(x)
    bias = None if given.get("bias") is None else o.const(given["bias"], np.float32)
    if product.form == BLOCKS:
        return _blocks(o, x, product, bias)
    outputs, count = product.weight.numbers.shape
    flat = x if rank == 2 else o.Reshape(x, o.ints([-1, count]))  # noqa: PLR2004 - a matrix
    result = _digits(o, flat, product.weight)
    if rank != 2:  # noqa: PLR2004
        sizes = (
            o.ints([*shape[:-1], outputs])
            if all(isinstance(d, int) for d in shape)
            else o.Concat(o.Shape(x, end=-1), o.ints([outputs]), axis=0)
        )
        result = o.Reshape(result, sizes)
    return result if bias is None else o.Add(result, bias)


# A row's numbers become n = sum of (digit - 64) * 128**place, |n| up to a little less than 2**27.
DIGIT, PLACES = 7, (3, 2, 1, 0)
HALF = 1 << (DIGIT - 1)
OFFSET = HALF * sum(1 << (DIGIT * p) for p in PLACES)
# The largest n, less what rounding in single precision may add.
TOP = (1 << (DIGIT * len(PLACES))) - 1 - OFFSET - 1024
# Keeps a row of zeros from dividing by zero.
TINY = 1e-36


def _digits(o: Any, x: Any, weight: Weight) -> Any:
    """A matrix ``x`` by int8 numbers: four products of integers, exact, put together in fp32."""
    across = o.ints([-1])
    largest = o.ReduceMax(o.Abs(x), across)
    # ReduceMax passes over NaN: a row that holds one, or an infinity, must come out as NaN.
    poison = o.ReduceSum(o.Mul(x, o.const(0, np.float32)), across)
    unit = o.Max(o.Mul(largest, o.const(1 / TOP, np.float32)), o.const(TINY, np.float32))
    unit = o.Add(unit, poison)
    whole = o.Add(o.cast(o.Round(o.Div(x, unit)), np.int32), o.const(OFFSET, np.int32))
    places = o.const(np.reshape([DIGIT * p for p in PLACES], (-1, 1, 1)), np.uint32, raw=True)
    shifted = o.BitShift(o.cast(whole, np.uint32), places, direction="RIGHT")
    digits = o.BitwiseAnd(o.cast(shifted, np.uint8), o.const(2 * HALF - 1, np.uint8, raw=True))
    sums = o.MatMulInteger(digits, *_int8(o, weight))
    values = o.const(np.reshape([1 << (DIGIT * p) for p in PLACES], (-1, 1, 1)), np.float32)
    total = o.ReduceSum(o.Mul(o.cast(sums, np.float32), values), o.ints([0]), keepdims=0)
    return o.Mul(o.Mul(total, unit), o.const(weight.scale[:, 0]))


def _int8(o: Any, weight: Weight) -> tuple[Any, Any, Any]:
    """The numbers as MatMulInteger takes them, and the zeros of the digits and of the numbers."""
    shift = 0 if weight.numbers.dtype.kind == "i" else 1 << (BYTE - 1)
    numbers, zero = (
        (a.astype(np.int16) - shift).astype(np.int8) for a in (weight.numbers, weight.zero[:, 0])
    )
    points = o.const(zero, raw=True) if zero.any() else None
    return (
        o.const(np.ascontiguousarray(numbers.T), raw=True),
        o.const(HALF, np.uint8, raw=True),
        points,
    )


def _blocks(o: Any, x: Any, product: Product, bias: Any) -> Any:
    """ONNX Runtime's MatMulNBits: rows of blocks, two 4-bit numbers in a byte, low one first."""
    weight = product.weight
    (outputs, inputs), bits, step = weight.numbers.shape, weight.bits, weight.step
    numbers = (weight.numbers.astype(np.int16) + weight.shift).astype(np.uint8)
    scale, zero = (
        np.repeat(a, weight.block // step, axis=1)
        for a in (weight.scale, weight.zero + weight.shift)
    )
    middle = 1 << (bits - 1)
    points = None
    if (zero != middle).any():
        points = o.const(_bytes(zero.astype(np.uint8), bits, middle).reshape(-1), raw=True)
    blob = _bytes(numbers.reshape(outputs, inputs // step, step), bits, middle)
    return o.MatMulNBits(
        x,
        o.const(blob, raw=True),
        o.const(scale.reshape(-1)),
        points,
        None,
        bias,
        domain=DOMAIN,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=step,
        # 1: products in fp32. 4: the input rounded to int8.
        accuracy_level=4 if product.fast else 1,
    )


def _bytes(numbers: Array, bits: int, filler: int) -> Array:
    """Numbers packed along the last dimension, filled up to a whole byte."""
    if bits == BYTE:
        return numbers
    if numbers.shape[-1] % 2:
        pad = [(0, 0)] * (numbers.ndim - 1) + [(0, 1)]
        numbers = np.pad(numbers, pad, constant_values=filler)
    return np.asarray(numbers[..., 0::2] | (numbers[..., 1::2] << NIBBLE), np.uint8)
