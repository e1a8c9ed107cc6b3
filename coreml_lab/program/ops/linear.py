"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array, TensorType
from coreml_lab.program.ops.arithmetic import integral
from coreml_lab.program.ops.quantization import integer_matrix
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal
from coreml_lab.program.ops.saturation import saturated, saturated_onnx, saturated_torch


def _linear_onnx(o: Any, x: Any, *, weight: Array, bias: Array | None) -> Any:
    if integral(x) and np.asarray(weight).dtype.kind == "f":
        real = o.typed(o.cast(x, np.float32), TensorType(x.shape, np.dtype(np.float32)))
        return saturated_onnx(o, _linear_onnx(o, real, weight=weight, bias=bias))
    matrix = integer_matrix(o)
    product = o.MatMul(x, o.const(np.asarray(weight).T, x.dtype) if matrix is None else matrix)
    return product if bias is None else o.Add(product, o.const(np.asarray(bias), x.dtype))


def _linear_torch(t: Any, x: Any, *, weight: Any, bias: Any) -> Any:
    matrix = t.as_tensor(weight)
    offset = None if bias is None else t.as_tensor(bias)
    if x.is_floating_point() and x.dtype == matrix.dtype:
        return t.nn.functional.linear(x, matrix, offset)
    if not x.is_floating_point() and matrix.is_floating_point():
        real = t.nn.functional.linear(x.to(matrix.dtype), matrix, offset)
        return saturated_torch(t, real).to(x.dtype)
    product = _product_torch(t, x, matrix.T.to(x.dtype))
    return product if offset is None else product + offset


def _product_torch(t: Any, x: Any, y: Any) -> Any:
    """CUDA multiplies no matrices of integers; double precision holds their products exactly."""
    if x.is_floating_point() or x.device.type != "cuda":
        return t.matmul(x, y)
    return t.matmul(x.double(), y.double()).to(x.dtype)


@op(
    samples=[
        {"x": normal(2, 3), "weight": normal(4, 3, seed=1)},
        {"x": normal(2, 5, 3), "weight": normal(4, 3, seed=1), "bias": normal(4, seed=2)},
        {"x": normal(3), "weight": normal(4, 3, seed=1), "bias": normal(4, seed=2)},
        {"x": integers(2, 3), "weight": integers(4, 3, seed=1), "bias": integers(4, seed=2)},
        {"x": normal(0, 3), "weight": normal(4, 3, seed=1), "bias": normal(4, seed=2)},
    ],
    onnx=_linear_onnx,
    torch=_linear_torch,
)
def linear(x: Array, *, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: a layer of weighted sums.

    Integers times a real weight lose their fraction in the end.
    """
    product = np.matmul(x, weight.T)
    total = product if bias is None else product + bias
    return saturated(total) if integral(x) and not integral(weight) else total


def _matmul_onnx(o: Any, x: Any, y: Any, *, transpose_x: bool, transpose_y: bool) -> Any:
    return o.MatMul(o.swap(x) if transpose_x else x, o.swap(y) if transpose_y else y)


def _matmul_torch(t: Any, x: Any, y: Any, *, transpose_x: bool, transpose_y: bool) -> Any:
    return _product_torch(t, x.mT if transpose_x else x, y.mT if transpose_y else y)


@op(
    samples=[
        {"x": normal(2, 3), "y": normal(3, 4, seed=1)},
        {"x": normal(3, 2), "y": normal(3, 4, seed=1), "transpose_x": True},
        {"x": normal(2, 3), "y": normal(4, 3, seed=1), "transpose_y": True},
        {
            "x": normal(5, 1, 3, 2),
            "y": normal(2, 4, 3, seed=1),
            "transpose_x": True,
            "transpose_y": True,
        },
        {"x": normal(3), "y": normal(3, 4, seed=1)},
        {"x": integers(2, 3), "y": integers(3, 4, seed=1)},
        {"x": normal(2, 0), "y": normal(0, 3)},
    ],
    onnx=_matmul_onnx,
    torch=_matmul_torch,
)
def matmul(x: Array, y: Array, *, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    """The matrix product of the last two dimensions; the others are a batch and broadcast."""
    a = np.swapaxes(x, -1, -2) if transpose_x else x
    b = np.swapaxes(y, -1, -2) if transpose_y else y
    return np.matmul(a, b)


def _einsum_onnx(o: Any, values: Any, *, equation: str) -> Any:
    """MIL's two equations are a matrix product for every h.

    ONNX Runtime's Einsum divides by sizes: one that is 0 would end the process.
    """
    del equation
    x, y = values
    lead = range(x.rank - 3)
    c, h, w = range(x.rank - 3, x.rank)
    rows = o.Transpose(x, perm=[*lead, h, c, w])
    columns = o.Transpose(y, perm=[*lead, h, c, w])
    return o.Transpose(o.MatMul(rows, columns), perm=[*lead, h, c, w])


@op(
    samples=[
        {
            "values": (normal(2, 3, 4, 5), normal(2, 5, 4, 6, seed=1)),
            "equation": "nchw,nwhu->nchu",
        },
        {"values": (normal(3, 4, 5), normal(5, 4, 6, seed=1)), "equation": "chw,whu->chu"},
        {
            "values": (normal(1, 3, 4, 5), normal(2, 5, 1, 6, seed=1)),
            "equation": "nchw,nwhu->nchu",
        },
    ],
    onnx=_einsum_onnx,
    torch=lambda t, values, *, equation: t.einsum(equation, *values),
)
def einsum(values: tuple[Array, ...], *, equation: str) -> Array:
    """A sum of products of two operands, by the letters of their dimensions.

    MIL has two equations, with letters of your choice: ``nchw,nwhu->nchu``, and ``chw,whu->chu``.
    """
    return np.einsum(equation, *values)
