"""Values in the place of those that are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.classical.features import FeatureType
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.transformers import single

# The form of the imputed value -> the features that it can stand in for.
FITTING = {
    "imputedDoubleValue": {"number", "tensor"},
    "imputedInt64Value": {"integer", "tensor"},
    "imputedStringValue": {"string"},
    "imputedDoubleArray": {"tensor"},
    "imputedInt64Array": {"tensor"},
    "imputedStringDictionary": {"dictionary"},
    "imputedInt64Dictionary": {"dictionary"},
}
KEYS = {"imputedStringDictionary": "string", "imputedInt64Dictionary": "int64"}


@model_type("imputer")
@dataclass(frozen=True)
class Imputer:
    """A given value for an input that was left out, or wherever a certain value stands.

    Of an array it stands for single elements, of a dictionary for keys that are missing, too.

    Attributes:
        value: a number, text, array or dictionary.
        replaced: the value it takes the place of (NaN, mostly); None where only what was left out
            is missing.
    """

    names: tuple[str, str]
    kind: FeatureType
    value: Any
    replaced: Any

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        names, held = single(interface), part.WhichOneof("ImputedValue") or ""
        kind, replaced = interface.inputs[names[0]], part.WhichOneof("ReplaceValue")
        if kind.kind not in FITTING.get(held, set()) or KEYS.get(held, kind.key) != kind.key:
            raise ModelTypeError(f"its {held or 'value'} cannot be that of a {kind.kind}")
        value = getattr(part, held)
        if held.endswith("Dictionary"):
            value = dict(sorted(value.map.items()))  # a message tells of its entries in any order
        elif kind.kind == "tensor":
            value = np.atleast_1d(np.array(getattr(value, "vector", value), np.float64))
            fixed = kind.static and bool(kind.shape)
            if value.size not in {1, math.prod(kind.sizes) if fixed else value.size}:
                raise ModelTypeError(f"it has {value.size} numbers for an array of {kind.shape}")
        return cls(names, kind, value, getattr(part, replaced) if replaced else None)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        given = inputs.get(self.names[0])
        return {self.names[1]: self.value if given is None else self._imputed(given)}

    def _imputed(self, given: Any) -> Any:
        if self.kind.kind == "tensor":
            return self._array(np.asarray(given))
        if self.kind.kind == "dictionary":
            found = {k: self.value.get(k, v) if self._missing(v) else v for k, v in given.items()}
            return found | {k: v for k, v in self.value.items() if k not in found}
        return self.value if self._missing(given) else given

    def _array(self, given: Any) -> Any:
        if self.replaced is None or isinstance(self.replaced, str):
            return given
        if self.value.size not in {1, given.size}:
            raise InputError(
                f"the array has {given.size} numbers, there are values for {self.value.size}",
                hint=f"give {self.value.size} numbers",
            )
        values = np.broadcast_to(self.value.ravel(), given.size).reshape(given.shape)
        missing = np.isnan(given) if self._nan else given == self.replaced
        return np.where(missing, values, given)

    @property
    def _nan(self) -> bool:
        return isinstance(self.replaced, float) and math.isnan(self.replaced)

    def _missing(self, value: Any) -> bool:
        if self.replaced is None:
            return False
        return bool(value == self.replaced or (self._nan and value != value))  # noqa: PLR0124 - NaN

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        if isinstance(self.value, dict):
            return 8 * len(self.value)
        return int(getattr(self.value, "nbytes", 8))
