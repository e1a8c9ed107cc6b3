"""Elementwise arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import (
    booleans,
    integers,
    normal,
    pairs,
    positive,
    ranks,
    special,
    unit,
)

NUMBERS = pairs(normal) + pairs(integers)
ORDERED = [
    *NUMBERS,
    {"x": integers(3, 4, high=-7), "y": integers(4, high=-7, seed=1)},
    {"x": special(), "y": special()[::-1].copy()},
]
ANGLES = ranks(normal)


def nonzero(*shape: int, seed: int = 0) -> Array:
    """Divisors of both signs: integers between 1 and 4 in size."""
    size = integers(*shape, low=1, high=5, seed=seed)
    return np.where(booleans(*shape, seed=seed), size, -size).astype(np.int32)


QUOTIENTS = [
    {"x": integers(2, 7), "y": nonzero(2, 7)},
    {"x": integers(3, 1), "y": nonzero(4)},
    {"x": normal(2, 7), "y": nonzero(2, 7).astype(np.float32)},
    {"x": normal(2, 3, 4), "y": positive(4)},
    {"x": normal(), "y": positive(2, 2)},
    {"x": normal(0, 3), "y": positive(1, 3)},
]


def integral(x: Any) -> bool:
    """Whether the elements of an array, ONNX value or torch tensor are integers."""
    return "int" in str(x.dtype)


@op(
    samples=NUMBERS,
    onnx=lambda o, x, y: o.Add(x, y),
    torch=lambda t, x, y: t.add(x, y),
)
def add(x: Array, y: Array) -> Array:
    """The sum ``x + y``."""
    return x + y


@op(
    samples=NUMBERS,
    onnx=lambda o, x, y: o.Sub(x, y),
    torch=lambda t, x, y: t.sub(x, y),
)
def sub(x: Array, y: Array) -> Array:
    """The difference ``x - y``."""
    return x - y


@op(
    samples=NUMBERS,
    onnx=lambda o, x, y: o.Mul(x, y),
    torch=lambda t, x, y: t.mul(x, y),
)
def mul(x: Array, y: Array) -> Array:
    """The product ``x * y``."""
    return x * y


@op(
    samples=QUOTIENTS,
    onnx=lambda o, x, y: o.Div(x, y),
    torch=lambda t, x, y: t.div(x, y, rounding_mode="trunc" if integral(x) else None),
)
def real_div(x: Array, y: Array) -> Array:
    """The quotient ``x / y``; between integers, rounded towards zero."""
    return np.trunc(x / y).astype(x.dtype) if integral(x) else x / y


def _floor_div_onnx(o: Any, x: Any, y: Any) -> Any:
    # ONNX's integer Div rounds towards zero; its Mod has the sign of the divisor, as wanted here.
    return o.Div(o.Sub(x, o.Mod(x, y)), y) if integral(x) else o.Floor(o.Div(x, y))


@op(
    samples=QUOTIENTS,
    onnx=_floor_div_onnx,
    torch=lambda t, x, y: t.div(x, y, rounding_mode="floor"),
)
def floor_div(x: Array, y: Array) -> Array:
    """The quotient ``x / y``, rounded down."""
    return np.floor_divide(x, y)


def _mod_onnx(o: Any, x: Any, y: Any) -> Any:
    return o.Mod(x, y) if integral(x) else o.Sub(x, o.Mul(o.Floor(o.Div(x, y)), y))


@op(samples=QUOTIENTS, onnx=_mod_onnx, torch=lambda t, x, y: t.remainder(x, y))
def mod(x: Array, y: Array) -> Array:
    """What ``floor_div(x, y)`` leaves over; it has the sign of ``y``."""
    return np.mod(x, y)


@op(
    samples=[
        {"x": positive(2, 3, 4), "y": normal(4)},
        {"x": normal(2, 3), "y": np.array(2, np.float32)},
        {"x": integers(2, 3), "y": integers(2, 3, low=0, high=5)},
        {"x": positive(0, 3), "y": normal(1, 3)},
    ],
    onnx=lambda o, x, y: o.Pow(x, y),
    torch=lambda t, x, y: t.pow(x, y),
)
def pow_(x: Array, y: Array) -> Array:
    """``x`` to the power of ``y``."""
    return np.power(x, y)


@op(
    samples=ORDERED,
    onnx=lambda o, x, y: o.Max(x, y),
    torch=lambda t, x, y: t.maximum(x, y),
)
def maximum(x: Array, y: Array) -> Array:
    """The larger of ``x`` and ``y``; not-a-number where one of them is."""
    return np.maximum(x, y)


@op(
    samples=ORDERED,
    onnx=lambda o, x, y: o.Min(x, y),
    torch=lambda t, x, y: t.minimum(x, y),
)
def minimum(x: Array, y: Array) -> Array:
    """The smaller of ``x`` and ``y``; not-a-number where one of them is."""
    return np.minimum(x, y)


@op(
    samples=[*ranks(normal), {"x": integers(2, 3)}, {"x": booleans(2, 3)}],
    onnx=lambda o, x: o.Identity(x),
    torch=lambda _, x: x,
)
def identity(x: Array) -> Array:
    """``x`` itself."""
    return x.copy()


SIGNED = [*ANGLES, {"x": integers(2, 3)}, {"x": special()}]


@op(samples=SIGNED, onnx=lambda o, x: o.Abs(x), torch=lambda t, x: t.abs(x))
def abs_(x: Array) -> Array:
    """The distance of ``x`` from zero."""
    return np.abs(x)


@op(samples=SIGNED[:-1], onnx=lambda o, x: o.Sign(x), torch=lambda t, x: t.sign(x))
def sign(x: Array) -> Array:
    """-1, 0 or 1: the sign of ``x``."""
    return np.sign(x)


@op(samples=SIGNED, onnx=lambda o, x: o.Mul(x, x), torch=lambda t, x: t.square(x))
def square(x: Array) -> Array:
    """``x`` times itself."""
    return np.square(x)


HALVES = [*ANGLES, {"x": np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)}]


@op(samples=HALVES, onnx=lambda o, x: o.Ceil(x), torch=lambda t, x: t.ceil(x))
def ceil(x: Array) -> Array:
    """The smallest integer that is not below ``x``."""
    return np.ceil(x)


@op(samples=HALVES, onnx=lambda o, x: o.Floor(x), torch=lambda t, x: t.floor(x))
def floor(x: Array) -> Array:
    """The largest integer that is not above ``x``."""
    return np.floor(x)


@op(samples=HALVES, onnx=lambda o, x: o.Round(x), torch=lambda t, x: t.round(x))
def round_(x: Array) -> Array:
    """The integer nearest to ``x``; of two equally near, the even one."""
    return np.round(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Exp(x), torch=lambda t, x: t.exp(x))
def exp(x: Array) -> Array:
    """Euler's number to the power of ``x``."""
    return np.exp(x)


@op(
    samples=[*ANGLES, {"x": integers(2, 3, low=0)}],
    onnx=lambda o, x: o.Pow(o.scalar(2, x), x),
    torch=lambda t, x: t.exp2(x).to(x.dtype),
)
def exp2(x: Array) -> Array:
    """2 to the power of ``x``."""
    return np.exp2(x).astype(x.dtype)


@op(
    samples=[
        *ranks(positive),
        {"x": positive(2, 3), "epsilon": 0.5},
        {"x": np.zeros(2, np.float32)},
    ],
    onnx=lambda o, x, *, epsilon: o.Log(o.Add(x, o.scalar(epsilon, x))),
    torch=lambda t, x, *, epsilon: t.log(x + epsilon),
)
def log(x: Array, *, epsilon: float = 1e-45) -> Array:
    """The natural logarithm of ``x + epsilon``."""
    return np.log(x + np.asarray(epsilon, x.dtype))


@op(
    samples=[*ranks(positive), {"x": positive(2, 3), "epsilon": 0.5}],
    onnx=lambda o, x, *, epsilon: o.Reciprocal(o.Sqrt(o.Add(x, o.scalar(epsilon, x)))),
    torch=lambda t, x, *, epsilon: t.rsqrt(x + epsilon),
)
def rsqrt(x: Array, *, epsilon: float = 1e-12) -> Array:
    """One over the square root of ``x + epsilon``."""
    return np.reciprocal(np.sqrt(x + np.asarray(epsilon, x.dtype)))


@op(
    samples=[*ANGLES, {"x": positive(2, 3), "epsilon": 0.5}, {"x": np.zeros(2, np.float32)}],
    onnx=lambda o, x, *, epsilon: o.Reciprocal(o.Add(x, o.scalar(epsilon, x))),
    torch=lambda t, x, *, epsilon: t.reciprocal(x + epsilon),
)
def inverse(x: Array, *, epsilon: float = 1e-4) -> Array:
    """One over ``x + epsilon``."""
    return np.reciprocal(x + np.asarray(epsilon, x.dtype))


@op(samples=ranks(positive), onnx=lambda o, x: o.Sqrt(x), torch=lambda t, x: t.sqrt(x))
def sqrt(x: Array) -> Array:
    """The square root of ``x``."""
    return np.sqrt(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Sin(x), torch=lambda t, x: t.sin(x))
def sin(x: Array) -> Array:
    """The sine of ``x`` in radians."""
    return np.sin(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Cos(x), torch=lambda t, x: t.cos(x))
def cos(x: Array) -> Array:
    """The cosine of ``x`` in radians."""
    return np.cos(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Tan(x), torch=lambda t, x: t.tan(x))
def tan(x: Array) -> Array:
    """The tangent of ``x`` in radians."""
    return np.tan(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Atan(x), torch=lambda t, x: t.atan(x))
def atan(x: Array) -> Array:
    """The angle in radians whose tangent is ``x``."""
    return np.arctan(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Sinh(x), torch=lambda t, x: t.sinh(x))
def sinh(x: Array) -> Array:
    """The hyperbolic sine of ``x``."""
    return np.sinh(x)


@op(samples=ANGLES, onnx=lambda o, x: o.Cosh(x), torch=lambda t, x: t.cosh(x))
def cosh(x: Array) -> Array:
    """The hyperbolic cosine of ``x``."""
    return np.cosh(x)


@op(samples=ranks(unit), onnx=lambda o, x: o.Asin(x), torch=lambda t, x: t.asin(x))
def asin(x: Array) -> Array:
    """The angle in radians whose sine is ``x``."""
    return np.arcsin(x)


@op(samples=ranks(unit), onnx=lambda o, x: o.Acos(x), torch=lambda t, x: t.acos(x))
def acos(x: Array) -> Array:
    """The angle in radians whose cosine is ``x``."""
    return np.arccos(x)


@op(samples=ranks(unit), onnx=lambda o, x: o.Atanh(x), torch=lambda t, x: t.atanh(x))
def atanh(x: Array) -> Array:
    """The number whose hyperbolic tangent is ``x``."""
    return np.arctanh(x)


@op(
    samples=ANGLES,
    onnx=lambda o, x: o.Erf(x),
    torch=lambda t, x: t.erf(x),
    limits=(Limit("apple", "its numpy.vectorize refuses empty arrays", 2),),
)
def erf(x: Array) -> Array:
    """The error function: ``2 / sqrt(pi)`` times the integral of ``exp(-t * t)``, 0 to ``x``."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


@op(
    samples=[
        {"x": normal(2, 3), "alpha": -0.5, "beta": 0.25},
        {"x": special(), "alpha": 0.0, "beta": 6.0},
    ],
    onnx=lambda o, x, *, alpha, beta: o.Clip(x, o.scalar(alpha, x), o.scalar(beta, x)),
    torch=lambda t, x, *, alpha, beta: t.clamp(x, alpha, beta),
)
def clip(x: Array, *, alpha: float, beta: float) -> Array:
    """``x`` held between ``alpha`` and ``beta``."""
    return np.minimum(np.maximum(x, np.asarray(alpha, x.dtype)), np.asarray(beta, x.dtype))


@op(
    samples=[{"x": normal(2, 3), "alpha": 0.3}, {"x": integers(2, 3), "alpha": 2}],
    onnx=lambda o, x, *, alpha: o.Max(x, o.scalar(alpha, x)),
    torch=lambda t, x, *, alpha: t.clamp(x, min=alpha),
)
def threshold(x: Array, *, alpha: float) -> Array:
    """``x``, but at least ``alpha``."""
    return np.maximum(x, np.asarray(alpha, x.dtype))
