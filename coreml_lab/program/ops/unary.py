"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.arithmetic import integral, power_onnx
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import (
    integers,
    normal,
    positive,
    ranks,
    special,
    unit,
)
from coreml_lab.program.ops.saturation import saturated, saturated_torch

ANGLES = ranks(normal)
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


def _exp2_torch(t: Any, x: Any) -> Any:
    return saturated_torch(t, t.exp2(x.double())).to(x.dtype) if integral(x) else t.exp2(x)


@op(
    samples=[
        *ANGLES,
        {"x": integers(2, 3, low=0)},
        {"x": np.array([30, 0, -1], np.int32)},
    ],
    onnx=lambda o, x: power_onnx(o, o.scalar(2, x), x),
    torch=_exp2_torch,
)
def exp2(x: Array) -> Array:
    """2 to the power of ``x``; powers of integers are whole and stop at the end of int32."""
    return saturated(np.exp2(x.astype(np.float64))) if integral(x) else np.exp2(x)


@op(
    samples=[
        *ranks(positive),
        {"x": positive(2, 3), "epsilon": 0.5},
        {"x": np.zeros(2, np.float32)},
    ],
    onnx=lambda o, x, *, epsilon: o.Log(o.Add(x, o.scalar(epsilon, x))),
    torch=lambda t, x, *, epsilon: t.log(x.float() + epsilon).to(x.dtype),
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
