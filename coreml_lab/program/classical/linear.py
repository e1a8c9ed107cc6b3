"""Generalized linear models: a number per row of weights, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.classes import Classes, logistic, softmax
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.vectors import (
    checked_width,
    matrix,
    numeric,
    prediction,
    regressed,
    vector,
)
from coreml_lab.program.graph import Array


def normal(x: Array) -> Array:
    """The share of a standard normal distribution below ``x``."""
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)


TRANSFORMS: dict[int, Callable[[Array], Array]] = {0: lambda x: x, 1: logistic, 2: normal}


@dataclass(frozen=True)
class Scores:
    """``weights @ x + offset``: weights [rows, width], offset [rows]."""

    weights: Array
    offset: Array

    @classmethod
    def read(cls, part: Any) -> Self:
        """The matrix and vector of a message.

        Raises:
            ModelTypeError: where they do not fit each other.
        """
        weights = matrix([row.value for row in part.weights], "weights")
        offset = np.array(part.offset, np.float64)
        if not offset.size:  # proto3 leaves out what is all zero
            offset = np.zeros(len(weights))
        if len(offset) != len(weights):
            raise ModelTypeError(f"it has {len(weights)} rows of weights, {len(offset)} offsets")
        return cls(weights, offset)

    def of(self, inputs: Mapping[str, Any], interface: Interface) -> Array:
        """The scores of an example, one per row."""
        x = vector(inputs, interface)
        checked_width(x.size, self.weights.shape[1])
        return np.asarray(self.weights @ x + self.offset)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.weights.nbytes + self.offset.nbytes


@model_type("glmRegressor")
@dataclass(frozen=True)
class LinearRegressor:
    """A weighted sum per target, as it is, or through the logistic or normal distribution."""

    interface: Interface
    scores: Scores
    transform: Callable[[Array], Array]

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        regressed(interface)
        if part.postEvaluationTransform not in TRANSFORMS:
            raise ModelTypeError(f"its transform is {part.postEvaluationTransform}")
        scores = Scores.read(part)
        transform = TRANSFORMS[part.postEvaluationTransform]
        return cls(numeric(interface, scores.weights.shape[1]), scores, transform)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        return prediction(self.transform(self.scores.of(inputs, self.interface)), self.interface)

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.scores.nbytes


ONE_VS_REST = 1
# GLMClassifier's transforms; the last one is defined for two classes alone.
LOGIT, PROBIT = 0, 1


@model_type("glmClassifier")
@dataclass(frozen=True)
class LinearClassifier:
    """A weighted sum per class, or per class but the first, as probabilities: logit or probit."""

    interface: Interface
    scores: Scores
    classes: Classes
    transform: int
    one_vs_rest: bool

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        scores, classes = Scores.read(part), Classes.read(part, interface)
        rows, count = len(scores.weights), len(classes.labels)
        one_vs_rest = part.classEncoding == ONE_VS_REST
        two = count == 2 and rows == 1  # noqa: PLR2004 - a score for the second of two classes
        if not two and rows != (count if one_vs_rest else count - 1):
            raise ModelTypeError(f"it has {count} classes and {rows} rows of weights")
        if part.postEvaluationTransform not in {LOGIT, PROBIT}:
            raise ModelTypeError(f"its transform is {part.postEvaluationTransform}")
        if part.postEvaluationTransform == PROBIT and not two:
            raise ModelTypeError("probit is defined for two classes alone")
        transform = int(part.postEvaluationTransform)
        taken = numeric(interface, scores.weights.shape[1])
        return cls(taken, scores, classes, transform, one_vs_rest)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        return self.classes.told(self._chances(self.scores.of(inputs, self.interface)))

    def _chances(self, scores: Array) -> Array:
        if scores.size == 1:
            second = logistic(scores) if self.transform == LOGIT else normal(scores)
            return np.array([1 - second[0], second[0]])
        if not self.one_vs_rest:
            return softmax(np.array([0.0, *scores]))
        each = logistic(scores)
        return np.asarray(each / each.sum())

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.scores.nbytes
