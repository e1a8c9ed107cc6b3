"""The border of a model: what users give becomes tensors, tensors become what users get."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program import exchange
from coreml_lab.program.graph import NUMPY_NAME, Array, Dim, TensorType
from coreml_lab.records import PortInfo, ProgramInfo
from coreml_lab.run import images
from coreml_lab.run.ledger import LEDGER, Moved


class Border(Protocol):
    """What a model's border does: of tensors, or of what classical models take and give."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What an engine is fed."""
        ...

    def results(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What ``predict`` returns."""
        ...


class Interface:
    """Checks and converts what crosses the border, by the program's description."""

    def __init__(self, info: ProgramInfo) -> None:
        self.name = info.name
        self.inputs: Mapping[str, TensorType] = {p.name: _type(p, info) for p in info.inputs}
        self.outputs: Mapping[str, TensorType] = {p.name: _type(p, info) for p in info.outputs}
        self._described = {p.name: p for p in info.inputs}
        self._ports = [
            (name, kind, kind.dtype, kind.shape, _crossing(kind))
            for name, kind in self.inputs.items()
        ]
        tensors = [p for p in info.outputs if p.kind == "tensor"]
        self._converted = {
            p.name: self.outputs[p.name].dtype
            for p in tensors
            if self.outputs[p.name].dtype != _crossing(self.outputs[p.name])
        }
        listed = [p for p in info.inputs if p.enumerated]
        # Inputs with as many shapes each have the first ones together, the second ones, and so on.
        together = len(listed) > 1 and len({len(p.enumerated) for p in listed}) == 1
        self._together = listed if together else []
        self._plain = len(tensors) == len(info.outputs)
        self._results = info.outputs
        self._labels = info.labels

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The tensors an engine is fed.

        Raises:
            InputError: for a missing or unknown input, a wrong shape, size or element type.
        """
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"{self.name}: inputs are a dictionary by name, not {type(inputs).__name__}",
                hint=self._example(),
            )
        if len(inputs) != len(self._ports):
            inputs = self._completed(inputs)
        feeds = {}
        flexible: dict[str, int] = {}
        for name, kind, dtype, shape, crossing in self._ports:
            if name not in inputs:
                raise self._wrong_names(inputs)
            array = inputs[name]
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                array = self._fitted(name, array, kind, flexible)
            if crossing != dtype:
                array = array.astype(crossing)
                LEDGER.taken(array, copied=True)
            feeds[name] = array if shape else array.reshape(1)
        if self._together:
            self._check_together(feeds)
        return feeds

    def results(self, outputs: dict[str, Array]) -> dict[str, Any]:
        """What ``predict`` returns: arrays, images, a label and its probabilities."""
        for name, dtype in self._converted.items():
            outputs[name] = array = outputs[name].astype(dtype)
            LEDGER.account("cpu").moved(Moved(received=array.nbytes, copies=1))
        return outputs if self._plain else {p.name: self._result(p, outputs) for p in self._results}

    def _result(self, port: PortInfo, outputs: Mapping[str, Array]) -> Any:
        if port.kind == "image":
            return images.picture(outputs[port.name], port.colour)
        if port.kind == "tensor":
            return outputs[port.name]
        chances = outputs[port.source].ravel()
        if chances.size != len(self._labels):
            raise InputError(
                f"{self.name}: {chances.size} probabilities for {len(self._labels)} classes",
                hint="a classifier takes one example at a time: predict([{…}, {…}])",
            )
        if port.kind == "label":
            return self._labels[int(chances.argmax())]
        return dict(zip(self._labels, map(float, chances), strict=True))

    def _completed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with the defaults of optional ones that were left out."""
        filled = dict(inputs)
        for name, port in self._described.items():
            if name not in inputs and port.optional and port.default is not None:
                kind = self.inputs[name]
                shape = kind.sizes if kind.static else port.default_shape
                filled[name] = np.full(shape, port.default, kind.dtype)
        if len(filled) != len(self._ports):
            raise self._wrong_names(filled)
        return filled

    def _fitted(self, name: str, value: Any, kind: TensorType, flexible: dict[str, int]) -> Array:
        """The slow path of the check: convert what may be converted, or say what is wrong."""
        port = self._described[name]
        # Mostly, a flexible size is all that brought it here.
        plain = type(value) is np.ndarray and not port.enumerated
        if plain and value.dtype == kind.dtype and _fits(kind.shape, value.shape, flexible):
            return np.asarray(value)
        value = self._brought(name, value, kind)
        pixels = port.kind == "image" and images.is_picture(value)
        array = self._pixels(port, value, kind) if pixels else self._array(name, value, kind)
        if array.ndim < kind.rank and array.shape == port.default_shape:
            # An old network's vector or image, which it sees as a sequence of one.
            array = array.reshape([d if isinstance(d, int) else 1 for d in kind.shape])
        if not _fits(kind.shape, array.shape, flexible):
            raise self._wrong_shape(port, array.shape, kind, pixels=pixels)
        if port.enumerated and array.shape not in port.enumerated:
            raise self._not_listed(port, array.shape)
        if array.dtype != kind.dtype:
            self._check_range(name, array, kind.dtype)
        fitted = array.astype(kind.dtype, copy=False)
        if not isinstance(value, np.ndarray) or not np.may_share_memory(fitted, value):
            LEDGER.taken(fitted, copied=True)
        return fitted

    def _check_range(self, name: str, array: Array, dtype: np.dtype[Any]) -> None:
        """Refuse numbers that would wrap around in a whole number's type."""
        if dtype.kind not in "iu" or array.dtype.kind not in "iuf" or not array.size:
            return
        low, high, limits = array.min(), array.max(), np.iinfo(dtype)
        if not (low >= limits.min and high <= limits.max):
            raise InputError(
                f"{self.name}: input {name!r} holds {low} to {high}, "
                f"which does not fit {dtype.name} ({limits.min} to {limits.max})",
                hint="the model takes no larger numbers: check the values, or clip them",
            )

    def _brought(self, name: str, value: Any, kind: TensorType) -> Any:
        """An array of another library as NumPy's; from a GPU it is fetched, which is counted."""
        try:
            found, fetched = exchange.host(value)
        except ValueError as error:
            raise self._no_array(name, kind, error) from error
        if fetched:
            LEDGER.taken(found, copied=True)
        return found

    def _no_array(self, name: str, kind: TensorType, error: Exception) -> InputError:
        return InputError(
            f"{self.name}: input {name!r} is not an array: {error}", hint=f"give {kind}"
        )

    def _array(self, name: str, value: Any, kind: TensorType) -> Array:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise self._no_array(name, kind, error) from error
        wide = array.dtype.kind == kind.dtype.kind and array.dtype.itemsize >= kind.dtype.itemsize
        if not (array.dtype == kind.dtype or wide or _written(value, array, kind)):
            raise InputError(
                f"{self.name}: input {name!r} is {array.dtype.name}, not {kind.dtype.name}",
                hint=f"array.astype({kind.dtype.name!r})",
            )
        return array

    def _pixels(self, port: PortInfo, value: Any, kind: TensorType) -> Array:
        try:
            return images.tensor(value, port.colour, kind.dtype)
        except ValueError as error:
            raise InputError(
                f"{self.name}: input {port.name!r}: {error}",
                hint=f"give a PIL image or a uint8 array (height, width, 3) for {port.colour}",
            ) from error

    def _wrong_shape(
        self, port: PortInfo, shape: tuple[int, ...], kind: TensorType, *, pixels: bool
    ) -> InputError:
        if not pixels:
            return InputError(
                f"{self.name}: input {port.name!r} has shape {shape}, not {_shape(kind)}",
                hint=_shape_hint(kind, shape),
            )
        height, width = (_size(d) for d in kind.shape[-2:])
        return InputError(
            f"{self.name}: input {port.name!r} is an image of {shape[-1]} x {shape[-2]} pixels, "
            f"not {width} x {height} (width x height)",
            hint=f"image.resize(({width}, {height}))",
        )

    def _not_listed(self, port: PortInfo, shape: tuple[int, ...]) -> InputError:
        allowed = ", ".join(map(str, port.enumerated))
        return InputError(
            f"{self.name}: input {port.name!r} has shape {shape}, "
            "which is none of the model's enumerated shapes",
            hint=f"one of {allowed}",
        )

    def _check_together(self, feeds: Mapping[str, Array]) -> None:
        """Refuse shapes that are listed each, but not at the same place of their lists."""
        given = tuple(feeds[p.name].shape for p in self._together)
        listed = list(dict.fromkeys(zip(*(p.enumerated for p in self._together), strict=True)))
        if given in listed:
            return
        names = [p.name for p in self._together]

        def told(shapes: tuple[tuple[int, ...], ...]) -> str:
            return " with ".join(f"{n} {s}" for n, s in zip(names, shapes, strict=True))

        raise InputError(
            f"{self.name}: {told(given)}: each is one of the model's enumerated shapes, "
            "but not together",
            hint=f"one of {'; '.join(map(told, listed))}",
        )

    def _wrong_names(self, inputs: Mapping[str, Any]) -> InputError:
        kept = " (optional, but the file keeps no default)"
        missing = [n + kept * self._described[n].optional for n in self.inputs if n not in inputs]
        unknown = [n for n in inputs if n not in self.inputs]
        told = [f"missing: {', '.join(missing)}"] * bool(missing) + [
            f"unknown: {', '.join(map(str, unknown))}"
        ] * bool(unknown)
        return InputError(f"{self.name}: wrong inputs ({'; '.join(told)})", hint=self._example())

    def _example(self) -> str:
        return f"predict({{{', '.join(f'{n!r}: {t}' for n, t in self.inputs.items())}}})"


def _written(value: Any, array: Array, kind: TensorType) -> bool:
    """Whether it is numbers as Python writes them, which have no type but that they are whole."""
    if not isinstance(value, int | float | list | tuple):
        return False
    return not array.size or array.dtype.kind in ("biuf" if kind.dtype.kind == "f" else "biu")


def _type(port: PortInfo, info: ProgramInfo) -> TensorType:
    shape = tuple(
        Dim(d, *info.dims.get(d, (1, 0))) if isinstance(d, str) else d for d in port.shape
    )
    return TensorType(shape, np.dtype(NUMPY_NAME.get(port.dtype, port.dtype)))


def _crossing(kind: TensorType) -> np.dtype[Any]:
    """The element type at Core ML's border, which knows no bool and no small integers."""
    return kind.dtype if kind.dtype.name in {"float32", "float16", "int32"} else np.dtype(np.int32)


def _fits(shape: tuple[int | Dim, ...], sizes: tuple[int, ...], flexible: dict[str, int]) -> bool:
    """Whether sizes fit dimensions; equal names must be equal sizes."""
    if len(shape) != len(sizes):
        return False
    for dim, size in zip(shape, sizes, strict=True):
        if isinstance(dim, int):
            if size != dim:
                return False
        elif flexible.setdefault(dim.name, size) != size or size < dim.low or 0 < dim.high < size:
            return False
    return True


def _size(dim: int | Dim) -> str:
    return str(dim) if isinstance(dim, int) or not dim.high else f"{dim.low}…{dim.high}"


def _shape(kind: TensorType) -> str:
    return f"({', '.join(map(_size, kind.shape))})"


def _shape_hint(kind: TensorType, shape: tuple[int, ...]) -> str:
    if len(shape) == kind.rank - 1:
        return "array[None] adds the missing first dimension"
    return (
        f"array.reshape({_shape(kind)})"
        if kind.static and math.prod(shape) == math.prod(kind.sizes)
        else f"give {kind}"
    )
