"""Convolution and pooling in PyTorch's spelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.sugar_arguments import (
    Ints,
    Padding,
    as_tensor,
    border,
    each,
    fixed_sizes,
    per_channel,
    run,
)
from coreml_lab.program.tensors import Tensor


def _conv(caller: str, rank: int, x: Any, weight: Any, bias: Any, **how: Any) -> Tensor:
    given: dict[str, Any] = {
        "strides": each(how["stride"], rank, "stride", 1),
        "dilations": each(how["dilation"], rank, "dilation", 1),
        **border(how["padding"], rank),
    }
    x = as_tensor(x, rank + 2, caller)
    return run("conv", x=x, weight=weight, bias=bias, groups=how["groups"], **given)


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve [n, channels, length] with [filters, channels / groups, size]; see ``conv2d``."""
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _conv("conv1d", 1, x, weight, bias, **how)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images [n, channels, h, w] with filters [filters, channels / groups, kh, kw].

    Args:
        x: the images.
        weight: the filters.
        bias: one number per filter.
        stride: steps between windows: one number, or one per dimension.
        padding: zeros on each side, or ``"same"`` (``ceil(size / stride)`` windows),
            ``"same_lower"`` (the odd zero before instead of after) or ``"valid"`` (none).
        dilation: distance between the elements a filter looks at.
        groups: filters and channels are split into that many groups that do not see one another.

    Raises:
        ShapeError: where the shapes do not fit.
    """
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _conv("conv2d", 2, x, weight, bias, **how)


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve volumes [n, channels, d, h, w] with [filters, channels / groups, kd, kh, kw]."""
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _conv("conv3d", 3, x, weight, bias, **how)


def depthwise_conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Tensor:
    """Convolve each channel with filters of its own: ``weight`` is [channels * m, 1, kh, kw]."""
    x = as_tensor(x, 4, "depthwise_conv2d")
    groups = fixed_sizes(x, [1], "depthwise_conv2d")[0]
    return conv2d(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Spread images over filters [channels, filters / groups, kh, kw]: the gradient of ``conv2d``.

    ``padding`` is cut off each side of the result, which is then ``output_padding`` larger at the
    end; ``"same"`` makes it exactly ``stride`` times as large as ``x``.
    """
    x = as_tensor(x, 4, "conv2d_transpose")
    given = {
        "strides": each(stride, 2, "stride", 1),
        "dilations": each(dilation, 2, "dilation", 1),
        "groups": groups,
    }
    more = each(output_padding, 2, "output_padding")
    if isinstance(padding, str) or not any(more):
        return run("conv_transpose", x=x, weight=weight, bias=bias, **given, **border(padding, 2))
    cut = each(padding, 2, "padding")
    # Larger at the end: less is cut off there, and zeros follow where nothing is left to keep.
    pad = [n for c, m in zip(cut, more, strict=True) for n in (c, max(c - m, 0))]
    beyond = [n for c, m in zip(cut, more, strict=True) for n in (0, max(m - c, 0))]
    whole = {"x": x, "weight": weight, "pad_type": "custom", "pad": pad, **given}
    if not any(beyond):
        return run("conv_transpose", bias=bias, **whole)
    y = run("pad", x=run("conv_transpose", **whole), pad=beyond)
    return y if bias is None else run("add", x=y, y=per_channel(bias, y))


# -- pooling


def _pool(name: str, x: Any, kernel_size: Ints, stride: Ints | None, **how: Any) -> Tensor:
    kernel = each(kernel_size, 2, "kernel_size", 1)
    steps = kernel if stride is None else each(stride, 2, "stride", 1)
    pads = border(how.pop("padding"), 2)
    x = as_tensor(x, 4, f"{name}2d")
    return run(name, x=x, kernel_sizes=kernel, strides=steps, **pads, **how)


def max_pool2d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the largest element of each window of an image; the windows touch unless ``stride``."""
    return _pool("max_pool", x, kernel_size, stride, padding=padding, ceil_mode=ceil_mode)


def avg_pool2d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Average each window of an image; padding counts as zeros if ``count_include_pad``."""
    how = {"ceil_mode": ceil_mode, "exclude_padding_from_average": not count_include_pad}
    return _pool("avg_pool", x, kernel_size, stride, padding=padding, **how)


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Adaptive pooling's (begin, end): bins of nearly equal size that may overlap by one."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive(x: Any, output_size: Any, caller: str) -> tuple[Tensor, list[int], list[int]]:
    """The images, their sizes and those wanted."""
    x = as_tensor(x, 4, caller)
    given = [output_size] * 2 if isinstance(output_size, int) else list(output_size)
    if all(n == 1 for n in given):
        return x, [1, 1], [1, 1]
    sizes = fixed_sizes(x, [2, 3], caller)
    if len(given) == len(sizes):
        given = [s if n is None else n for s, n in zip(sizes, given, strict=True)]
    return x, sizes, each(given, 2, "output_size", 1)


def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None]) -> Tensor:
    """Average an image down (or up) to ``output_size``, with PyTorch's bins; None keeps a size."""
    x, sizes, wanted = _adaptive(x, output_size, "adaptive_avg_pool2d")
    if sizes == wanted == [1, 1]:
        return global_avg_pool2d(x)
    if not any(n % m for n, m in zip(sizes, wanted, strict=True)):
        return avg_pool2d(x, [n // m for n, m in zip(sizes, wanted, strict=True)])
    # A mean over a box is a mean over columns of means over rows: one matrix each.
    rows, columns = (_averages(n, m, x.dtype) for n, m in zip(sizes, wanted, strict=True))
    return run("matmul", x=run("matmul", x=rows, y=x), y=columns, transpose_y=True)


def _averages(size: int, count: int, dtype: np.dtype[Any]) -> Array:
    """The matrix that averages ``size`` numbers into ``count`` bins."""
    matrix = np.zeros((count, size), dtype)
    for row, (begin, end) in zip(matrix, _bins(size, count), strict=True):
        row[begin:end] = 1 / (end - begin)
    return matrix


def adaptive_max_pool2d(x: Any, output_size: int | Sequence[int | None]) -> Tensor:
    """Take the largest elements of an image on a grid of ``output_size``, with PyTorch's bins."""
    image, sizes, wanted = _adaptive(x, output_size, "adaptive_max_pool2d")
    if sizes == wanted == [1, 1]:
        return global_max_pool2d(image)
    if not any(n % m for n, m in zip(sizes, wanted, strict=True)):
        return max_pool2d(image, [n // m for n, m in zip(sizes, wanted, strict=True)])
    for axis, (size, count) in zip((2, 3), zip(sizes, wanted, strict=True), strict=True):
        parts = [_largest(image, axis, *b) for b in _bins(size, count)]
        image = run("concat", values=parts, axis=axis)
    return image


def _largest(x: Tensor, axis: int, begin: int, end: int) -> Tensor:
    free = [a != axis for a in range(4)]
    part = run(
        "slice_by_index",
        x=x,
        begin=[begin * (a == axis) for a in range(4)],
        end=[end * (a == axis) for a in range(4)],
        begin_mask=free,
        end_mask=free,
    )
    return run("reduce_max", x=part, axes=[axis], keep_dims=True)


def global_avg_pool2d(x: Any) -> Tensor:
    """The mean of each channel of an image, [n, channels, 1, 1]."""
    x = as_tensor(x, 4, "global_avg_pool2d")
    return run("reduce_mean", x=x, axes=[2, 3], keep_dims=True)


def global_max_pool2d(x: Any) -> Tensor:
    """The largest element of each channel of an image, [n, channels, 1, 1]."""
    x = as_tensor(x, 4, "global_max_pool2d")
    return run("reduce_max", x=x, axes=[2, 3], keep_dims=True)
