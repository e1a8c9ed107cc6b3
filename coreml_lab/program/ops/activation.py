"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import normal, positive, ranks, special
from coreml_lab.program.ops.unary import erf

ANY = ranks(normal)
SPECIAL = {"x": special()}


def with_(**attrs: Any) -> list[dict[str, Any]]:
    """The operands of ``ANY``, with these constants."""
    return [{**sample, **attrs} for sample in ANY]


def channels(values: Array, rank: int) -> Array:
    """One number per channel (the second dimension), shaped to broadcast against that rank."""
    return values.reshape(-1, *[1] * (rank - 2))


@op(samples=[*ANY, SPECIAL], onnx=lambda o, x: o.Relu(x), torch=lambda t, x: t.relu(x))
def relu(x: Array) -> Array:
    """``x`` where it is positive, else zero."""
    return np.maximum(x, 0)


@op(
    samples=[*ANY, {"x": 4 * normal(3, 4)}, SPECIAL],
    onnx=lambda o, x: o.Clip(x, o.scalar(0, x), o.scalar(6, x)),
    torch=lambda t, x: t.clamp(x, 0, 6),
)
def relu6(x: Array) -> Array:
    """``x`` held between 0 and 6."""
    return np.minimum(np.maximum(x, 0), 6)


@op(
    samples=with_(alpha=0.3),
    onnx=lambda o, x, *, alpha: o.LeakyRelu(x, alpha=float(alpha)),
    torch=lambda t, x, *, alpha: t.nn.functional.leaky_relu(x, float(alpha)),
)
def leaky_relu(x: Array, *, alpha: float) -> Array:
    """``x`` where it is positive, else ``alpha * x``."""
    return np.where(x >= 0, x, x * np.asarray(alpha, x.dtype))


@op(
    samples=[
        {"x": normal(2, 3, 4, 5), "alpha": normal(3, seed=1)},
        {"x": normal(2, 3, 4), "alpha": np.full(3, 0.25, np.float32)},
        {"x": normal(1, 3, 2, 2, 2), "alpha": np.full(3, 0.25, np.float32)},
    ],
    onnx=lambda o, x, *, alpha: o.PRelu(x, o.const(channels(np.asarray(alpha), x.rank), x.dtype)),
    torch=lambda t, x, *, alpha: t.nn.functional.prelu(x, t.as_tensor(alpha, x.dtype)),
)
def prelu(x: Array, *, alpha: Array) -> Array:
    """``x`` where it is positive, else ``alpha * x``, with one ``alpha`` per channel."""
    return np.maximum(x, 0) + np.minimum(x, 0) * channels(alpha, x.ndim)


@op(
    samples=with_(alpha=0.7),
    onnx=lambda o, x, *, alpha: o.Elu(x, alpha=float(alpha)),
    torch=lambda t, x, *, alpha: t.nn.functional.elu(x, float(alpha)),
)
def elu(x: Array, *, alpha: float) -> Array:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""
    return np.where(x >= 0, x, np.asarray(alpha, x.dtype) * np.expm1(np.minimum(x, 0)))


def _gelu_onnx(o: Any, x: Any, *, mode: str) -> Any:
    if mode == "SIGMOID_APPROXIMATION":
        return o.Mul(x, o.Sigmoid(o.Mul(x, o.scalar(1.702, x))))
    return o.Gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _gelu_torch(t: Any, x: Any, *, mode: str) -> Any:
    if mode == "SIGMOID_APPROXIMATION":
        return x * t.sigmoid(1.702 * x)
    return t.nn.functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@op(
    samples=[
        {"x": 3 * normal(2, 3)},
        {"x": normal()},
        {"x": 3 * normal(2, 3), "mode": "TANH_APPROXIMATION"},
        {"x": 3 * normal(2, 3), "mode": "SIGMOID_APPROXIMATION"},
    ],
    onnx=_gelu_onnx,
    torch=_gelu_torch,
)
def gelu(x: Array, *, mode: str = "EXACT") -> Array:
    """``x`` times the chance that a standard normal falls below it.

    ``mode`` is how: ``EXACT``, ``TANH_APPROXIMATION`` or ``SIGMOID_APPROXIMATION``.
    """
    if mode == "SIGMOID_APPROXIMATION":
        return x / (1 + np.exp(-1.702 * x))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf.reference(x / math.sqrt(2)))


@op(samples=ANY, onnx=lambda o, x: o.Mul(x, o.Sigmoid(x)), torch=lambda t, x: x * t.sigmoid(x))
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, also called swish."""
    return x / (1 + np.exp(-x))


@op(samples=ANY, onnx=lambda o, x: o.Sigmoid(x), torch=lambda t, x: t.sigmoid(x))
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``: a number between 0 and 1."""
    return 1 / (1 + np.exp(-x))


@op(
    samples=with_(alpha=0.4, beta=0.6),
    onnx=lambda o, x, *, alpha, beta: o.HardSigmoid(x, alpha=float(alpha), beta=float(beta)),
    torch=lambda t, x, *, alpha, beta: t.clamp(alpha * x + beta, 0, 1),
)
def sigmoid_hard(x: Array, *, alpha: float, beta: float) -> Array:
    """``alpha * x + beta``, held between 0 and 1."""
    return np.clip(np.asarray(alpha, x.dtype) * x + np.asarray(beta, x.dtype), 0, 1)


@op(samples=ANY, onnx=lambda o, x: o.Tanh(x), torch=lambda t, x: t.tanh(x))
def tanh(x: Array) -> Array:
    """The hyperbolic tangent of ``x``: a number between -1 and 1."""
    return np.tanh(x)


@op(
    samples=with_(alpha=1.7, beta=0.6),
    onnx=lambda o, x, *, alpha, beta: o.Mul(
        o.Tanh(o.Mul(x, o.scalar(beta, x))), o.scalar(alpha, x)
    ),
    torch=lambda t, x, *, alpha, beta: alpha * t.tanh(beta * x),
)
def scaled_tanh(x: Array, *, alpha: float, beta: float) -> Array:
    """``alpha * tanh(beta * x)``."""
    return np.asarray(alpha, x.dtype) * np.tanh(np.asarray(beta, x.dtype) * x)


@op(
    samples=[{"x": normal(2, 3)}, {"x": normal(2, 3, 4), "axis": 0}, {"x": 1e4 * normal(2, 3)}],
    onnx=lambda o, x, *, axis: o.Softmax(x, axis=axis),
    torch=lambda t, x, *, axis: t.softmax(x, dim=axis),
)
def softmax(x: Array, *, axis: int = -1) -> Array:
    """Positive numbers that sum to one along ``axis``, in proportion to ``exp(x)``."""
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


@op(
    samples=[*ANY, {"x": 100 * normal(2, 3)}],
    onnx=lambda o, x: o.Softplus(x),
    torch=lambda t, x: t.nn.functional.softplus(x),
)
def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``: relu with a smooth corner."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def _softplus_parametric_onnx(o: Any, x: Any, *, alpha: Array, beta: Array) -> Any:
    a, b = (o.const(channels(np.asarray(v), x.rank), x.dtype) for v in (alpha, beta))
    return o.Mul(a, o.Softplus(o.Mul(b, x)))


def _softplus_parametric_torch(t: Any, x: Any, *, alpha: Any, beta: Any) -> Any:
    a, b = (t.as_tensor(v).reshape(-1, *[1] * (x.ndim - 2)) for v in (alpha, beta))
    return a * t.nn.functional.softplus(b * x)


@op(
    samples=[
        {"x": normal(2, 3, 4, 5), "alpha": normal(3, seed=1), "beta": positive(3)},
        {"x": normal(2, 3, 4), "alpha": normal(3, seed=1), "beta": positive(3)},
    ],
    onnx=_softplus_parametric_onnx,
    torch=_softplus_parametric_torch,
)
def softplus_parametric(x: Array, *, alpha: Array, beta: Array) -> Array:
    """``alpha * log(1 + exp(beta * x))``, with one ``alpha`` and ``beta`` per channel."""
    scaled = channels(beta, x.ndim) * x
    return channels(alpha, x.ndim) * (np.log1p(np.exp(-np.abs(scaled))) + np.maximum(scaled, 0))


@op(
    samples=ANY,
    onnx=lambda o, x: o.Softsign(x),
    torch=lambda t, x: t.nn.functional.softsign(x),
)
def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``: a number between -1 and 1."""
    return x / (1 + np.abs(x))


def _clamped_relu_onnx(o: Any, x: Any, *, alpha: float, beta: float) -> Any:
    return o.Min(o.LeakyRelu(x, alpha=float(alpha)), o.scalar(beta, x))


@op(
    samples=with_(alpha=0.3, beta=0.6),
    onnx=_clamped_relu_onnx,
    torch=lambda t, x, *, alpha, beta: t.clamp(t.where(x >= 0, x, alpha * x), max=beta),
)
def clamped_relu(x: Array, *, alpha: float, beta: float) -> Array:
    """``x`` where it is positive, else ``alpha * x``, and at most ``beta``."""
    return np.minimum(
        np.where(x >= 0, x, x * np.asarray(alpha, x.dtype)), np.asarray(beta, x.dtype)
    )


@op(
    samples=with_(alpha=1.7, beta=0.6),
    onnx=lambda o, x, *, alpha, beta: o.Add(o.Mul(x, o.scalar(alpha, x)), o.scalar(beta, x)),
    torch=lambda t, x, *, alpha, beta: t.add(alpha * x, beta),
)
def linear_activation(x: Array, *, alpha: float, beta: float) -> Array:
    """``alpha * x + beta``."""
    return np.asarray(alpha, x.dtype) * x + np.asarray(beta, x.dtype)


def _thresholded_relu_onnx(o: Any, x: Any, *, alpha: float) -> Any:
    # ONNX's ThresholdedRelu drops x == alpha, MIL keeps it.
    return o.Where(o.GreaterOrEqual(x, o.scalar(alpha, x)), x, o.scalar(0, x))


@op(
    samples=[*with_(alpha=0.3), {"x": np.array([0.5, 1.0, 2.0], np.float32), "alpha": 1.0}],
    onnx=_thresholded_relu_onnx,
    torch=lambda t, x, *, alpha: t.where(x >= alpha, x, 0),
    limits=(Limit("apple", "its evaluation assigns into a scalar", 1),),
)
def thresholded_relu(x: Array, *, alpha: float) -> Array:
    """``x`` where it is at least ``alpha``, else zero."""
    return np.where(x >= np.asarray(alpha, x.dtype), x, np.zeros_like(x))
