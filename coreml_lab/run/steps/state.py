"""States that stay on the device between runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array, TensorType
from coreml_lab.run.state import State
from coreml_lab.run.steps.space import Space


class TorchState(State):
    """States as tensors in their declared types; a run replaces those that it changes."""

    def __init__(self, types: Mapping[str, TensorType], space: Space) -> None:
        self.types = dict(types)
        self.space = space
        self.tensors: dict[str, Any] = {
            name: space.zeros(kind.sizes, kind.dtype) for name, kind in types.items()
        }

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        return np.array(self.tensors[name].cpu().numpy(), self.check(name).dtype)

    def write(self, name: str, array: Any) -> None:
        """Replace what it holds."""
        self.tensors[name] = self.space.entered(self.fitted(name, array).copy())

    def aside(self) -> TorchState:
        """Another with the same contents. On a processor runs replace tensors: both may go on."""
        other = TorchState({}, self.space)
        other.types, other.tensors = self.types, dict(self.tensors)
        return other
