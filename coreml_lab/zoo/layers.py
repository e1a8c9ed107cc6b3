"""Layers whose weights are drawn from a seed: what the networks of the zoo are made of."""

from __future__ import annotations

import math
import zlib

import numpy as np

import coreml_lab as cl
from coreml_lab.program.graph import Array
from coreml_lab.program.tensors import Tensor

# relu leaves a normal distribution this share of its variance; an image in [-1, 1) has as much.
KEPT = (math.pi - 1) / (2 * math.pi)


class Layers:
    """Layers of one network; ``weights`` holds the parameters used so far, by PyTorch's names.

    A parameter depends on its name and the seed only. Each filter over several channels sums to
    nothing and is scaled by what it looks at, so that activations stay near one from first to
    last, and depend on the input as those of a trained network do.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.weights: dict[str, Array] = {}

    def normal(self, name: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> Array:
        """The parameter of that name, normally distributed around ``mean``."""
        if name not in self.weights:
            random = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            values = random.standard_normal(shape, np.float32)
            values *= np.float32(scale)
            values += np.float32(mean)
            self.weights[name] = values
        return self.weights[name]

    def conv(
        self,
        x: Tensor,
        name: str,
        filters: int,
        kernel: int,
        *,
        groups: int = 1,
        bias: bool = False,
        stride: int = 1,
        padding: int = 0,
    ) -> Tensor:
        """A convolution to ``filters`` channels, of an image or what relu left."""
        shape = (filters, channels(x) // groups, kernel, kernel)
        scale = 1 / math.sqrt(KEPT * math.prod(shape[1:]))
        weight = self.normal(f"{name}.weight", shape, scale)
        if shape[1] > 1:  # a channel by itself would lose what is even in it, and with it precision
            weight -= weight.mean((1, 2, 3), keepdims=True)
        offset = self.normal(f"{name}.bias", (filters,), 0.05) if bias else None
        y: Tensor = cl.ops.conv2d(x, weight, offset, stride=stride, padding=padding, groups=groups)
        return y

    def batch_norm(self, x: Tensor, name: str, variance: float = 1.0) -> Tensor:
        """A batch normalization, which leaves a convolution that variance."""
        count, scale = (channels(x),), math.sqrt(variance)
        y: Tensor = cl.ops.batch_norm2d(
            x,
            self.normal(f"{name}.running_mean", count, 0.1),
            self.normal(f"{name}.running_var", count, 0.1, 1.0),
            self.normal(f"{name}.weight", count, 0.1 * scale, scale),
            self.normal(f"{name}.bias", count, 0.1 * scale),
        )
        return y

    def linear(self, x: Tensor, name: str, outputs: int, seen: float = 1.0) -> Tensor:
        """Weighted sums of the last dimension of an ``x`` whose variance is ``seen``."""
        inputs = int(x.shape[-1])  # type: ignore[arg-type]  # the zoo's sizes are all known
        weight = self.normal(f"{name}.weight", (outputs, inputs), 1 / math.sqrt(seen * inputs))
        weight -= weight.mean(1, keepdims=True)
        bias = self.normal(f"{name}.bias", (outputs,), 0.02)
        y: Tensor = cl.ops.linear(x, weight=weight, bias=bias)
        return y

    def layer_norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        """A normalization of the last dimension."""
        size = (int(x.shape[-1]),)  # type: ignore[arg-type]  # the zoo's sizes are all known
        gamma = self.normal(f"{name}.weight", size, 0.1, 1.0)
        beta = self.normal(f"{name}.bias", size, 0.05)
        y: Tensor = cl.ops.layer_norm(x, axes=[-1], gamma=gamma, beta=beta, epsilon=epsilon)
        return y


def channels(x: Tensor) -> int:
    """How many channels an image has."""
    return int(x.shape[1])  # type: ignore[arg-type]  # the zoo's sizes are all known
