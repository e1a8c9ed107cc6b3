"""Elementwise arithmetic."""

from __future__ import annotations

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
)
from coreml_lab.program.ops.saturation import saturated, saturated_onnx, saturated_torch

NUMBERS = pairs(normal) + pairs(integers)
ORDERED = [
    *NUMBERS,
    {"x": integers(3, 4, high=-7), "y": integers(4, high=-7, seed=1)},
    {"x": special(), "y": special()[::-1].copy()},
]


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


# What integers are divided by where the answer needs no division, or has none.
LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max
EXTREMES = np.array([LOW, HIGH, -7, LOW, 7, LOW, 0], np.int32)
BY = np.array([-1, -1, 0, 3, -2, LOW, LOW], np.int32)
QUOTIENTS += [{"x": EXTREMES, "y": BY}, {"x": special(), "y": special()[::-1].copy()}]
# Quotients close to whole numbers, of numbers that half precision holds.
STEPS = {
    "x": integers(64).astype(np.float32),
    "y": (0.1 * nonzero(64)).astype(np.float16).astype(np.float32),
}


def _wide(o: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Integers to divide: 64 bits wide, so that no quotient overflows; and where ``y`` is 0.

    Processors raise a signal for what they cannot divide, and it would end the whole process.
    """
    zero = o.Equal(y, o.const(0, np.int32))
    return o.cast(x, np.int64), o.cast(o.Where(zero, o.const(1, np.int32), y), np.int64), zero


def _whole_or_zero(o: Any, quotient: Any, zero: Any) -> Any:
    return o.Where(zero, o.const(0, np.int32), o.cast(quotient, np.int32))


def _real_div_onnx(o: Any, x: Any, y: Any) -> Any:
    if not integral(x):
        return o.Div(x, y)
    if y.const is not None and not np.isin(y.const, (0, -1)).any():
        return o.Div(x, y)
    return quotient_onnx(o, x, y)


def quotient_onnx(o: Any, x: Any, y: Any) -> Any:
    """Whatever integers ``x`` and ``y`` are: the quotient rounded towards zero, 0 for ``x / 0``."""
    dividend, divisor, zero = _wide(o, x, y)
    return _whole_or_zero(o, o.Div(dividend, divisor), zero)


def quotient_torch(rounding: str) -> Any:
    """The lowering to torch; real numbers are rounded only downwards."""

    def lowering(t: Any, x: Any, y: Any) -> Any:
        if not integral(x):
            return t.div(x, y, rounding_mode=rounding if rounding == "floor" else None)
        safe = t.where(y == 0, 1, y).long()
        whole = t.div(x.long(), safe, rounding_mode=rounding).to(x.dtype)
        return t.where(y == 0, t.zeros_like(x), whole)

    return lowering


@op(
    samples=QUOTIENTS,
    onnx=_real_div_onnx,
    torch=quotient_torch("trunc"),
    limits=(Limit("apple", "an integer by 0 is infinite before it is cast to one", 6),),
)
def real_div(x: Array, y: Array) -> Array:
    """The quotient ``x / y``; between integers, rounded towards zero.

    An integer divided by 0 is 0; the one quotient that is too large for int32 becomes its lowest.
    """
    if not integral(x):
        return x / y
    whole = np.abs(x.astype(np.int64)) // np.maximum(np.abs(y.astype(np.int64)), 1)
    return np.where(y == 0, 0, whole * np.sign(x) * np.sign(y)).astype(x.dtype)


def _left_over(o: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The remainder of real numbers with the sign of ``x``, and where it needs that of ``y``."""
    rest, zero = o.Mod(x, y, fmod=1), o.const(0, np.float32)
    other_sign = o.Xor(o.Less(rest, zero), o.Less(y, zero))
    return rest, o.And(other_sign, o.Not(o.Equal(rest, zero)))


def _floor_div_onnx(o: Any, x: Any, y: Any) -> Any:
    if integral(x):
        # ONNX's integer Div rounds towards zero; its Mod has the sign of the divisor.
        dividend, divisor, zero = _wide(o, x, y)
        exact = o.Sub(dividend, o.Mod(dividend, divisor))
        return _whole_or_zero(o, o.Div(exact, divisor), zero)
    # Rounding x / y first would give a whole number where the exact quotient is just below it.
    rest, below = _left_over(o, x, y)
    whole = o.Sub(o.Round(o.Div(o.Sub(x, rest), y)), o.cast(below, np.float32))
    return o.Where(o.Equal(y, o.const(0, np.float32)), o.Div(x, y), whole)


@op(samples=[*QUOTIENTS, STEPS], onnx=_floor_div_onnx, torch=quotient_torch("floor"))
def floor_div(x: Array, y: Array) -> Array:
    """The quotient ``x / y``, rounded down; an integer divided by 0 is 0."""
    return np.floor_divide(x, y)


def _mod_onnx(o: Any, x: Any, y: Any) -> Any:
    if not integral(x):
        rest, below = _left_over(o, x, y)
        return o.Where(below, o.Add(rest, y), rest)
    dividend, divisor, zero = _wide(o, x, y)
    return _whole_or_zero(o, o.Mod(dividend, divisor), zero)


def _mod_torch(t: Any, x: Any, y: Any) -> Any:
    if not integral(x):
        return t.remainder(x, y)
    rest = t.remainder(x.long(), t.where(y == 0, 1, y).long()).to(x.dtype)
    return t.where(y == 0, t.zeros_like(x), rest)


@op(samples=[*QUOTIENTS, STEPS], onnx=_mod_onnx, torch=_mod_torch)
def mod(x: Array, y: Array) -> Array:
    """What ``floor_div(x, y)`` leaves over; it has the sign of ``y``.

    What an integer divided by 0 leaves over is 0.
    """
    return np.mod(x, y)


def power_onnx(o: Any, x: Any, y: Any) -> Any:
    """``x`` to the power of ``y``; integers by way of double precision, which holds them all."""
    if not integral(y):
        return o.Pow(x, y)
    power = o.Pow(o.cast(x, np.float64), o.cast(y, np.float64))
    # Not every engine's power is exact; what is not whole is at most a half.
    return saturated_onnx(o, o.Round(power), double=True)


def _power_torch(t: Any, x: Any, y: Any) -> Any:
    if not integral(y):
        return t.pow(x, y)
    power = t.pow(x.double(), y.double())
    return saturated_torch(t, power).to(y.dtype)


@op(
    samples=[
        {"x": positive(2, 3, 4), "y": normal(4)},
        {"x": normal(2, 3), "y": np.array(2, np.float32)},
        {"x": special(), "y": special()[::-1].copy()},
        {"x": integers(2, 3), "y": integers(2, 3, low=0, high=5)},
        {
            "x": np.array([2, -2, 1, -1, -1, 0, 10, -10, 46341], np.int32),
            "y": np.array([-1, -3, -5, -4, -5, -1, 40, 41, 2], np.int32),
        },
        {"x": positive(0, 3), "y": normal(1, 3)},
    ],
    onnx=power_onnx,
    torch=_power_torch,
    limits=(Limit("apple", "its NumPy refuses negative powers of integers", 4),),
)
def pow_(x: Array, y: Array) -> Array:
    """``x`` to the power of ``y``; a negative real number has only whole powers (else NaN).

    Powers of integers lose their fraction and stop at the ends of int32.
    """
    if not integral(x):
        return np.power(x, y)
    return saturated(np.power(x.astype(np.float64), y))


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
