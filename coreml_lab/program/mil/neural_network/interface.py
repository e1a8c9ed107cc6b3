"""The border of a classic network: how arrays and images become values, and values results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.errors import ModelError
from coreml_lab.program.description import Feature
from coreml_lab.program.mil.description import feature
from coreml_lab.program.mil.neural_network.network import NETWORKS
from coreml_lab.program.mil.neural_network.registry import LayerError
from coreml_lab.program.mil.neural_network.values import RANK5, Blob, as_float, reshape
from coreml_lab.program.mil.tools import get_new_symbol, mb, proto, types

# MultiArray shapes that old networks have: channels, or channels, height and width.
OLD_RANKS = (1, 3)
ARRAY = proto.FeatureTypes_pb2.ArrayFeatureType
# Layers that do something along the sequence; their networks take sequences of any length.
SEQUENTIAL = frozenset({"simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM"})
INTEGRAL = frozenset({ARRAY.INT32, ARRAY.INT8})


@dataclass(frozen=True)
class Entry:
    """One input: its shape in the program, and how it becomes a value.

    Attributes:
        feature: what the file says about it.
        shape: sizes, or symbols where they are flexible.
        whole: whether its numbers are whole.
        old: whether it is mapped to [sequence, batch, channel, height, width].
        sequence: whether its first axis is a sequence of any length.
    """

    name: str
    feature: Feature
    shape: tuple[Any, ...]
    whole: bool = False
    old: bool = False
    sequence: bool = False

    @property
    def placeholder(self) -> Any:
        """What stands for it in the function."""
        return mb.placeholder(self.shape, types.int32 if self.whole else types.fp32)

    def blob(self, var: Any, preprocessing: Any) -> Blob:
        """The value that layers read."""
        if self.feature.kind == "image":
            return Blob(_preprocessed(var, self, preprocessing), self.old)
        if not self.old or self.sequence:
            return Blob(var)
        if var.rank == 1:
            return Blob(mb.reshape(x=var, shape=[1, -1, 1, 1]), hidden=True)
        if var.rank == len("CHW"):
            return Blob(mb.expand_dims(x=var, axes=[0]), hidden=True)
        return Blob(var, hidden=var.rank == RANK5 - 1)


def entries(file: str, spec: Any, network: Any) -> list[Entry]:
    """The inputs of a network.

    Raises:
        ModelError: for an input that no network has.
    """
    states = _states(network.layers)
    sequential = _sequential(network.layers)
    found = []
    for described in spec.description.input:
        own = feature(file, described)
        if own.kind == "image":
            old = network.imageInputShapeMapping == 0
            found.append(Entry(described.name, own, _shape(own), old=old))
            continue
        array = described.type.multiArrayType
        shape, old = _shape(own), network.arrayInputShapeMapping == 0
        if not shape or (old and len(shape) not in {*OLD_RANKS, RANK5 - 1, RANK5}):
            raise ModelError(
                f"{file}: input {described.name!r} has shape {list(own.default_shape)}; "
                + ("an old network's has 1 or 3 numbers" if old and shape else "it must have one"),
                hint="convert the model again",
            )
        whole = array.dataType in INTEGRAL
        sequence = old and sequential and described.name not in states
        if sequence:
            shape = (get_new_symbol(), *_five(shape)[1:])
        found.append(Entry(described.name, own, shape, whole, old, sequence))
    return found


def _five(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """An old network's shape with all five axes."""
    if len(shape) == 1:
        return (1, 1, *shape, 1, 1)
    return (*[1] * (RANK5 - len(shape)), *shape)


def _shape(own: Feature) -> tuple[Any, ...]:
    """The usual shape, with a symbol for each flexible size."""
    usual = own.default_shape or tuple(low for low, _ in own.bounds)
    bounds = own.bounds or tuple((n, n) for n in usual)
    if len(bounds) != len(usual):
        bounds = tuple((n, n) for n in usual)
    return tuple(
        n if low == high else get_new_symbol() for n, (low, high) in zip(usual, bounds, strict=True)
    )


def _sequential(layers: Any) -> bool:
    return any(each.WhichOneof("layer") in SEQUENTIAL for each in layers)


def _states(layers: Any) -> set[str]:
    """Inputs that recurrent layers begin with: vectors, no sequences."""
    found: set[str] = set()
    for each in layers:
        kind = each.WhichOneof("layer")
        if kind in SEQUENTIAL:
            found |= set(each.input[1:])
        for name in NETWORKS.get(kind, ()):
            found |= _states(getattr(getattr(each, kind), name).layers)
    return found


def _preprocessed(x: Any, entry: Entry, preprocessing: Any) -> Any:
    """Pixels after what the network does to its images first."""
    for step in preprocessing:
        if step.featureName not in {"", entry.name}:
            continue
        kind = step.WhichOneof("preprocessor")
        if kind == "scaler":
            x = _scaled(x, step.scaler, entry.feature.colour)
        elif kind == "meanImage":
            x = _centred(x, step.meanImage.meanImage, entry)
    return x


def _scaled(x: Any, scaler: Any, colour: str) -> Any:
    """Scale, then a bias per colour; a scale of 0 was never set, and stands for 1."""
    biases = {
        "RGB": [scaler.redBias, scaler.greenBias, scaler.blueBias],
        "BGR": [scaler.blueBias, scaler.greenBias, scaler.redBias],
    }.get(colour, [scaler.grayBias])
    scale = np.float32(scaler.channelScale or 1)
    x = mb.mul(x=x, y=scale) if scale != 1 else x
    bias = np.array(biases, np.float32).reshape(1, -1, 1, 1)
    return mb.add(x=x, y=bias) if bias.any() else x


def _centred(x: Any, mean: Any, entry: Entry) -> Any:
    values = np.array(mean, np.float32)
    _, *shape = entry.feature.default_shape
    if values.size != math.prod(shape):
        raise LayerError(f"the mean image of {entry.name!r} has {values.size} numbers for {shape}")
    return mb.sub(x=x, y=values.reshape(1, *shape))


def result(blob: Blob, described: Any, *, old: bool) -> Any:
    """What a network gives out, in the shape and type that the file describes.

    Raises:
        LayerError: for an image output of another shape.
    """
    kind = described.type.WhichOneof("Type")
    var = blob.whole
    if kind == "imageType":
        return _picture(as_float(var))
    array = described.type.multiArrayType
    shape = [int(n) for n in array.shape] if kind == "multiArrayType" else []
    known = all(isinstance(d, int | np.integer) for d in var.shape)
    if old and shape and known and math.prod(shape) == math.prod(var.shape):
        var = reshape(var, shape)
    whole = kind == "int64Type" or (kind == "multiArrayType" and array.dataType in INTEGRAL)
    return mb.cast(x=var, dtype="int32") if whole else as_float(var)


def _picture(x: Any) -> Any:
    """A value of three or more axes as [1, channels, height, width]."""
    if x.rank < len("CHW"):
        raise LayerError(f"an image output has {x.rank} axes")
    if x.rank == len("CHW"):
        return mb.expand_dims(x=x, axes=[0])
    extra = list(range(x.rank - 4))
    return mb.squeeze(x=x, axes=extra) if extra else x


def labels(network: Any) -> list[str | int]:
    """The classes of a classifier."""
    kind = network.WhichOneof("ClassLabels")
    return list(getattr(network, kind).vector) if kind else []
