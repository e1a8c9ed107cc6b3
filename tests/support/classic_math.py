"""Definitions in NumPy of what several layer types share: windows, convolution, interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def amounts_same(n: int, k: int, s: int, *, lower: bool = False) -> tuple[int, int]:
    """Padding of SamePadding for one axis: before and after."""
    out = -(-n // s)
    total = max(0, (out - 1) * s + k - n)
    return (total - total // 2, total // 2) if lower else (total // 2, total - total // 2)


def windows(
    x: Any, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int] | None = None
) -> Any:
    """All windows over the last axes: [..., *places, *size]."""
    dilations = dilations or [1] * len(size)
    axes = tuple(range(x.ndim - len(size), x.ndim))
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    places = tuple(slice(None, None, s) for s in strides)
    inside = tuple(slice(None, None, d) for d in dilations)
    return seen[(Ellipsis, *places, *inside)]


def padded(x: Any, pads: Sequence[tuple[int, int]], value: float = 0) -> Any:
    """Constants around the last axes."""
    rest = [(0, 0)] * (x.ndim - len(pads))
    return np.pad(x, [*rest, *pads], constant_values=value)


def conv(
    x: Any,
    weight: Any,
    bias: Any = 0,
    *,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Any:
    """Convolution of [B, C, *spatial]."""
    seen = windows(padded(x, pads), weight.shape[2:], strides, dilations)
    space = weight.ndim - 2
    made = []
    for part, kernel in zip(
        np.split(seen, groups, axis=1), np.split(weight, groups, axis=0), strict=True
    ):
        inner = list(range(2 + space, 2 + 2 * space))
        product = np.tensordot(part, kernel, ([1, *inner], [1, *range(2, 2 + space)]))
        made.append(np.moveaxis(product, -1, 1))
    return np.concatenate(made, 1) + np.reshape(bias, (-1, *[1] * space))


def deconv(x: Any, weight: Any, *, strides: Sequence[int], groups: int = 1) -> Any:
    """Deconvolution of [B, C, *spatial] without padding; the weight is [C, C_out / groups, …]."""
    size = weight.shape[2:]
    out = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, size, strict=True)]
    made = []
    for part, kernel in zip(
        np.split(x, groups, axis=1), np.split(weight, groups, axis=0), strict=True
    ):
        total = np.zeros((x.shape[0], kernel.shape[1], *out), np.float64)
        for place in np.ndindex(*x.shape[2:]):
            patch = np.tensordot(part[(slice(None), slice(None), *place)], kernel, (1, 0))
            at = tuple(
                slice(p * s, p * s + k) for p, s, k in zip(place, strides, size, strict=True)
            )
            total[(slice(None), slice(None), *at)] += patch
        made.append(total)
    return np.concatenate(made, 1)


def pooled(
    x: Any,
    size: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    body: Callable[[Any], Any],
    *,
    fill: float = np.nan,
) -> Any:
    """``body`` of the numbers in each window; places outside hold ``fill``."""
    seen = windows(padded(x.astype(np.float64), pads, fill), size, strides)
    return body(seen.reshape(*seen.shape[: -len(size)], -1))


def grid(n: int, out: int, mode: str) -> Any:
    """Places along an axis of length ``n`` that ``out`` results are taken from."""
    i = np.arange(out)
    if mode == "half":
        places = i * n / out + 0.5 * n / out - 0.5
    elif mode == "aligned":
        places = np.linspace(0, n - 1, out) if out > 1 else np.array([(n - 1) / 2])
    elif mode == "strict":
        places = np.linspace(0, n - 1, out)
    elif mode == "upsample":
        places = np.minimum(n - 1, i * n / out)
    else:
        spacing = max(1, n - 1) / out
        places = np.minimum(n - 1, (i + 0.5) * spacing)
    return np.clip(places, 0, n - 1)


def taken(x: Any, places: Any, axis: int) -> Any:
    """Numbers between places along an axis."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    part = (places - low).reshape(shape)
    return np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part


def resized(x: Any, height: int, width: int, mode: str) -> Any:
    """Bilinear interpolation of the last two axes."""
    x = taken(x.astype(np.float64), grid(x.shape[-2], height, mode), x.ndim - 2)
    return taken(x, grid(x.shape[-1], width, mode), x.ndim - 1)


def sigmoid(x: Any) -> Any:
    """The logistic function."""
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def softmax(x: Any, axis: int) -> Any:
    """Softmax along an axis."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
