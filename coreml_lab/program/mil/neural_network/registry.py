"""The declarations of layer types: name, number of inputs, and what each becomes in MIL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MANY = 1 << 16


class LayerError(ValueError):
    """What is wrong with one layer; the network adds its name and type."""


@dataclass(frozen=True)
class Layer:
    """One layer type.

    Attributes:
        kind: its name in NeuralNetwork.proto's ``layer``.
        body: from its parameters and inputs to what it becomes in MIL.
        low, high: how many inputs it takes.
        images: its axes count from the end, so a leading axis of length 1 may stay hidden.
        floats: its inputs are numbers: indices and truth values are made so.
        nested: it holds networks, and is given the one it stands in.
        doc: what it becomes, in a sentence.
        limits: what of it is refused or different.
    """

    kind: str
    body: Callable[..., Any]
    low: int = 1
    high: int = 1
    images: bool = False
    floats: bool = True
    nested: bool = False
    doc: str = ""
    limits: str = ""


LAYERS: dict[str, Layer] = {}


def layer(
    *kinds: str,
    inputs: int | tuple[int, int] = 1,
    images: bool = False,
    floats: bool = True,
    nested: bool = False,
    doc: str = "",
    limits: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what layers of these kinds become."""
    low, high = (inputs, inputs) if isinstance(inputs, int) else inputs

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        told = doc or (body.__doc__ or "").partition("\n")[0]
        for kind in kinds:
            LAYERS[kind] = Layer(kind, body, low, high, images, floats, nested, told, limits)
        return body

    return declare


def pair(given: Sequence[int], default: int = 1) -> list[int]:
    """A parameter for height and width: what is given, or the default for both.

    Raises:
        LayerError: where it is neither empty nor of two numbers.
    """
    if not given:
        return [default, default]
    if len(given) != len("HW"):
        raise LayerError(f"a parameter for height and width has {len(given)} numbers")
    return [int(n) for n in given]
