"""Layers that make images larger or smaller, and cut pieces out of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.registry import LayerError, layer, pair
from coreml_lab.program.mil.neural_network.values import RANK5, at_least, batched
from coreml_lab.program.mil.tools import is_symbolic, mb

IMAGE = 3
NEAREST = 0
SPATIAL = ("scale_factor_height", "scale_factor_width")
SAMPLING = {
    0: "STRICT_ALIGN_CORNERS",
    1: "ALIGN_CORNERS",
    2: "DEFAULT",
    3: "OFFSET_CORNERS",
}
BOXES = {
    0: "CORNERS_HEIGHT_FIRST",
    1: "CORNERS_WIDTH_FIRST",
    2: "CENTER_SIZE_HEIGHT_FIRST",
    3: "CENTER_SIZE_WIDTH_FIRST",
}
# Linear modes of upsample: from place 0 by in/out, the corners aligned, or half pixels.
DEFAULT, ALIGNED = 0, 1


@layer("upsample", images=True)
def upsample(p: Any, x: Any) -> Any:
    """Larger by a factor, with the nearest pixel or between pixels."""
    at_least(x, IMAGE)
    factors: list[Any] = pair(p.scalingFactor)
    if p.fractionalScalingFactor:
        if len(p.fractionalScalingFactor) != len(SPATIAL):
            raise LayerError("its fractionalScalingFactor is not of two numbers")
        factors = [np.float32(f) for f in p.fractionalScalingFactor]
    given = dict(zip(SPATIAL, factors, strict=True))
    if p.mode == NEAREST:
        return batched(x, 4, lambda v: mb.upsample_nearest_neighbor(x=v, **given))
    if p.linearUpsampleMode == DEFAULT:
        return batched(x, 4, lambda v: _from_the_corner(v, factors))
    aligned = p.linearUpsampleMode == ALIGNED
    return batched(x, 4, lambda v: mb.upsample_bilinear(x=v, align_corners=aligned, **given))


def _from_the_corner(x: Any, factors: list[Any]) -> Any:
    """Bilinear, with place i of the result at i * in / out."""
    if any(is_symbolic(d) for d in x.shape[-2:]):
        given = dict(zip(SPATIAL, factors, strict=True))
        return mb.upsample_bilinear(x=x, align_corners=False, half_pixel_centers=False, **given)
    height, width = (int(np.floor(d * f)) for d, f in zip(x.shape[-2:], factors, strict=True))
    return mb.resize_bilinear(
        x=x, target_size_height=height, target_size_width=width, sampling_mode="DEFAULT"
    )


@layer("resizeBilinear", images=True)
def resize_bilinear(p: Any, x: Any) -> Any:
    """A given height and width, between pixels."""
    at_least(x, IMAGE)
    height, width = pair(p.targetSize)
    mode = SAMPLING[p.mode.samplingMethod]
    return batched(
        x,
        4,
        lambda v: mb.resize_bilinear(
            x=v, target_size_height=height, target_size_width=width, sampling_mode=mode
        ),
    )


@layer("cropResize", inputs=2)
def crop_resize(p: Any, x: Any, boxes: Any) -> Any:
    """Boxes of images, each in a given height and width: [boxes, batch, channels, H, W]."""
    if x.rank == RANK5 and x.shape[0] == 1:
        x = mb.squeeze(x=x, axes=[0])
    if x.rank != RANK5 - 1 or boxes.rank != RANK5:
        raise LayerError(f"its inputs have {x.rank} and {boxes.rank} axes, not 5")
    height, width = pair(p.targetSize)
    return mb.crop_resize(
        x=x,
        roi=boxes,
        target_height=height,
        target_width=width,
        normalized_coordinates=bool(p.normalizedCoordinates),
        spatial_scale=np.float32(p.spatialScale or 1),
        box_coordinate_mode=BOXES[p.boxIndicesMode.boxMode],
        sampling_mode=SAMPLING[p.mode.samplingMethod],
    )
