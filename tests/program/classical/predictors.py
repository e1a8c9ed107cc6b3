"""Regressors and classifiers made by hand, and what their formats define them to give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.classical import ModelCase, ModelCases, Types, model

_cases = ModelCases()
PAIRS = ({"a": 1.5, "b": -2.0}, {"a": 0.25, "b": 4})
TWO: Types = {"a": "double", "b": "int64"}
FLOATS: Types = {"a": "double", "b": "double"}
WEIGHTS, OFFSET = [[2.0, -0.5], [0.25, 1.0]], [0.125, -1.0]


def rows(weights: list[list[float]]) -> list[dict[str, Any]]:
    """Weights as a message has them."""
    return [{"value": row} for row in weights]


def score(a: float, b: float, row: int = 0) -> float:
    """A weighted sum, term by term."""
    return WEIGHTS[row][0] * a + WEIGHTS[row][1] * b + OFFSET[row]


def _linear_regressors() -> None:
    transforms = {
        "NoTransform": lambda x: x,
        "Logit": lambda x: 1 / (1 + math.exp(-x)),
        "Probit": lambda x: (1 + math.erf(x / 2**0.5)) / 2,
    }
    for name, transform in transforms.items():
        part = {"weights": rows(WEIGHTS[:1]), "offset": OFFSET[:1]}
        part["postEvaluationTransform"] = name
        spec = model("glmRegressor", part, FLOATS, {"y": "double"}, predicted="y")
        _cases.add(spec, PAIRS, lambda a, b, t=transform: {"y": t(score(a, b))}, name)
    spec = model(
        "glmRegressor",
        {"weights": rows(WEIGHTS), "offset": OFFSET},
        {"x": (2,)},
        {"y": (2,)},
        predicted="y",
    )
    _cases.add(
        spec,
        {"x": np.array([1.5, -2.0])},
        lambda x: {"y": np.array([score(*x), score(*x, row=1)])},
        "several targets of an array",
    )


_linear_regressors()
CASES: list[ModelCase] = _cases.rows
