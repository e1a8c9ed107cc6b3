"""The declarations of model types that are no tensor programs: what reads and evaluates each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from coreml_lab.program.classical.features import FeatureType


class ModelTypeError(ValueError):
    """What is wrong with a model; whoever reads the file adds its name."""


@dataclass(frozen=True)
class Interface:
    """What a model's description says: its features in order, and what a predictor predicts.

    Attributes:
        predicted: the output that holds the prediction or label (``predictedFeatureName``).
        probabilities: the output with a classifier's probabilities
            (``predictedProbabilitiesName``); empty where there is none.
    """

    inputs: Mapping[str, FeatureType]
    outputs: Mapping[str, FeatureType]
    predicted: str = ""
    probabilities: str = ""


class Evaluated(Protocol):
    """A model of one type: frozen data and a pure function of its inputs."""

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """The model in its message of the file.

        Raises:
            ModelTypeError: where the message makes no sense.
        """
        ...

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Every output by name; inputs fit the interface, and optional ones may be left out.

        Raises:
            InputError: where the values cannot be, though their types fit.
        """
        ...

    @property
    def weight_bytes(self) -> int:
        """Bytes of its numbers."""
        ...


@dataclass(frozen=True)
class ModelType:
    """One model type.

    Attributes:
        kind: its name in Model.proto's ``Type``.
        body: the class of its models.
        doc: what it computes, in a sentence.
        limits: what of it is refused or different.
    """

    kind: str
    body: type[Evaluated]
    doc: str
    limits: str = ""


MODEL_TYPES: dict[str, ModelType] = {}
T = TypeVar("T", bound=Evaluated)


def model_type(kind: str, *, limits: str = "") -> Callable[[type[T]], type[T]]:
    """Declare the class of models of this kind; its docstring says what they compute."""

    def declare(body: type[T]) -> type[T]:
        doc = (body.__doc__ or "").partition("\n")[0]
        MODEL_TYPES[kind] = ModelType(kind, body, doc, limits)
        return body

    return declare
