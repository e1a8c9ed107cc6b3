"""Activation layers: what is done to each number alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import at_least
from coreml_lab.program.mil.tools import is_symbolic, mb

CHANNEL = -3
PLAIN = {
    "ReLU": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softsign": "softsign",
    "softplus": "softplus",
}
WITH_ALPHA = {"leakyReLU": "leaky_relu", "thresholdedReLU": "thresholded_relu", "ELU": "elu"}
WITH_BOTH = {
    "linear": "linear_activation",
    "scaledTanh": "scaled_tanh",
    "sigmoidHard": "sigmoid_hard",
}
GELU = {0: "EXACT", 1: "TANH_APPROXIMATION", 2: "SIGMOID_APPROXIMATION"}


@layer("activation", images=True)
def activation(p: Any, x: Any) -> Any:
    """One of thirteen functions of a number."""
    kind = p.WhichOneof("NonlinearityType") or ""
    own = getattr(p, kind, None) or p
    if kind in PLAIN:
        return getattr(mb, PLAIN[kind])(x=x)
    if kind in WITH_ALPHA:
        return getattr(mb, WITH_ALPHA[kind])(x=x, alpha=np.float32(own.alpha))
    if kind in WITH_BOTH:
        alpha, beta = np.float32(own.alpha), np.float32(own.beta)
        return getattr(mb, WITH_BOTH[kind])(x=x, alpha=alpha, beta=beta)
    if kind == "PReLU":
        return _prelu(own, x)
    if kind == "parametricSoftplus":
        return _parametric_softplus(own, x)
    raise LayerError("it does not say which function it is")


def _prelu(p: Any, x: Any) -> Any:
    alpha = _per_channel(p.alpha, x)
    return mb.add(x=mb.relu(x=x), y=mb.mul(x=mb.minimum(x=x, y=np.float32(0)), y=alpha))


def _parametric_softplus(p: Any, x: Any) -> Any:
    alpha, beta = _per_channel(p.alpha, x), _per_channel(p.beta, x)
    return mb.mul(x=mb.softplus(x=mb.mul(x=x, y=beta)), y=alpha)


def _per_channel(params: Any, x: Any) -> Any:
    """Weights of one element, or of one per channel, along the third axis from the end."""
    at_least(x, -CHANNEL)
    channels = x.shape[CHANNEL]
    if is_symbolic(channels):
        raise LayerError("the number of its channels is not fixed")
    return weights.vector(params, int(channels)).reshape(-1, 1, 1)


@layer("clampedReLU", images=True)
def clamped_relu(p: Any, x: Any) -> Any:
    """``min(beta, x)``, negative numbers times alpha."""
    return mb.clamped_relu(x=x, alpha=np.float32(p.alpha), beta=np.float32(p.beta))


@layer("gelu", images=True)
def gelu(p: Any, x: Any) -> Any:
    """Gaussian error linear unit, exact or in one of two approximations."""
    return mb.gelu(x=x, mode=GELU[p.mode])


@layer("clip", images=True)
def clip(p: Any, x: Any) -> Any:
    """``min(max(x, minVal), maxVal)``."""
    return mb.clip(x=x, alpha=np.float32(p.minVal), beta=np.float32(p.maxVal))


@layer("softmax", images=True)
def softmax(_p: Any, x: Any) -> Any:
    """Softmax along the channels."""
    at_least(x, -CHANNEL)
    return mb.softmax(x=x, axis=CHANNEL)


@layer("softmaxND")
def softmax_nd(p: Any, x: Any) -> Any:
    """Softmax along one axis."""
    return mb.softmax(x=x, axis=int(p.axis))
