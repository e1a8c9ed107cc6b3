"""Sums, extremes and norms over dimensions.

Those of integers are computed in double precision: they lose their fraction and stop at the ends
of int32.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.arithmetic import integral
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import integers, normal, positive
from coreml_lab.program.ops.saturation import saturated, saturated_onnx, saturated_torch
from coreml_lab.program.ops.sizes import size, sizes

Axes = Sequence[int] | None
EMPTY = {"x": normal(2, 0, 3), "axes": [1]}
NAN = {"x": np.array([1, np.nan, 3], np.float32)}
IMAGES = (
    {"x": normal(2, 3, 4, 5), "axes": [-1, 2], "keep_dims": True},
    {"x": normal(2, 3, 4, 5), "axes": [2, 3]},
    {"x": normal(0, 3, 4, 5), "axes": [2, 3]},
)


def over(make: Callable[..., Array], *, whole: bool = True) -> list[dict[str, Any]]:
    """Reductions over one dimension, several, and all of them."""
    cases: list[dict[str, Any]] = [
        {"x": make(2, 3, 4)},
        {"x": make(2, 3, 4), "axes": [-1]},
        {"x": make(2, 3, 4), "axes": [0, -1], "keep_dims": True},
        {"x": make(1, 2, 3, 2, 2), "axes": [4, 2], "keep_dims": False},
        {"x": make(3), "keep_dims": True},
    ]
    return [*cases, {"x": integers(2, 3, 4), "axes": [1]}] if whole else cases


# The NaN sample is the seventh.
PASSED_OVER = Limit("portable", "ONNX Runtime passes over not-a-number", 6)


def axis_of(axes: Axes) -> tuple[int, ...] | None:
    """MIL's ``axes`` as NumPy's ``axis``: absent means all."""
    return None if axes is None else tuple(int(a) for a in axes)


def to_onnx(kind: str, *, real: bool = False) -> Callable[..., Any]:
    """The lowering to one of ONNX's reductions; a ``real`` one is computed between real numbers."""

    def lowering(o: Any, x: Any, *, axes: Axes, keep_dims: bool) -> Any:
        over = None if axes is None else o.ints(axes)
        if not (real and integral(x)):
            return getattr(o, kind)(x, over, keepdims=keep_dims)
        reduced = getattr(o, kind)(o.cast(x, np.float64), over, keepdims=keep_dims)
        return saturated_onnx(o, reduced, double=True)

    return lowering


def wide(x: Array) -> Array:
    """Integers in double precision, which holds them all."""
    return x.astype(np.float64) if integral(x) else x


def like(x: Array, values: Any) -> Array:
    """Results of the element type of ``x``."""
    return saturated(values) if integral(x) else np.asarray(values).astype(x.dtype)


def to_torch(body: Callable[..., Any]) -> Callable[..., Any]:
    """The lowering to a torch function of the tensor, its dimensions, and whether they stay."""

    def lowering(t: Any, x: Any, *, axes: Axes, keep_dims: bool) -> Any:
        dims = range(x.ndim) if axes is None else axes
        return body(t, x, [int(d) % x.ndim for d in dims], keep_dims).to(x.dtype)

    return lowering


def to_torch_real(body: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what is computed between real numbers, and is whole between integers."""

    def real(t: Any, x: Any, dims: list[int], keep: bool) -> Any:
        whole = integral(x)
        result = body(t, x.double() if whole else x, dims, keep)
        return saturated_torch(t, result) if whole else result

    return to_torch(real)


@op(
    samples=[*over(normal), EMPTY],
    onnx=to_onnx("ReduceSum", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.sum(x, dims, keep)),
)
def reduce_sum(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The sum."""
    return like(x, x.sum(axis_of(axes), keepdims=keep_dims))


# Means of at most so many elements may be those of a pooling, which adds up in single precision.
POOLED = 4096


def _mean_onnx(o: Any, x: Any, *, axes: Axes, keep_dims: bool) -> Any:
    dims = range(x.rank) if axes is None else axes
    counts = [x.shape[int(d)] for d in dims]
    if _of_images(x, dims, counts):
        # ONNX Runtime computes it in the layout of the convolution before, and in integers.
        pooled = o.GlobalAveragePool(x)
        return pooled if keep_dims else o.Flatten(pooled, axis=1)
    if integral(x) or all(isinstance(n, int) and n for n in counts):
        return to_onnx("ReduceMean", real=True)(o, x, axes=axes, keep_dims=keep_dims)
    # Of no elements ONNX Runtime makes 0; dividing by their number does not.
    total = to_onnx("ReduceSum")(o, x, axes=axes, keep_dims=keep_dims)
    number = o.ReduceProd(sizes(o, [size(o, x, int(d)) for d in dims]), keepdims=0)
    return o.Div(total, o.cast(number, x.dtype))


def _of_images(x: Any, dims: Iterable[int], counts: list[Any]) -> bool:
    """Whether it is the mean of each channel of small images."""
    known = all(isinstance(n, int) and n for n in counts)
    last_two = x.rank == 4 and sorted(int(d) % 4 for d in dims) == [2, 3]  # noqa: PLR2004
    return not integral(x) and known and last_two and math.prod(counts) <= POOLED


@op(
    samples=[*over(normal), *IMAGES],
    onnx=_mean_onnx,
    torch=to_torch_real(lambda t, x, dims, keep: t.mean(x, dims, keep)),
)
def reduce_mean(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The sum divided by the number of elements; between integers, rounded towards zero."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return like(x, x.mean(axis_of(axes), keepdims=keep_dims))


@op(
    samples=[*over(normal), NAN],
    onnx=to_onnx("ReduceMax"),
    torch=to_torch(lambda t, x, dims, keep: t.amax(x, dims, keep)),
    limits=(PASSED_OVER,),
)
def reduce_max(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The largest element; of none, what is less than all others."""
    least = np.iinfo(x.dtype).min if integral(x) else -np.inf
    return x.max(axis_of(axes), keepdims=keep_dims, initial=least)


@op(
    samples=[*over(normal), NAN],
    onnx=to_onnx("ReduceMin"),
    torch=to_torch(lambda t, x, dims, keep: t.amin(x, dims, keep)),
    limits=(PASSED_OVER,),
)
def reduce_min(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The smallest element; of none, what is greater than all others."""
    greatest = np.iinfo(x.dtype).max if integral(x) else np.inf
    return x.min(axis_of(axes), keepdims=keep_dims, initial=greatest)


def _prod_torch(t: Any, x: Any, dims: list[int], keep: bool) -> Any:
    for dim in sorted(dims, reverse=True):
        x = t.prod(x, dim, keep)
    return x


@op(
    samples=[*over(normal), EMPTY],
    onnx=to_onnx("ReduceProd", real=True),
    torch=to_torch_real(_prod_torch),
)
def reduce_prod(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The product."""
    return like(x, wide(x).prod(axis_of(axes), keepdims=keep_dims))


@op(
    samples=[*over(normal), EMPTY],
    onnx=to_onnx("ReduceL1", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.sum(t.abs(x), dims, keep)),
)
def reduce_l1_norm(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The sum of absolute values."""
    return like(x, np.abs(wide(x)).sum(axis_of(axes), keepdims=keep_dims))


@op(
    samples=[*over(normal), EMPTY],
    onnx=to_onnx("ReduceL2", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.sqrt(t.sum(t.square(x), dims, keep))),
)
def reduce_l2_norm(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The square root of the sum of squares."""
    return like(x, np.sqrt(np.square(wide(x)).sum(axis_of(axes), keepdims=keep_dims)))


@op(
    samples=[*over(normal), EMPTY],
    onnx=to_onnx("ReduceSumSquare", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.sum(t.square(x), dims, keep)),
)
def reduce_sum_square(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The sum of squares."""
    return like(x, np.square(wide(x)).sum(axis_of(axes), keepdims=keep_dims))


@op(
    samples=[*over(positive, whole=False), {"x": integers(2, 3, low=-3), "axes": [0]}, EMPTY],
    onnx=to_onnx("ReduceLogSum", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.log(t.sum(x, dims, keep))),
)
def reduce_log_sum(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The natural logarithm of the sum."""
    return like(x, np.log(x.sum(axis_of(axes), keepdims=keep_dims)))


@op(
    samples=[*over(normal, whole=False), {"x": 100 * normal(2, 30), "axes": [1]}, EMPTY],
    onnx=to_onnx("ReduceLogSumExp", real=True),
    torch=to_torch_real(lambda t, x, dims, keep: t.logsumexp(x, dims, keep)),
    limits=(Limit("apple", "it refuses to choose among no elements", 6),),
)
def reduce_log_sum_exp(x: Array, *, axes: Axes = None, keep_dims: bool = False) -> Array:
    """The natural logarithm of the sum of exponentials, computed without overflow."""
    axis = axis_of(axes)
    real = wide(x)
    greatest = real.max(axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(greatest), greatest, 0)
    total = np.log(np.exp(real - top).sum(axis, keepdims=True)) + top
    return like(x, total if keep_dims else np.squeeze(total, axis))


ARGUMENTS: list[dict[str, Any]] = [
    {"x": normal(2, 3, 4)},
    {"x": normal(2, 3, 4), "axis": 0},
    {"x": integers(2, 30, 4), "axis": 1, "keep_dims": True},
    {"x": normal(2, 3), "output_dtype": "uint16"},
    {"x": np.array([[1, 3, 3, 1], [5, 5, 5, 5]], np.float32)},
]


def index_onnx(kind: str) -> Callable[..., Any]:
    """The lowering to ArgMax or ArgMin."""

    def lowering(o: Any, x: Any, *, axis: int, keep_dims: bool, output_dtype: str) -> Any:
        del output_dtype  # both are int32 inside
        return o.cast(getattr(o, kind)(x, axis=axis, keepdims=keep_dims), np.int32)

    return lowering


def index_torch(kind: str) -> Callable[..., Any]:
    """The lowering to ``argmax`` or ``argmin``; of ties, torch's CPU gives the first."""

    def lowering(t: Any, x: Any, *, axis: int, keep_dims: bool, output_dtype: str) -> Any:
        return getattr(t, kind)(x, axis, keep_dims).to(getattr(t, output_dtype))

    return lowering


@op(samples=ARGUMENTS, onnx=index_onnx("ArgMax"), torch=index_torch("argmax"))
def reduce_argmax(
    x: Array, *, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    """The index of the largest element along ``axis``; of equal ones, the first."""
    return np.argmax(x, axis, keepdims=keep_dims).astype(output_dtype)


@op(samples=ARGUMENTS, onnx=index_onnx("ArgMin"), torch=index_torch("argmin"))
def reduce_argmin(
    x: Array, *, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    """The index of the smallest element along ``axis``; of equal ones, the first."""
    return np.argmin(x, axis, keepdims=keep_dims).astype(output_dtype)
