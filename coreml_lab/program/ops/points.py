"""Images at points that are given in pixels: in NumPy, and as ONNX's GridSample wants them."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.sizes import size


def sampled(x: Array, points: Array, *, linear: bool, fill: float) -> Array:
    """``x`` [b, c, h, w] at ``points`` [b, h2, w2, 2], (across, down); beyond it is ``fill``."""
    # What lies further outside is outside all the same, and so is what is not a number.
    far = np.fmin(np.fmax(points, -2), np.array([x.shape[3] + 1, x.shape[2] + 1]))
    across, down = far[..., 0], far[..., 1]
    if not linear:
        return _pixel(x, np.rint(across), np.rint(down), fill)
    left, top = np.floor(across), np.floor(down)
    right = (across - left)[:, None].astype(np.float32)
    below = (down - top)[:, None].astype(np.float32)
    upper = _pixel(x, left, top, fill) * (1 - right) + _pixel(x, left + 1, top, fill) * right
    lower = _pixel(x, left, top + 1, fill) * (1 - right)
    lower = lower + _pixel(x, left + 1, top + 1, fill) * right
    return np.asarray(upper * (1 - below) + lower * below)


def _pixel(x: Array, across: Array, down: Array, fill: float) -> Array:
    """Whole pixels [b, c, h2, w2]."""
    height, width = x.shape[2:]
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    rows = np.clip(down, 0, height - 1).astype(np.int64)
    columns = np.clip(across, 0, width - 1).astype(np.int64)
    image = np.arange(len(x))[:, None, None]
    found = np.moveaxis(x[image, :, rows, columns], -1, 1)
    return np.where(inside[:, None], found, np.asarray(fill, x.dtype))


def sides(o: Any, x: Any) -> Any:
    """Width and height of the images in ``x`` as an ONNX vector of floats."""
    width, height = size(o, x, 3), size(o, x, 2)
    if isinstance(width, int) and isinstance(height, int):
        return o.const(np.array([width, height], np.float32))
    parts = [o.ints([p]) if isinstance(p, int) else p for p in (width, height)]
    return o.cast(o.Concat(*parts, axis=0), np.float32)


def grid_onnx(o: Any, points: Any, extent: Any) -> Any:
    """Points in pixels as GridSample takes them with align_corners=0, which has no special case."""
    one, two = o.const(np.float32(1)), o.const(np.float32(2))
    return o.Sub(o.Div(o.Add(o.Mul(points, two), one), extent), one)
