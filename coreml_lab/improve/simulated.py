"""Inputs made up for a model: seeded noise that fits its description, always called simulated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreml_lab.program.graph import Array, Dim, TensorType

# Whole numbers stay small: they are often indices, and those of a small table must fit too.
LARGEST = 10
PIXEL = 256


def noise(inputs: Mapping[str, TensorType], seed: int = 0) -> dict[str, Array]:
    """One array per input: normal numbers, small whole numbers, pixels for uint8."""
    generator = np.random.default_rng(seed)
    return {name: _one(generator, kind) for name, kind in inputs.items()}


def _one(generator: np.random.Generator, kind: TensorType) -> Array:
    shape = tuple(max(1, d.low) if isinstance(d, Dim) else d for d in kind.shape)
    if kind.dtype.kind == "f":
        return generator.standard_normal(shape).astype(kind.dtype)
    if kind.dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(kind.dtype)
    high = PIXEL if kind.dtype == np.uint8 else LARGEST
    return generator.integers(0, high, shape).astype(kind.dtype)
