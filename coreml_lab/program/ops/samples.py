"""Inputs for the generated tests: reproducible, and plain (no zeros or ties) unless they say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normals as float32."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def positive(*shape: int, seed: int = 0) -> Array:
    """Positive numbers, at least 0.1."""
    return np.asarray(np.abs(normal(*shape, seed=seed)) + np.float32(0.1))


def unit(*shape: int, seed: int = 0) -> Array:
    """Numbers in (-0.95, 0.95)."""
    return np.asarray(np.random.default_rng(seed).uniform(-0.95, 0.95, shape), np.float32)


def integers(*shape: int, low: int = -9, high: int = 9, seed: int = 0) -> Array:
    """int32 in [low, high)."""
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape), np.int32)


def booleans(*shape: int, seed: int = 0) -> Array:
    """Truth values."""
    return np.asarray(np.random.default_rng(seed).random(shape) < 0.5)  # noqa: PLR2004 - a fair coin


def special() -> Array:
    """What floating point has besides numbers: not-a-number, the infinities, and both zeros."""
    return np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0], np.float32)


def ranks(make: Callable[..., Array]) -> list[dict[str, Any]]:
    """One operand ``x`` of several ranks, one of them empty."""
    return [{"x": make(*shape)} for shape in ((2, 3), (), (2, 0, 3), (1, 2, 1, 3, 2))]


def pairs(make: Callable[..., Array]) -> list[dict[str, Any]]:
    """Operands ``x`` and ``y`` that are equal in shape, or broadcast."""
    shapes = [
        ((2, 3), (2, 3)),
        ((2, 3, 4), (4,)),
        ((2, 1, 4), (3, 1)),
        ((), (2, 2)),
        ((0, 3), (1, 3)),
    ]
    return [{"x": make(*a), "y": make(*b, seed=1)} for a, b in shapes]
