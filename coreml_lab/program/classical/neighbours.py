"""Nearest neighbours: the label that most of the nearest samples have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.classes import Classes, Label, labels
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.vectors import (
    checked_width,
    matrix,
    numeric,
    vector,
)
from coreml_lab.program.graph import Array


@model_type(
    "kNearestNeighborsClassifier",
    limits="a k-d tree's samples are looked at one by one, for the same answer; what app updates "
    "would add is not",
)
@dataclass(frozen=True)
class NearestNeighbours:
    """The label of most of the k nearest samples, each counted once or by its inverse distance.

    Distances are squared Euclidean ones, the only kind of the format, and so are those inverted. Of
    samples equally near the earlier ones are taken, and samples at the very place outvote others.
    Of labels with as many votes the smallest wins, as in scikit-learn. The format leaves all that
    open.

    Attributes:
        samples: [samples, dimensions].
        owner: the class of each sample, by its place among the labels.
        default: the label where there are no samples.
    """

    interface: Interface
    classes: Classes
    samples: Array
    owner: Array
    dimensions: int
    neighbours: int
    inverse: bool
    default: Label

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        index = part.nearestNeighborsIndex
        each, default = labels(part), _default(part)
        rows = [v.vector for v in index.floatSamples]
        if len(each) != len(rows):
            raise ModelTypeError(f"it has {len(rows)} samples and {len(each)} labels")
        wide = int(index.numberOfDimensions)
        samples = matrix(rows, "samples") if rows else np.zeros((0, max(wide, 0)))
        if samples.shape[1] != wide or wide < 1:
            raise ModelTypeError(f"its samples have {samples.shape[1]} numbers, not {wide}")
        named = tuple(sorted(set(each))) or ((default,) if default is not None else ())
        if not named:
            raise ModelTypeError("it has no samples and no default label")
        count = int(part.numberOfNeighbors.defaultValue)
        if count < 1:
            raise ModelTypeError(f"it asks {count} neighbours")
        place = {label: i for i, label in enumerate(named)}
        return cls(
            numeric(interface, wide),
            Classes.described(named, interface),
            samples,
            np.array([place[label] for label in each], np.int64),
            wide,
            count,
            part.WhichOneof("WeightingScheme") == "inverseDistanceWeighting",
            named[0] if default is None else default,
        )

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        x = vector(inputs, self.interface)
        checked_width(x.size, self.dimensions)
        if not len(self.samples):
            return self.classes.told(np.ones(1))
        distances = ((self.samples - x) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[: self.neighbours]
        votes = np.zeros(len(self.classes.labels))
        np.add.at(votes, self.owner[nearest], self._weights(distances[nearest]))
        return self.classes.told(votes / votes.sum())

    def _weights(self, distances: Array) -> Array:
        if not self.inverse:
            return np.ones(len(distances))
        here = distances == 0
        return here.astype(np.float64) if here.any() else 1 / distances

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.samples.nbytes + self.owner.nbytes


def _default(part: Any) -> Label | None:
    held = part.WhichOneof("DefaultClassLabel")
    value: Label | None = getattr(part, held) if held else None
    return value
