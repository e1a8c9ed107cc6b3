"""Images at a model's border: PIL or NumPy pixels to a tensor (1, channels, height, width)."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.graph import Array

GRAY = frozenset({"GRAYSCALE", "GRAYSCALE_FLOAT16"})
# A flat image has height and width; the other kind has three channels behind them.
FLAT = 2
DEEP = 3
# ITU-R 601-2 luma in 16-bit fixed point, as Pillow's convert("L") computes it.
LUMA = np.array([19595, 38470, 7471], np.uint32)


def is_picture(value: Any) -> bool:
    """Whether a value is pixels, not a tensor that is already laid out."""
    if isinstance(value, np.ndarray):
        return value.ndim in {FLAT, DEEP}
    return hasattr(value, "convert") and hasattr(value, "mode") and hasattr(value, "size")


def tensor(value: Any, colour: str, dtype: np.dtype[Any]) -> Array:
    """Pixels as (1, channels, height, width), channels in the model's order.

    Raises:
        ValueError: where it is no image of that colour layout.
    """
    pixels = value if isinstance(value, np.ndarray) else _pillow_pixels(value, colour)
    if colour == "GRAYSCALE_FLOAT16" and pixels.ndim == FLAT and pixels.dtype.kind == "f":
        return pixels[None, None].astype(dtype)
    if pixels.dtype != np.uint8 or (pixels.ndim == DEEP and pixels.shape[-1] != DEEP):
        raise ValueError(
            f"an image is uint8 (height, width) or (height, width, 3), "
            f"not {pixels.dtype.name} {pixels.shape}"
        )
    if colour in GRAY:
        gray = pixels if pixels.ndim == FLAT else (pixels @ LUMA + 0x8000) >> 16
        return np.asarray(gray)[None, None].astype(dtype)
    if pixels.ndim == FLAT:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    pixels = pixels[..., ::-1] if colour == "BGR" else pixels
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=dtype)


def picture(array: Array, colour: str) -> Any:
    """A PIL image of an output tensor; values are rounded into 0…255, half to even.

    Raises:
        InputError: where Pillow is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - optional: only image outputs need it
    except ImportError as error:
        raise InputError(
            f"an image output needs Pillow: {error}", hint="pip install pillow"
        ) from error
    if colour == "GRAYSCALE_FLOAT16":
        return Image.fromarray(array[0, 0].astype(np.float32))
    # NaN has no colour: black, so that the conversion to bytes is defined.
    finite = np.nan_to_num(array[0].astype(np.float32), posinf=255, neginf=0)
    pixels = np.clip(np.rint(finite), 0, 255).astype(np.uint8)
    if colour in GRAY:
        return Image.fromarray(pixels[0])
    ordered = pixels[::-1] if colour == "BGR" else pixels
    return Image.fromarray(np.ascontiguousarray(ordered.transpose(1, 2, 0)))


def _pillow_pixels(image: Any, colour: str) -> Array:
    if colour in GRAY:
        wanted = "F" if colour == "GRAYSCALE_FLOAT16" and image.mode == "F" else "L"
    else:
        wanted = "RGB"
    if image.mode == "F" and wanted != "F":
        raise ValueError(f"a PIL image of mode 'F' (floats) does not fit colour layout {colour}")
    return np.asarray(image if image.mode == wanted else image.convert(wanted))
