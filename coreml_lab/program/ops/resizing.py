"""Images made larger or smaller on a regular grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.grids import (
    FLOOR,
    LINEAR,
    MODES,
    NEAREST,
    resized,
    resized_onnx,
    resized_torch,
)
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal
from coreml_lab.program.ops.sizes import as_ints, constant, size

LAST = 2**31 - 1


def _sides(x: Any, shape: Any, resized_dims: Any) -> list[int]:
    """The sizes that ``resize`` asks for; 0 keeps one."""
    dims = int(resized_dims)
    kept = list(x.shape)[x.ndim - dims :]
    asked = as_ints(shape)
    return [m or k for m, k in zip(asked[len(asked) - dims :], kept, strict=True)]


def _resize_onnx(
    o: Any, x: Any, shape: Any, *, resized_dims: Any, interpolation_mode: str, sampling_mode: str
) -> Any:
    dims = int(resized_dims)
    asked = constant(shape)
    wanted = []
    for i in range(-dims, 0):
        kept = size(o, x, i)
        if asked is not None:
            wanted.append(asked[i] or kept)
            continue
        at = (o.ints([i]), o.ints([i + 1 if i < -1 else LAST]))
        new = o.Reshape(o.Slice(o.ints(shape), *at), o.ints([1]))
        kept = o.ints([kept]) if isinstance(kept, int) else kept
        wanted.append(o.Where(o.Equal(new, o.ints([0])), kept, new))
    return resized_onnx(o, x, wanted, interpolation_mode, sampling_mode)


@op(
    samples=[
        *(
            {"x": normal(1, 2, 4, 3), "shape": [7, 2], "resized_dims": np.uint32(2)}
            | {"sampling_mode": mode}
            for mode in MODES
        ),
        *(
            {"x": normal(1, 2, 4, 3), "shape": [3, 9], "resized_dims": np.uint32(2)}
            | {"sampling_mode": mode, "interpolation_mode": NEAREST}
            for mode in MODES
        ),
        {
            "x": normal(2, 3, 4),
            "shape": [9, 0, 1],
            "resized_dims": np.uint32(3),
            "sampling_mode": "ALIGN_CORNERS",
        },
        {"x": normal(3, 4), "shape": [9, 6], "resized_dims": np.uint32(1)},
        {"x": integers(2, 3, 4), "shape": [5, 7], "resized_dims": np.uint32(2)},
        {
            "x": integers(3, 4),
            "shape": [6, 8],
            "resized_dims": np.uint32(2),
            "interpolation_mode": NEAREST,
        },
        *(
            {
                "x": normal(1, 2, 4, 3),
                "shape": np.array([1, 0, 5], np.int32),
                "resized_dims": np.uint32(2),
                "sampling_mode": mode,
            }
            for mode in MODES
        ),
        {
            "x": normal(1, 2, 4, 3),
            "shape": np.array([1, 5], np.int32),
            "resized_dims": np.uint32(2),
            "interpolation_mode": NEAREST,
        },
    ],
    onnx=_resize_onnx,
    torch=lambda t, x, shape, *, resized_dims, interpolation_mode, sampling_mode: resized_torch(
        t, x, _sides(x, shape, resized_dims), interpolation_mode, sampling_mode
    ),
)
def resize(
    x: Array,
    shape: Any,
    *,
    resized_dims: int,
    interpolation_mode: str = LINEAR,
    sampling_mode: str = "DEFAULT",
) -> Array:
    """``x`` with its last ``resized_dims`` dimensions of the last sizes in ``shape``; 0 keeps one.

    LINEAR results of integers are rounded to the nearest (Core ML does not say how it does it).
    NEAREST_NEIGHBOR takes the element nearest to the point of the grid, a half up; DEFAULT means
    UNALIGN_CORNERS there.
    """
    return resized(x, _sides(x, shape, resized_dims), interpolation_mode, sampling_mode)


SIZES = ((4, 3, 7, 2), (4, 3, 1, 1), (1, 1, 3, 2), (5, 2, 2, 1))


@op(
    samples=[
        *(
            {"x": normal(2, h, w), "target_size_height": m, "target_size_width": k}
            | {"sampling_mode": mode}
            for mode in MODES
            for h, w, m, k in SIZES
        ),
        {"x": normal(2, 1, 2, 4, 3), "target_size_height": 5, "target_size_width": 6},
    ],
    onnx=lambda o, x, *, target_size_height, target_size_width, sampling_mode: resized_onnx(
        o, x, [int(target_size_height), int(target_size_width)], LINEAR, sampling_mode
    ),
    torch=lambda t, x, *, target_size_height, target_size_width, sampling_mode: resized_torch(
        t, x, [int(target_size_height), int(target_size_width)], LINEAR, sampling_mode
    ),
)
def resize_bilinear(
    x: Array,
    *,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Array:
    """Images of another height and width, interpolated along both.

    Output ``i`` of ``m`` looks at this point of ``n``, clipped to 0 … n - 1: ``i * n / m``
    (DEFAULT), ``(i + 0.5) * n / m - 0.5`` (UNALIGN_CORNERS), ``i * (n - 1) / (m - 1)``
    (STRICT_ALIGN_CORNERS; ALIGN_CORNERS too, but the middle where ``m`` is 1), or
    ``(i + 0.5) * max(1, n - 1) / m`` (OFFSET_CORNERS).
    """
    wanted = [int(target_size_height), int(target_size_width)]
    return resized(x, wanted, LINEAR, sampling_mode)


@op(
    samples=[
        *(
            {"x": normal(2, h, w), "target_size_height": m, "target_size_width": k}
            for h, w, m, k in (*SIZES, (4, 3, 8, 9))
        ),
        {"x": normal(1, 2, 1, 4, 3), "target_size_height": 5, "target_size_width": 6},
    ],
    onnx=lambda o, x, *, target_size_height, target_size_width: resized_onnx(
        o, x, [int(target_size_height), int(target_size_width)], NEAREST, "DEFAULT"
    ),
    torch=lambda t, x, *, target_size_height, target_size_width: t.nn.functional.interpolate(
        x.reshape(1, -1, *x.shape[-2:]),
        size=(int(target_size_height), int(target_size_width)),
        mode="nearest-exact",
    ).reshape(*x.shape[:-2], int(target_size_height), int(target_size_width)),
)
def resize_nearest_neighbor(x: Array, *, target_size_height: int, target_size_width: int) -> Array:
    """Images of another height and width, by copying: ``i`` of ``m`` is ``(i + 0.5) * n // m``."""
    return resized(x, [int(target_size_height), int(target_size_width)], NEAREST, "DEFAULT")


def _scaled(o: Any, x: Any, factors: Any) -> list[Any]:
    """The sizes that upsampling gives: as declared, or computed where the image is flexible."""
    wanted: list[Any] = []
    for axis, factor in zip((-2, -1), factors, strict=True):
        declared = o.out.shape[axis]
        if isinstance(declared, int):
            wanted.append(declared)
        else:
            exact = o.Mul(o.cast(size(o, x, axis), np.float32), o.const(np.float32(factor)))
            wanted.append(o.cast(o.Floor(exact), np.int64))
    return wanted


def _upsampled(x: Any, height: Any, width: Any) -> list[int]:
    # The factors are fp32 in MIL, and so is their product with a size.
    return [
        int(np.floor(np.float32(f) * np.float32(n)))
        for f, n in zip((height, width), x.shape[-2:], strict=True)
    ]


def _grid(align_corners: Any, half_pixel_centers: Any) -> str:
    """The sampling mode that the two flags of ``upsample_bilinear`` mean."""
    aligned = bool(align_corners)
    centers = not aligned if half_pixel_centers is None else bool(half_pixel_centers)
    if aligned and centers:
        raise UnsupportedOp(
            "upsample_bilinear: align_corners and half_pixel_centers exclude one another",
            hint="leave half_pixel_centers out: it is the opposite of align_corners then",
        )
    return "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if centers else "DEFAULT"


def _upsample_onnx(
    o: Any,
    x: Any,
    *,
    scale_factor_height: Any,
    scale_factor_width: Any,
    align_corners: Any,
    half_pixel_centers: Any,
) -> Any:
    wanted = _scaled(o, x, (scale_factor_height, scale_factor_width))
    return resized_onnx(o, x, wanted, LINEAR, _grid(align_corners, half_pixel_centers))


def _upsample_torch(
    t: Any,
    x: Any,
    *,
    scale_factor_height: Any,
    scale_factor_width: Any,
    align_corners: Any,
    half_pixel_centers: Any,
) -> Any:
    wanted = _upsampled(x, scale_factor_height, scale_factor_width)
    return resized_torch(t, x, wanted, LINEAR, _grid(align_corners, half_pixel_centers))


@op(
    samples=[
        {"x": normal(2, 3, 4), "scale_factor_height": 2, "scale_factor_width": 3},
        {"x": normal(1, 2, 5, 3), "scale_factor_height": 1.5, "scale_factor_width": 2.5},
        {"x": normal(1, 2, 5, 3), "scale_factor_height": 2, "scale_factor_width": 2}
        | {"align_corners": False},
        {"x": normal(1, 2, 1, 3), "scale_factor_height": 2.5, "scale_factor_width": 1.7}
        | {"align_corners": False},
        {"x": normal(1, 2, 5, 3), "scale_factor_height": 2.0, "scale_factor_width": 1.5}
        | {"align_corners": False, "half_pixel_centers": False},
        {"x": normal(1, 2, 5, 3), "scale_factor_height": 0.5, "scale_factor_width": 0.4}
        | {"half_pixel_centers": False},
    ],
    onnx=_upsample_onnx,
    torch=_upsample_torch,
)
def upsample_bilinear(
    x: Array,
    *,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    """Images whose height and width are multiplied (rounded down), interpolated along both.

    The grid follows from the sizes, not from the factors: STRICT_ALIGN_CORNERS of
    ``resize_bilinear`` with ``align_corners``, UNALIGN_CORNERS with ``half_pixel_centers`` (which
    is ``not align_corners`` where it is left out), DEFAULT with neither.
    """
    wanted = _upsampled(x, scale_factor_height, scale_factor_width)
    return resized(x, wanted, LINEAR, _grid(align_corners, half_pixel_centers))


@op(
    samples=[
        {"x": normal(2, 3, 4), "scale_factor_height": 2, "scale_factor_width": 3},
        {"x": normal(1, 2, 5, 3), "scale_factor_height": 1.5, "scale_factor_width": 2.5},
        {"x": normal(1, 2, 1, 3), "scale_factor_height": 2.5, "scale_factor_width": 0.4},
    ],
    onnx=lambda o, x, *, scale_factor_height, scale_factor_width: resized_onnx(
        o, x, _scaled(o, x, (scale_factor_height, scale_factor_width)), NEAREST, FLOOR
    ),
    torch=lambda t, x, *, scale_factor_height, scale_factor_width: resized_torch(
        t, x, _upsampled(x, scale_factor_height, scale_factor_width), NEAREST, FLOOR
    ),
)
def upsample_nearest_neighbor(
    x: Array, *, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Array:
    """Images whose height and width are multiplied (rounded down) by repeating elements.

    Output ``i`` of ``m`` is element ``i * n // m``.
    """
    return resized(x, _upsampled(x, scale_factor_height, scale_factor_width), NEAREST, FLOOR)
