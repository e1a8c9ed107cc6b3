"""Normalizations: by stored or measured statistics, over channels, places, or everything."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import layer
from coreml_lab.program.mil.neural_network.values import as_float, at_least, batched
from coreml_lab.program.mil.tools import mb

IMAGE = 3
SPATIAL = [-2, -1]
SMALL, SMALLER = 1e-5, 1e-6


def _or(value: float, default: float) -> np.float32:
    """A parameter whose 0 stands for its default."""
    return np.float32(value) if value else np.float32(default)


@layer("batchnorm", images=True)
def batchnorm(p: Any, x: Any) -> Any:
    """Per channel: by stored mean and variance, or by those of the instance or the batch."""
    at_least(x, IMAGE)
    channels, epsilon = int(p.channels), _or(p.epsilon, SMALL)
    gamma = weights.vector(p.gamma, channels)
    beta = weights.vector(p.beta, channels)
    if not p.computeMeanVar:
        given = {
            "mean": weights.vector(p.mean, channels),
            "variance": weights.vector(p.variance, channels),
        }
        return batched(
            x, 4, lambda v: mb.batch_norm(x=v, gamma=gamma, beta=beta, epsilon=epsilon, **given)
        )
    if p.instanceNormalization:
        return batched(
            x, 4, lambda v: mb.instance_norm(x=v, gamma=gamma, beta=beta, epsilon=epsilon)
        )
    return batched(x, 4, lambda v: _by_batch(v, gamma, beta, epsilon))


def _by_batch(x: Any, gamma: Array, beta: Array, epsilon: np.float32) -> Any:
    scaled = _normalized(x, [0, 2, 3], epsilon)
    scaled = mb.mul(x=scaled, y=gamma.reshape(-1, 1, 1))
    return mb.add(x=scaled, y=beta.reshape(-1, 1, 1))


def _normalized(x: Any, axes: list[int], epsilon: np.float32) -> Any:
    centred = mb.sub(x=x, y=mb.reduce_mean(x=x, axes=axes, keep_dims=True))
    variance = mb.reduce_mean(x=mb.mul(x=centred, y=centred), axes=axes, keep_dims=True)
    return mb.real_div(x=centred, y=mb.sqrt(x=mb.add(x=variance, y=epsilon)))


@layer("mvn", images=True)
def mvn(p: Any, x: Any) -> Any:
    """Mean 0 and, if asked for, variance 1, over each channel or all of them."""
    at_least(x, IMAGE)
    axes = [-3, *SPATIAL] if p.acrossChannels else SPATIAL
    if p.normalizeVariance:
        return _normalized(x, axes, _or(p.epsilon, SMALLER))
    return mb.sub(x=x, y=mb.reduce_mean(x=x, axes=axes, keep_dims=True))


@layer("l2normalize", images=True)
def l2normalize(p: Any, x: Any) -> Any:
    """Each image divided by its Euclidean length."""
    at_least(x, IMAGE)
    return mb.l2_norm(x=x, epsilon=_or(p.epsilon, SMALLER))


@layer("lrn", images=True)
def lrn(p: Any, x: Any) -> Any:
    """Each number divided by a power of the squares in the channels around it."""
    given = {"alpha": np.float32(p.alpha), "beta": np.float32(p.beta), "k": _or(p.k, 1)}
    size = int(p.localSize)
    return batched(x, 4, lambda v: mb.local_response_norm(x=v, size=size, **given))


@layer("layerNormalization")
def layer_normalization(p: Any, x: Any) -> Any:
    """Mean 0 and variance 1 over the last axes, then a scale and a bias for each place."""
    shape = [int(n) for n in p.normalizedShape]
    return mb.layer_norm(
        x=as_float(x),
        axes=list(range(-len(shape), 0)),
        gamma=weights.array(p.gamma, shape),
        beta=weights.array(p.beta, shape),
        epsilon=np.float32(p.eps),
    )
