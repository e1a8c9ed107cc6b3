"""Weights that stay in 4 or 8 bits: which ones, and how what reads them is computed.

A gather takes *rows* of a table (``lookup``). A matrix product has one of three forms:

* *digits*: where a whole row of an 8-bit weight has one scale. The input is cut into four digits of
  7 bits below its row's largest value, integers are multiplied, and the four sums are put together.
  Digits of 7 bits are what every processor multiplies with int8 without overflow.
* *parts*: ONNX Runtime's MatMulNBits multiplies integers fast, for which it rounds its input to
  int8 in blocks. It is given rows that such rounding leaves as they are: the rounded input, its
  remainder, rounded as well, and what is left of that. The sum of the results is the product.
* *blocks*: MatMulNBits in single precision, which is slower.

Three parts, digits and blocks are as exact as a product in single precision. Two parts, which is
what the mode ``high`` takes where blocks are short, are the input in 16 bits below the largest
number of its block. One part, in the mode ``fast``, is 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import UnknownParameter
from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value
from coreml_lab.run.lowering import lookup
from coreml_lab.run.lowering.stored import BYTE, NIBBLE, Weight

HIGH, EXACT, FAST, OFF = "high", "exact", "fast", "off"
MODES = (HIGH, EXACT, FAST, OFF)
AFFINE, BLOCKWISE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
# What reads a weight, and as which parameter.
WEIGHT = {"linear": "weight", "matmul": "y", "gather": "x"}
DIGITS, BLOCKS, PARTS, ROWS = "digits", "blocks", "parts", "rows"
DOMAIN = "com.microsoft"

# Where the packed form was measured to be faster than the expanded one (docs/architecture.md).
DIGITS_LEAST, DIGITS_ROWS = 1 << 20, 8
BLOCKS_LEAST, BLOCKS_ROWS = 1 << 21, 64
PARTS_LEAST, PARTS_ROWS = 1 << 21, 4
# MatMulNBits wants powers of two; longer blocks only make its rounding of the input coarser.
SHORTEST = 16
# Longer ones get a third part in the mode ``high``, too: it costs less there and is needed more.
BRIEF = 32


@dataclass(frozen=True)
class Product:
    """A product that keeps its weight packed, in which form, and in how many parts.

    ``half``: its weight is of fp16, to which a gather's rows are rounded.
    """

    weight: Weight
    form: str
    parts: int = 0
    half: bool = False


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
        if not isinstance(weight, Weight):
            continue
        if node.op == "gather":
            if lookup.fits(node, weight):
                found[node] = Product(weight, ROWS, half=node.type.dtype == np.float16)
        elif form := form_of(weight, rows(node), mode):
            found[node] = Product(weight, form, parts_of(weight, mode) if form == PARTS else 0)
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
        return PARTS if size >= PARTS_LEAST else ""
    by_row = weight.scale.shape[1] == 1
    if 0 < count <= PARTS_ROWS and fits and (weight.bits == NIBBLE or not by_row):
        return PARTS if size >= PARTS_LEAST else ""
    if by_row:
        return DIGITS if size >= DIGITS_LEAST and count <= DIGITS_ROWS else ""
    if not fits or size < BLOCKS_LEAST or 1 <= count < BLOCKS_ROWS:
        return ""
    return BLOCKS if weight.bits == NIBBLE else ""


def parts_of(weight: Weight, mode: str) -> int:
    """Into how many rows of 8 bits each a row of the input is taken apart."""
    return 1 if mode == FAST else 2 if mode == HIGH and weight.step <= BRIEF else 3


def lower(o: Any, product: Product, inputs: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The nodes of a product, from what its operation was given."""
    if product.form == ROWS:
        return lookup.lower(o, product.weight, inputs["indices"], half=product.half)
    x = o.swap(inputs["x"]) if given.get("transpose_x") else inputs["x"]
    bias = o.const(given["bias"], np.float32) if np.any(given.get("bias")) else None
    if product.form == BLOCKS:
        return _bits(o, x, product.weight, bias)
    sizes = _sizes(inputs["x"].shape, swapped=bool(given.get("transpose_x")))
    finite, factor = _guarded(o, x)
    form = _parts if product.form == PARTS else _digits
    result = o.Mul(form(o, finite, sizes, product), factor)
    return result if bias is None else o.Add(result, bias)


def _sizes(shape: tuple[Any, ...], *, swapped: bool) -> tuple[Any, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if swapped else shape


# What stands for infinity among integers, and the ends of fp32's numbers.
VAST, SMALLEST, LARGEST = 1e30, 1.2e-38, 3.4e38


def _guarded(o: Any, x: Any) -> tuple[Any, Any]:
    """``x`` without infinities, and what its rows' results are to be multiplied with.

    Integers know neither NaN nor infinity. The factor is 1, NaN for a row that holds a NaN, and
    infinity for one with an infinity: its result is then infinite, with the sign that it had. (In
    fp32 it is NaN where the infinity meets a weight of 0.)
    """
    vast = o.Clip(x, *(o.const(sign * VAST, np.float32) for sign in (-1, 1)))
    sums = o.ReduceL1(x, o.ints([-1]))
    ends = (o.const(end, np.float32) for end in (SMALLEST, LARGEST))
    return o.Where(o.IsInf(x), vast, x), o.Div(sums, o.Clip(sums, *ends))


def _parts(o: Any, x: Any, sizes: tuple[Any, ...], product: Product) -> Any:
    """One MatMulNBits of all parts of ``x``, stacked, and the sum of its results."""
    if product.parts == 1:
        return _bits(o, x, product.weight, integers=True)
    step = product.weight.step
    rest = o.Reshape(x, o.ints([1, math.prod(sizes[:-1]), sizes[-1] // step, step]))
    parts = []
    for _ in range(product.parts - 1):
        largest = o.ReduceMax(o.Abs(rest), o.ints([-1]))
        unit = o.Mul(largest, o.const(1 / 127, np.float32))
        unit = o.Max(unit, o.const(TINY, np.float32))
        parts.append(o.Mul(o.Round(o.Div(rest, unit)), unit))
        rest = o.Sub(rest, parts[-1])
    stacked = o.Reshape(o.Concat(*parts, rest, axis=0), o.ints([product.parts, *sizes]))
    results = _bits(o, stacked, product.weight, integers=True)
    return o.ReduceSum(results, o.ints([0]), keepdims=0)


# A row's numbers become n = sum of (digit - 64) * 128**place, |n| up to a little less than 2**27.
DIGIT, PLACES = 7, (3, 2, 1, 0)
HALF = 1 << (DIGIT - 1)
OFFSET = HALF * sum(1 << (DIGIT * p) for p in PLACES)
# The largest n, less what rounding in single precision may add.
TOP = (1 << (DIGIT * len(PLACES))) - 1 - OFFSET - 1024
# Keeps a row of zeros from dividing by zero.
TINY = 1e-36


def _digits(o: Any, x: Any, sizes: tuple[Any, ...], product: Product) -> Any:
    """Four products of integers, exact, put together in fp32."""
    outputs, count = product.weight.numbers.shape
    if len(sizes) == 2:  # noqa: PLR2004 - a matrix
        return _summed(o, x, product.weight)
    result = _summed(o, o.Reshape(x, o.ints([-1, count])), product.weight)
    if all(isinstance(d, int) for d in sizes):
        return o.Reshape(result, o.ints([*sizes[:-1], outputs]))
    return o.Reshape(result, o.Concat(o.Shape(x, end=-1), o.ints([outputs]), axis=0))


def _summed(o: Any, x: Any, weight: Weight) -> Any:
    """A matrix by int8 numbers."""
    largest = o.ReduceMax(o.Abs(x), o.ints([-1]))
    unit = o.Max(o.Mul(largest, o.const(1 / TOP, np.float32)), o.const(TINY, np.float32))
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


def _bits(o: Any, x: Any, weight: Weight, bias: Any = None, *, integers: bool = False) -> Any:
    """ONNX Runtime's MatMulNBits: rows of blocks, two 4-bit numbers in a byte, low one first."""
    (outputs, inputs), bits, step = weight.numbers.shape, weight.bits, weight.step
    numbers = (weight.numbers.astype(np.int16) + weight.shift).astype(np.uint8)
    scale, zero = (
        np.repeat(a, weight.block // step, axis=1)
        for a in (weight.scale, weight.zero + weight.shift)
    )
    middle = 1 << (bits - 1)
    points = None
    # Where zeros are given, even the usual ones, kernels that round a whole row alike stay away.
    if integers or (zero != middle).any():
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
        accuracy_level=4 if integers else 1,
    )


def _bytes(numbers: Array, bits: int, filler: int) -> Array:
    """Numbers packed along the last dimension, filled up to a whole byte."""
    if bits == BYTE:
        return numbers
    if numbers.shape[-1] % 2:
        pad = [(0, 0)] * (numbers.ndim - 1) + [(0, 1)]
        numbers = np.pad(numbers, pad, constant_values=filler)
    return np.asarray(numbers[..., 0::2] | (numbers[..., 1::2] << NIBBLE), np.uint8)
