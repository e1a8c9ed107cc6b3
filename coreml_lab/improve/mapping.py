"""Which input or output of one model is which of another: by name, or by order and type. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, NumericalError, UnknownParameter
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import PortInfo, ProgramInfo


def read(names: Mapping[str, str] | str | None) -> dict[str, str]:
    """The model's names -> the reference's, also from ``y=Identity,z=Identity_1``.

    Raises:
        UnknownParameter: where the text is not of that form.
    """
    if names is None:
        return {}
    if not isinstance(names, str):
        return dict(names)
    pairs = [pair.partition("=") for pair in names.split(",")]
    if not all(mine.strip() and other.strip() for mine, _, other in pairs):
        raise UnknownParameter(
            f"names={names!r}: not pairs of names", hint="names='y=Identity,z=Identity_1'"
        )
    return {mine.strip(): other.strip() for mine, _, other in pairs}


def pairing(
    wanted: Mapping[str, TensorType],
    given: Mapping[str, TensorType],
    name: str,
    names: Mapping[str, str],
) -> dict[str, str]:
    """The given input for each wanted one: as named, equal names, the rest in order of their types.

    Raises:
        InputError: where one is left over, or does not fit by type; the message shows both sides.
    """
    found = _named(list(given), list(wanted), names, f"input of {name}")
    left = [key for key in wanted if key not in found.values()]
    free = [key for key in given if key not in found]
    found = {other: mine for mine, other in found.items()} | dict(zip(left, free, strict=False))
    wrong = [k for k, other in found.items() if not _alike(wanted[k], given[other])]
    if len(left) != len(free) or wrong:
        raise InputError(
            f"the inputs of {name} ({_listed(wanted)}) are not those of the model "
            f"({_listed(given)})" + (f": {wrong[0]!r} does not fit" if wrong else ""),
            hint="say which is which: names='mine=its,…'; types and shapes must agree",
        )
    return {key: found[key] for key in wanted}


def _named(
    mine: Sequence[str], theirs: Sequence[str], names: Mapping[str, str], what: str
) -> dict[str, str]:
    """Mine -> theirs, as far as names tell: those that are given first, then equal ones."""
    found = {key: other for key, other in names.items() if key in mine}
    unknown = [other for other in found.values() if other not in theirs]
    if unknown:
        raise UnknownParameter(
            f"names: there is no {what} {unknown[0]!r}", hint="one of " + ", ".join(theirs)
        )
    equal = [key for key in mine if key in theirs and key not in found.values()]
    return {**{key: key for key in equal if key not in found}, **found}


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


def matched(
    got: Mapping[str, Array], expected: Mapping[str, Array], name: str, names: Mapping[str, str]
) -> dict[str, str]:
    """The expected output for each that was got: as named, equal names, the rest in order.

    Sizes of one may be more or fewer: a dictionary's probabilities have no batch.

    Raises:
        NumericalError: where outputs cannot be matched; the message shows both sides.
    """
    found = _named(list(got), list(expected), names, f"output of {name}")
    left = [key for key in got if key not in found]
    free = [key for key in expected if key not in found.values()]
    if left and len(left) != len(free):
        raise _unmatched(got, expected, name)
    found |= dict(zip(left, free, strict=False))
    for mine, other in found.items():
        array = np.asarray(expected[other])
        if _squeezed(array) != _squeezed(got[mine]) or array.dtype.kind not in "fiub":
            raise _unmatched(got, expected, name)
    return {key: found[key] for key in got}


def _squeezed(array: Array) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)


def _unmatched(
    got: Mapping[str, Array], expected: Mapping[str, Array], name: str
) -> NumericalError:
    def listed(arrays: Mapping[str, Array]) -> str:
        return ", ".join(f"{k}: {np.shape(a)}" for k, a in arrays.items()) or "none"

    return NumericalError(
        f"the outputs of {name} ({listed(expected)}) are not those of the model ({listed(got)})",
        hint=f"say which is which: names='{'='.join((*list(got)[:1], *list(expected)[:1]))},…'",
    )
