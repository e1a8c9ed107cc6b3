"""Normalization: values brought to a common scale, per channel, image, layer or neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import normal, positive


def _channels(values: Any, rank: int) -> Array:
    """One number per channel, shaped to broadcast over [n, channels, *sizes]."""
    return np.asarray(values, np.float32).reshape(-1, *[1] * (rank - 2))


def _standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """``x`` in float32 with mean 0 and variance 1 over ``axes``."""
    wide = x.astype(np.float32)
    if not wide.size:  # NumPy warns of the mean of nothing
        return wide
    centred: Array = wide - wide.mean(axes, keepdims=True)
    return np.asarray(
        centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + np.float32(epsilon))
    )


def _scaled(y: Array, gamma: Array | None, beta: Array | None) -> Array:
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def _onnx_standard(o: Any, x: Any, axes: Sequence[int], epsilon: float) -> Any:
    over = o.ints(axes)
    centred = o.Sub(x, o.ReduceMean(x, over, keepdims=1))
    variance = o.ReduceMean(o.Mul(centred, centred), over, keepdims=1)
    return o.Div(centred, o.Sqrt(o.Add(variance, o.scalar(epsilon, x))))


def _onnx_scaled(o: Any, y: Any, gamma: Array | None, beta: Array | None) -> Any:
    y = y if gamma is None else o.Mul(y, o.const(gamma, np.float32))
    return y if beta is None else o.Add(y, o.const(beta, np.float32))


def _vector(t: Any, values: Any, like: Any) -> Any:
    return None if values is None else t.as_tensor(values, dtype=like.dtype)


def _onnx_batch_norm(
    o: Any, x: Any, *, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float
) -> Any:
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    rows = (ones if gamma is None else gamma, zeros if beta is None else beta, mean, variance)
    return o.BatchNormalization(
        x, *(o.const(np.asarray(r), np.float32) for r in rows), epsilon=float(epsilon)
    )


@op(
    samples=[
        {"x": normal(2, 3, 4, 5), "mean": normal(3, seed=1), "variance": positive(3, seed=2)},
        {"x": normal(1, 3, 6), "mean": normal(3, seed=1), "variance": positive(3, seed=2),
         "gamma": normal(3, seed=3), "beta": normal(3, seed=4)},
        {"x": normal(1, 2, 3, 4, 2), "mean": normal(2, seed=1), "variance": positive(2, seed=2),
         "gamma": normal(2, seed=3), "epsilon": 0.1},
    ],
    onnx=_onnx_batch_norm,
    torch=lambda t, x, *, mean, variance, gamma, beta, epsilon: t.nn.functional.batch_norm(
        x, *(_vector(t, v, x) for v in (mean, variance, gamma, beta)), eps=float(epsilon)
    ),
)  # fmt: skip
def batch_norm(
    x: Array,
    *,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """Bring each channel to the scale it had in training.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``;
    ``x`` is [n, channels, *sizes]; the other operands hold one number per channel.
    """
    m, v = _channels(mean, x.ndim), _channels(variance, x.ndim)
    y = np.asarray((x.astype(np.float32) - m) / np.sqrt(v + np.float32(epsilon)))
    g, b = (None if p is None else _channels(p, x.ndim) for p in (gamma, beta))
    return _scaled(y, g, b).astype(x.dtype)


def _onnx_instance_norm(o: Any, x: Any, *, gamma: Any, beta: Any, epsilon: float) -> Any:
    channels = x.shape[1]
    if not isinstance(channels, int):
        y = _onnx_standard(o, x, range(2, x.rank), epsilon)
        return _onnx_scaled(
            o, y, *(None if p is None else _channels(p, x.rank) for p in (gamma, beta))
        )
    scale = np.ones(channels) if gamma is None else np.asarray(gamma)
    offset = np.zeros(channels) if beta is None else np.asarray(beta)
    return o.InstanceNormalization(
        x, o.const(scale, np.float32), o.const(offset, np.float32), epsilon=float(epsilon)
    )


@op(
    samples=[
        {"x": normal(2, 3, 4, 5)},
        {
            "x": normal(2, 3, 8),
            "gamma": normal(3, seed=1),
            "beta": normal(3, seed=2),
            "epsilon": 0.1,
        },
        {"x": normal(1, 2, 5, 4), "beta": normal(2, seed=2)},
    ],
    onnx=_onnx_instance_norm,
    torch=lambda t, x, *, gamma, beta, epsilon: t.nn.functional.instance_norm(
        x, weight=_vector(t, gamma, x), bias=_vector(t, beta, x), eps=float(epsilon)
    ),
)
def instance_norm(
    x: Array, *, gamma: Array | None = None, beta: Array | None = None, epsilon: float = 1e-5
) -> Array:
    """Normalize each channel of each image by itself.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``; mean and variance are taken over the
    sizes of ``x``, [n, channels, *sizes]; ``gamma`` and ``beta`` hold one number per channel.
    """
    y = _standard(x, tuple(range(2, x.ndim)), epsilon)
    g, b = (None if p is None else _channels(p, x.ndim) for p in (gamma, beta))
    return _scaled(y, g, b).astype(x.dtype)


def _axes(axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else tuple(sorted(int(a) % rank for a in axes))


def _along(values: Any, axes: Sequence[int], shape: Sequence[Any]) -> Array | None:
    """``gamma`` or ``beta`` of the normalized axes only, shaped to broadcast over all."""
    if values is None:
        return None
    array = np.asarray(values, np.float32)
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if i in axes else 1 for i in range(len(shape))])


def _onnx_layer_norm(o: Any, x: Any, *, axes: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    over = _axes(axes, x.rank)
    sizes = [x.shape[a] for a in over]
    if over != tuple(range(over[0], x.rank)) or not all(isinstance(n, int) for n in sizes):
        y = _onnx_standard(o, x, over, epsilon)
        return _onnx_scaled(o, y, *(_along(p, over, x.shape) for p in (gamma, beta)))
    scale = o.const(np.ones(sizes) if gamma is None else np.asarray(gamma), np.float32)
    offset = None if beta is None else o.const(np.asarray(beta), np.float32)
    return o.LayerNormalization(x, scale, offset, axis=over[0], epsilon=float(epsilon))


def _torch_layer_norm(t: Any, x: Any, *, axes: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    over = _axes(axes, x.ndim)
    if over == tuple(range(over[0], x.ndim)):
        scale, offset = _vector(t, gamma, x), _vector(t, beta, x)
        return t.nn.functional.layer_norm(
            x, tuple(x.shape[a] for a in over), scale, offset, float(epsilon)
        )
    variance, mean = t.var_mean(x, over, unbiased=False, keepdim=True)
    y = (x - mean) / t.sqrt(variance + epsilon)
    sizes = [n if i in over else 1 for i, n in enumerate(x.shape)]
    g, b = (None if p is None else _vector(t, p, x).reshape(sizes) for p in (gamma, beta))
    y = y if g is None else y * g
    return y if b is None else y + b


@op(
    samples=[
        {"x": normal(2, 3, 4), "axes": [0, 1, 2]},
        {"x": normal(2, 3, 8), "axes": [-1], "gamma": normal(8, seed=1), "beta": normal(8, seed=2)},
        {
            "x": normal(2, 3, 4, 5),
            "axes": [2, 3],
            "gamma": normal(4, 5, seed=1),
            "beta": normal(4, 5, seed=2),
            "epsilon": 0.1,
        },
        {
            "x": normal(2, 6, 3, 4),
            "axes": [1],
            "gamma": normal(6, seed=1),
            "beta": normal(6, seed=2),
        },
        {"x": normal(2, 3, 4, 5), "axes": [3, 1], "gamma": normal(3, 5, seed=1)},
    ],
    onnx=_onnx_layer_norm,
    torch=_torch_layer_norm,
)
def layer_norm(
    x: Array,
    *,
    axes: Sequence[int] | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """Normalize over ``axes``.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``;
    ``gamma`` and ``beta`` have the sizes of the normalized axes, in the order of ``x``.
    MIL's default is all axes, but coremltools 9 cannot write that default: name them.
    """
    over = _axes(axes, x.ndim)
    y = _standard(x, over, epsilon)
    return _scaled(y, *(_along(p, over, x.shape) for p in (gamma, beta))).astype(x.dtype)


def _onnx_l2_norm(o: Any, x: Any, *, epsilon: float) -> Any:
    total = o.ReduceSumSquare(x, o.ints([-3, -2, -1]), keepdims=1)
    return o.Div(x, o.Sqrt(o.Add(total, o.scalar(epsilon, x))))


@op(
    samples=[
        {"x": normal(3, 4, 5)},
        {"x": normal(2, 3, 4, 5), "epsilon": 0.5},
        {"x": normal(2, 2, 3, 2, 2)},
    ],
    onnx=_onnx_l2_norm,
    torch=lambda t, x, *, epsilon: x / t.sqrt((x * x).sum((-3, -2, -1), keepdim=True) + epsilon),
)
def l2_norm(x: Array, *, epsilon: float = 1e-6) -> Array:
    """Bring to length one over the last three dimensions: ``x / sqrt(sum(x ** 2) + epsilon)``."""
    wide = x.astype(np.float32)
    length = np.sqrt(np.square(wide).sum((-3, -2, -1), keepdims=True) + np.float32(epsilon))
    return np.asarray(wide / length).astype(x.dtype)


def _onnx_local_response_norm(
    o: Any, x: Any, *, size: int, alpha: float, beta: float, k: float
) -> Any:
    if size % 2 and x.rank == 4:  # noqa: PLR2004 - all that ONNX Runtime's LRN knows
        return o.LRN(x, size=int(size), alpha=float(alpha), beta=float(beta), bias=float(k))
    flat, before, after = [0] * (x.rank - 2), size // 2, (size - 1) // 2
    # The mean over neighbouring channels is an average pool, once the channels are a size.
    stacked = o.Unsqueeze(o.Mul(x, x), o.ints([1]))
    kernel = [int(size), *[1] * (x.rank - 2)]
    mean = o.AveragePool(
        stacked, kernel_shape=kernel, pads=[before, *flat, after, *flat], count_include_pad=1
    )
    scale = o.Add(o.Mul(o.Squeeze(mean, o.ints([1])), o.scalar(alpha, x)), o.scalar(k, x))
    return o.Div(x, o.Pow(scale, o.scalar(beta, x)))


@op(
    samples=[
        {"x": normal(2, 7, 3, 4), "size": 3},
        {"x": normal(2, 7, 3, 4), "size": 5, "alpha": 0.3, "beta": 0.5, "k": 2.0},
        {"x": normal(1, 6, 5), "size": 3, "alpha": 0.5},
        {"x": normal(1, 6, 3, 4), "size": 4, "alpha": 0.5},
    ],
    onnx=_onnx_local_response_norm,
    torch=lambda t, x, *, size, alpha, beta, k: t.nn.functional.local_response_norm(
        x.float(), int(size), float(alpha), float(beta), float(k)
    ),
)
def local_response_norm(
    x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide by the energy of the ``size`` nearest channels.

    ``x / (k + alpha / size * sum(neighbours ** 2)) ** beta``.
    Of an even ``size`` the extra channel lies before (as in PyTorch); outside there are zeros.
    """
    wide = x.astype(np.float32)
    pads = [(0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (x.ndim - 2)]
    view = np.lib.stride_tricks.sliding_window_view(np.pad(np.square(wide), pads), size, axis=1)
    scale = np.float32(k) + np.float32(alpha / size) * view.sum(-1)
    return np.asarray(wide / scale ** np.float32(beta)).astype(x.dtype)
