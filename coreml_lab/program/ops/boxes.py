"""Boxes cut out of images and resized: the body and the lowerings of ``crop_resize``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.points import grid_onnx, sampled, sides
from coreml_lab.program.ops.sizes import size

BOX_MODES = (
    "CORNERS_HEIGHT_FIRST",
    "CORNERS_WIDTH_FIRST",
    "CENTER_SIZE_HEIGHT_FIRST",
    "CENTER_SIZE_WIDTH_FIRST",
)
# An old region of interest with an image's index before its four numbers.
INDEXED = 5


@dataclass(frozen=True)
class Cut:
    """How boxes are read and sampled: the constants of ``crop_resize``."""

    target_height: int
    target_width: int
    normalized_coordinates: bool
    spatial_scale: float
    box_coordinate_mode: str
    sampling_mode: str
    pad_value: float

    def places(self, down: bool) -> tuple[int, int]:
        """The columns of a box that give its extent down, or across."""
        first = down == self.box_coordinate_mode.endswith("HEIGHT_FIRST")
        return (0, 2) if first else (1, 3)

    def steps(self, down: bool) -> tuple[Array, Array]:
        """Per output, the factor of the box's length and what is added to that.

        The grids of ``resize_bilinear`` for an image of ``length + 1`` pixels.
        """
        m = self.target_height if down else self.target_width
        i, zero = np.arange(m), np.zeros(m)
        middle = (i + 0.5) / m
        factor, more = {
            "DEFAULT": (i / m, i / m),
            "UNALIGN_CORNERS": (middle, middle - 0.5),
            "OFFSET_CORNERS": (middle, zero),
            "STRICT_ALIGN_CORNERS": (i / max(m - 1, 1), zero),
            "ALIGN_CORNERS": (np.array([0.5]) if m == 1 else i / (m - 1 or 1), zero),
        }[self.sampling_mode]
        return factor.astype(np.float32), more.astype(np.float32)

    @property
    def centered(self) -> bool:
        """Whether boxes are given as their center and size."""
        return self.box_coordinate_mode.startswith("CENTER")


def crops(x: Array, boxes: Any, box_indices: Any, roi: Array | None, how: Cut) -> Array:
    """The body of ``crop_resize``."""
    if roi is None:
        found = np.asarray(boxes, np.float32)
        at = np.arange(len(found)) if box_indices is None else np.asarray(box_indices)
        return _cut(x, found, at, how)
    found = np.asarray(roi, np.float32).reshape(len(roi), -1)
    if found.shape[1] == INDEXED:
        return _cut(x, found[:, 1:], found[:, 0].astype(np.int64), how)[:, None]
    whole = [_cut(x, found, np.full(len(found), b), how) for b in range(len(x))]
    return np.stack(whole, 1)


def _cut(x: Array, boxes: Array, at: Array, how: Cut) -> Array:
    down = _line(np, boxes, x.shape[2], how, down=True)
    across = _line(np, boxes, x.shape[3], how, down=False)
    points = np.stack(np.broadcast_arrays(across[:, None, :], down[:, :, None]), -1)
    y = sampled(x[at], points, linear=True, fill=0.0)
    inside = (
        _within(down, x.shape[2])[:, None, :, None] & _within(across, x.shape[3])[:, None, None]
    )
    return np.where(inside, y, np.float32(how.pad_value))


def _line(xp: Any, boxes: Any, n: int, how: Cut, *, down: bool) -> Any:
    """The points of every box along one side, in pixels; for NumPy and PyTorch alike."""
    scale = np.float32((n - 1 if how.normalized_coordinates else 1) * how.spatial_scale)
    first, second = (boxes[:, [k]] * float(scale) for k in how.places(down))
    if how.centered:
        first, second = first - second / 2, first + second / 2
    length = second - first
    if how.sampling_mode == "OFFSET_CORNERS":
        length = xp.clip(length, 1, None)
    factor, more = (xp.asarray(v) for v in how.steps(down))
    points = first + length * factor + more
    return xp.minimum(xp.maximum(points, xp.minimum(first, second)), xp.maximum(first, second))


def _within(points: Any, n: int) -> Any:
    return (points >= 0) & (points <= n - 1)


def crops_onnx(
    o: Any, x: Any, boxes: Any, box_indices: Any, *, roi: Any = None, **given: Any
) -> Any:
    """``crop_resize`` in ONNX."""
    how = _how(given)
    if roi is None:
        return _cut_onnx(o, x, boxes, _chosen(o, x, boxes, box_indices), how)
    roi = o.const(roi) if isinstance(roi, np.ndarray) else roi
    parts = roi.shape[2]
    found = o.Reshape(roi, o.ints([0, parts]))
    if parts == INDEXED:
        at = o.cast(o.Gather(found, o.ints(0), axis=1), np.int64)
        corners = o.Gather(found, o.ints([1, 2, 3, 4]), axis=1)
        return o.Unsqueeze(_cut_onnx(o, x, corners, o.Gather(x, at, axis=0), how), o.ints([1]))
    images = size(o, x, 0)
    if not isinstance(images, int):
        raise UnsupportedOp(
            "crop_resize: boxes for every image of a batch whose size is flexible",
            node=o.node.name,
            engine="portable",
            hint="fix the batch size, or give each box the index of its image",
        )
    number = o.Shape(found, start=0, end=1)
    whole = []
    for b in range(images):
        chosen = o.Gather(x, o.Expand(o.ints([b]), number), axis=0)
        whole.append(o.Unsqueeze(_cut_onnx(o, x, found, chosen, how), o.ints([1])))
    return o.Concat(*whole, axis=1)


def _how(given: dict[str, Any]) -> Cut:
    kinds: dict[str, Callable[[Any], Any]] = {
        "target_height": int,
        "target_width": int,
        "normalized_coordinates": bool,
        "spatial_scale": float,
        "pad_value": float,
    }
    return Cut(**{k: kinds.get(k, str)(v) for k, v in given.items()})


def _chosen(o: Any, x: Any, boxes: Any, box_indices: Any) -> Any:
    """The image of each box."""
    if box_indices is not None:
        return o.Gather(x, box_indices, axis=0)
    return o.Slice(x, o.ints([0]), o.Shape(boxes, start=0, end=1), o.ints([0]))


def _cut_onnx(o: Any, x: Any, boxes: Any, images: Any, how: Cut) -> Any:
    """Each of the ``boxes`` [n, 4] out of its image."""
    boxes = o.cast(boxes, np.float32)
    extent = sides(o, x)
    lines, inside = [], []
    for k, down in enumerate((False, True)):
        n = o.Gather(extent, o.ints([k]), axis=0)
        last = o.Sub(n, o.const(np.float32(1)))
        points = _line_onnx(o, boxes, last, how, down=down)
        near = o.And(o.GreaterOrEqual(points, o.const(np.float32(0))), o.LessOrEqual(points, last))
        axes = o.ints([1, 2] if not down else [1, 3])
        inside.append(o.Unsqueeze(near, axes))
        spread = o.ints([1, how.target_height, how.target_width, 1])
        flat = o.Unsqueeze(grid_onnx(o, points, n), o.ints([1, 3] if not down else [2, 3]))
        lines.append(o.Expand(flat, spread))
    y = o.GridSample(
        images,
        o.Concat(*lines, axis=3),
        mode="linear",
        padding_mode="border",
        align_corners=0,
    )
    return o.Where(o.And(*inside), y, o.const(np.float32(how.pad_value)))


def _line_onnx(o: Any, boxes: Any, last: Any, how: Cut, *, down: bool) -> Any:
    scale = o.const(np.float32(how.spatial_scale))
    scale = o.Mul(last, scale) if how.normalized_coordinates else scale
    first, second = (o.Mul(o.Gather(boxes, o.ints([k]), axis=1), scale) for k in how.places(down))
    if how.centered:
        half = o.Mul(second, o.const(np.float32(0.5)))
        first, second = o.Sub(first, half), o.Add(first, half)
    length = o.Sub(second, first)
    if how.sampling_mode == "OFFSET_CORNERS":
        length = o.Max(length, o.const(np.float32(1)))
    factor, more = (o.const(v) for v in how.steps(down))
    points = o.Add(o.Add(first, o.Mul(length, factor)), more)
    return o.Min(o.Max(points, o.Min(first, second)), o.Max(first, second))


def crops_torch(
    t: Any, x: Any, boxes: Any, box_indices: Any, *, roi: Any = None, **given: Any
) -> Any:
    """``crop_resize`` in PyTorch."""
    how = _how(given)
    if roi is not None:
        found = roi.reshape(roi.shape[0], -1)
        if found.shape[1] == INDEXED:
            return _cut_torch(t, x[t.within(found[:, 0], len(x))], found[:, 1:], how)[:, None]
        whole = [_cut_torch(t, i.expand(len(found), *i.shape), found, how) for i in x]
        return t.stack(whole, 1)
    images = x[: len(boxes)] if box_indices is None else x[t.within(box_indices, len(x))]
    return _cut_torch(t, images, boxes, how)


def _cut_torch(t: Any, images: Any, boxes: Any, how: Cut) -> Any:
    height, width = images.shape[2:]
    down = _line(t, boxes.float(), height, how, down=True)
    across = _line(t, boxes.float(), width, how, down=False)
    grid = t.stack(
        t.broadcast_tensors(
            ((2 * across + 1) / width - 1)[:, None, :], ((2 * down + 1) / height - 1)[:, :, None]
        ),
        -1,
    )
    y = t.nn.functional.grid_sample(
        images.float(), grid, padding_mode="border", align_corners=False
    )
    inside = _within(down, height)[:, None, :, None] & _within(across, width)[:, None, None, :]
    return t.where(inside, y, t.tensor(how.pad_value, dtype=y.dtype, device=y.device))
