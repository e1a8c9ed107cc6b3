"""Features: what classical models take and give, by their description: more than tensors."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Dim, TensorType
from coreml_lab.records import PortInfo

# FeatureTypes.proto's ArrayDataType; an array that says nothing of it holds doubles.
ARRAYS = {0: "float64", 65600: "float64", 65568: "float32", 65552: "float16"} | {
    131104: "int32",
    131080: "int8",
}
COLOURS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}
CHANNELS = {"RGB": 3, "BGR": 3}
INT64 = np.iinfo(np.int64)
SCALARS = {"doubleType": ("number", np.float64), "int64Type": ("integer", np.int64)} | {
    "stringType": ("string", np.object_)
}
# How reports and reprs call the elements of what is no array.
ELEMENTS = {"number": "double", "integer": "int64", "string": "string"}


class Misfit(ValueError):
    """What is wrong with a value or type; the message goes on after the name of the feature."""


@dataclass(frozen=True)
class FeatureType(TensorType):
    """The type of a feature; ``shape`` and ``dtype`` are those of the array that it is or holds.

    Attributes:
        kind: ``number``, ``integer``, ``string``, ``dictionary``, ``sequence``, ``tensor`` or
            ``image``.
        key: of the keys of a dictionary (its values are doubles), or the elements of a sequence:
            ``int64`` or ``string``.
        colour: of an image: ``RGB``, ``BGR``, ``GRAYSCALE`` or ``GRAYSCALE_FLOAT16``.
        optional: whether it may be left out.
        default: what every element of an optional array is then; None where nothing is said.
        enumerated: the only shapes an array may have; empty where it has none such.
    """

    kind: str = "tensor"
    key: str = ""
    colour: str = ""
    optional: bool = False
    default: float | int | None = None
    enumerated: tuple[tuple[int, ...], ...] = ()

    @property
    def element(self) -> str:
        """What it holds, as ports of reports name it."""
        if self.kind in {"dictionary", "sequence"}:
            return self.key
        return ELEMENTS.get(self.kind, TensorType((), self.dtype).__str__().removesuffix("[]"))

    def __str__(self) -> str:
        if self.kind == "dictionary":
            return f"dictionary[{self.key}, double]"
        if self.kind == "sequence":
            return f"sequence[{self.key}]"
        return super().__str__() if self.kind == "tensor" else self.kind


def feature_type(described: Any) -> FeatureType:
    """The type in a file's description of an input or output.

    Raises:
        Misfit: for a type that no feature can have.
    """
    kind, told = described.type.WhichOneof("Type"), described.type
    optional = bool(told.isOptional)
    if kind in SCALARS:
        name, dtype = SCALARS[kind]
        return FeatureType((), np.dtype(dtype), name, optional=optional)
    if kind in {"dictionaryType", "sequenceType"}:
        whole = getattr(told, kind).WhichOneof("KeyType" if kind[0] == "d" else "Type")
        key = "int64" if whole in {"int64KeyType", "int64Type"} else "string"
        return FeatureType((), np.dtype(object), kind[:-4], key, optional=optional)
    if kind == "imageType":
        return _image(told.imageType, optional=optional)
    if kind != "multiArrayType":
        raise Misfit(f"{described.name!r} is of type {kind or 'unknown'}")
    return _array(described.name, told.multiArrayType, optional=optional)


def _array(name: str, array: Any, *, optional: bool) -> FeatureType:
    if array.dataType not in ARRAYS:
        raise Misfit(f"{name!r} is an array of element type {array.dataType}")
    listed = tuple(tuple(int(n) for n in s.shape) for s in array.enumeratedShapes.shapes)
    shape: tuple[int | Dim, ...] = tuple(int(n) for n in array.shape)
    ranges = [(int(r.lowerBound), int(r.upperBound)) for r in array.shapeRange.sizeRanges]
    if listed:
        ranges = [(min(n), max(n)) for n in zip(*listed, strict=True)]
    if ranges:
        shape = tuple(
            low if low == high else Dim(f"{name}_{i}", max(low, 0), max(high, 0))
            for i, (low, high) in enumerate(ranges)
        )
    told = array.WhichOneof("defaultOptionalValue")
    return FeatureType(
        shape,
        np.dtype(ARRAYS[array.dataType]),
        optional=optional,
        default=getattr(array, told) if told else None,
        enumerated=listed,
    )


def _image(image: Any, *, optional: bool) -> FeatureType:
    colour = COLOURS.get(image.colorSpace, "RGB")
    shape = (1, CHANNELS.get(colour, 1), int(image.height), int(image.width))
    return FeatureType(shape, np.dtype(np.uint8), "image", colour=colour, optional=optional)


def port(name: str, kind: FeatureType) -> PortInfo:
    """A feature as plain data, as reports show it."""
    shape = tuple(d if isinstance(d, int) else str(d) for d in kind.shape)
    return PortInfo(name, shape, kind.element, kind.kind, kind.colour, kind.optional, kind.default)


def fitted(value: Any, kind: FeatureType) -> Any:
    """``value`` as a feature of ``kind`` holds it: a number, text, dictionary, list or array.

    Raises:
        Misfit: where it is none.
    """
    return FITS[kind.kind](value, kind)


def _scalar(value: Any) -> Any:
    """An array of one element as that element."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value


def _number(value: Any, kind: FeatureType) -> float:
    del kind
    given = _scalar(value)
    if isinstance(given, str | bytes | bool) or not isinstance(given, int | float):
        raise Misfit(f"is {_named(value)}, not a number")
    return float(given)


def _integer(value: Any, kind: FeatureType) -> int:
    del kind
    given = _scalar(value)
    try:
        whole = operator.index(given)
    except TypeError:
        raise Misfit(f"is {_named(value)}, not a whole number") from None
    if isinstance(given, bool) or not INT64.min <= whole <= INT64.max:
        raise Misfit(f"is {value!r}, not a whole number of 64 bits")
    return whole


def _string(value: Any, kind: FeatureType) -> str:
    del kind
    if not isinstance(value, str):
        raise Misfit(f"is {_named(value)}, not a string")
    return str(value)


def _keyed(key: Any, kind: FeatureType, what: str) -> str | int:
    fits = _string if kind.key == "string" else _integer
    try:
        return fits(key, kind)
    except Misfit as error:
        raise Misfit(f"has {what} {key!r}, which {error}") from None


def _dictionary(value: Any, kind: FeatureType) -> dict[str | int, float]:
    if not isinstance(value, Mapping):
        raise Misfit(f"is {_named(value)}, not a dictionary")
    found = {}
    for key, held in value.items():
        try:
            found[_keyed(key, kind, "a key")] = _number(held, kind)
        except Misfit as error:
            told = str(error)
            raise Misfit(told if told.startswith("has") else f"at {key!r} {told}") from None
    return found


def _sequence(value: Any, kind: FeatureType) -> list[str | int]:
    if not isinstance(value, list | tuple | np.ndarray) or getattr(value, "ndim", 1) != 1:
        raise Misfit(f"is {_named(value)}, not a list")
    return [_keyed(item, kind, "an element") for item in value]


def _tensor(value: Any, kind: FeatureType) -> Any:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise Misfit(f"is {_named(value)}, not an array of numbers")
        if kind.dtype.kind == "i" and array.dtype.kind == "f":
            raise Misfit(f"is an array of {array.dtype.name}, not of {kind.dtype.name}")
        with np.errstate(over="ignore"):
            array = array.astype(kind.dtype, copy=False)
    except TypeError:
        raise Misfit(f"is {_named(value)}, not an array of numbers") from None
    sizes = zip(kind.shape, array.shape, strict=False)
    alike = array.ndim == kind.rank and all(_fits(dim, size) for dim, size in sizes)
    if kind.shape and not alike:
        raise Misfit(f"has shape {array.shape}, not {_shape(kind)}")
    if kind.enumerated and array.shape not in kind.enumerated:
        raise Misfit(f"has shape {array.shape}, which is none of {kind.enumerated}")
    return array


def _fits(dim: int | Dim, size: int) -> bool:
    if isinstance(dim, int):
        return size == dim
    return size >= dim.low and (dim.high <= 0 or size <= dim.high)


def _shape(kind: FeatureType) -> str:
    sizes = (str(d) if isinstance(d, int) else f"{d.low}…{d.high or ''}" for d in kind.shape)
    return f"({', '.join(sizes)})"


def _image_as_given(value: Any, kind: FeatureType) -> Any:
    """Pictures go on as they are: the network that takes them knows what fits."""
    del kind
    return value


def _named(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name} and shape {value.shape}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


FITS = {
    "number": _number,
    "integer": _integer,
    "string": _string,
    "dictionary": _dictionary,
    "sequence": _sequence,
    "tensor": _tensor,
    "image": _image_as_given,
}


def given(value: Any, kind: FeatureType) -> Any:
    """A result as its description declares it: arrays in their element type and shape.

    Raises:
        Misfit: where a model gives what its description cannot hold.
    """
    if kind.kind == "tensor":
        array = np.atleast_1d(np.asarray(value))
        if kind.static and kind.shape and array.size == math.prod(kind.sizes):
            array = array.reshape(kind.sizes)
        return array.astype(kind.dtype, copy=False)
    if kind.kind == "integer" and isinstance(value, float | np.ndarray):
        whole = float(np.asarray(value).reshape(()))
        if not math.isfinite(whole):
            raise Misfit(f"is {whole}, and its description is of a whole number")
        return int(whole)
    return fitted(value, kind)
