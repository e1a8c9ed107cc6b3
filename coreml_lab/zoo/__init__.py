"""Whole networks on the public interface, with weights drawn from a seed: nothing is downloaded.

They measure speed, memory and agreement. Untrained, their scores mean nothing: a cat is not found.
``weights`` gives the parameters under the names that PyTorch's networks use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.errors import UnknownParameter
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.program.tensors import Tensor, placeholder, spec
from coreml_lab.run import compiler
from coreml_lab.run.model import Model
from coreml_lab.zoo import convolutional, known, transformers
from coreml_lab.zoo.layers import Layers

__all__ = [
    "NETWORKS", "bert", "digits", "inputs", "mobilenet_v2", "resnet50", "vgg16", "vit", "weights",
]  # fmt: skip

IMAGE = spec(1, 3, 224, 224)
SQUARES = 14


@dataclass(frozen=True)
class Network:
    """A network as a function of its layers and its input."""

    function: Callable[[Layers, Tensor], Tensor]
    input: TensorType
    # What a value of the input lies below; images lie in [-1, 1).
    values: int = 1


NETWORKS = {
    "resnet50": Network(convolutional.resnet50, IMAGE),
    "vgg16": Network(convolutional.vgg16, IMAGE),
    "mobilenet_v2": Network(convolutional.mobilenet_v2, IMAGE),
    "vit": Network(transformers.vit, IMAGE),
    "bert": Network(transformers.bert, spec(1, 128, dtype="int32"), transformers.VOCABULARY),
    "digits": Network(convolutional.digits, spec(1, 1, 8, 8)),
}


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        UnknownParameter: where there is none.
    """
    if name not in NETWORKS:
        raise UnknownParameter(f"the zoo has no {name!r}", hint=f"one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def weights(name: str, *, seed: int = 0) -> dict[str, Array]:
    """The parameters of a network, by the names that PyTorch's network has.

    Raises:
        UnknownParameter: where there is no network of that name.
    """
    net, found = Layers(seed), network(name)
    found.function(net, placeholder("x", found.input))
    return net.weights


def inputs(name: str, *, seed: int = 0) -> dict[str, Array]:
    """An input for a network: an image of coloured squares in [-1, 1), or any tokens.

    Raises:
        UnknownParameter: where there is no network of that name.
    """
    found, random = network(name), np.random.default_rng(seed)
    sizes = found.input.sizes
    if found.values > 1:
        return {"x": random.integers(0, found.values, sizes, np.int32)}
    side = max(1, sizes[2] // SQUARES)
    image = random.uniform(-1, 1, (*sizes[:2], sizes[2] // side, sizes[3] // side))
    return {"x": image.repeat(side, 2).repeat(side, 3).astype(np.float32)}


def _compiled(
    name: str, *, seed: int, precision: str | None, device: str | None, engine: str | None
) -> Model:
    precision = precision or config.current().precision
    key = known.recipe(name, seed, precision)
    program = known.recall(key, name)
    if program is not None:
        return compiler.opened(program, precision=precision, device=device, engine=engine)
    found, net = NETWORKS[name], Layers(seed)

    def run(x: Tensor) -> Tensor:
        return found.function(net, x)

    model: Model = cl.compile(
        run, name=name, x=found.input, precision=precision, device=device, engine=engine
    )
    known.keep(key, model.program)
    return model


def resnet50(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """ResNet-50: ``x`` [1, 3, 224, 224] to a thousand scores; 26 million weights.

    Args:
        precision: ``fp32`` or ``fp16`` arithmetic (default: ``Config.precision``).
        device: where to run it.
        engine: which engine to run it on.
        seed: what the weights are drawn from.
    """
    return _compiled("resnet50", precision=precision, device=device, engine=engine, seed=seed)


def vgg16(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """VGG-16: ``x`` [1, 3, 224, 224] to a thousand scores; 138 million weights, half a gigabyte."""
    return _compiled("vgg16", precision=precision, device=device, engine=engine, seed=seed)


def mobilenet_v2(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """MobileNetV2: ``x`` [1, 3, 224, 224] to a thousand scores; 3.5 million weights."""
    return _compiled("mobilenet_v2", precision=precision, device=device, engine=engine, seed=seed)


def vit(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """ViT-Tiny: ``x`` [1, 3, 224, 224] to a thousand scores; 5.7 million weights."""
    return _compiled("vit", precision=precision, device=device, engine=engine, seed=seed)


def bert(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """An encoder of MiniLM's size: ``x``, 128 tokens as int32 [1, 128], to a vector of 384 each."""
    return _compiled("bert", precision=precision, device=device, engine=engine, seed=seed)


def digits(
    *,
    precision: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    seed: int = 0,
) -> Model:
    """A small network: ``x`` [1, 1, 8, 8] to ten scores; 10 thousand weights."""
    return _compiled("digits", precision=precision, device=device, engine=engine, seed=seed)
