"""Boosted trees of XGBoost and LightGBM as Core ML models, with those libraries' own answers.

``python -m tests.support.boosters`` wrote ``tests/data/boosters.npz`` where both libraries were
installed (XGBoost 3.2.0, LightGBM 4.7.0, coremltools 9.0); tests read the file. XGBoost goes
through coremltools' converter, whose base values are those of ``base_score=0.5``. coremltools has
no converter for LightGBM: its trees are written down here, node by node.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.classical import model

FILE = Path(__file__).parents[1] / "data" / "boosters.npz"
NAMES = ["a", "b", "c", "d"]


def _examples() -> tuple[Any, Any]:
    """Numbers of 32 bits, one in ten of them missing, and a target."""
    random = np.random.default_rng(0)
    x = random.standard_normal((240, 4)).astype(np.float32)
    y = x[:, 0] + np.sin(2 * x[:, 1]) - x[:, 2] * x[:, 3]
    x[random.random(x.shape) < 0.1] = np.nan
    return x, y


X, Y = _examples()
THREE = np.digitize(Y, [-1, 1])
SEEN, FRESH = slice(0, 200), slice(200, None)
TARGETS = {"regressor": Y, "two": (Y > 0).astype(int), "three": THREE}


def _xgboost(name: str) -> tuple[bytes, Any]:
    import xgboost
    from coremltools.converters import xgboost as converters

    how = {"n_estimators": 8, "max_depth": 3, "base_score": 0.5}
    if name == "regressor":
        made = xgboost.XGBRegressor(**how).fit(X[SEEN], Y[SEEN])
        spec = converters.convert(made, NAMES, "y", mode="regressor").get_spec()
        return spec.SerializeToString(), made.predict(X[FRESH])
    made = xgboost.XGBClassifier(**how).fit(X[SEEN], TARGETS[name][SEEN])
    spec = converters.convert(made, NAMES, "y", mode="classifier").get_spec()
    return spec.SerializeToString(), made.predict_proba(X[FRESH])


def _lightgbm(name: str) -> tuple[bytes, Any]:
    import lightgbm

    made: Any = lightgbm.LGBMRegressor if name == "regressor" else lightgbm.LGBMClassifier
    made = made(n_estimators=8, num_leaves=7, verbose=-1).fit(X[SEEN], TARGETS[name][SEEN])
    trees = made.booster_.dump_model()["tree_info"]
    sums = 3 if name == "three" else 1
    nodes = [n for t in trees for n in _nodes(t["tree_structure"], t["tree_index"], sums)]
    ensemble = {"nodes": nodes, "numPredictionDimensions": sums, "basePredictionValue": [0] * sums}
    part: dict[str, Any] = {"treeEnsemble": ensemble}
    if name == "regressor":
        spec = model("treeEnsembleRegressor", part, {"x": (4,)}, {"y": "double"}, predicted="y")
        return spec.SerializeToString(), made.predict(X[FRESH])
    transform = "Classification_SoftMax" if sums > 1 else "Regression_Logistic"
    labels = [int(v) for v in made.classes_]
    part |= {"postEvaluationTransform": transform, "int64ClassLabels": {"vector": labels}}
    outputs = {"y": "int64", "classProbability": "dictionary[int64]"}
    spec = model("treeEnsembleClassifier", part, {"x": (4,)}, outputs, predicted="y")
    return spec.SerializeToString(), made.predict_proba(X[FRESH])


def _nodes(root: Any, tree: int, sums: int) -> list[dict[str, Any]]:
    """A tree of LightGBM's dump: at most the threshold goes left, a missing value by default."""
    found: list[dict[str, Any]] = []
    count = itertools.count()

    def add(node: Any) -> int:
        own = next(count)
        row: dict[str, Any] = {"treeId": tree, "nodeId": own}
        found.append(row)
        if "leaf_value" in node:
            entry = {"evaluationIndex": tree % sums, "evaluationValue": node["leaf_value"]}
            row |= {"nodeBehavior": "LeafNode", "evaluationInfo": [entry]}
        else:
            row |= {"nodeBehavior": "BranchOnValueLessThanEqual"}
            row |= {"branchFeatureIndex": node["split_feature"]}
            row |= {"branchFeatureValue": node["threshold"]}
            row |= {"missingValueTracksTrueChild": bool(node["default_left"])}
            row |= {"trueChildNodeId": add(node["left_child"])}
            row |= {"falseChildNodeId": add(node["right_child"])}
        return own

    add(root)
    return found


def main() -> None:
    """Write every model and its answers."""
    held: dict[str, Any] = {"x": X[FRESH]}
    for maker, name in itertools.product((_xgboost, _lightgbm), TARGETS):
        spec, answers = maker(name)
        key = f"{maker.__name__.strip('_')}_{name}"
        held[f"{key}.mlmodel"] = np.frombuffer(spec, np.uint8)
        held[f"{key}.answers"] = answers
    np.savez_compressed(FILE, **held)


if __name__ == "__main__":
    main()
