"""The numbers of a model's inputs as one vector, and numbers as its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.classical.registry import Interface, ModelTypeError
from coreml_lab.program.graph import Array

NUMERIC = frozenset({"number", "integer", "tensor"})


def numeric(interface: Interface, wanted: int | None = None) -> Interface:
    """The interface of a model that takes numbers alone, ``wanted`` of them where it is known.

    Raises:
        ModelTypeError: naming an input that is none, or where there are more or fewer.
    """
    for name, kind in interface.inputs.items():
        if kind.kind not in NUMERIC:
            raise ModelTypeError(f"its input {name!r} is a {kind.kind}: it takes numbers")
    given = width(interface)
    if wanted is not None and given is not None and given != wanted:
        raise ModelTypeError(f"its inputs are {given} numbers together, it takes {wanted}")
    return interface


def vector(
    inputs: Mapping[str, Any], interface: Interface, *, missing: float | None = None
) -> Array:
    """All inputs in the order of the description, as one vector of doubles.

    ``missing`` stands for an optional input that was left out.

    Raises:
        InputError: where one was left out and nothing can stand for it.
    """
    parts = []
    for name, kind in interface.inputs.items():
        value = inputs.get(name)
        if value is None:
            value = missing if kind.default is None else kind.default
            if value is None:
                raise InputError(
                    f"input {name!r} was left out, and this kind of model needs all of them",
                    hint=f"give {kind}",
                )
            value = np.full(kind.sizes if kind.static else (1,), value)
        parts.append(np.asarray(value, np.float64).ravel())
    return np.concatenate(parts) if parts else np.zeros(0)


def width(interface: Interface) -> int | None:
    """How many numbers the inputs are together; None where a shape is flexible."""
    kinds = interface.inputs.values()
    if any(not k.static or (k.kind == "tensor" and not k.shape) for k in kinds):
        return None
    return sum(math.prod(k.sizes) for k in kinds)


def checked_width(found: int, wanted: int) -> None:
    """Raise InputError unless the inputs are as many numbers as the model takes."""
    if found != wanted:
        raise InputError(
            f"the inputs are {found} numbers together, the model takes {wanted}",
            hint="give an array of that many, or one number per described input",
        )


def matrix(rows: Any, what: str) -> Array:
    """Messages of numbers as one matrix.

    Raises:
        ModelTypeError: where they are not of one length.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        told = f"rows of {min(lengths)} to {max(lengths)} numbers" if lengths else "no rows"
        raise ModelTypeError(f"its {what} have {told}")
    return np.array([list(row) for row in rows], np.float64)


def regressed(interface: Interface) -> str:
    """The output that holds a regressor's numbers.

    Raises:
        ModelTypeError: where there is none, or it holds none.
    """
    name = predicted(interface)
    if interface.outputs[name].kind not in NUMERIC:
        raise ModelTypeError(f"its output {name!r} is no number")
    return name


def prediction(values: Array, interface: Interface) -> dict[str, Any]:
    """A regressor's result: a number, or an array where several are described."""
    name = predicted(interface)
    if interface.outputs[name].kind == "tensor":
        return {name: values}
    if values.size != 1:
        raise InputError(
            f"the model gives {values.size} numbers, its output {name!r} is one",
            hint="the file's description does not fit its model: describe an array",
        )
    return {name: float(values.ravel()[0])}


def predicted(interface: Interface) -> str:
    """The output that holds what is predicted.

    Raises:
        ModelTypeError: where the description has none.
    """
    name = interface.predicted or next(iter(interface.outputs), "")
    if name not in interface.outputs:
        raise ModelTypeError(
            f"it predicts {name!r}, which is none of its outputs"
            if name
            else "its description has no output"
        )
    return name
