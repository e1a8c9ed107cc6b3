"""Pooling: the maximum, average or length of the elements in a sliding window."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import normal
from coreml_lab.program.ops.windows import Ints, Window, extended, onnx_pads, sliding, torch_pad

BELOW_ALL = float("-inf")


def _last(window: Window) -> tuple[int, ...]:
    """The axes of a view that hold the elements of a window."""
    return tuple(range(-len(window.kernel), 0))


def _onnx(o: Any, pool: str, x: Any, window: Window, fill: float, **more: Any) -> Any:
    sizes = x.shape[2:]
    given = {"kernel_shape": window.kernel, "strides": window.strides, **more}
    if window.flexible(sizes):
        return getattr(o, pool)(x, auto_pad=window.auto_pad, ceil_mode=window.ceil_mode, **given)
    pads = window.pads(sizes)
    if any(max(p) >= k for p, k in zip(pads, window.kernel, strict=True)):
        # ONNX Runtime refuses windows that lie in the padding: pad first.
        around = onnx_pads([(0, 0), (0, 0), *pads])
        x, pads = o.Pad(x, o.ints(around), o.scalar(fill, x)), [(0, 0)] * len(pads)
    return getattr(o, pool)(x, pads=onnx_pads(pads), ceil_mode=window.ceil_mode, **given)


def _torch(t: Any, pool: str, x: Any, window: Window, fill: float) -> Any:
    border = window.border(tuple(x.shape[2:]))
    x = x if len(window.kernel) < 3 else x.float()  # noqa: PLR2004 - PyTorch's CPU lacks fp16 there
    run = getattr(t.nn.functional, f"{pool}{len(window.kernel)}d")
    each = zip(border, window.kernel, strict=True)
    if all(low == high and 2 * low <= k for (low, high), k in each):
        return run(x, window.kernel, window.strides, [low for low, _ in border])
    return run(torch_pad(t, x, border, fill), window.kernel, window.strides)


def _onnx_max(o: Any, x: Any, *, kernel_sizes: Any, **how: Any) -> Any:
    return _onnx(o, "MaxPool", x, Window.of(kernel_sizes, **how), BELOW_ALL)


def _torch_max(t: Any, x: Any, *, kernel_sizes: Any, **how: Any) -> Any:
    return _torch(t, "max_pool", x, Window.of(kernel_sizes, **how), BELOW_ALL)


@op(
    samples=[
        {"x": normal(2, 3, 7, 6), "kernel_sizes": [3, 2], "pad_type": "valid"},
        {"x": normal(1, 3, 7, 8), "kernel_sizes": [3, 3], "strides": [2, 2],
         "pad_type": "custom", "pad": [1, 1, 1, 1]},
        {"x": normal(1, 3, 8, 7), "kernel_sizes": [3, 2], "strides": [3, 2],
         "pad_type": "custom", "pad": [1, 1, 0, 0], "ceil_mode": True},
        {"x": normal(1, 3, 8, 7), "kernel_sizes": [3, 2], "strides": [2, 2],
         "pad_type": "custom", "pad": [0, 2, 1, 0]},
        {"x": normal(1, 2, 9), "kernel_sizes": [2], "strides": [2], "pad_type": "same"},
        {"x": normal(1, 2, 9), "kernel_sizes": [4], "strides": [2], "pad_type": "same_lower"},
        {"x": normal(1, 2, 4, 5, 6), "kernel_sizes": [2, 3, 2], "strides": [2, 1, 2],
         "pad_type": "same"},
    ],
    onnx=_onnx_max,
    torch=_torch_max,
)  # fmt: skip
def max_pool(
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Ints = None,
    pad_type: str,
    pad: Ints = None,
    ceil_mode: bool = False,
) -> Array:
    """Take the largest element of each window: ``y[p] = max(x[p * strides + k - pad])`` over ``k``.

    Windows of ``kernel_sizes`` slide over one to three sizes. ``pad_type`` is ``valid``, ``custom``
    (``pad`` holds before and after of each size), ``same`` or ``same_lower``; padding never wins.
    ``ceil_mode`` lets the last window hang over.
    """
    window = Window.of(
        kernel_sizes, strides=strides, pad_type=pad_type, pad=pad, ceil_mode=ceil_mode
    )
    return np.asarray(window.view(x, BELOW_ALL).max(_last(window)))


@functools.lru_cache(256)
def _counts(window: Window, sizes: Sequence[int], *, exclude: bool) -> Array:
    """How many elements each window averages over; what hangs over never counts."""
    inside = extended(np.ones((1, 1, *sizes), np.float32), window.pads(sizes), 0 if exclude else 1)
    every = sliding(extended(inside, window.overhang(sizes)), window.kernel)
    steps = [
        slice(0, (c - 1) * s + 1, s)
        for c, s in zip(window.counts(sizes), window.strides, strict=True)
    ]
    return np.asarray(every[(slice(None), slice(None), *steps)].sum(_last(window)))


def _onnx_average(
    o: Any, x: Any, *, exclude_padding_from_average: bool, kernel_sizes: Any, **how: Any
) -> Any:
    window = Window.of(kernel_sizes, **how)
    return _onnx(o, "AveragePool", x, window, 0, count_include_pad=not exclude_padding_from_average)


def _torch_average(
    t: Any, x: Any, *, exclude_padding_from_average: bool, kernel_sizes: Any, **how: Any
) -> Any:
    window = Window.of(kernel_sizes, **how)
    counts = _counts(window, tuple(x.shape[2:]), exclude=exclude_padding_from_average)
    mean, scale = _torch(t, "avg_pool", x, window, 0), math.prod(window.kernel) / counts
    return mean if (scale == 1).all() else mean * t.from_numpy(scale).to(x)


@op(
    samples=[
        {"x": normal(2, 3, 7, 6), "kernel_sizes": [3, 2], "pad_type": "valid"},
        {"x": normal(1, 3, 7, 8), "kernel_sizes": [3, 3], "strides": [2, 2],
         "pad_type": "custom", "pad": [1, 1, 1, 1]},
        {"x": normal(1, 3, 7, 8), "kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "same",
         "exclude_padding_from_average": True},
        {"x": normal(1, 3, 8, 7), "kernel_sizes": [3, 2], "strides": [3, 2],
         "pad_type": "custom", "pad": [1, 1, 0, 0], "ceil_mode": True},
        {"x": normal(1, 3, 8, 8), "kernel_sizes": [3, 3], "strides": [2, 2],
         "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True,
         "exclude_padding_from_average": True},
        {"x": normal(1, 3, 8, 7), "kernel_sizes": [3, 2], "pad_type": "custom",
         "pad": [0, 2, 1, 0]},
        {"x": normal(1, 2, 9), "kernel_sizes": [4], "strides": [2], "pad_type": "same_lower"},
        {"x": normal(1, 2, 9), "kernel_sizes": [2], "pad_type": "custom", "pad": [3, 0]},
        {"x": normal(1, 2, 4, 5, 6), "kernel_sizes": [2, 3, 2], "strides": [2, 1, 2],
         "pad_type": "same"},
    ],
    onnx=_onnx_average,
    torch=_torch_average,
)  # fmt: skip
def avg_pool(
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Ints = None,
    pad_type: str,
    pad: Ints = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Average each window: ``y[p] = sum(x[p * strides + k - pad]) / count`` over ``k``.

    ``count`` is the number of elements of the window, padding included unless
    ``exclude_padding_from_average``; what hangs over in ``ceil_mode`` never counts.
    Padding and sizes are as in ``max_pool``.
    """
    window = Window.of(
        kernel_sizes, strides=strides, pad_type=pad_type, pad=pad, ceil_mode=ceil_mode
    )
    total = window.view(x.astype(np.float32)).sum(_last(window))
    counts = _counts(window, x.shape[2:], exclude=exclude_padding_from_average)
    return np.asarray(total / counts).astype(x.dtype)


def _onnx_l2(o: Any, x: Any, *, kernel_sizes: Any, **how: Any) -> Any:
    return _onnx(o, "LpPool", x, Window.of(kernel_sizes, **how), 0, p=2)


def _torch_l2(t: Any, x: Any, *, kernel_sizes: Any, **how: Any) -> Any:
    window = Window.of(kernel_sizes, **how)
    return t.sqrt(_torch(t, "avg_pool", x * x, window, 0) * math.prod(window.kernel))


@op(
    samples=[
        {"x": normal(2, 3, 7, 6), "kernel_sizes": [3, 2], "pad_type": "valid"},
        {"x": normal(1, 3, 7, 8), "kernel_sizes": [3, 3], "strides": [2, 2],
         "pad_type": "custom", "pad": [1, 1, 1, 1]},
        {"x": normal(1, 3, 8, 8), "kernel_sizes": [3, 3], "strides": [2, 2],
         "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True},
        {"x": normal(1, 2, 9), "kernel_sizes": [2], "strides": [2], "pad_type": "same"},
        {"x": normal(1, 2, 9), "kernel_sizes": [4], "strides": [2], "pad_type": "same_lower"},
    ],
    onnx=_onnx_l2,
    torch=_torch_l2,
)  # fmt: skip
def l2_pool(
    x: Array,
    *,
    kernel_sizes: Sequence[int],
    strides: Ints = None,
    pad_type: str,
    pad: Ints = None,
    ceil_mode: bool = False,
) -> Array:
    """Measure each window as a vector: ``y[p] = sqrt(sum(x[p * strides + k - pad] ** 2))``.

    Windows slide over one or two sizes; padding is as in ``max_pool``.
    """
    window = Window.of(
        kernel_sizes, strides=strides, pad_type=pad_type, pad=pad, ceil_mode=ceil_mode
    )
    squares = np.square(window.view(x.astype(np.float32)))
    return np.asarray(np.sqrt(squares.sum(_last(window)))).astype(x.dtype)
