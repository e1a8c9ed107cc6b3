"""Which input or output of one model is which of another: by name, or by order and type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, NumericalError
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import PortInfo, ProgramInfo


def pairing(
    wanted: Mapping[str, TensorType], given: Mapping[str, TensorType], name: str
) -> dict[str, str]:
    """The given input for each wanted one: equal names first, the rest in order of their types.

    Raises:
        InputError: where one is left over, or does not fit by type; the message shows both sides.
    """
    found = {key: key for key in wanted if key in given}
    left = [key for key in wanted if key not in found]
    free = [key for key in given if key not in found]
    found |= dict(zip(left, free, strict=False))
    wrong = [k for k, other in found.items() if not _alike(wanted[k], given[other])]
    if len(left) != len(free) or wrong:
        raise InputError(
            f"the inputs of {name} ({_listed(wanted)}) are not those of the model "
            f"({_listed(given)})" + (f": {wrong[0]!r} does not fit" if wrong else ""),
            hint="rename the inputs of one side, so that names, types and shapes agree",
        )
    return {key: found[key] for key in wanted}


def _alike(wanted: TensorType, given: TensorType) -> bool:
    """Whether arrays of one type can be fed as the other: the same kind of number and shape."""
    whole = {"i", "u", "b"}
    kinds = {wanted.dtype.kind, given.dtype.kind}
    sizes = zip(wanted.shape, given.shape, strict=False)
    return (
        (len(kinds) == 1 or kinds <= whole)
        and wanted.rank == given.rank
        and all(a == b for a, b in sizes if isinstance(a, int) and isinstance(b, int))
    )


def _listed(types: Mapping[str, TensorType]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in types.items()) or "none"


def tensors(outputs: Mapping[str, Any], info: ProgramInfo) -> dict[str, Array]:
    """What ``predict`` gave as arrays: images as (1, channels, height, width), no labels."""
    ports = {p.name: p for p in info.outputs}
    made = {name: _tensor(value, ports.get(name)) for name, value in outputs.items()}
    return {name: array for name, array in made.items() if array.dtype.kind in "fiub"}


def _tensor(value: Any, port: PortInfo | None) -> Array:
    if port is None or port.kind == "tensor":
        return np.asarray(value)
    if port.kind == "dictionary":
        return np.asarray(list(value.values()), np.float32)
    if port.kind == "label":
        # A label says no more than the probabilities that are compared too.
        return np.asarray(str(value))
    array = np.asarray(value)
    array = array[..., ::-1] if port.colour == "BGR" else array
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1))[None]  # noqa: PLR2004 - gray


def aligned(got: Mapping[str, Array], expected: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The expected outputs under the names and in the shapes of those that were got.

    Sizes of one may be more or fewer: a dictionary's probabilities have no batch.

    Raises:
        NumericalError: where outputs cannot be matched by name, nor by order and shape.
    """
    by_name = set(got) <= set(expected)
    if not by_name and len(got) != len(expected):
        raise _unmatched(got, expected, name)
    pairs = zip(got, got if by_name else expected, strict=True)
    found = {}
    for mine, other in pairs:
        array = np.asarray(expected[other])
        if _squeezed(array) != _squeezed(got[mine]) or array.dtype.kind not in "fiub":
            raise _unmatched(got, expected, name)
        found[mine] = array.reshape(got[mine].shape)
    return found


def _squeezed(array: Array) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)


def _unmatched(
    got: Mapping[str, Array], expected: Mapping[str, Array], name: str
) -> NumericalError:
    def listed(arrays: Mapping[str, Array]) -> str:
        return ", ".join(f"{k}: {np.shape(a)}" for k, a in arrays.items()) or "none"

    return NumericalError(
        f"the outputs of {name} ({listed(expected)}) are not those of the model ({listed(got)})",
        hint="give a reference whose outputs have the same names, or the same order and shapes",
    )
