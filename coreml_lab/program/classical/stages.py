"""Model files of other kinds than programs -> stages: the steps that one prediction takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, LabError, ModelError
from coreml_lab.program.classical import (  # noqa: F401 - they declare model types
    encoders,
    imputer,
    linear,
    neighbours,
    recommender,
    support_vectors,
    suppression,
    transformers,
    trees,
)
from coreml_lab.program.classical.closed import CLOSED
from coreml_lab.program.classical.features import FeatureType, Misfit, feature_type, given
from coreml_lab.program.classical.registry import MODEL_TYPES, Evaluated, Interface

CONVERT = "convert it again, or load the parts of it that are networks or classical models"
MISFIT = "the file's description does not fit its model: convert it again"


@dataclass(frozen=True)
class Stage:
    """One model and the names under which it takes and gives its features.

    Attributes:
        name: what spans and listings call it.
        kind: its type in Model.proto.
    """

    name: str
    kind: str
    interface: Interface
    model: Evaluated

    def run(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Its outputs as their description declares them, of the features that are known.

        Raises:
            InputError: where the model cannot take them.
        """
        taken = {n: features[n] for n in self.interface.inputs if n in features}
        try:
            with np.errstate(all="ignore"):  # what is not finite is a result, too
                made = self.model.evaluate(taken)
            return {n: given(_held(made, n), kind) for n, kind in self.outputs.items()}
        except LabError as error:
            raise InputError(f"{self.name}: {error.message}", hint=error.hint) from error
        except Misfit as error:
            raise InputError(f"{self.name}: a result {error}", hint=MISFIT) from error

    @property
    def inputs(self) -> Mapping[str, FeatureType]:
        """What it takes."""
        return self.interface.inputs

    @property
    def outputs(self) -> Mapping[str, FeatureType]:
        """What it gives."""
        return self.interface.outputs


# Those that the readers of programs take.
PROGRAMS = frozenset({"mlProgram", "neuralNetwork"} | {"neuralNetworkClassifier"}) | {
    "neuralNetworkRegressor"
}


def is_classical(kind: str) -> bool:
    """Whether models of this kind are read here: all but ML Programs and classic networks."""
    return kind not in PROGRAMS


def reason(kind: str) -> str:
    """Why models of a kind cannot be run; empty where they can."""
    return "" if kind in MODEL_TYPES else CLOSED.get(kind, "this version does not run it yet")


def interface_of(file: str, description: Any) -> Interface:
    """The features that a model's description lists.

    Raises:
        ModelError: for a type of feature that there is not, or two of one name.
    """
    try:
        sides = [_features(side) for side in (description.input, description.output)]
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{file}: the description of its interface is damaged: {error}",
            hint="fetch or convert it again",
        ) from error
    return Interface(
        sides[0],
        sides[1],
        description.predictedFeatureName,
        description.predictedProbabilitiesName,
    )


def _features(described: Any) -> dict[str, FeatureType]:
    found = {f.name: feature_type(f) for f in described}
    if len(found) != len(described):
        raise Misfit("two features have one name")
    return found


def read(file: str, spec: Any) -> Stage:
    """The one stage of a classical model.

    Raises:
        ModelError: naming the kind, where it cannot be run or makes no sense.
    """
    kind = spec.WhichOneof("Type") or "unknown"
    part: Any = getattr(spec, kind, None)
    if why := reason(kind):
        named = f" ({part.className})" if getattr(part, "className", "") else ""
        raise ModelError(f"{file} is a Core ML model of kind {kind}{named}: {why}", hint=CONVERT)
    interface = interface_of(file, spec.description)
    if kind == "nonMaximumSuppression":
        interface = suppression.widened(part, interface)
    try:
        model = MODEL_TYPES[kind].body.read(part, interface)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError(
            f"{file} is a damaged {kind}: {error}", hint="fetch or convert it again"
        ) from error
    return Stage(kind, kind, interface, model)


def _held(made: Mapping[str, Any], name: str) -> Any:
    if name not in made:
        raise InputError(f"nothing in the model gives its output {name!r}", hint=MISFIT)
    return made[name]
