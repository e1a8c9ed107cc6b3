"""How the constants of an operation are stored: bits, bytes and the way (pure)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from coreml_lab.explain.picture.data import Weight
from coreml_lab.explain.picture.words import shape_text, value_text
from coreml_lab.legible import legible
from coreml_lab.program.graph import Array, Graph, Node, Value

STORED = "constexpr_"
# Numbers up to here are parameters, unless they bear the name of weights.
FEW = 8
NAMED = frozenset({"weight", "bias", "gamma", "beta", "mean", "variance", "alpha"})
WAYS = {
    "constexpr_lut_to_dense": "table of {entries} values",
    "constexpr_lut_to_sparse": "table of {entries} values, zeros left out",
    "constexpr_sparse_to_dense": "zeros left out",
    "constexpr_affine_dequantize": "scaled integers",
    "constexpr_blockwise_shift_scale": "scaled integers",
    "constexpr_sparse_blockwise_shift_scale": "scaled integers, zeros left out",
    "constexpr_cast": "cast when it is loaded",
}
# The parameter of each that holds the numbers themselves.
DATA = ("indices", "indices_nonzero_data", "nonzero_data", "quantized_data", "data", "source_val")


def users(graph: Graph) -> Counter[int]:
    """How many operations read each constant or unpacked weight, by its identity."""
    counted: Counter[int] = Counter()
    for node in (*graph.ops, *graph.nested):
        if not node.op.startswith(STORED):
            counted.update({id(held) for _, held in _held(node)})
    return counted


def constants(
    node: Node, read_by: Mapping[int, int]
) -> tuple[tuple[Weight, ...], tuple[tuple[str, str], ...]]:
    """The weights of an operation, and the names and values of its other constants."""
    weights: list[Weight] = []
    params = [(k, value_text(v)) for k, v in node.attrs.items() if not isinstance(v, np.ndarray)]
    for param, held in _held(node):
        if isinstance(held, np.ndarray) and (held.size <= FEW and param not in NAMED):
            params.append((legible(param), value_text(held)))
        else:
            weights.append(_weight(param, held, read_by.get(id(held), 1)))
    return tuple(weights), tuple(params)


def widest(weights: Iterable[Weight]) -> int | None:
    """Bits of the largest weights: biases and scales do not tell how a layer is stored."""
    found = max(weights, key=lambda w: w.bytes, default=None)
    return None if found is None else found.bits


def _held(node: Node) -> Iterator[tuple[str, Array | Node]]:
    """Parameter and array of each constant; the unpacking node where it is stored small."""
    for param, operand in node.inputs.items():
        for value in operand if isinstance(operand, tuple) else (operand,):
            if (found := _constant(value)) is not None:
                yield param, found
    for param, attr in node.attrs.items():
        if isinstance(attr, np.ndarray):
            yield param, attr


def _constant(value: Value) -> Array | Node | None:
    if value.node.op.startswith(STORED):
        return value.node
    return value.const


def _weight(param: str, held: Array | Node, count: int) -> Weight:
    param = legible(param)
    if isinstance(held, Node):
        bits, way = _packing(held)
        size = math.ceil(sum(map(_bytes, _arrays(held))))
        return Weight(param, shape_text(held.type.shape), bits, size, way, count)
    size = math.ceil(_bytes(held))
    return Weight(param, shape_text(held.shape), _width(held), size, "as it is", count)


def _packing(node: Node) -> tuple[int | None, str]:
    """Bits per stored number and the way; of several steps the innermost holds the numbers."""
    way = WAYS.get(node.op, node.op)
    for value in node.operands():
        if value.node.op.startswith(STORED):
            bits, inner = _packing(value.node)
            return bits, f"{inner}, then {way}" if inner != way else way
    found = dict(_held(node))
    table = found.get("lut")
    if isinstance(table, np.ndarray):
        # iOS 16 has a row of values, later versions [..., values, length of a vector].
        entries = table.shape[0] if table.ndim == 1 else table.shape[-2]
        return max(1, math.ceil(math.log2(max(entries, 1)))), way.format(entries=entries)
    data = next((found[name] for name in DATA if name in found), None)
    return (_width(data) if isinstance(data, np.ndarray) else None), way


def _arrays(node: Node) -> Iterator[Array]:
    for _, held in _held(node):
        if isinstance(held, Node):
            yield from _arrays(held)
        else:
            yield held


def _width(array: Array) -> int:
    """Bits of a number; narrow ones come as a byte each, with their own type beside it."""
    told: Mapping[str, Any] = array.dtype.metadata or {}
    narrow = told.get("true_dtype")
    if narrow is not None:
        return int(narrow.get_bitwidth())
    return 1 if array.dtype == np.bool_ else 8 * array.dtype.itemsize


def _bytes(array: Array) -> float:
    return array.size * _width(array) / 8
