"""Trees made by hand, walked node by node, and support vectors summed one by one."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np

from tests.program.classical.predictors import LABELS, NUMBERS, TOLD, logistic, named, softmax
from tests.support.classical import ModelCase, ModelCases, Types, model

_cases = ModelCases()
Tree = tuple[Any, ...]
MODES = {
    "LessThanEqual": operator.le,
    "LessThan": operator.lt,
    "GreaterThanEqual": operator.ge,
    "GreaterThan": operator.gt,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}
VALUES = (-1.0, 0.1, 0.3, 0.5)
# 0.1 and 0.3 are no numbers of 32 bits: these trees compare doubles.
FOREST: list[Tree] = [
    ("LessThanEqual", 0, 0.1, True, ("LessThan", 1, 0.5, False, 1, 2), 4.5),
    ("GreaterThan", 1, 0.3, False, -0.3, ("GreaterThanEqual", 0, 0.5, True, 0.75, 0.0)),
]
WIDE: list[Tree] = [
    ("Equal", 0, 0.1, True, {0: 1.0, 2: -0.5}, {1: 0.25}),
    ("NotEqual", 1, 0.3, False, {2: 0.3, 1: 1.5}, {}),
]


def nodes(forest: list[Tree]) -> list[dict[str, Any]]:
    """A forest as a message has it: (mode, feature, value, missing, true, false) or a leaf."""
    found: list[dict[str, Any]] = []

    def add(tree: int, made: Any, count: itertools.count[int]) -> int:
        own = next(count)
        node: dict[str, Any] = {"treeId": tree, "nodeId": own}
        found.append(node)
        if isinstance(made, tuple):
            mode, feature, value, missing, *sides = made
            yes, no = (add(tree, side, count) for side in sides)
            node |= {"nodeBehavior": f"BranchOnValue{mode}", "branchFeatureIndex": feature}
            node |= {"branchFeatureValue": value, "missingValueTracksTrueChild": missing}
            node |= {"trueChildNodeId": yes, "falseChildNodeId": no}
        else:
            leaf = made if isinstance(made, dict) else {0: made}
            node["nodeBehavior"] = "LeafNode"
            node["evaluationInfo"] = [
                {"evaluationIndex": i, "evaluationValue": v} for i, v in leaf.items()
            ]
        return own

    for tree, made in enumerate(forest):
        add(tree, made, itertools.count(3))
    return found


def walked(forest: list[Tree], x: Any, base: list[float]) -> list[float]:
    """The sums of a forest, tree by tree."""
    total = list(base)
    for tree in forest:
        leaf = _leaf(tree, x)
        for i, v in (leaf if isinstance(leaf, dict) else {0: leaf}).items():
            total[i] += v
    return total


def _leaf(node: Any, x: Any) -> Any:
    if not isinstance(node, tuple):
        return node
    mode, feature, value, missing, yes, no = node
    at = x[feature]
    return _leaf(yes if (missing if math.isnan(at) else MODES[mode](at, value)) else no, x)


def grown(forest: list[Tree], base: list[float], transform: str = "NoTransform") -> dict[str, Any]:
    """The message of a forest."""
    held = {"nodes": nodes(forest), "numPredictionDimensions": len(base)}
    return {
        "treeEnsemble": {**held, "basePredictionValue": base},
        "postEvaluationTransform": transform,
    }


PAIRS = [{"a": a, "b": b} for a in VALUES for b in VALUES]
GAPS = [{"a": math.nan, "b": 0.3}, {"b": 0.1}, {"a": 0.5}, {}]
FLOATS: Types = {"a": "double", "b": "double"}


def _at(inputs: dict[str, float]) -> list[float]:
    return [inputs.get(name, math.nan) for name in "ab"]


def _regressors() -> None:
    for missing in (True, False):
        forest: list[Tree] = [(mode, 0, 0.3, missing, 10.0**i, 0.5) for i, mode in enumerate(MODES)]
        spec = model(
            "treeEnsembleRegressor", grown(forest, [0.125]), FLOATS, {"y": "double"}, optional=True
        )
        _cases.add(
            spec,
            [*PAIRS, *GAPS],
            lambda f=forest, **x: {"y": walked(f, _at(x), [0.125])[0]},
            f"every mode, missing values {'true' if missing else 'false'}",
        )
    for transform, body in {"NoTransform": float, "Regression_Logistic": logistic}.items():
        part = grown(FOREST, [0.5], transform)
        spec = model("treeEnsembleRegressor", part, FLOATS, {"y": "double"}, optional=True)
        wanted = lambda t=body, **x: {"y": t(walked(FOREST, _at(x), [0.5])[0])}  # noqa: E731
        _cases.add(spec, [*PAIRS, *GAPS], wanted, transform)
    spec = model("treeEnsembleRegressor", grown(WIDE, [1, 2, 3]), {"x": (2,)}, {"y": (3,)})
    _cases.add(
        spec,
        [{"x": np.array([a, b])} for a in VALUES for b in VALUES],
        lambda x: {"y": np.array(walked(WIDE, x, [1, 2, 3]))},
        "several targets",
    )


def _single_precision() -> None:
    """Trees of 32-bit numbers compare what is rounded to 32 bits: 0.1 is not below it then."""
    edge = float(np.float32(0.1))
    spec = model(
        "treeEnsembleRegressor",
        grown([("LessThan", 0, edge, False, 1.0, 2.0)], [0]),
        {"a": "double"},
        {"y": "double"},
    )
    wanted = lambda a: {"y": 1.0 if np.float32(a) < np.float32(0.1) else 2.0}  # noqa: E731
    _cases.add(spec, [{"a": 0.1}, {"a": 0.0999}], wanted, "numbers of 32 bits")


def _classifiers() -> None:
    def add(about: str, part: dict[str, Any], count: int, wanted: Any) -> None:
        labels = {"stringClassLabels": {"vector": ["no", "yes", "maybe", "never"][:count]}}
        spec = model("treeEnsembleClassifier", {**part, **labels}, FLOATS, LABELS, **TOLD)
        _cases.add(spec, PAIRS, lambda **x: wanted(_at(x)), about)

    def summed(x: list[float]) -> list[float]:
        return walked(WIDE, x, [0.1, 0.2, 0.3])

    def two(second: float) -> dict[str, Any]:
        # A tie is the second one's: converters take a bit from 0.5 where they mean the first.
        found = named([1 - second, second])
        return {**found, "label": "yes" if second >= 0.5 else "no"}

    base = [0.1, 0.2, 0.3]
    add("plain", grown(WIDE, base), 3, lambda x: named(summed(x)))
    add(
        "softmax",
        grown(WIDE, base, "Classification_SoftMax"),
        3,
        lambda x: named(softmax(summed(x))),
    )
    names = ["no", "yes", "maybe", "never"]
    add(
        "softmax with a reference",
        grown(WIDE, base, "Classification_SoftMaxWithZeroClassReference"),
        4,
        lambda x: named(softmax([0, *summed(x)]), names),
    )
    add(
        "logistic per class",
        grown(WIDE, base, "Regression_Logistic"),
        3,
        lambda x: named([logistic(v) for v in summed(x)]),
    )
    add(
        "one sum for two",
        grown(FOREST, [-2.0], "Regression_Logistic"),
        2,
        lambda x: two(logistic(walked(FOREST, x, [-2.0])[0])),
    )
    half: list[Tree] = [("LessThan", 0, 0.3, False, 0.5, 0.2)]
    add("one plain sum for two", grown(half, [0]), 2, lambda x: two(walked(half, x, [0])[0]))
    part = {**grown(WIDE, base), "int64ClassLabels": {"vector": [3, 1, 2]}}
    spec = model("treeEnsembleClassifier", part, FLOATS, NUMBERS, **TOLD)
    _cases.add(spec, PAIRS, lambda **x: named(summed(_at(x)), [3, 1, 2]), "whole numbers")


_regressors()
_single_precision()
_classifiers()
CASES: list[ModelCase] = _cases.rows
