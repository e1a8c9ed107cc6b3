"""Operations between real numbers and 8-bit ones: ``real = scale * (number - zero_point)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import NUMPY_NAME, Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal

# int8 is kept as shifted uint8 in ONNX: ONNX Runtime rewrites int8 by itself, and fails at times.
SHIFT = 128


def along(values: Any, rank: int, axis: Any) -> Array:
    """Scales or zero points shaped so that they meet the elements they belong to."""
    array = np.asarray(values)
    if array.ndim == 0 or rank == 0:
        return array
    return array.reshape([-1 if i == int(axis) % rank else 1 for i in range(rank)])


def _parameters(o: Any, scale: Any, zero_point: Any, kind: np.dtype[Any]) -> tuple[Any, Any]:
    """Scale and zero point as ONNX wants them, for numbers kept as uint8."""
    shift = SHIFT if kind == np.int8 else 0
    zero = np.zeros(np.shape(scale)) if zero_point is None else np.asarray(zero_point, np.int32)
    return o.const(scale), o.const((zero + shift).astype(np.uint8), raw=True)


def integer_weight(o: Any, weight: Any) -> Any:
    """The weight of an op whose ``x`` was dequantized, as int8 where it is stored so.

    ONNX Runtime runs numbers -> Dequantize -> Conv -> Quantize as one integer kernel.
    """
    made = o.node.inputs["x"].node.op if "x" in o.node.inputs else ""
    if made != "dequantize" or str(weight) not in o.packed:
        return weight
    numbers, scale = o.packed[str(weight)]
    return _dequantized(o, numbers, scale, axis=0)


def integer_matrix(o: Any) -> Any:
    """Likewise the transposed weight of a ``linear``; None where it is not stored so."""
    made = o.node.inputs["x"].node.op if "x" in o.node.inputs else ""
    stored = str(o.refs.get(o.node.inputs.get("weight")))
    if made != "dequantize" or stored not in o.packed:
        return None
    numbers, scale = o.packed[stored]
    return _dequantized(o, np.ascontiguousarray(numbers.T), scale, axis=1)


def _dequantized(o: Any, numbers: Array, scale: Array, axis: int) -> Any:
    # Constants that weights share ONNX Runtime (1.32) cannot replace where it makes unsigned bytes
    # of signed ones; without a zero it fails where it makes an integer product of a linear.
    zero = o.const(np.zeros(scale.shape, np.int8), raw=True, own=True)
    weight = o.const(numbers, raw=True, own=True)
    return o.DequantizeLinear(weight, o.const(scale), zero, axis=axis)


# What cuts from below at zero, and where it cuts from above.
CUTS = {"relu": None, "relu6": 6.0}


def _cut_first(o: Any, scale: Any, zero_point: Any, kind: np.dtype[Any]) -> tuple[Any, int] | None:
    """A relu before a symmetric int8 quantization is a cut of the numbers: exact, and it can fuse.

    Gives what the relu read, and the largest number it lets through.
    """
    source = o.node.inputs["input"].node
    if source.op not in CUTS or kind != np.int8 or np.ndim(scale) or np.any(zero_point):
        return None
    highest = CUTS[source.op]
    limit = 127 if highest is None else min(127, int(np.rint(highest / np.float32(scale))))
    return o.refs[source.inputs["x"]], limit


def _quantize_onnx(
    o: Any, x: Any, *, zero_point: Any, scale: Any, axis: Any, output_dtype: Any
) -> Any:
    kind = np.dtype(str(output_dtype))
    factor, zero = _parameters(o, scale, zero_point, kind)
    cut = _cut_first(o, scale, zero_point, kind)
    at = None if axis is None else int(axis)
    numbers = o.QuantizeLinear(x if cut is None else cut[0], factor, zero, axis=at)
    if cut is not None:
        low, high = (o.const(SHIFT + n, np.uint8, raw=True) for n in (0, cut[1]))
        numbers = o.Clip(numbers, low, high)
    wide = o.cast(numbers, np.int32)
    return o.Sub(wide, o.const(SHIFT, np.int32)) if kind == np.int8 else wide


def _as_uint8(o: Any, x: Any, kind: np.dtype[Any]) -> Any:
    """The uint8 that ``_quantize_onnx`` made before widening; anew where something lies between."""
    makers = {n.output[0]: n for n in o.nodes}
    maker = makers.get(str(x))
    for expected in ("Sub", "Cast") if kind == np.int8 else ("Cast",):
        if maker is None or maker.op_type != expected:
            break
        source = maker.input[0]
        maker = makers.get(source)
    else:
        if maker is not None and maker.op_type in {"QuantizeLinear", "Clip"}:
            return source
    shifted = o.Add(x, o.const(SHIFT, np.int32)) if kind == np.int8 else x
    return o.cast(shifted, np.uint8)


def _dequantize_onnx(o: Any, x: Any, *, zero_point: Any, scale: Any, axis: Any) -> Any:
    if x.const is not None:
        return o.fold(dequantize.reference, x.const, zero_point=zero_point, scale=scale, axis=axis)
    kind = o.node.inputs["input"].type.dtype
    factor, zero = _parameters(o, scale, zero_point, kind)
    at = None if axis is None else int(axis)
    return o.DequantizeLinear(_as_uint8(o, x, kind), factor, zero, axis=at)


def _along_torch(t: Any, values: Any, x: Any, axis: Any) -> Any:
    tensor = t.as_tensor(values)
    if tensor.ndim == 0 or x.ndim == 0:
        return tensor
    return tensor.reshape([-1 if i == int(axis) % x.ndim else 1 for i in range(x.ndim)])


def _quantize_torch(
    t: Any, x: Any, *, zero_point: Any, scale: Any, axis: Any, output_dtype: Any
) -> Any:
    limits = np.iinfo(str(output_dtype))
    numbers = t.round(x / _along_torch(t, scale, x, axis)).float()
    if zero_point is not None:
        numbers = numbers + _along_torch(t, zero_point, x, axis)
    return numbers.clamp(limits.min, limits.max).to(getattr(t, str(output_dtype)))


def _dequantize_torch(t: Any, x: Any, *, zero_point: Any, scale: Any, axis: Any) -> Any:
    factor, numbers = _along_torch(t, scale, x, axis), x.float()
    if zero_point is not None:
        numbers = numbers - _along_torch(t, zero_point, x, axis)
    return numbers * factor


@op(
    samples=[
        {"input": 3 * normal(4, 5), "scale": np.float32(0.03125), "output_dtype": "int8"},
        {
            "input": 3 * normal(4, 5),
            "scale": np.float32(0.0625),
            "zero_point": np.uint8(120),
            "output_dtype": "uint8",
        },
        {
            "input": normal(2, 3, 4),
            "scale": np.array([0.125, 0.015625, 0.25], np.float32),
            "zero_point": np.array([-3, 0, 9], np.int8),
            "axis": 1,
            "output_dtype": "int8",
        },
    ],
    onnx=_quantize_onnx,
    torch=_quantize_torch,
)
def quantize(
    input: Array,  # noqa: A002 - MIL's name
    *,
    zero_point: Any = None,
    scale: Any,
    axis: int | None = None,
    output_dtype: str,
) -> Array:
    """Real numbers as 8-bit ones: ``round(input / scale) + zero_point``, cut to their range.

    Halves are rounded to the even number. ``scale`` is one number, or one for each element along
    ``axis``.
    """
    kind = np.dtype(NUMPY_NAME.get(str(output_dtype), str(output_dtype)))
    limits, rank = np.iinfo(kind), np.ndim(input)
    numbers = np.rint(input / along(scale, rank, axis)).astype(np.float32)
    if zero_point is not None:
        numbers = numbers + along(zero_point, rank, axis).astype(np.float32)
    return np.asarray(np.clip(numbers, limits.min, limits.max).astype(kind))


@op(
    samples=[
        {"input": integers(4, 5, low=-128, high=128).astype(np.int8), "scale": np.float32(0.03125)},
        {
            "input": integers(4, 5, low=0, high=256).astype(np.uint8),
            "scale": np.float32(0.0625),
            "zero_point": np.uint8(120),
        },
        {
            "input": integers(2, 3, 4, low=-128, high=128).astype(np.int8),
            "scale": np.array([0.125, 0.015625, 0.25], np.float32),
            "zero_point": np.array([-3, 0, 9], np.int8),
            "axis": -2,
        },
    ],
    onnx=_dequantize_onnx,
    torch=_dequantize_torch,
)
def dequantize(
    input: Array,  # noqa: A002 - MIL's name
    *,
    zero_point: Any = None,
    scale: Any,
    axis: int | None = None,
) -> Array:
    """8-bit numbers as real ones: ``scale * (input - zero_point)``, of the type of ``scale``."""
    rank, factor = np.ndim(input), np.asarray(scale)
    numbers = np.asarray(input).astype(np.float32)
    if zero_point is not None:
        numbers = numbers - along(zero_point, rank, axis).astype(np.float32)
    return np.asarray((numbers * along(factor, rank, axis)).astype(factor.dtype))
