"""Model: a program on a device, ready to predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.graph import NUMPY_NAME, Array, Dim, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import PlanInfo, PortInfo, ProgramInfo, Run
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.executor import Executor


class Model:
    """A compiled program; ``inputs`` and ``outputs`` map names to types."""

    def __init__(
        self, program: Program, plan: PlanInfo, executor: Executor, move: Callable[[str], Model]
    ) -> None:
        self.program = program
        self.plan = plan
        self.inputs = {p.name: _type(p, program.info) for p in program.info.inputs}
        self.outputs = {p.name: _type(p, program.info) for p in program.info.outputs}
        self._executor = executor
        self._move = move
        self._ports = [
            (name, kind, kind.dtype, kind.shape, _crossing(kind))
            for name, kind in self.inputs.items()
        ]
        self._converted = {n: t.dtype for n, t in self.outputs.items() if t.dtype != _crossing(t)}

    @property
    def info(self) -> ProgramInfo:
        """Name, interface, operations and size."""
        return self.program.info

    @property
    def name(self) -> str:
        """What it is called."""
        return self.program.info.name

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.plan.device

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """One inference: arrays by input name in, arrays by output name out.

        float64 and int64 arrays are narrowed; everything else must have the declared type.

        Raises:
            InputError: for a missing or unknown input, a wrong shape or element type.
        """
        outputs = self._executor.run(self._checked(inputs))
        ACTIVITY.plan, ACTIVITY.program = self.plan, self.program.info.name
        for name, dtype in self._converted.items():
            outputs[name] = outputs[name].astype(dtype)
        if ACTIVITY.watchers:
            start, duration = ACTIVITY.finished[-1]
            for watch in ACTIVITY.watchers:
                watch(self, inputs, start, duration)
        return outputs

    def trace(self, inputs: Mapping[str, Any], *, runs: int = 10) -> tuple[Run, ...]:
        """Instrumented inferences: slower, with a measured span per operation."""
        return self._executor.trace(self._checked(inputs), runs)

    def to(self, device: str) -> Model:
        """The same program on another device.

        Raises:
            EngineUnavailable: when the device is not here; the message says why.
        """
        return self._move(device)

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        if len(inputs) != len(self._ports):
            raise self._wrong_names(inputs)
        feeds = {}
        flexible: dict[str, int] = {}
        for name, kind, dtype, shape, crossing in self._ports:
            if name not in inputs:
                raise self._wrong_names(inputs)
            array = inputs[name]
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                array = self._fitted(name, array, kind, flexible)
            array = array if crossing == dtype else array.astype(crossing)
            feeds[name] = array if shape else array.reshape(1)
        return feeds

    def _fitted(self, name: str, value: Any, kind: TensorType, flexible: dict[str, int]) -> Array:
        """The slow path of the check: convert what may be converted, or say what is wrong."""
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self.name}: input {name!r} is not an array: {error}", hint=f"give {kind}"
            ) from error
        wide = array.dtype.kind == kind.dtype.kind and array.dtype.itemsize >= kind.dtype.itemsize
        if (
            array.dtype != kind.dtype
            and not wide
            and not isinstance(value, int | float | list | tuple)
        ):
            raise InputError(
                f"{self.name}: input {name!r} is {array.dtype.name}, not {kind.dtype.name}",
                hint=f"array.astype({kind.dtype.name!r})",
            )
        if array.ndim != kind.rank or not all(
            _fits(d, n, flexible) for d, n in zip(kind.shape, array.shape, strict=True)
        ):
            raise InputError(
                f"{self.name}: input {name!r} has shape {array.shape}, not {_shape(kind)}",
                hint=_shape_hint(kind, array.shape),
            )
        return array.astype(kind.dtype, copy=False)

    def _wrong_names(self, inputs: Mapping[str, Any]) -> InputError:
        missing = [n for n in self.inputs if n not in inputs]
        unknown = [n for n in inputs if n not in self.inputs]
        told = [f"missing: {', '.join(missing)}"] * bool(missing) + [
            f"unknown: {', '.join(map(str, unknown))}"
        ] * bool(unknown)
        shown = ", ".join(f"{n!r}: {t}" for n, t in self.inputs.items())
        return InputError(
            f"{self.name}: wrong inputs ({'; '.join(told)})", hint=f"predict({{{shown}}})"
        )

    def __repr__(self) -> str:
        ports = " -> ".join(
            ", ".join(f"{n}: {t}" for n, t in side.items()) for side in (self.inputs, self.outputs)
        )
        return f"Model({self.name}: {ports}; {len(self.info.ops)} ops, {self.plan.title})"


def _type(port: PortInfo, info: ProgramInfo) -> TensorType:
    shape = tuple(
        Dim(d, *info.dims.get(d, (1, 0))) if isinstance(d, str) else d for d in port.shape
    )
    return TensorType(shape, np.dtype(NUMPY_NAME.get(port.dtype, port.dtype)))


def _crossing(kind: TensorType) -> np.dtype[Any]:
    """The element type at Core ML's border, which knows no bool and no small integers."""
    return kind.dtype if kind.dtype.name in {"float32", "float16", "int32"} else np.dtype(np.int32)


def _fits(dim: int | Dim, size: int, flexible: dict[str, int]) -> bool:
    """Whether a size fits a dimension; equal names must be equal sizes."""
    if isinstance(dim, int):
        return size == dim
    known = flexible.setdefault(dim.name, size)
    return known == size and size >= dim.low and (dim.high <= 0 or size <= dim.high)


def _shape(kind: TensorType) -> str:
    def one(d: int | Dim) -> str:
        return str(d) if isinstance(d, int) or not d.high else f"{d.low}…{d.high}"

    return f"({', '.join(map(one, kind.shape))})"


def _shape_hint(kind: TensorType, shape: tuple[int, ...]) -> str:
    if len(shape) == kind.rank - 1:
        return "array[None] adds the missing first dimension"
    return (
        f"array.reshape({_shape(kind)})"
        if kind.static and int(np.prod(shape)) == int(np.prod(kind.sizes))
        else f"give {kind}"
    )
