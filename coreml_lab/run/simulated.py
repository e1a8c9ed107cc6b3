"""Inputs made up for a model: seeded noise that fits its description, always called simulated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreml_lab.program.graph import Array, Dim, TensorType
from coreml_lab.records import PortInfo, ProgramInfo
from coreml_lab.run.images import GRAY

# Whole numbers stay small: they are often indices, and those of a small table must fit too.
LARGEST = 10
PIXEL = 256


def noise(inputs: Mapping[str, TensorType], seed: int = 0) -> dict[str, Array]:
    """One array per input: normal numbers, small whole numbers, pixels for uint8.

    What is no array (strings, dictionaries, sequences) is left out: no noise means anything there.
    """
    generator = np.random.default_rng(seed)
    return {n: _one(generator, kind) for n, kind in inputs.items() if kind.dtype.kind != "O"}


def usual(inputs: Mapping[str, TensorType], info: ProgramInfo) -> dict[str, TensorType]:
    """The types noise is made for: images as pixels, flexible inputs in their usual shape."""
    ports = {p.name: p for p in info.inputs}
    return {name: _usual(kind, ports.get(name)) for name, kind in inputs.items()}


def _usual(kind: TensorType, port: PortInfo | None) -> TensorType:
    if port is None:
        return kind
    shape = port.default_shape or next(iter(port.enumerated), ())
    if not kind.static and shape:
        kind = TensorType(shape, kind.dtype)
    if port.colour and kind.static:
        channels = () if port.colour in GRAY else (3,)
        return TensorType((*kind.sizes[2:], *channels), np.dtype(np.uint8))
    return kind


def _one(generator: np.random.Generator, kind: TensorType) -> Array:
    shape = tuple(max(1, d.low) if isinstance(d, Dim) else d for d in kind.shape)
    if kind.dtype.kind == "f":
        return generator.standard_normal(shape).astype(kind.dtype)
    if kind.dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(kind.dtype)
    high = PIXEL if kind.dtype == np.uint8 else LARGEST
    return generator.integers(0, high, shape).astype(kind.dtype)
