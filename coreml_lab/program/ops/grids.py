"""Regular grids: which elements a resized dimension is made of, in NumPy, ONNX and PyTorch.

The point of the source that output ``i`` of ``m`` looks at, of ``n``, is ``(a * i + b) / c`` with
integers that the sampling mode decides, clipped to the source. Integers make the grid exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.sizes import size, sizes

IMAGE = 4
LINEAR, NEAREST = "LINEAR", "NEAREST_NEIGHBOR"
# A grid of our own beside MIL's: what upsampling copies, ``i * n // m``.
FLOOR = "FLOOR"
# The modes that ONNX has too, and PyTorch's align_corners for those that PyTorch has.
ONNX_MODES = {
    "DEFAULT": "asymmetric",
    "STRICT_ALIGN_CORNERS": "align_corners",
    "UNALIGN_CORNERS": "half_pixel",
}
TORCH_MODES = {"STRICT_ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}
MODES = (*ONNX_MODES, "ALIGN_CORNERS", "OFFSET_CORNERS")


def _ratio(n: int, m: int, mode: str) -> tuple[int, int, int]:
    """The integers a, b, c of the grid."""
    wide = max(1, n - 1)
    aligned = (n - 1, 0, max(m - 1, 1))
    return {
        "DEFAULT": (n, 0, m),
        FLOOR: (n, 0, m),
        "UNALIGN_CORNERS": (2 * n, n - m, 2 * m),
        "OFFSET_CORNERS": (2 * wide, wide, 2 * m),
        "STRICT_ALIGN_CORNERS": aligned,
        "ALIGN_CORNERS": (0, n - 1, 2) if m == 1 else aligned,
    }[mode]


def _ratio_onnx(o: Any, n: Any, m: Any, mode: str) -> tuple[Any, Any, Any]:
    """The same of sizes that are known only when the program runs."""
    zero, one, two = o.ints([0]), o.ints([1]), o.ints([2])
    if mode in {"DEFAULT", FLOOR}:
        return n, zero, m
    if mode == "UNALIGN_CORNERS":
        return o.Mul(n, two), o.Sub(n, m), o.Mul(m, two)
    if mode == "OFFSET_CORNERS":
        wide = o.Max(o.Sub(n, one), one)
        return o.Mul(wide, two), wide, o.Mul(m, two)
    last, steps = o.Sub(n, one), o.Max(o.Sub(m, one), one)
    if mode == "STRICT_ALIGN_CORNERS":
        return last, zero, steps
    single = o.Equal(m, one)
    return last, o.Where(single, last, zero), o.Where(single, two, steps)


def _nearest_mode(mode: str) -> str:
    """The grid that nearest-neighbor looks at: DEFAULT means the middles of the elements there.

    Core ML does not document it; coremltools' own tests of resize_nearest_neighbor expect it.
    """
    return "UNALIGN_CORNERS" if mode == "DEFAULT" else mode


def nearest(n: int, m: int, mode: str) -> Array:
    """The element of ``n`` that each of ``m`` outputs copies: nearest to its point, a half up."""
    a, b, c = _ratio(n, m, _nearest_mode(mode))
    point = a * np.arange(m, dtype=np.int64) + b
    rounded = point // c if mode == FLOOR else (2 * point + c) // (2 * c)
    return np.asarray(np.clip(rounded, 0, n - 1))


def between(n: int, m: int, mode: str) -> tuple[Array, Array, Array]:
    """The elements before and after the point of each output, and its distance from the first."""
    a, b, c = _ratio(n, m, mode)
    point = np.clip(a * np.arange(m, dtype=np.int64) + b, 0, (n - 1) * c)
    low = point // c
    return low, np.minimum(low + 1, n - 1), ((point % c) / c).astype(np.float32)


def _points_onnx(o: Any, n: Any, m: Any, mode: str) -> tuple[Any, Any, Any]:
    """The points of the grid times c, with c and the last element, all as one-element vectors."""
    n, m = (o.ints([v]) if isinstance(v, int) else v for v in (n, m))
    a, b, c = _ratio_onnx(o, n, m, mode)
    every = o.Range(o.ints(0), o.Reshape(m, o.ints([])), o.ints(1))
    return o.Add(o.Mul(every, a), b), c, o.Sub(n, o.ints([1]))


def _nearest_onnx(o: Any, n: Any, m: Any, mode: str) -> Any:
    if isinstance(n, int) and isinstance(m, int):
        return o.ints(nearest(n, m, mode))
    point, c, last = _points_onnx(o, n, m, _nearest_mode(mode))
    two = o.ints([2])
    if mode != FLOOR:
        point, c = o.Add(o.Mul(point, two), c), o.Mul(c, two)
    return o.Min(o.Div(point, c), last)


def _between_onnx(o: Any, n: Any, m: Any, mode: str) -> tuple[Any, Any, Any]:
    if isinstance(n, int) and isinstance(m, int):
        low, high, part = between(n, m, mode)
        return o.ints(low), o.ints(high), o.const(part)
    point, c, last = _points_onnx(o, n, m, mode)
    point = o.Min(o.Max(point, o.ints([0])), o.Mul(last, c))
    low = o.Div(point, c)
    part = o.Div(o.cast(o.Sub(point, o.Mul(low, c)), np.float32), o.cast(c, np.float32))
    return low, o.Min(o.Add(low, o.ints([1])), last), part


def resized(x: Array, wanted: Sequence[int], how: str, mode: str) -> Array:
    """``x`` with its last dimensions of the ``wanted`` sizes."""
    y = x.astype(np.float32) if x.dtype.kind == "i" and how != NEAREST else x
    for i, m in enumerate(wanted):
        axis = x.ndim - len(wanted) + i
        if how == NEAREST:
            y = np.take(y, nearest(x.shape[axis], m, mode), axis)
        else:
            low, high, part = between(x.shape[axis], m, mode)
            part = part.reshape([-1] + [1] * (x.ndim - 1 - axis))
            y = np.take(y, low, axis) * (1 - part) + np.take(y, high, axis) * part
    return np.asarray((np.rint(y) if x.dtype.kind == "i" else y).astype(x.dtype))


def resized_onnx(o: Any, x: Any, wanted: Sequence[Any], how: str, mode: str) -> Any:
    """The same in ONNX; sizes may be one-element vectors that are computed."""
    axes = range(x.rank - len(wanted), x.rank)
    given = [size(o, x, a) for a in axes]
    if mode == "ALIGN_CORNERS" and all(isinstance(m, int) and m > 1 for m in wanted):
        mode = "STRICT_ALIGN_CORNERS"
    if _has_onnx(x, given, wanted, how, mode):
        return _image_onnx(o, x, wanted, how, mode)
    whole = x.dtype.kind == "i" and how == LINEAR
    y = o.cast(x, np.float32) if whole else x
    for axis, n, m in zip(axes, given, wanted, strict=True):
        if how == NEAREST:
            y = o.Gather(y, _nearest_onnx(o, n, m, mode), axis=axis)
            continue
        low, high, part = _between_onnx(o, n, m, mode)
        part = o.Reshape(part, o.ints([-1] + [1] * (x.rank - 1 - axis)))
        first = o.Mul(o.Gather(y, low, axis=axis), o.Sub(o.const(np.float32(1)), part))
        y = o.Add(first, o.Mul(o.Gather(y, high, axis=axis), part))
    return o.cast(o.Round(y), np.int32) if whole else y if len(wanted) else o.Identity(y)


def _has_onnx(x: Any, given: Sequence[Any], wanted: Sequence[Any], how: str, mode: str) -> bool:
    """Whether ONNX's Resize computes exactly this."""
    if len(wanted) != 2 or 0 in x.shape or x.dtype.kind != "f":  # noqa: PLR2004 - an image
        return False
    if how == LINEAR:
        return mode in ONNX_MODES
    # ONNX rounds the ratio of the sizes: only multiples are sure to find the right element.
    known = all(isinstance(v, int) for v in (*given, *wanted))
    return (
        mode == "DEFAULT" and known and all(m % n == 0 for n, m in zip(given, wanted, strict=True))
    )


def _image_onnx(o: Any, x: Any, wanted: Sequence[Any], how: str, mode: str) -> Any:
    given = [size(o, x, a) for a in (-2, -1)]
    lead = [size(o, x, a) for a in range(x.rank - 2)]
    front = lead if x.rank == IMAGE else [1, _product(o, lead)]
    # A size of 0 means an empty batch here, not the size that x has there.
    image = x if x.rank == IMAGE else o.Reshape(x, sizes(o, [*front, *given]), allowzero=1)
    y = o.Resize(
        image,
        None,
        None,
        sizes(o, [*front, *wanted]),
        mode="linear" if how == LINEAR else "nearest",
        coordinate_transformation_mode=ONNX_MODES[mode] if how == LINEAR else "asymmetric",
        nearest_mode="floor" if how == NEAREST else None,
    )
    return y if x.rank == IMAGE else o.Reshape(y, sizes(o, [*lead, *wanted]), allowzero=1)


def _product(o: Any, parts: Sequence[Any]) -> Any:
    if all(isinstance(p, int) for p in parts):
        return int(np.prod(parts, dtype=np.int64))
    return parts[0] if len(parts) == 1 else o.ReduceProd(sizes(o, parts), keepdims=1)


def resized_torch(t: Any, x: Any, wanted: Sequence[int], how: str, mode: str) -> Any:
    """The same in PyTorch, by its own interpolation where it has the grid."""
    if len(wanted) == 2 and x.is_floating_point() and mode in TORCH_MODES and how == LINEAR:  # noqa: PLR2004 - an image
        image = x.reshape(1, -1, *x.shape[-2:])
        y = t.nn.functional.interpolate(
            image, size=tuple(wanted), mode="bilinear", align_corners=TORCH_MODES[mode]
        )
        return y.reshape(*x.shape[:-2], *wanted)
    y = x
    for i, m in enumerate(wanted):
        axis = x.ndim - len(wanted) + i

        def take(at: Array, axis: int = axis) -> Any:
            return t.index_select(y, axis, t.as_tensor(at, device=x.device))  # noqa: B023 - called at once

        if how == NEAREST:
            y = take(nearest(x.shape[axis], m, mode))
        else:
            low, high, part = between(x.shape[axis], m, mode)
            part = part.reshape([-1] + [1] * (x.ndim - 1 - axis))
            y = t.lerp(take(low).float(), take(high).float(), t.as_tensor(part, device=x.device))
    return (y if x.is_floating_point() else t.round(y)).to(x.dtype)
