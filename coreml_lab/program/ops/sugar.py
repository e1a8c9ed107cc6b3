"""Friendly spellings above MIL's operations, with the parameter names that users of PyTorch know.

Everything here is composed of declared operations, so every engine that has those has these. An
operand ``x`` may be a tensor or an array; weights may be either too and become part of the program.
"""
# ruff: noqa: A001 - sum, max and min are what everybody calls them

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from coreml_lab.errors import ShapeError
from coreml_lab.program.ops.sugar_arguments import as_tensor, fixed_sizes, per_channel, run
from coreml_lab.program.ops.sugar_images import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    depthwise_conv2d,
    global_avg_pool2d,
    global_max_pool2d,
    max_pool2d,
)
from coreml_lab.program.tensors import Tensor

__all__ = [
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "batch_matmul", "batch_norm2d",
    "conv1d", "conv2d", "conv2d_transpose", "conv3d", "depthwise_conv2d", "elementwise_add",
    "elementwise_div", "elementwise_mul", "elementwise_sub", "flatten", "global_avg_pool2d",
    "global_max_pool2d", "group_norm", "max", "max_pool2d", "mean", "min", "prod", "std", "sum",
    "var",
]  # fmt: skip

Axes = int | Sequence[int] | None


# -- arithmetic


def elementwise_add(x: Any, y: Any) -> Tensor:
    """``x + y``, element by element, with broadcasting."""
    return run("add", x=as_tensor(x), y=y)


def elementwise_sub(x: Any, y: Any) -> Tensor:
    """``x - y``, element by element, with broadcasting."""
    return run("sub", x=as_tensor(x), y=y)


def elementwise_mul(x: Any, y: Any) -> Tensor:
    """``x * y``, element by element, with broadcasting."""
    return run("mul", x=as_tensor(x), y=y)


def elementwise_div(x: Any, y: Any) -> Tensor:
    """``x / y``, element by element; of integers, the quotient without its fraction."""
    return run("real_div", x=as_tensor(x), y=y)


def batch_matmul(x: Any, y: Any, *, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Matrix products of the last two dimensions; the others are batches, with broadcasting."""
    return run("matmul", x=as_tensor(x), y=y, transpose_x=transpose_x, transpose_y=transpose_y)


# -- normalization


def batch_norm2d(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Bring each channel of an image to the scale it had in training."""
    return run(
        "batch_norm",
        x=as_tensor(x, 4, "batch_norm2d"),
        mean=running_mean,
        variance=running_var,
        gamma=weight,
        beta=bias,
        epsilon=eps,
    )


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalize groups of channels by themselves; ``weight`` and ``bias`` hold one per channel."""
    x = as_tensor(x)
    sizes = fixed_sizes(x, range(1, x.ndim), "group_norm")
    if not sizes or num_groups < 1 or sizes[0] % num_groups:
        raise ShapeError(
            f"group_norm(x: {x.value.type}, num_groups={num_groups}): the channels do not divide",
            hint="num_groups must divide the second dimension",
        )
    grouped = run("reshape", x=x, shape=[-1, num_groups, math.prod(sizes) // num_groups])
    y = run("layer_norm", x=grouped, axes=[2], epsilon=eps)
    y = run("reshape", x=y, shape=[-1, *sizes])
    y = y if weight is None else elementwise_mul(y, per_channel(weight, y))
    return y if bias is None else elementwise_add(y, per_channel(bias, y))


# -- reductions


def _reduce(name: str, x: Any, axes: Axes, keep_dims: bool) -> Tensor:
    over = [axes] if isinstance(axes, int) else axes
    given = {} if over is None else {"axes": [int(a) for a in over]}
    return run(name, x=as_tensor(x), keep_dims=keep_dims, **given)


def _real(x: Any) -> Tensor:
    """``x`` as a tensor of real numbers: the mean of integers is none."""
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else run("cast", x=x, dtype="fp32")


def sum(x: Any, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
    """The sum over one axis, several, or all."""
    return _reduce("reduce_sum", x, axes, keep_dims)


def mean(x: Any, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
    """The mean over one axis, several, or all."""
    return _reduce("reduce_mean", _real(x), axes, keep_dims)


def max(x: Any, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
    """The largest element over one axis, several, or all."""
    return _reduce("reduce_max", x, axes, keep_dims)


def min(x: Any, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
    """The smallest element over one axis, several, or all."""
    return _reduce("reduce_min", x, axes, keep_dims)


def prod(x: Any, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
    """The product over one axis, several, or all."""
    return _reduce("reduce_prod", x, axes, keep_dims)


def var(x: Any, axes: Axes = None, *, keep_dims: bool = False, ddof: int = 0) -> Tensor:
    """The variance over one axis, several, or all: squared distances from the mean, averaged.

    ``ddof`` is taken off the count they are divided by: 0 as in NumPy, 1 as PyTorch's default.
    """
    x = _real(x)
    squares = run("square", x=run("sub", x=x, y=mean(x, axes, keep_dims=True)))
    result = mean(squares, axes, keep_dims=keep_dims)
    if not ddof:
        return result
    over = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    count = math.prod(fixed_sizes(x, list(over), "var"))
    if count <= ddof:
        raise ShapeError(
            f"var(x: {x.value.type}, ddof={ddof}): only {count} elements",
            hint="use a smaller ddof or more axes",
        )
    return elementwise_mul(result, count / (count - ddof))


def std(x: Any, axes: Axes = None, *, keep_dims: bool = False, ddof: int = 0) -> Tensor:
    """The standard deviation over one axis, several, or all; see ``var``."""
    return run("sqrt", x=var(x, axes, keep_dims=keep_dims, ddof=ddof))


# -- shape


def flatten(x: Any, start_dim: int = 1, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` as one; by default all but the batch."""
    x = as_tensor(x)
    first, last = (d % x.ndim if -x.ndim <= d < x.ndim else -1 for d in (start_dim, end_dim))
    if not 0 <= first <= last:
        raise ShapeError(
            f"flatten(x: {x.value.type}, start_dim={start_dim}, end_dim={end_dim}): no such range",
            hint=f"start_dim must not come after end_dim, both from {-x.ndim} to {x.ndim - 1}",
        )
    parts = [*x.shape[:first], _joined(x.shape[first : last + 1]), *x.shape[last + 1 :]]
    if [isinstance(n, int) for n in parts].count(False) > 1:
        raise ShapeError(
            f"flatten(x: {x.value.type}): more than one dimension stays flexible",
            hint="give all but one of the dimensions a fixed size",
        )
    return run("reshape", x=x, shape=[n if isinstance(n, int) else -1 for n in parts])


def _joined(shape: Sequence[Any]) -> Any:
    return math.prod(shape) if all(isinstance(n, int) for n in shape) else None
