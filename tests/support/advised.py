"""Networks with something that a rule is about, and what a recording of a loop looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.records import Run
from tests.improve.nets import weights

MS = 1_000_000
Network = Callable[..., Any]


def convolutional(channels: int = 64, size: int = 64) -> Network:
    kernel, second = weights(channels, 3, 3, 3), weights(channels, channels, 3, 3)

    def network(x: Any) -> Any:
        y = cl.ops.relu(cl.ops.conv(x, weight=kernel, pad_type="same"))
        return cl.ops.conv(y, weight=second, pad_type="same")

    return network


def relu(x: Any) -> Any:
    return cl.ops.relu(x)


def heavy(x: Any) -> Any:
    """One and a half million weights in linear layers."""
    return cl.ops.linear(cl.ops.linear(x, weight=weights(2048, 512)), weight=weights(256, 2048))


def normalized(x: Any) -> Any:
    """A layer norm, written out."""
    centred = cl.ops.sub(x, cl.ops.reduce_mean(x, axes=[-1], keep_dims=True))
    spread = cl.ops.reduce_mean(cl.ops.square(centred), axes=[-1], keep_dims=True)
    return cl.ops.mul(centred, cl.ops.rsqrt(cl.ops.add(spread, np.float32(1e-5))))


def gelu(x: Any) -> Any:
    cube = cl.ops.pow(x, np.float32(3.0))
    inner = cl.ops.mul(cl.ops.add(x, cl.ops.mul(cube, np.float32(0.044715))), np.float32(0.797885))
    return cl.ops.mul(x, cl.ops.add(cl.ops.tanh(inner), np.float32(1.0)))


def attention(x: Any) -> Any:
    scores = cl.ops.mul(cl.ops.matmul(x, x, transpose_y=True), np.float32(0.125))
    return cl.ops.matmul(cl.ops.softmax(scores, axis=-1), x)


def twice(x: Any) -> Any:
    a, b = weights(64, 64), weights(64, 64).copy()
    return cl.ops.add(cl.ops.linear(x, weight=a), cl.ops.linear(x, weight=b))


def looped(count: int, took: int, pause: int) -> tuple[Run, ...]:
    return tuple(Run(i, i * (took + pause), took) for i in range(count))


def wide_norm(x: Any) -> Any:
    return cl.ops.batch_norm(
        cl.ops.conv(x, weight=weights(8, 3, 3, 3)),
        mean=weights(8, 1)[:, 0],
        variance=np.ones(8, np.float32),
    )


def pruned(x: Any) -> Any:
    weight = weights(256, 64)
    weight[np.abs(weight) < np.quantile(np.abs(weight), 0.9)] = 0
    return cl.ops.linear(x, weight=weight)


def integers(x: Any) -> Any:
    whole = cl.ops.cast(cl.ops.mul(x, np.float32(3)), dtype="int32")
    return cl.ops.relu(cl.ops.cast(cl.ops.add(whole, np.int32(1)), dtype="fp32"))


def indexed(x: Any) -> Any:
    places = cl.ops.cast(cl.ops.relu(x), dtype="int32")
    table = cl.ops.mul(cl.ops.concat(values=[x, x], axis=-1), np.float32(2))
    return cl.ops.gather(table, indices=cl.ops.reshape(places, shape=[-1]), axis=1)


def split(x: Any) -> Any:
    """Work for the Neural Engine, with something in between that only the CPU does."""
    kernel = weights(256, 256, 3, 3)
    y = cl.ops.relu(cl.ops.conv(x, weight=kernel, pad_type="same"))
    y = cl.ops.cumsum(y, axis=2)
    return cl.ops.relu(cl.ops.conv(y, weight=kernel, pad_type="same"))


def deep(count: int) -> Any:
    def network(x: Any) -> Any:
        for _ in range(count):
            x = cl.ops.relu(cl.ops.conv(x, weight=weights(64, 64, 3, 3), pad_type="same"))
        return x

    return network


def behind(value: float) -> Any:
    def network(x: Any) -> Any:
        y = cl.ops.pad(x, pad=[1, 1, 1, 1], mode="constant", constant_val=value)
        return cl.ops.conv(y, weight=np.ones((4, 4, 3, 3), np.float32))

    return network
