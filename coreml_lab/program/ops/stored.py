"""Operations that coremltools' passes and compression write: casts, and weights stored small.

A ``constexpr_*`` operation has constant operands only, and so is a constant: it is computed once,
when a program is loaded, and runs dense. Sub-byte numbers (int4, uint1, …) come as one byte each,
the masks as 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import NUMPY_NAME, Array
from coreml_lab.program.ops.quantization import along
from coreml_lab.program.ops.registry import OPS, Limit, op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.saturation import saturated, saturated_onnx, saturated_torch


def element_type(name: Any) -> np.dtype[Any]:
    """The element type that MIL calls ``name``."""
    return np.dtype(NUMPY_NAME.get(str(name), str(name)))


def _cast_onnx(o: Any, x: Any, *, dtype: Any) -> Any:
    target, source = element_type(dtype), o.node.inputs["x"].type.dtype
    if target == np.bool_:
        return o.cast(x, np.bool_)
    if target.kind == "f":
        return x if source.kind == "f" else o.cast(x, np.float32)
    if source.kind == "f":
        return saturated_onnx(o, x, target)
    if source.kind == "b":
        return o.cast(x, np.int32)
    # Integers are int32 inside the ONNX graph: only what the narrower type cannot hold must go.
    return x if np.can_cast(source, target) else o.cast(o.cast(x, target), np.int32)


def _cast_torch(t: Any, x: Any, *, dtype: Any) -> Any:
    target = element_type(dtype)
    if target.kind == "f":
        return x.to(t.kind(target))
    if x.is_floating_point() and target.kind in "iu":
        x = saturated_torch(t, x, target)
    return x.to(getattr(t, target.name))


@op(
    samples=[
        *(
            {"x": np.array([[-3.7, 2.5, 0.0], [0.2, 90.9, -0.6]], np.float32), "dtype": d}
            for d in ("int8", "int16", "int32", "fp16", "fp32", "bool")
        ),
        {"x": np.array([0.0, 2.9, 200.1], np.float32), "dtype": "uint8"},
        {"x": np.array([0.0, 2.9, 60000.5], np.float32), "dtype": "uint16"},
        {"x": np.array([300.7, -1e9, np.inf, np.nan], np.float32), "dtype": "int8"},
        {"x": integers(2, 3), "dtype": "fp32"},
        {"x": np.array([300, -129, 5], np.int32), "dtype": "int8"},
        {"x": np.array([1, 200, 5], np.int32), "dtype": "uint16"},
        {"x": integers(2, 3), "dtype": "bool"},
        {"x": booleans(5), "dtype": "int32"},
        {"x": booleans(5), "dtype": "fp16"},
    ],
    onnx=_cast_onnx,
    torch=_cast_torch,
    limits=(
        Limit("apple", "out of range, Apple's evaluation does what the processor under it does", 8),
    ),
)
def cast(x: Array, *, dtype: str) -> Array:
    """``x`` as another element type.

    Real numbers lose their fraction on the way to integers and stop at the ends of the integer
    type; NaN becomes 0. Apple's processors convert to 32 bits so, others do other things out of
    range. Integers keep their low bits in a narrower type. Any number but 0 is true, NaN too.

    The portable engine keeps fp16 values in single precision: it does not round them here, and 1e6
    does not overflow.
    """
    array, target = np.asarray(x), element_type(dtype)
    if array.dtype.kind == "f" and target.kind in "iu":
        return saturated(array, target)
    with np.errstate(over="ignore"):
        return array.astype(target)


def sub_byte(values: Any, kind: str) -> Array:
    """``values`` marked as MIL's ``kind`` (int4, uint1, …): NumPy lacks it, each takes a byte."""
    storage = np.int8 if kind.startswith("int") else np.uint8
    return np.asarray(values).astype(np.dtype(storage, metadata={"mil": kind}))


def _dense_onnx(o: Any, **given: Any) -> Any:
    """The operation's own body, computed now."""
    for name, made in o.node.inputs.items():
        # What another stored op made was widened for ONNX.
        given[name] = given[name].astype(made.type.dtype)
    results = OPS[o.node.op].reference(**given)
    return tuple(o.const(r) for r in results) if isinstance(results, tuple) else o.const(results)


def _dense_torch(name: str) -> Any:
    def lowering(t: Any, **given: Any) -> Any:
        arrays = {k: v.numpy() if isinstance(v, t.Tensor) else v for k, v in given.items()}
        results = OPS[name].reference(**arrays)
        parts = results if isinstance(results, tuple) else (results,)
        made = tuple(t.from_numpy(np.ascontiguousarray(r)) for r in parts)
        return made if isinstance(results, tuple) else made[0]

    return lowering


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """``count`` numbers of ``bits`` bits out of bytes; the lowest bits of a byte come first."""
    if bits == 8:  # noqa: PLR2004 - whole bytes need no work
        return np.asarray(packed).reshape(-1)[:count]
    single = np.unpackbits(np.asarray(packed, np.uint8), bitorder="little")[: count * bits]
    return np.packbits(single.reshape(count, bits), axis=-1, bitorder="little")[:, 0]


@op(
    samples=[
        {"source_val": normal(2, 3).astype(np.float16), "output_dtype": "fp32"},
    ],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_cast"),
    stored=True,
)
def constexpr_cast(*, source_val: Array, output_dtype: str) -> Array:
    """Weights stored in half precision, as single precision."""
    return np.asarray(source_val).astype(element_type(output_dtype))


@op(
    samples=[
        {
            "quantized_data": integers(2, 3, low=0, high=256).astype(np.uint8),
            "zero_point": np.uint8(7),
            "scale": np.float32(0.1),
            "axis": 0,
        },
        {
            "quantized_data": integers(2, 3, low=-128, high=128).astype(np.int8),
            "zero_point": np.array([1, -2, 3], np.int8),
            "scale": np.array([0.1, 2.0, 0.5], np.float16),
            "axis": -1,
        },
    ],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_affine_dequantize"),
    stored=True,
)
def constexpr_affine_dequantize(
    *, quantized_data: Array, zero_point: Array, scale: Array, axis: int
) -> Array:
    """Weights stored in 8 bits: ``scale * (quantized_data - zero_point)``.

    There is one scale and zero point, or one for each slice along ``axis``.
    """
    rank, factor = np.ndim(quantized_data), np.asarray(scale)
    shift = along(zero_point, rank, axis).astype(np.float32)
    numbers = np.asarray(quantized_data).astype(np.float32) - shift
    return np.asarray((numbers * along(factor, rank, axis)).astype(factor.dtype))


def _blockwise(values: Array, shape: tuple[int, ...]) -> Array:
    """One value per block as one per element: block sizes follow from the two shapes."""
    blocks = [np.arange(n) // (n // m) for n, m in zip(shape, np.shape(values), strict=True)]
    return np.asarray(values[np.ix_(*blocks)])


def _shift_scale_onnx(o: Any, **given: Any) -> Any:
    """Dense; symmetric int8 weights with a scale for each filter are remembered as they are."""
    dense, data, scale = _dense_onnx(o, **given), np.asarray(given["data"]), given["scale"]
    if data.dtype == np.int8 and given["offset"] is None and max(scale.shape[1:], default=1) == 1:
        factors = np.broadcast_to(scale.reshape(-1), data.shape[:1])
        o.packed[str(dense)] = (data, factors.astype(np.float32))
    return dense


def _shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    numbers = np.asarray(data).astype(scale.dtype)
    if offset is not None:
        numbers = numbers - _blockwise(offset, numbers.shape).astype(scale.dtype)
    return np.asarray(_blockwise(scale, numbers.shape) * numbers)


@op(
    samples=[
        {"data": integers(4, 6, low=-128, high=128).astype(np.int8), "scale": 0.1 * normal(2, 3)},
        {
            "data": sub_byte(integers(4, 6, low=0, high=16), "uint4"),
            "scale": normal(4, 1).astype(np.float16),
            "offset": sub_byte([[1], [3], [0], [15]], "uint4"),
        },
    ],
    onnx=_shift_scale_onnx,
    torch=_dense_torch("constexpr_blockwise_shift_scale"),
    stored=True,
)
def constexpr_blockwise_shift_scale(
    *, data: Array, scale: Array, offset: Array | None = None
) -> Array:
    """Weights stored in 4 or 8 bits: ``scale * (data - offset)``, with one of each per block.

    ``scale`` has the rank of ``data``; a block is as long as the one's size goes into the other's.
    The arithmetic is done in the type of ``scale``.
    """
    return _shift_scale(data, np.asarray(scale), offset)


def _looked_up(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    rank = np.ndim(indices)
    blocks = [np.arange(n) // (n // m) for n, m in zip(indices.shape, lut.shape, strict=False)]
    vectors = lut[(*np.ix_(*blocks), np.asarray(indices))]
    if vector_axis is None or lut.shape[-1] == 1:
        return np.asarray(vectors[..., 0])
    axis = int(vector_axis) % rank
    shape = [n * lut.shape[-1] if i == axis else n for i, n in enumerate(indices.shape)]
    return np.moveaxis(vectors, -1, axis + 1).reshape(shape)


@op(
    samples=[
        {"indices": sub_byte(integers(4, 6, low=0, high=4), "uint2"), "lut": normal(2, 1, 4, 1)},
        {
            "indices": sub_byte(integers(3, 4, low=0, high=2), "uint1"),
            "lut": normal(1, 2, 2, 3),
            "vector_axis": 0,
        },
        {
            "indices": integers(2, 5, low=0, high=256).astype(np.uint8),
            "lut": integers(1, 1, 256, 2, low=-128, high=128).astype(np.int8),
            "vector_axis": -1,
        },
    ],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_lut_to_dense"),
    stored=True,
    older=("shape",),
)
def constexpr_lut_to_dense(
    *,
    indices: Array,
    lut: Array,
    vector_axis: int | None = None,
    shape: Array | None = None,
) -> Array:
    """Weights stored as indices into a table of values.

    The last two dimensions of ``lut`` are the entries and the vector that each holds; those before
    divide the dimensions of ``indices`` into blocks with a table each. A vector is laid out along
    ``vector_axis``.

    Before iOS18 there is one table of single values, and ``indices`` are packed bytes of a tensor
    of ``shape``.
    """
    if shape is None:
        return _looked_up(indices, np.asarray(lut), vector_axis)
    sizes = [int(n) for n in shape]
    bits = (np.size(lut) - 1).bit_length()
    return np.asarray(np.asarray(lut)[unpacked(indices, bits, int(np.prod(sizes)))]).reshape(sizes)


def _spread(mask: Array, values: Array) -> Array:
    """``values`` one after the other where ``mask`` is not 0, zeros elsewhere."""
    dense = np.zeros(np.shape(mask), np.asarray(values).dtype)
    dense[np.asarray(mask) != 0] = values
    return dense


MASK = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


@op(
    samples=[{"nonzero_data": normal(5), "mask": sub_byte(MASK, "uint1")}],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_sparse_to_dense"),
    stored=True,
    older=("shape",),
)
def constexpr_sparse_to_dense(
    *, nonzero_data: Array, mask: Array, shape: Array | None = None
) -> Array:
    """Weights of which only those that are not zero are stored: ``mask`` says where they are.

    Before iOS18 the mask is packed, eight places in a byte, and ``shape`` says of which tensor.
    """
    if shape is None:
        return _spread(mask, nonzero_data)
    sizes = [int(n) for n in shape]
    return _spread(unpacked(mask, 1, int(np.prod(sizes))).reshape(sizes), nonzero_data)


@op(
    samples=[
        {
            "indices_mask": sub_byte(MASK, "uint1"),
            "indices_nonzero_data": sub_byte([0, 3, 1, 1, 2], "uint2"),
            "lut": normal(1, 2, 4, 1),
        },
        {
            "indices_mask": sub_byte(MASK, "uint1"),
            "indices_nonzero_data": sub_byte([0, 1, 1, 0, 1], "uint1"),
            "lut": normal(1, 1, 2, 2),
            "vector_axis": 0,
        },
    ],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_lut_to_sparse"),
    stored=True,
)
def constexpr_lut_to_sparse(
    *,
    indices_mask: Array,
    indices_nonzero_data: Array,
    lut: Array,
    vector_axis: int | None = None,
) -> tuple[Array, Array]:
    """The mask and the values of sparse weights that are stored as indices into a table.

    The table works as in ``constexpr_lut_to_dense``; a vector repeats its place of the mask along
    ``vector_axis``.
    """
    table, mask = np.asarray(lut), np.asarray(indices_mask)
    dense = _looked_up(_spread(mask, indices_nonzero_data), table, vector_axis)
    if vector_axis is not None:
        mask = np.repeat(mask, table.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


@op(
    samples=[
        {
            "data_mask": sub_byte(MASK, "uint1"),
            "nonzero_data": np.array([10, 11, 3, -4, 5], np.int8),
            "scale": normal(3, 2),
        },
        {
            "data_mask": sub_byte(MASK, "uint1"),
            "nonzero_data": sub_byte([7, -8, 3, -4, 5], "int4"),
            "scale": normal(1, 4).astype(np.float16),
            "offset": sub_byte([[1, -2, 3, 4]], "int4"),
        },
    ],
    onnx=_dense_onnx,
    torch=_dense_torch("constexpr_sparse_blockwise_shift_scale"),
    stored=True,
)
def constexpr_sparse_blockwise_shift_scale(
    *, data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """The mask and the values of sparse weights stored in 4 or 8 bits.

    They are scaled as in ``constexpr_blockwise_shift_scale``.
    """
    mask = np.asarray(data_mask)
    return mask, _shift_scale(_spread(mask, nonzero_data), np.asarray(scale), offset)[mask != 0]
