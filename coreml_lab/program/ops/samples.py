"""Inputs for the generated tests: reproducible, and not special (no zeros, no ties) unless they say so."""

from __future__ import annotations

import numpy as np

from coreml_lab.program.graph import Array


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normals as float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def positive(*shape: int, seed: int = 0) -> Array:
    """Positive numbers, at least 0.1."""
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


def unit(*shape: int, seed: int = 0) -> Array:
    """Numbers in (-0.95, 0.95)."""
    return np.random.default_rng(seed).uniform(-0.95, 0.95, shape).astype(np.float32)


def integers(*shape: int, low: int = -9, high: int = 9, seed: int = 0) -> Array:
    """int32 in [low, high)."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int32)


def booleans(*shape: int, seed: int = 0) -> Array:
    """Truth values."""
    return np.random.default_rng(seed).random(shape) < 0.5  # noqa: PLR2004 - a fair coin
