"""Types, shapes and values as a picture writes them (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.legible import legible
from coreml_lab.program.graph import MIL_NAME, TensorType

# Characters of a parameter's value.
MOST = 120
# The registry's families -> the picture's; the page has their names in each language.
FAMILIES = {
    "convolution": "conv",
    "linear": "matrix",
    "attention": "attention",
    "recurrent": "recurrent",
    "normalization": "norm",
    "activation": "activation",
    "pooling": "pool",
    "reduction": "reduce",
    "state": "state",
    **dict.fromkeys(("arithmetic", "unary", "comparison"), "elementwise"),
    **dict.fromkeys(("quantization", "stored"), "cast"),
    **dict.fromkeys(("resampling", "resizing"), "resize"),
    **dict.fromkeys(
        ("shape", "slicing", "joining", "gather", "scatter", "filling", "windows", "lists"),
        "layout",
    ),
}


def type_text(kind: TensorType) -> str:
    """``fp16 1 × 64 × 56 × 56``; a scalar has its type only."""
    return f"{MIL_NAME.get(kind.dtype.name, kind.dtype.name)} {shape_text(kind.shape)}".strip()


def shape_text(shape: Any) -> str:
    """``64 × 3 × 7 × 7``."""
    return legible(" × ".join(map(str, shape)))


def value_text(value: Any) -> str:
    """A parameter's value on one line."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return legible(str(value), MOST)
