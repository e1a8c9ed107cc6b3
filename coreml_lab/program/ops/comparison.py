"""Elementwise comparison, logic and choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, integers, normal, pairs, ranks, special

COMPARED = [
    *pairs(normal),
    *pairs(integers),
    {"x": integers(3, 4, high=-7), "y": integers(4, high=-7, seed=1)},
    {"x": special(), "y": special()[::-1].copy()},
]
TRUTHS = pairs(booleans)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.Equal(x, y),
    torch=lambda t, x, y: t.eq(x, y),
)
def equal(x: Array, y: Array) -> Array:
    """Whether ``x == y``."""
    return np.equal(x, y)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.Not(o.Equal(x, y)),
    torch=lambda t, x, y: t.ne(x, y),
)
def not_equal(x: Array, y: Array) -> Array:
    """Whether ``x != y``."""
    return np.not_equal(x, y)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.Greater(x, y),
    torch=lambda t, x, y: t.gt(x, y),
)
def greater(x: Array, y: Array) -> Array:
    """Whether ``x > y``."""
    return np.greater(x, y)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.GreaterOrEqual(x, y),
    torch=lambda t, x, y: t.ge(x, y),
)
def greater_equal(x: Array, y: Array) -> Array:
    """Whether ``x >= y``."""
    return np.greater_equal(x, y)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.Less(x, y),
    torch=lambda t, x, y: t.lt(x, y),
)
def less(x: Array, y: Array) -> Array:
    """Whether ``x < y``."""
    return np.less(x, y)


@op(
    samples=COMPARED,
    onnx=lambda o, x, y: o.LessOrEqual(x, y),
    torch=lambda t, x, y: t.le(x, y),
)
def less_equal(x: Array, y: Array) -> Array:
    """Whether ``x <= y``."""
    return np.less_equal(x, y)


@op(
    samples=TRUTHS,
    onnx=lambda o, x, y: o.And(x, y),
    torch=lambda t, x, y: t.logical_and(x, y),
)
def logical_and(x: Array, y: Array) -> Array:
    """Whether both ``x`` and ``y`` hold."""
    return np.logical_and(x, y)


@op(
    samples=TRUTHS,
    onnx=lambda o, x, y: o.Or(x, y),
    torch=lambda t, x, y: t.logical_or(x, y),
)
def logical_or(x: Array, y: Array) -> Array:
    """Whether ``x`` or ``y`` holds."""
    return np.logical_or(x, y)


@op(
    samples=TRUTHS,
    onnx=lambda o, x, y: o.Xor(x, y),
    torch=lambda t, x, y: t.logical_xor(x, y),
)
def logical_xor(x: Array, y: Array) -> Array:
    """Whether exactly one of ``x`` and ``y`` holds."""
    return np.logical_xor(x, y)


@op(samples=ranks(booleans), onnx=lambda o, x: o.Not(x), torch=lambda t, x: t.logical_not(x))
def logical_not(x: Array) -> Array:
    """Whether ``x`` does not hold."""
    return np.logical_not(x)


def _select_onnx(o: Any, cond: Any, a: Any, b: Any) -> Any:
    # ONNX Runtime has no Where for truth values.
    return o.Or(o.And(cond, a), o.And(o.Not(cond), b)) if a.dtype == bool else o.Where(cond, a, b)


@op(
    samples=[
        {"cond": booleans(2, 3), "a": normal(2, 3), "b": normal(2, 3, seed=1)},
        {"cond": booleans(3, 1), "a": normal(3, 4), "b": normal(seed=1)},
        {"cond": booleans(2, 3), "a": integers(2, 3), "b": integers(2, 3, seed=1)},
        {"cond": booleans(2, 3), "a": booleans(2, 3, seed=1), "b": booleans(3, seed=2)},
    ],
    onnx=_select_onnx,
    torch=lambda t, cond, a, b: t.where(cond, a, b),
)
def select(cond: Array, a: Array, b: Array) -> Array:
    """``a`` where ``cond`` holds, elsewhere ``b``."""
    return np.where(cond, a, b)
