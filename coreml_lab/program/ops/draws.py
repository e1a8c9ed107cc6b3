"""Random bits by counting: 0, 1, 2, … mixed with a key, alike in NumPy, ONNX and PyTorch.

A draw is a pure function of its key, so engines agree number by number, a run can be repeated, and
nothing has a state to keep. The generators of ONNX Runtime go on from run to run, repeat in every
session of a process, and two of them in one program begin almost equal: they are not used.
"""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np

# MIL's seed for numbers that are new in every run.
FRESH = -1
WORD = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
# Multipliers and shifts of a well-mixing permutation of 32-bit numbers.
FACTORS = (0x7FEB352D, 0x846CA68B)
SHIFTS = (16, 15, 16)
Key = tuple[Any, Any]


def mixed(x: Any) -> Any:
    """A permutation of the 32-bit numbers; for Python's ints, NumPy's and PyTorch's int64."""
    x = x ^ (x >> SHIFTS[0])
    for factor, shift in zip(FACTORS, SHIFTS[1:], strict=True):
        x = (x * factor) & WORD
        x = x ^ (x >> shift)
    return x


def key_of(seed: Any) -> Key:
    """The two words that ``seed`` stands for, or new ones for the seed -1."""
    start = int(seed)
    if start == FRESH:
        return secrets.randbits(32), secrets.randbits(32)
    first = mixed((start + GOLDEN) & WORD)
    return first, mixed(first ^ GOLDEN)


def words(xp: Any, n: int, key: Key, **where: Any) -> Any:
    """``n`` random 32-bit numbers, as int64."""
    return mixed(mixed(xp.arange(n, dtype=xp.int64, **where) ^ key[0]) ^ key[1])


def units(xp: Any, bits: Any) -> Any:
    """fp32 numbers in [0, 1) with 24 random bits, out of 32."""
    return xp.asarray(bits >> 8, dtype=xp.float32) * 2.0**-24


def gaussians(xp: Any, n: int, key: Key, **where: Any) -> Any:
    """``n`` standard normals: two of each pair of random words (Box and Muller)."""
    half = (n + 1) // 2
    bits = words(xp, 2 * half, key, **where)
    part = (xp.asarray(bits[:half], dtype=xp.float32) + 0.5) * 2.0**-32
    radius = xp.sqrt(-2 * xp.log(part))
    angle = units(xp, bits[half:]) * (2 * math.pi)
    return xp.concatenate((radius * xp.cos(angle), radius * xp.sin(angle)))[:n]


def mixed_onnx(o: Any, x: Any) -> Any:
    """``mixed`` in ONNX, of uint32."""

    def shifted(x: Any, by: int) -> Any:
        return o.BitwiseXor(x, o.BitShift(x, o.const(by, np.uint32), direction="RIGHT"))

    x = shifted(x, SHIFTS[0])
    for factor, shift in zip(FACTORS, SHIFTS[1:], strict=True):
        x = shifted(o.Mul(x, o.const(factor, np.uint32)), shift)
    return x


def key_onnx(o: Any, seed: Any) -> Key:
    """``key_of`` in ONNX: new words come from outside with each run, others for each operation."""
    if int(seed) != FRESH:
        first, second = key_of(seed)
        return o.const(first, np.uint32), o.const(second, np.uint32)
    both = o.entropy()
    return tuple(o.Gather(both, o.ints(i), axis=0) for i in range(2))


def apart_onnx(o: Any, x: Any, number: Any) -> Any:
    """Words ``x`` made into others for each ``number``."""
    number = o.const(number, np.uint32) if isinstance(number, int) else o.cast(number, np.uint32)
    return mixed_onnx(o, o.Add(x, o.Mul(mixed_onnx(o, number), o.const(GOLDEN, np.uint32))))


def words_onnx(o: Any, n: Any, key: Key) -> Any:
    """``words`` in ONNX, as uint32; ``n`` may be computed."""
    end = o.ints(n) if isinstance(n, int) else n
    counted = o.cast(o.Range(o.ints(0), end, o.ints(1)), np.uint32)
    return mixed_onnx(o, o.BitwiseXor(mixed_onnx(o, o.BitwiseXor(counted, key[0])), key[1]))


def units_onnx(o: Any, bits: Any) -> Any:
    """``units`` in ONNX."""
    high = o.BitShift(bits, o.const(8, np.uint32), direction="RIGHT")
    return o.Mul(o.cast(high, np.float32), o.const(np.float32(2.0**-24)))


def gaussians_onnx(o: Any, n: Any, key: Key) -> Any:
    """``gaussians`` in ONNX."""
    known = isinstance(n, int)
    half = (n + 1) // 2 if known else o.Div(o.Add(n, o.ints(1)), o.ints(2))
    bits = words_onnx(o, 2 * half if known else o.Mul(half, o.ints(2)), key)
    first, second = o.Split(bits, axis=0, num_outputs=2, outputs=2)
    part = o.Add(o.cast(first, np.float32), o.const(np.float32(0.5)))
    logarithm = o.Log(o.Mul(part, o.const(np.float32(2.0**-32))))
    radius = o.Sqrt(o.Mul(logarithm, o.const(np.float32(-2))))
    angle = o.Mul(units_onnx(o, second), o.const(np.float32(2 * math.pi)))
    both = o.Concat(o.Mul(radius, o.Cos(angle)), o.Mul(radius, o.Sin(angle)), axis=0)
    end = o.ints([n]) if known else o.Reshape(n, o.ints([1]))
    return o.Slice(both, o.ints([0]), end, o.ints([0]))
