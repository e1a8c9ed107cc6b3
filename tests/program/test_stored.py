"""Weights stored small, against coremltools' own decompression; 8-bit values and casts."""

from __future__ import annotations

from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.optimize._utils import pack_elements_into_bits

from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value
from coreml_lab.program.mil.tools import Function, mb, types
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.samples import integers, normal
from coreml_lab.program.tensors import const
from coreml_lab.run.lowering.graph import lower

RNG = np.random.default_rng(0)
IOS16, IOS18 = ct.target.iOS16, ct.target.iOS18
MASK = RNG.random((4, 6)) < 0.4
KEPT = int(MASK.sum())


def small(values: Any, kind: str) -> Array:
    """Numbers of one of coremltools' sub-byte types."""
    return np.asarray(values).astype(types.nptype_from_builtin(types.string_to_builtin(kind)))


def numbers(kind: str, *shape: int) -> Array:
    """All of the range of an integer type, sub-byte ones too."""
    bits, signed = int(kind.lstrip("uint")), kind.startswith("int")
    low = -(2 ** (bits - 1)) if signed else 0
    return small(RNG.integers(low, low + 2**bits, shape), kind)


def packed(values: Any, bits: int) -> Array:
    return pack_elements_into_bits(np.asarray(values, np.uint8).reshape(-1), bits)


def lookup(bits: int, dtype: Any, *blocks: int, vector: int = 1) -> Array:
    return (10 * normal(*blocks, 2**bits, vector)).astype(dtype)


# Every form of every stored op: opset, op, its arguments.
FORMS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "cast": (
        IOS16,
        "constexpr_cast",
        {"source_val": normal(3, 4).astype(np.float16), "output_dtype": "fp32"},
    ),
    "cast, iOS18": (
        IOS18,
        "constexpr_cast",
        {"source_val": normal(3, 4).astype(np.float16), "output_dtype": "fp32"},
    ),
    "affine, one scale": (
        IOS16,
        "constexpr_affine_dequantize",
        {
            "quantized_data": numbers("uint8", 3, 4),
            "zero_point": np.uint8(200),
            "scale": np.float32(0.3),
            "axis": 0,
        },
    ),
    "affine, by axis": (
        IOS16,
        "constexpr_affine_dequantize",
        {
            "quantized_data": numbers("int8", 3, 4, 2),
            "zero_point": numbers("int8", 4),
            "scale": normal(4),
            "axis": 1,
        },
    ),
    "affine, half": (
        IOS16,
        "constexpr_affine_dequantize",
        {
            "quantized_data": numbers("int8", 3, 4),
            "zero_point": np.int8(-3),
            "scale": normal(4).astype(np.float16),
            "axis": -1,
        },
    ),
    "affine, real zero point": (
        IOS16,
        "constexpr_affine_dequantize",
        {
            "quantized_data": numbers("int8", 3, 4),
            "zero_point": np.float32(0.5),
            "scale": np.float32(0.3),
            "axis": 0,
        },
    ),
    **{
        f"blockwise, {kind} {np.dtype(real).name}": (
            IOS18,
            "constexpr_blockwise_shift_scale",
            {
                "data": numbers(kind, 4, 6),
                "scale": normal(2, 3).astype(real),
                "offset": numbers(kind, 2, 3),
            },
        )
        for kind in ("int4", "uint4", "int8", "uint8")
        for real in (np.float32, np.float16)
    },
    "blockwise, no offset": (
        IOS18,
        "constexpr_blockwise_shift_scale",
        {"data": numbers("int4", 4, 6, 3), "scale": normal(4, 1, 1)},
    ),
    "blockwise, real offset": (
        IOS18,
        "constexpr_blockwise_shift_scale",
        {"data": numbers("int8", 4, 6), "scale": normal(1, 6), "offset": normal(1, 6, seed=1)},
    ),
    "blockwise, real data": (
        IOS18,
        "constexpr_blockwise_shift_scale",
        {"data": normal(4, 6), "scale": normal(2, 2)},
    ),
    **{
        f"table, {bits} bits": (
            IOS16,
            "constexpr_lut_to_dense",
            {
                "indices": packed(RNG.integers(0, 2**bits, 35), bits),
                "lut": lookup(bits, dtype).reshape(-1),
                "shape": np.array([5, 7], np.uint32),
            },
        )
        for bits, dtype in (
            (1, np.float16),
            (2, np.float32),
            (4, np.uint8),
            (6, np.float32),
            (8, np.int8),
        )
    },
    **{
        f"table, {bits} bits, iOS18": (
            IOS18,
            "constexpr_lut_to_dense",
            {"indices": numbers(f"uint{bits}", 4, 6), "lut": lookup(bits, dtype, 2, 3)},
        )
        for bits, dtype in (
            (1, np.float16),
            (2, np.float32),
            (3, np.uint8),
            (4, np.float32),
            (6, np.float16),
            (8, np.int8),
        )
    },
    **{
        f"table of vectors along {axis}": (
            IOS18,
            "constexpr_lut_to_dense",
            {
                "indices": numbers("uint2", 4, 6, 2),
                "lut": lookup(2, np.float32, 2, 1, 2, vector=3),
                "vector_axis": axis,
            },
        )
        for axis in (0, 1, -1)
    },
    "sparse": (
        IOS16,
        "constexpr_sparse_to_dense",
        {
            "nonzero_data": normal(KEPT).astype(np.float16),
            "mask": np.packbits(MASK, bitorder="little"),
            "shape": np.array(MASK.shape, np.uint32),
        },
    ),
    "sparse, iOS18": (
        IOS18,
        "constexpr_sparse_to_dense",
        {"nonzero_data": numbers("int8", KEPT), "mask": small(MASK, "uint1")},
    ),
    "sparse of int4": (
        IOS18,
        "constexpr_sparse_to_dense",
        {"nonzero_data": numbers("int4", KEPT), "mask": small(MASK, "uint1")},
    ),
    "sparse table": (
        IOS18,
        "constexpr_lut_to_sparse",
        {
            "indices_mask": small(MASK, "uint1"),
            "indices_nonzero_data": numbers("uint4", KEPT),
            "lut": lookup(4, np.float32, 2, 3),
        },
    ),
    **{
        f"sparse table of vectors along {axis}": (
            IOS18,
            "constexpr_lut_to_sparse",
            {
                "indices_mask": small(MASK, "uint1"),
                "indices_nonzero_data": numbers("uint2", KEPT),
                "lut": lookup(2, np.float16, 1, 1, vector=2),
                "vector_axis": axis,
            },
        )
        for axis in (0, 1)
    },
    "sparse scaled": (
        IOS18,
        "constexpr_sparse_blockwise_shift_scale",
        {
            "data_mask": small(MASK, "uint1"),
            "nonzero_data": numbers("int4", KEPT),
            "scale": normal(4, 1).astype(np.float16),
        },
    ),
    "sparse scaled with offset": (
        IOS18,
        "constexpr_sparse_blockwise_shift_scale",
        {
            "data_mask": small(MASK, "uint1"),
            "nonzero_data": numbers("uint8", KEPT),
            "scale": normal(2, 6),
            "offset": numbers("uint8", 2, 6),
        },
    ),
}


@pytest.mark.parametrize(("opset", "op", "arguments"), FORMS.values(), ids=FORMS)
def test_stored_form_is_what_coremltools_makes_of_it(
    opset: Any, op: str, arguments: dict[str, Any]
) -> None:
    with Function({"unused": mb.placeholder(shape=(1,))}, opset_version=opset):
        made = getattr(mb, op)(**arguments)
    first = made[0] if isinstance(made, tuple | list) else made
    want, got = first.op.materialized_val_inference(), OPS[op].reference(**arguments)
    wants, gots = (v if isinstance(v, tuple) else (v,) for v in (want, got))
    for g, w, var in zip(gots, wants, first.op.outputs, strict=True):
        assert g.shape == w.shape == tuple(var.shape)
        assert g.dtype == types.nptype_from_builtin(var.dtype)
        np.testing.assert_array_equal(g, w.astype(g.dtype))


def eight_bit(dtype: str) -> Graph:
    """x -> quantize -> dequantize -> y."""
    x = Node("input", (TensorType((2, 3), np.dtype(np.float32)),), name="x")
    scale = np.float32(0.25)
    kind = TensorType((2, 3), np.dtype(dtype))
    q = Node(
        "quantize", (kind,), {"input": Value(x)}, {"scale": scale, "output_dtype": dtype}, name="q"
    )
    y = Node("dequantize", x.types, {"input": Value(q)}, {"scale": scale}, name="y")
    return Graph({"y": Value(y)})


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_quantized_value_stays_8_bit_between_quantize_and_dequantize(dtype: str) -> None:
    nodes = lower(eight_bit(dtype)).model.graph.node
    assert [n.op_type for n in nodes] == ["QuantizeLinear", "DequantizeLinear", "Identity"]


def test_a_quantized_constant_is_dequantized_when_the_program_is_loaded() -> None:
    data = const(integers(2, 3).astype(np.int8))
    kind = TensorType((2, 3), np.dtype(np.float32))
    y = Node("dequantize", (kind,), {"input": data}, {"scale": np.float32(0.5)}, name="y")
    lowered = lower(Graph({"y": Value(y)})).model.graph
    assert [n.op_type for n in lowered.node] == ["Identity"]


def test_casts_to_integers_stop_at_the_ends_of_the_range() -> None:
    x = np.array([-1e9, -129.9, 127.9, 300.0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(
        OPS["cast"].reference(x, dtype="int8"), np.array([-128, -128, 127, 127, 127, 0], np.int8)
    )
    np.testing.assert_array_equal(
        OPS["cast"].reference(x, dtype="uint8"), np.array([0, 0, 127, 255, 255, 0], np.uint8)
    )
    largest = OPS["cast"].reference(np.array([1e10], np.float32), dtype="int32")
    assert largest[0] == np.iinfo(np.int32).max


def test_a_cast_to_half_precision_rounds_in_the_reference_only() -> None:
    x = np.array([1.0001, 70000.0], np.float32)
    np.testing.assert_array_equal(OPS["cast"].reference(x, dtype="fp16"), [1.0, np.inf])
    node = Node("input", (TensorType((2,), np.dtype(np.float32)),), name="x")
    half = TensorType((2,), np.dtype(np.float16))
    down = Node("cast", (half,), {"x": Value(node)}, {"dtype": "fp16"}, name="down")
    up = Node("cast", node.types, {"x": Value(down)}, {"dtype": "fp32"}, name="up")
    kinds = [n.op_type for n in lower(Graph({"y": Value(up)})).model.graph.node]
    assert set(kinds) == {"Identity"}
