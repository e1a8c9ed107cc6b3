"""Pooling layers, with their ways to treat the border."""

from __future__ import annotations

from typing import Any

from coreml_lab.program.mil.neural_network.convolutions import padding, paddings_3d, triple
from coreml_lab.program.mil.neural_network.registry import layer, pair
from coreml_lab.program.mil.neural_network.values import at_least, batched
from coreml_lab.program.mil.tools import mb

MAX, AVERAGE, L2 = 0, 1, 2
SPATIAL = [-2, -1]
OPS = {MAX: "max_pool", AVERAGE: "avg_pool", L2: "l2_pool"}


@layer("pooling", images=True)
def pooling(p: Any, x: Any) -> Any:
    """Largest, mean or Euclidean length of windows over height and width."""
    if p.globalPooling:
        return _global(p.type, x, SPATIAL)
    size, strides = pair(p.kernelSize, 3), pair(p.stride)
    given: dict[str, Any] = {"kernel_sizes": size, "strides": strides}
    if p.type == AVERAGE:
        given["exclude_padding_from_average"] = bool(p.avgPoolExcludePadding)
    return batched(x, 4, lambda v: getattr(mb, OPS[p.type])(x=v, **given, **_border(p)))


def _global(kind: int, x: Any, axes: list[int]) -> Any:
    at_least(x, len(axes) + 1)
    if kind == MAX:
        return mb.reduce_max(x=x, axes=axes, keep_dims=True)
    if kind == AVERAGE:
        return mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    return mb.reduce_l2_norm(x=x, axes=axes, keep_dims=True)


def _border(p: Any) -> dict[str, Any]:
    """Paddings in MIL's words; ``includeLastPixel`` is its ceil mode.

    Both round the number of windows up, drop a last one that would begin behind the input, and
    count no place behind the padding.
    """
    if not p.HasField("includeLastPixel"):
        return padding(p)
    height, width = pair(p.includeLastPixel.paddingAmounts, 0)
    pad = [height, height, width, width]
    return {"pad_type": "custom", "pad": pad, "ceil_mode": True}


@layer("pooling3d")
def pooling_3d(p: Any, x: Any) -> Any:
    """Largest or mean of windows over depth, height and width."""
    given: dict[str, Any] = {
        "kernel_sizes": triple(p, "kernel", 1),
        "strides": triple(p, "stride", 1),
    }
    if p.type == AVERAGE:
        given["exclude_padding_from_average"] = bool(p.countExcludePadding)
    return batched(x, 5, lambda v: getattr(mb, OPS[p.type])(x=v, **given, **paddings_3d(p)))


@layer("globalPooling3d")
def global_pooling_3d(p: Any, x: Any) -> Any:
    """Largest or mean over depth, height and width."""
    return _global(p.type, x, [-3, -2, -1])
