"""Images sampled at given points: points as tensors, as an affine map, or as boxes to cut out."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.boxes import (
    BOX_MODES,
    Cut,
    crops,
    crops_onnx,
    crops_torch,
)
from coreml_lab.program.ops.grids import MODES
from coreml_lab.program.ops.points import grid_onnx, sampled, sides
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal, unit
from coreml_lab.program.ops.sizes import size, sizes

PADDINGS = ("constant", "border", "reflection", "symmetric")
# Pixels, or half images, that are outside for certain.
FAR = -2
BEYOND = 9
COORDINATES = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")


def _pixels(points: Any, extent: Any, mode: str, align_corners: Any) -> Any:
    """Coordinates in pixels: 0 is the middle of the first. For NumPy and PyTorch alike."""
    if mode == "unnormalized":
        return points
    part = (points + 1) / 2 if mode == "normalized_minus_one_to_one" else points
    return part * (extent - 1) if align_corners else part * extent - 0.5


def _mapped(xp: Any, points: Any, extent: Any, padding: str) -> Any:
    """Pixel coordinates brought back into the image, as the padding mode has it."""
    last = extent - 1
    if padding == "reflection":
        around = xp.abs(points) % xp.clip(2 * last, 1, None)
        points = last - xp.abs(around - last)
    elif padding == "symmetric":
        points = extent - xp.abs((points + 0.5) % (2 * extent) - extent) - 0.5
    elif padding == "constant":
        return points
    return xp.minimum(xp.maximum(xp.nan_to_num(points, nan=0.0), 0 * last), last)


def _resample_onnx(
    o: Any,
    x: Any,
    coordinates: Any,
    *,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Any:
    points = coordinates if coordinates.dtype.kind == "f" else o.cast(coordinates, np.float32)
    extent, one, two = sides(o, x), o.const(np.float32(1)), o.const(np.float32(2))
    half, last = o.const(np.float32(0.5)), o.Sub(extent, one)
    if coordinates_mode != "unnormalized":
        minus = coordinates_mode == "normalized_minus_one_to_one"
        part = o.Mul(o.Add(points, one), half) if minus else points
        points = o.Mul(part, last) if align_corners else o.Sub(o.Mul(part, extent), half)
    if padding_mode == "reflection":
        around = _modulo(o, o.Abs(points), o.Max(o.Mul(last, two), one))
        points = o.Sub(last, o.Abs(o.Sub(around, last)))
    elif padding_mode == "symmetric":
        around = _modulo(o, o.Add(points, half), o.Mul(extent, two))
        points = o.Sub(o.Sub(extent, o.Abs(o.Sub(around, extent))), half)
    constant, nearest = padding_mode == "constant", sampling_mode == "nearest"
    # In constant mode what is far outside is only kept from overflowing.
    low, high = (o.const(np.float32(FAR)), extent) if constant else (o.const(np.float32(0)), last)
    points = o.Where(o.IsNaN(points), low, o.Min(o.Max(points, low), high))
    fill = float(padding_value) if constant else 0.0
    y = o.GridSample(
        o.Sub(x, o.scalar(fill, x)) if fill else x,
        grid_onnx(o, o.Round(points) if nearest else points, extent),
        mode="nearest" if nearest else "linear",
        padding_mode="zeros" if constant else "border",
        align_corners=0,
    )
    return o.Add(y, o.scalar(fill, x)) if fill else y


def _modulo(o: Any, x: Any, period: Any) -> Any:
    return o.Sub(x, o.Mul(o.Floor(o.Div(x, period)), period))


def _resample_torch(
    t: Any,
    x: Any,
    coordinates: Any,
    *,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Any:
    extent = t.tensor([x.shape[3], x.shape[2]], dtype=t.float32, device=x.device)
    points = t.as_tensor(coordinates, device=x.device).float()
    pixels = _pixels(points, extent, coordinates_mode, align_corners)
    # Reflected at the middles of the outer pixels, or at their outer edges.
    aligned = padding_mode == "reflection"
    grid = 2 * pixels / (extent - 1).clip(1) - 1 if aligned else (2 * pixels + 1) / extent - 1
    fill = float(padding_value) if padding_mode == "constant" else 0.0
    y = t.nn.functional.grid_sample(
        x.float() - fill,
        grid,
        mode=sampling_mode,
        padding_mode={"constant": "zeros", "border": "border"}.get(padding_mode, "reflection"),
        align_corners=aligned,
    )
    return y + fill


def _resamples() -> list[dict[str, Any]]:
    """Every padding, way to give coordinates, and sampling, inside the image and beyond it."""
    plain = {"padding_value": np.float32(0), "align_corners": True}
    samples: list[dict[str, Any]] = []
    for i, padding in enumerate(PADDINGS):
        for j, coordinates in enumerate(COORDINATES):
            points = unit(2, 2, 5, 2, seed=i) * np.float32(2.1)
            samples.append(
                {
                    "x": normal(2, 3, 4, 5),
                    "coordinates": points * np.float32(4) if j == 0 else points,
                    "sampling_mode": "bilinear",
                    "padding_mode": padding,
                    "coordinates_mode": coordinates,
                    **plain,
                    "align_corners": (i + j) % 2 == 0,
                }
            )
        samples.append(
            {
                "x": normal(1, 2, 4, 1),
                "coordinates": integers(1, 3, 4, 2, low=-5, high=8, seed=i),
                "sampling_mode": "nearest",
                "padding_mode": padding,
                "coordinates_mode": "unnormalized",
                **plain,
                "padding_value": np.float32(1.5),
            }
        )
    return samples


@op(samples=_resamples(), onnx=_resample_onnx, torch=_resample_torch)
def resample(
    x: Array,
    coordinates: Array,
    *,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """The images [b, c, h, w] at ``coordinates`` [b, h2, w2, 2], given as (across, down).

    Coordinates are pixels (unnormalized), -1 to 1, or 0 to 1; the ends are the middles of the
    outer pixels with ``align_corners``, else their outer edges. ``nearest`` rounds halves to even.
    Beyond the image are ``padding_value`` (constant), the outer pixels (border), or mirror images
    without the outer pixel repeated (reflection) or with it (symmetric). A coordinate that is not
    a number is outside, before the first pixel.
    """
    extent = np.array([x.shape[3], x.shape[2]], np.float32)
    points = np.asarray(coordinates, np.float32)
    pixels = _pixels(points, extent, coordinates_mode, align_corners)
    inside = _mapped(np, pixels, extent, padding_mode)
    return sampled(x, inside, linear=sampling_mode == "bilinear", fill=float(padding_value))


def _base(height: int, width: int, align_corners: Any) -> Array:
    """Rows across, down and 1 of every output pixel, across and down from -1 to 1."""

    def line(n: int) -> Array:
        steps = (2 * np.arange(n) + 1) / n - 1
        # A single pixel is in the middle, where the ends would be at two places at once.
        return np.linspace(-1, 1, n) if align_corners and n > 1 else steps

    down, across = np.meshgrid(line(height), line(width), indexing="ij")
    rows = [across.ravel(), down.ravel(), np.ones(height * width)]
    return np.array(rows, np.float32)


def _affine_onnx(
    o: Any,
    x: Any,
    transform_matrix: Any,
    *,
    output_height: Any,
    output_width: Any,
    align_corners: Any,
    **_: Any,
) -> Any:
    height, width = int(output_height), int(output_width)
    matrix = o.Reshape(transform_matrix, o.ints([-1, 2, 3]))
    points = o.MatMul(matrix, o.const(_base(height, width, align_corners)))
    bounds = (o.const(np.float32(-BEYOND)), o.const(np.float32(BEYOND)))
    points = o.Clip(o.Where(o.IsNaN(points), bounds[0], points), *bounds)
    grid = o.Reshape(o.Transpose(points, perm=[0, 2, 1]), o.ints([-1, height, width, 2]))
    return o.GridSample(
        x,
        o.Expand(grid, sizes(o, [size(o, x, 0), 1, 1, 1])),
        mode="linear",
        padding_mode="zeros",
        align_corners=int(bool(align_corners)),
    )


def _affine_torch(
    t: Any,
    x: Any,
    transform_matrix: Any,
    *,
    output_height: Any,
    output_width: Any,
    align_corners: Any,
    **_: Any,
) -> Any:
    shape = [x.shape[0], x.shape[1], int(output_height), int(output_width)]
    matrix = t.as_tensor(transform_matrix, device=x.device).float()
    matrix = matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    aligned = bool(align_corners)
    grid = t.nn.functional.affine_grid(matrix, shape, align_corners=aligned)
    return t.nn.functional.grid_sample(x.float(), grid, align_corners=aligned)


FIXED = {
    "sampling_mode": "bilinear",
    "padding_mode": "constant",
    "padding_value": np.float32(0),
    "coordinates_mode": "normalized_minus_one_to_one",
}


@op(
    samples=[
        {"x": normal(2, 3, 4, 5), "transform_matrix": unit(2, 6, seed=1)}
        | {"output_height": 3, "output_width": 6, "align_corners": True, **FIXED},
        {"x": normal(2, 1, 4, 5), "transform_matrix": unit(1, 6, seed=2)}
        | {"output_height": 5, "output_width": 2, "align_corners": True, **FIXED},
        {"x": normal(1, 1, 1, 5), "transform_matrix": unit(1, 6, seed=3)}
        | {"output_height": 2, "output_width": 3, "align_corners": False, **FIXED},
    ],
    onnx=_affine_onnx,
    torch=_affine_torch,
)
def affine(
    x: Array,
    transform_matrix: Array,
    *,
    output_height: int,
    output_width: int,
    sampling_mode: str,  # noqa: ARG001 - MIL admits bilinear alone
    padding_mode: str,  # noqa: ARG001 - MIL admits constant alone
    padding_value: float,  # noqa: ARG001 - MIL admits 0 alone
    coordinates_mode: str,  # noqa: ARG001 - MIL admits normalized_minus_one_to_one alone
    align_corners: bool,
) -> Array:
    """Images [b, c, h, w] seen through an affine map: where each output pixel looks.

    ``transform_matrix`` [b or 1, 6] maps (across, down), both from -1 to 1 over the output, to the
    point of the input. Beyond the image there are zeros.
    """
    height, width = int(output_height), int(output_width)
    matrix = np.asarray(transform_matrix, np.float32).reshape(-1, 2, 3)
    points = np.swapaxes(matrix @ _base(height, width, align_corners), 1, 2)
    grid = np.broadcast_to(points.reshape(-1, height, width, 2), (len(x), height, width, 2))
    extent = np.array([x.shape[3], x.shape[2]], np.float32)
    pixels = _pixels(grid, extent, "normalized_minus_one_to_one", align_corners)
    return sampled(x, pixels, linear=True, fill=0.0)


BOXES = np.array([[0.5, 1, 2.5, 3], [3, 4, 1, 0.5], [-1, 2, 6, 2]], np.float32)
PARTS = np.array([[0.1, 0.2, 0.9, 0.7], [0, 0, 1, 1]], np.float32)


@op(
    samples=[
        *(
            {"x": normal(3, 2, 4, 5), "boxes": BOXES, "target_height": 3, "target_width": 4}
            | {"sampling_mode": mode}
            for mode in MODES
        ),
        *(
            {"x": normal(2, 2, 4, 5), "boxes": BOXES, "target_width": 3}
            | {"box_indices": np.array([1, 0, 1], np.int32), "box_coordinate_mode": mode}
            | {"sampling_mode": "ALIGN_CORNERS", "pad_value": np.float32(-1.5)}
            for mode in BOX_MODES
        ),
        {"x": normal(2, 2, 4, 5), "boxes": PARTS, "target_height": 5, "target_width": 2}
        | {"normalized_coordinates": True, "spatial_scale": 0.5},
    ],
    onnx=crops_onnx,
    torch=crops_torch,
    older=("roi",),
)
def crop_resize(
    x: Array,
    # Required since iOS17; programs of older opsets bring ``roi`` instead.
    boxes: Any = inspect.Parameter.empty,
    box_indices: Array | None = None,
    *,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
    roi: Array | None = None,
) -> Array:
    """Boxes cut out of images [b, c, h, w] and resized: [n, c, target_height, target_width].

    ``boxes`` [n, 4] are in pixels, or parts of ``h - 1`` and ``w - 1`` where
    ``normalized_coordinates``, times ``spatial_scale``. Box ``i`` is cut out of image
    ``box_indices[i]``, or ``i``. Each is sampled as ``resize_bilinear`` samples an image whose
    first and last pixels are the box's ends; a box with its ends exchanged is mirrored. A point
    beyond the image gives ``pad_value``.
    """
    how = Cut(
        int(target_height),
        int(target_width),
        bool(normalized_coordinates),
        float(spatial_scale),
        box_coordinate_mode,
        sampling_mode,
        float(pad_value),
    )
    return crops(x, boxes, box_indices, roi, how)
