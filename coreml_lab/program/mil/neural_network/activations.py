"""Activation layers: what is done to each number alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import at_least, batched
from coreml_lab.program.mil.tools import is_symbolic, mb

CHANNEL = -3
# Of ``alpha x + beta``.
NEGATED = (-1, 0)
SIX = 6
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
    if kind == "linear" and (own.alpha, own.beta) == NEGATED:
        return _negated(x)
    if kind in WITH_BOTH:
        alpha, beta = np.float32(own.alpha), np.float32(own.beta)
        return getattr(mb, WITH_BOTH[kind])(x=x, alpha=alpha, beta=beta)
    if kind == "PReLU":
        return _prelu(own, x)
    if kind == "parametricSoftplus":
        return _parametric_softplus(own, x)
    raise LayerError("it does not say which function it is")


def _negated(x: Any) -> Any:
    """``-x``. Layers say ``-max(-u, c)`` for ``min(u, -c)``; after a relu that is a clip."""
    if not _says_limit(x):
        return mb.linear_activation(x=x, alpha=np.float32(-1), beta=np.float32(0))
    inner, limit = x.op.x.op.x, -np.float32(x.op.y.val)
    if limit <= 0 or inner.op is None or inner.op.op_type != "relu":
        return mb.minimum(x=inner, y=limit)
    if limit == SIX:
        return mb.relu6(x=inner.op.x)
    return mb.clip(x=inner.op.x, alpha=np.float32(0), beta=limit)


def _says_limit(x: Any) -> bool:
    """Whether a variable is the largest of a negated one and of a constant."""
    if x.op is None or x.op.op_type != "maximum" or np.size(x.op.y.val) != 1 or not x.op.y.val:
        return False
    before = x.op.x.op
    if before is None or before.op_type != "linear_activation":
        return False
    return (before.alpha.val, before.beta.val) == NEGATED


def _prelu(p: Any, x: Any) -> Any:
    alpha = np.ascontiguousarray(_per_channel(p.alpha, x).ravel())
    return batched(x, 4, lambda v: mb.prelu(x=v, alpha=alpha))


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
