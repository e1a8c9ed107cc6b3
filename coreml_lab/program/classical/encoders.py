"""Categories and dictionaries into numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.classical.classes import Label
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.transformers import single

KINDS = {str: "string", int: "integer"}
KEYS = {str: "string", int: "int64"}
SHOWN = 10
# OneHotEncoder's answers to what it does not know.
FAIL, IGNORE = 0, 1


def places(part: Any, oneof: str) -> dict[Label, int]:
    """The categories of a message, each with its place.

    Raises:
        ModelTypeError: where there are none, or one is there twice.
    """
    held = part.WhichOneof(oneof)
    listed: list[Label] = list(getattr(part, held).vector) if held else []
    found = {category: i for i, category in enumerate(listed)}
    if not found or len(found) != len(listed):
        raise ModelTypeError("it has no categories" if not found else "a category is there twice")
    return found


def only(inputs: Mapping[str, Any], name: str) -> Any:
    """The one input, which must be there.

    Raises:
        InputError: where it was left out.
    """
    if name not in inputs:
        raise InputError(f"input {name!r} was left out", hint=f"give {name!r}")
    return inputs[name]


def shown(known: Any) -> str:
    """The first of many categories, as an error lists them."""
    names = [repr(k) for k in list(known)[:SHOWN]]
    return "one of " + ", ".join([*names, "…"] if len(known) > SHOWN else names)


@model_type("oneHotEncoder")
@dataclass(frozen=True)
class OneHotEncoder:
    """1 at the place of a category and 0 elsewhere: an array, or a dictionary of that one entry.

    Attributes:
        places: category -> its place.
        sparse: whether a dictionary is given.
        fails: whether an unknown category is an error; else there is no 1.
    """

    names: tuple[str, str]
    places: Mapping[Label, int]
    sparse: bool
    fails: bool

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        names, found = single(interface), places(part, "CategoryType")
        given, made = interface.inputs[names[0]], interface.outputs[names[1]]
        if given.kind != KINDS[type(next(iter(found)))]:
            raise ModelTypeError(f"its categories are no {given.kind}s")
        sparse = made.kind == "dictionary" and made.key == "int64"
        if bool(part.outputSparse) != sparse or part.handleUnknown not in {FAIL, IGNORE}:
            raise ModelTypeError(f"its output is a {made.kind}")
        return cls(names, found, sparse, part.handleUnknown == FAIL)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        category = only(inputs, self.names[0])
        place = self.places.get(category)
        if place is None and self.fails:
            raise InputError(f"{category!r} is no category it knows", hint=shown(self.places))
        if self.sparse:
            return {self.names[1]: {} if place is None else {place: 1.0}}
        found = np.zeros(len(self.places))
        if place is not None:
            found[place] = 1
        return {self.names[1]: found}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return _bytes(self.places)


@model_type("categoricalMapping")
@dataclass(frozen=True)
class CategoricalMapping:
    """A string for each whole number, or the other way round, with a value for what is unknown.

    Attributes:
        default: what is given for others; None where they are an error.
    """

    names: tuple[str, str]
    table: Mapping[Label, Label]
    default: Label | None

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        names, held = single(interface), part.WhichOneof("MappingType")
        if held is None:
            raise ModelTypeError("it has no table")
        table: dict[Label, Label] = dict(getattr(part, held).map)
        unknown = part.WhichOneof("ValueOnUnknown")
        default: Label | None = getattr(part, unknown) if unknown else None
        kinds = ("string", "integer") if held == "stringToInt64Map" else ("integer", "string")
        sides = interface.inputs[names[0]].kind, interface.outputs[names[1]].kind
        if sides != kinds or (default is not None and KINDS[type(default)] != kinds[1]):
            raise ModelTypeError(f"its table maps a {kinds[0]} to a {kinds[1]}, not {sides}")
        return cls(names, table, default)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        given = only(inputs, self.names[0])
        found = self.table.get(given, self.default)
        if found is None:
            raise InputError(f"{given!r} is not in its table", hint=shown(self.table))
        return {self.names[1]: found}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return _bytes(self.table) + _bytes(self.table.values())


@model_type("dictVectorizer", limits="keys that it does not know are left out")
@dataclass(frozen=True)
class DictVectorizer:
    """The values of a dictionary, each at the place of its key; the other places hold 0."""

    names: tuple[str, str]
    places: Mapping[Label, int]

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        names, found = single(interface), places(part, "Map")
        given = interface.inputs[names[0]]
        if given.kind != "dictionary" or given.key != KEYS[type(next(iter(found)))]:
            raise ModelTypeError(f"its input is a {given}, and no dictionary by its keys")
        if interface.outputs[names[1]].kind != "tensor":
            raise ModelTypeError(f"its output is a {interface.outputs[names[1]].kind}")
        return cls(names, found)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        found = np.zeros(len(self.places))
        for key, value in only(inputs, self.names[0]).items():
            place = self.places.get(key)
            if place is not None:
                found[place] = value
        return {self.names[1]: found}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return _bytes(self.places)


def _bytes(categories: Any) -> int:
    """The bytes of names as UTF-8, or 8 per number."""
    return sum(len(c.encode()) if isinstance(c, str) else 8 for c in categories)
