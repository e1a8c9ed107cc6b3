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


NAMES = ["no", "yes", "maybe"]
LABELS: Types = {"label": "string", "chances": "dictionary[string]"}
NUMBERS: Types = {"label": "int64", "chances": "dictionary[int64]"}
TOLD = {"predicted": "label", "probabilities": "chances"}


def named(chances: list[float], labels: list[Any] | None = None) -> dict[str, Any]:
    """What a classifier gives: the first of the most probable, and all of them."""
    labels = NAMES[: len(chances)] if labels is None else labels
    return {
        "label": labels[chances.index(max(chances))],
        "chances": dict(zip(labels, chances, strict=True)),
    }


def logistic(x: float) -> float:
    """One over one plus e to the minus x."""
    return 1 / (1 + math.exp(-x))


def softmax(x: list[float]) -> list[float]:
    """In proportion to e to the x."""
    return [math.exp(v) / sum(math.exp(w) for w in x) for v in x]


def _linear_classifiers() -> None:
    def add(about: str, count: int, given: dict[str, Any], wanted: Any, **more: Any) -> None:
        part = {"weights": rows(WEIGHTS[:count]), "offset": OFFSET[:count], **given}
        labels = {"stringClassLabels": {"vector": NAMES[: more.pop("classes", 2)]}}
        spec = model("glmClassifier", {**labels, **part}, FLOATS, LABELS, **TOLD)
        _cases.add(spec, PAIRS, wanted, about)

    def normal(a: float, b: float) -> dict[str, Any]:
        share = (1 + math.erf(score(a, b) / 2**0.5)) / 2
        return named([1 - share, share])

    def reference(a: float, b: float) -> dict[str, Any]:
        return named(softmax([0, score(a, b), score(a, b, 1)]))

    def each(a: float, b: float) -> dict[str, Any]:
        odds = [logistic(score(a, b, row)) for row in range(2)]
        return named([odd / sum(odds) for odd in odds])

    def second(a: float, b: float) -> dict[str, Any]:
        return named([1 - logistic(score(a, b)), logistic(score(a, b))])

    add("logit", 1, {}, second)
    add("probit", 1, {"postEvaluationTransform": "Probit"}, normal)
    add("one row and one vs rest", 1, {"classEncoding": "OneVsRest"}, second)
    add("reference class of three", 2, {}, reference, classes=3)
    add("one vs rest", 2, {"classEncoding": "OneVsRest"}, each)
    part = {"weights": rows(WEIGHTS[:1]), "int64ClassLabels": {"vector": [7, -7]}}
    spec = model("glmClassifier", part, {"x": (2,)}, {"label": "int64"}, predicted="label")
    wanted = lambda x: {"label": -7 if 2 * x[0] - 0.5 * x[1] > 0 else 7}  # noqa: E731
    _cases.add(spec, [{"x": np.array(x)} for x in ([1.0, 0], [-1.0, 0])], wanted, "labels alone")


_linear_regressors()
_linear_classifiers()
CASES: list[ModelCase] = _cases.rows
