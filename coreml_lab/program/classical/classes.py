"""The classes of a classifier: its labels, and probabilities as label and dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.registry import Interface, ModelTypeError
from coreml_lab.program.graph import Array

Label = str | int
KIND_OF = {str: "string", int: "integer"}
KEY_OF = {str: "string", int: "int64"}


def labels(part: Any) -> tuple[Label, ...]:
    """The labels in a classifier's message: all strings, or all 64-bit integers."""
    held = part.WhichOneof("ClassLabels")
    return tuple(getattr(part, held).vector) if held else ()


@dataclass(frozen=True)
class Classes:
    """The labels of a classifier and the outputs that tell of them.

    Attributes:
        label: the output that holds the label.
        chances: the output that holds a dictionary of probabilities; empty where there is none.
    """

    labels: tuple[Label, ...]
    label: str
    chances: str

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """The classes of a message.

        Raises:
            ModelTypeError: where it has none, or they do not fit the outputs.
        """
        found = labels(part)
        if not found:
            raise ModelTypeError("it has no class labels")
        if len(set(found)) != len(found):
            raise ModelTypeError("two of its classes have one label")
        return cls.described(found, interface)

    @classmethod
    def described(cls, found: Sequence[Label], interface: Interface) -> Self:
        """Labels and the outputs of an interface that tell of them.

        Raises:
            ModelTypeError: where they do not fit each other.
        """
        kind, key = KIND_OF[type(found[0])], KEY_OF[type(found[0])]
        outputs = interface.outputs
        label = interface.predicted or _first(interface, kind)
        chances = interface.probabilities or _first(interface, "dictionary")
        if label not in outputs or outputs[label].kind != kind:
            raise ModelTypeError(f"its labels are {key}s, and no output {label!r} is one")
        if chances and (chances not in outputs or outputs[chances].key != key):
            raise ModelTypeError(f"its labels are {key}s, its probabilities {chances!r} are not")
        return cls(tuple(found), label, chances)

    def told(self, chances: Array, winner: int | None = None) -> dict[str, Any]:
        """Outputs of the probabilities of all classes; the first of the most probable wins."""
        best = int(np.argmax(chances)) if winner is None else winner
        found: dict[str, Any] = {self.label: self.labels[best]}
        if self.chances:
            found[self.chances] = dict(zip(self.labels, map(float, chances), strict=True))
        return found


def _first(interface: Interface, kind: str) -> str:
    return next((n for n, t in interface.outputs.items() if t.kind == kind), "")


def softmax(x: Array) -> Array:
    """Numbers that sum to one, in proportion to ``exp(x)``."""
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def logistic(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1 + e))
