"""Numbers into other numbers: scaled, normalized, put together, picked out, or passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.vectors import NUMERIC, checked_width, numeric, vector, width
from coreml_lab.program.graph import Array

# Of what a vector may be told to have: more numbers than any real table has columns.
MOST = 10_000_000


def single(interface: Interface) -> tuple[str, str]:
    """The names of the one input and the one output.

    Raises:
        ModelTypeError: where there are more, or none.
    """
    if len(interface.inputs) != 1 or len(interface.outputs) != 1:
        raise ModelTypeError(
            f"it has {len(interface.inputs)} inputs and {len(interface.outputs)} outputs, "
            "this kind of model has one of each"
        )
    return next(iter(interface.inputs)), next(iter(interface.outputs))


@model_type("scaler")
@dataclass(frozen=True)
class Scaler:
    """``scale * (x + shift)``, each with one number for all elements or one per element.

    Attributes:
        shift: [1] or [n].
        scale: [1] or [n].
    """

    interface: Interface
    shift: Array
    scale: Array

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        single(interface)
        shift = np.array(list(part.shiftValue) or [0.0], np.float64)
        scale = np.array(list(part.scaleValue) or [1.0], np.float64)
        given = width(numeric(interface))
        sizes = {shift.size, scale.size} - {1}
        if len(sizes) > 1 or (given is not None and sizes - {given}):
            raise ModelTypeError(
                f"it has {shift.size} shifts and {scale.size} scales for {given or 'some'} numbers"
            )
        return cls(interface, shift, scale)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        x = vector(inputs, self.interface)
        for numbers in (self.shift, self.scale):
            if numbers.size > 1:
                checked_width(x.size, numbers.size)
        return {next(iter(self.interface.outputs)): self.scale * (x + self.shift)}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.shift.nbytes + self.scale.nbytes


NORMS: dict[int, Callable[[Array], Any]] = {
    0: lambda x: np.abs(x).max(initial=0),
    1: lambda x: np.abs(x).sum(),
    2: lambda x: np.sqrt(np.square(x).sum()),
}


@model_type("normalizer")
@dataclass(frozen=True)
class Normalizer:
    """A vector divided by its norm: the largest magnitude, their sum, or the Euclidean length.

    A vector of zeros stays as it is.
    """

    interface: Interface
    norm: int

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        single(interface)
        if part.normType not in NORMS:
            raise ModelTypeError(f"its norm is {part.normType}")
        return cls(numeric(interface), int(part.normType))

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        x = vector(inputs, self.interface)
        length = NORMS[self.norm](x)
        return {next(iter(self.interface.outputs)): x / length if length else x}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return 0


@model_type("arrayFeatureExtractor")
@dataclass(frozen=True)
class ArrayFeatureExtractor:
    """Elements of an array by their places, in the order in which they are listed."""

    interface: Interface
    places: Array

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        single(interface)
        given = width(numeric(interface))
        last = max(part.extractIndex, default=0)
        if not part.extractIndex or last >= (MOST if given is None else given):
            raise ModelTypeError(f"it takes element {last} of {given} (counted from 0)")
        return cls(interface, np.array(part.extractIndex, np.int64))

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        x = vector(inputs, self.interface)
        if self.places.max() >= x.size:
            raise InputError(
                f"the array has {x.size} numbers, element {self.places.max()} is taken",
                hint="elements are counted from 0",
            )
        return {next(iter(self.interface.outputs)): x[self.places]}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.places.nbytes


@model_type("featureVectorizer")
@dataclass(frozen=True)
class FeatureVectorizer:
    """Several inputs side by side as one array; a dictionary by whole numbers is a sparse one.

    Attributes:
        columns: the names of inputs and how many numbers each has, in their order.
    """

    interface: Interface
    columns: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        columns = tuple((c.inputColumn, int(c.inputDimensions) or 1) for c in part.inputList)
        if not columns or len(interface.outputs) != 1:
            raise ModelTypeError("it has no columns" if not columns else "it has one output")
        for name, count in columns:
            kind = interface.inputs.get(name)
            sparse = kind is not None and kind.kind == "dictionary" and kind.key == "int64"
            if kind is None or not (sparse or kind.kind in NUMERIC):
                raise ModelTypeError(f"its column {name!r} is no input of numbers")
            if count > MOST:
                raise ModelTypeError(f"its column {name!r} has {count} numbers")
        if sum(count for _, count in columns) > MOST:
            raise ModelTypeError(f"it has more than {MOST} numbers")
        return cls(interface, columns)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        parts = [self._column(name, count, inputs) for name, count in self.columns]
        return {next(iter(self.interface.outputs)): np.concatenate(parts)}

    def _column(self, name: str, count: int, inputs: Mapping[str, Any]) -> Array:
        kind = self.interface.inputs[name]
        if kind.kind != "dictionary":
            x = vector(inputs, Interface({name: kind}, {}))
            if x.size != count:
                raise InputError(
                    f"input {name!r} has {x.size} numbers, the model takes {count}",
                    hint=f"give {count} numbers",
                )
            return x
        found = np.zeros(count)
        for place, value in inputs.get(name, {}).items():
            if not 0 <= place < count:
                raise InputError(
                    f"input {name!r} has a number at {place}, there are {count} places",
                    hint="places are counted from 0",
                )
            found[place] = value
        return found

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return 0


@model_type("identity")
@dataclass(frozen=True)
class Identity:
    """Its inputs as they are: those of the outputs' names, else in their order."""

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        del part
        given, named = list(interface.inputs), list(interface.outputs)
        if set(named) <= set(given):
            return cls(tuple((name, name) for name in named))
        if len(given) != len(named):
            raise ModelTypeError(f"it has {len(given)} inputs and {len(named)} outputs")
        return cls(tuple(zip(given, named, strict=True)))

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        return {out: inputs[given] for given, out in self.pairs if given in inputs}

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return 0
