"""State: what a model remembers from one prediction to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.graph import Array, TensorType


class State:
    """Named arrays, held in NumPy here; engines have their own kinds with the same methods."""

    types: dict[str, TensorType]

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        self.types = dict(types)
        self._arrays = {name: np.zeros(t.sizes, t.dtype) for name, t in self.types.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What the states are called."""
        return tuple(self.types)

    def read(self, name: str) -> Array:
        """A copy of what it holds.

        Raises:
            InputError: where there is no such state.
        """
        self.check(name)
        return self._arrays[name].copy()

    def write(self, name: str, array: Any) -> None:
        """Replace what it holds; floats are rounded to the state's own element type.

        Raises:
            InputError: where there is no such state, or the array is of another shape or kind.
        """
        self._arrays[name] = self.fitted(name, array).copy()

    def assign(self, other: State) -> None:
        """Take over everything another state holds."""
        for name in self.types:
            self.write(name, other.read(name))

    def check_held(self) -> None:
        """Raise StateLost where what it held is gone; what NumPy holds here never is."""

    def check(self, name: str) -> TensorType:
        """The type of a state, or an error that names those there are."""
        if name not in self.types:
            raise InputError(
                f"there is no state {name!r}",
                hint="one of " + (", ".join(self.types) or "(the model has none)"),
            )
        return self.types[name]

    def fitted(self, name: str, array: Any) -> Array:
        """``array`` in the state's own type."""
        kind, given = self.check(name), np.asarray(array)
        if given.shape != kind.shape or given.dtype.kind != kind.dtype.kind:
            raise InputError(
                f"state {name!r} is {kind}, not {given.dtype.name}{list(given.shape)}",
                hint=f"give an array of shape {kind.shape} and type {kind.dtype.name}",
            )
        return given.astype(kind.dtype, copy=False)

    def __repr__(self) -> str:
        return f"State({', '.join(f'{name}: {kind}' for name, kind in self.types.items())})"
