"""Operations that draw random numbers. The contract is their distribution: the stream is ours.

A seed gives the same numbers in every run, on every engine; the seed -1 gives new ones each time.
Core ML's own numbers for a seed are others: its generator is not published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops import draws
from coreml_lab.program.ops.registry import Law, op
from coreml_lab.program.ops.samples import normal, positive
from coreml_lab.program.ops.sizes import as_ints, constant, sizes
from coreml_lab.program.ops.sizes import size as size_of

MANY = [40, 50]
# Between these, in standard deviations, lie the cells in which normals are counted.
CUTS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
CELLS = 16
RANGE = 2**32


def _shaped_onnx(o: Any, shape: Any, seed: Any, draw: Callable[[Any, Any, draws.Key], Any]) -> Any:
    """``draw`` of as many numbers as ``shape`` wants, in that shape."""
    known = constant(shape)
    drawn = draw(o, _number_onnx(o, shape, known), draws.key_onnx(o, seed))
    return o.Reshape(drawn, o.ints(shape if known is None else known))


def _number_onnx(o: Any, shape: Any, known: Sequence[int] | None) -> Any:
    """How many elements a shape has: an int where it is known."""
    return o.ReduceProd(o.ints(shape), keepdims=0) if known is None else math.prod(known)


def _key_torch(t: Any, seed: Any) -> draws.Key:
    """New numbers begin with PyTorch's own generator, on the device: nobody waits for it."""
    if int(seed) != draws.FRESH:
        return draws.key_of(seed)
    first, second = t.randint_like(t.arange(2), draws.WORD)
    return first, second


def _normal_onnx(o: Any, shape: Any, *, mean: Any, stddev: Any, seed: Any) -> Any:
    y = _shaped_onnx(o, shape, seed, draws.gaussians_onnx)
    return o.Add(o.Mul(y, o.const(np.float32(stddev))), o.const(np.float32(mean)))


def _normal_torch(t: Any, shape: Any, *, mean: Any, stddev: Any, seed: Any) -> Any:
    wanted = as_ints(shape)
    y = draws.gaussians(t, math.prod(wanted), _key_torch(t, seed)).reshape(wanted)
    return y * float(stddev) + float(mean)


def _normal_law(*, mean: Any = 0.0, stddev: Any = 1.0, **_: Any) -> Law:
    below = [0.0, *((1 + math.erf(c / math.sqrt(2))) / 2 for c in CUTS), 1.0]
    edges = (-math.inf, *(float(mean) + float(stddev) * c for c in CUTS), math.inf)
    return Law(edges, np.diff(below)[None])


@op(
    samples=[
        {"shape": MANY, "seed": 1},
        {"shape": np.array([3, 5, 7], np.int32), "mean": -2.0, "stddev": 0.5, "seed": 2},
        {"shape": [7], "stddev": 0.0, "mean": 1.5, "seed": -7},
    ],
    onnx=_normal_onnx,
    torch=_normal_torch,
    law=_normal_law,
)
def random_normal(
    shape: Sequence[int] | Array, *, mean: float = 0.0, stddev: float = 1.0, seed: int = -1
) -> Array:
    """Normally distributed numbers around ``mean``.

    A ``seed`` gives the same numbers in every run, -1 new ones; no number is further from the mean
    than 7 standard deviations.
    """
    wanted = as_ints(shape)
    y = draws.gaussians(np, math.prod(wanted), draws.key_of(seed)).reshape(wanted)
    return np.asarray(y * np.float32(stddev) + np.float32(mean))


def _between(low: Any, high: Any, dtype: Any) -> tuple[Array, ...]:
    """``low``, ``high``, and the smallest and largest number that may come out."""
    dtype = np.float16 if dtype == np.float16 else np.float32
    a, b = np.asarray(low, dtype), np.asarray(high, dtype)
    last = np.nextafter(b, a)
    return tuple(
        np.asarray(v, np.float32) for v in (a, b, np.minimum(a, last), np.maximum(a, last))
    )


def _uniform_onnx(o: Any, shape: Any, *, low: Any, high: Any, seed: Any) -> Any:
    part = _shaped_onnx(
        o, shape, seed, lambda o, n, key: draws.units_onnx(o, draws.words_onnx(o, n, key))
    )
    first, last, *bounds = (o.const(v) for v in _between(low, high, o.out.dtype))
    rest = o.Sub(o.const(np.float32(1)), part)
    return o.Clip(o.Add(o.Mul(rest, first), o.Mul(part, last)), *bounds)


def _uniform_torch(t: Any, shape: Any, *, low: Any, high: Any, seed: Any) -> Any:
    wanted = as_ints(shape)
    part = draws.units(t, draws.words(t, math.prod(wanted), _key_torch(t, seed))).reshape(wanted)
    first, last, *bounds = (float(v) for v in _between(low, high, np.asarray(high).dtype))
    return ((1 - part) * first + part * last).clip(*bounds)


def _uniform_law(*, low: Any = 0.0, high: Any = 1.0, **_: Any) -> Law:
    edges = np.linspace(float(low), float(high), CELLS + 1)
    return Law(tuple(edges.tolist()), np.full((1, CELLS), 1 / CELLS))


@op(
    samples=[
        {"shape": MANY, "seed": 1},
        {"shape": np.array([3, 5, 7], np.int32), "low": -2.0, "high": 0.5, "seed": 2},
        {"shape": [2, 3], "low": 1.5, "high": 1.5, "seed": 3},
    ],
    onnx=_uniform_onnx,
    torch=_uniform_torch,
    law=_uniform_law,
)
def random_uniform(
    shape: Sequence[int] | Array, *, low: float = 0.0, high: float = 1.0, seed: int = -1
) -> Array:
    """Uniformly distributed numbers from ``low`` to ``high``, which never comes out itself.

    A ``seed`` gives the same numbers in every run, -1 new ones; they have 24 random bits.
    """
    wanted = as_ints(shape)
    part = draws.units(np, draws.words(np, math.prod(wanted), draws.key_of(seed)))
    first, last, *bounds = _between(low, high, np.asarray(high).dtype)
    y = (1 - part) * first + part * last
    return np.asarray(np.clip(y, *bounds).reshape(wanted))


def _share(prob: Any) -> int:
    """How many of the 32-bit numbers are a success."""
    return round(min(max(float(prob), 0.0), 1.0) * RANGE)


def _bernoulli_onnx(o: Any, shape: Any, *, prob: Any, seed: Any) -> Any:
    bits = o.cast(_shaped_onnx(o, shape, seed, draws.words_onnx), np.int64)
    return o.cast(o.Less(bits, o.ints(_share(prob))), np.float32)


def _bernoulli_torch(t: Any, shape: Any, *, prob: Any, seed: Any) -> Any:
    wanted = as_ints(shape)
    bits = draws.words(t, math.prod(wanted), _key_torch(t, seed))
    return (bits < _share(prob)).float().reshape(wanted)


def _bernoulli_law(*, prob: Any = 0.5, **_: Any) -> Law:
    return Law((0, 1, 2), np.array([[1 - float(prob), float(prob)]]), whole=True)


@op(
    samples=[
        {"shape": MANY, "seed": 1},
        {"shape": np.array([3, 5, 7], np.int32), "prob": 0.25, "seed": 2},
        {"shape": [9], "prob": 1.0, "seed": 3},
        {"shape": [9], "prob": 0.0, "seed": 4},
    ],
    onnx=_bernoulli_onnx,
    torch=_bernoulli_torch,
    law=_bernoulli_law,
)
def random_bernoulli(shape: Sequence[int] | Array, *, prob: float = 0.5, seed: int = -1) -> Array:
    """Ones with probability ``prob``, else zeros.

    A ``seed`` gives the same numbers in every run, -1 new ones.
    """
    wanted = as_ints(shape)
    bits = draws.words(np, math.prod(wanted), draws.key_of(seed))
    return np.asarray((bits < _share(prob)).reshape(wanted), np.float32)


def _sums_onnx(o: Any, x: Any, mode: str) -> tuple[Any, Any]:
    """Running sums [rows, 1, classes] of the classes' weights, and whether a row has any."""
    minus = o.const(np.float32(-np.inf))
    classes = sizes(o, [-1, 1, size_of(o, x, x.rank - 1)])
    rows = o.Reshape(o.Log(x) if mode == "probs" else x, classes)
    top = o.ReduceMax(rows, o.ints([-1]), keepdims=1)
    beside = o.Where(o.Equal(rows, top), o.const(np.float32(0)), o.Sub(rows, top))
    sums = o.CumSum(o.cast(o.Exp(beside), np.float64), o.ints(2))
    return sums, o.Greater(top, minus)


def _categorical_onnx(o: Any, x: Any, *, mode: str, size: Any, seed: Any) -> Any:
    sums, some = _sums_onnx(o, x, mode)
    total = o.Slice(sums, o.ints([-1]), o.ints([2**31 - 1]), o.ints([2]))
    shape = sizes(o, [*(size_of(o, x, i) for i in range(x.rank - 1)), int(size)])
    number = _number_onnx(o, shape, constant(shape))
    bits = draws.words_onnx(o, number, draws.key_onnx(o, seed))
    part = o.Mul(o.cast(bits, np.float64), o.const(np.float64(1 / RANGE), raw=True))
    reached = o.Mul(o.Reshape(part, o.ints([-1, int(size), 1])), total)
    passed = o.cast(o.LessOrEqual(sums, reached), np.int32)
    index = o.cast(o.ReduceSum(passed, o.ints([2]), keepdims=1), np.float32)
    known = o.And(some, o.Greater(total, o.const(np.float64(0), raw=True)))
    return o.Reshape(o.Where(known, index, o.const(np.float32(np.nan))), shape)


def _categorical_torch(t: Any, x: Any, *, mode: str, size: Any, seed: Any) -> Any:
    rows = (x.log() if mode == "probs" else x).reshape(-1, x.shape[-1]).float()
    top = rows.amax(-1, keepdim=True)
    weights = t.where(rows == top, t.zeros_like(rows), rows - top).exp()
    # Metal has no double precision.
    wide = t.float32 if x.device.type == "mps" else t.float64
    sums = weights.to(wide).cumsum(-1)
    total = sums[:, -1:]
    bits = draws.words(t, len(rows) * int(size), _key_torch(t, seed), device=x.device)
    part = draws.units(t, bits) if wide == t.float32 else bits.to(wide) / RANGE
    reached = part.reshape(-1, int(size)) * total
    index = t.searchsorted(sums, reached, right=True).float()
    known = (top > -math.inf) & (total > 0)
    return t.where(known, index, t.full_like(index, math.nan)).reshape(*x.shape[:-1], int(size))


def _coarse(x: Array) -> Array:
    """Numbers that fp16 has too: an index must not hang on their rounding."""
    return np.asarray(np.ceil(x * 64) / 64, np.float32)


def _categorical_law(*, x: Array, mode: str = "logits", **_: Any) -> Law:
    rows = np.asarray(x, np.float64).reshape(-1, np.shape(x)[-1])
    weights = np.exp(rows) if mode == "logits" else rows
    edges = tuple(range(rows.shape[1] + 1))
    return Law(edges, weights / weights.sum(-1, keepdims=True), whole=True)


@op(
    samples=[
        {"x": _coarse(normal(2, 4)), "size": 1000, "seed": 1},
        {"x": _coarse(positive(2, 1, 3)), "mode": "probs", "size": 600, "seed": 2},
        {"x": np.array([0, 2, 0, 0, 1, 1, 0], np.float32), "mode": "probs", "size": 900, "seed": 3},
        {"x": _coarse(normal(5, 2, 6)), "seed": 4},
        {"x": np.array([[-np.inf, 0, 1], [0, -np.inf, -np.inf]], np.float32), "size": 9, "seed": 5},
        {"x": np.array([[np.nan, 0], [-np.inf, -np.inf]], np.float32), "size": 2, "seed": 6},
    ],
    onnx=_categorical_onnx,
    torch=_categorical_torch,
    law=_categorical_law,
)
def random_categorical(x: Array, *, mode: str = "logits", size: int = 1, seed: int = -1) -> Array:
    """``size`` indices drawn by the weights along the last dimension, with replacement.

    ``x`` are ``logits`` or, with ``mode="probs"``, probabilities; neither has to be normalized.
    An infinite logit is chosen for certain; a row with not-a-number, or in which nothing is
    possible, gives not-a-number. Indices have the type of ``x``: fp16 counts up to 2048.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(x) if mode == "probs" else np.asarray(x)
        rows = logits.astype(np.float32).reshape(-1, logits.shape[-1])
        top = rows.max(-1, keepdims=True)
        weights = np.exp(np.where(rows == top, np.float32(0), rows - top))
    sums = np.cumsum(weights, -1, dtype=np.float64)
    bits = draws.words(np, len(rows) * int(size), draws.key_of(seed))
    reached = bits.reshape(-1, int(size)) / RANGE * sums[:, -1:]
    index = [np.searchsorted(s, r, side="right") for s, r in zip(sums, reached, strict=True)]
    known = (top > -np.inf) & (sums[:, -1:] > 0)
    drawn = np.where(known, np.asarray(index, np.float32).reshape(reached.shape), np.nan)
    return drawn.reshape(*logits.shape[:-1], int(size)).astype(np.float32)
