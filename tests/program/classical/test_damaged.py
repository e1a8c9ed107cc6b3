"""Classical models that make no sense: each is named when it is loaded, with what is wrong."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from coreml_lab.errors import InputError, ModelError
from tests.program.classical.test_models import CASES
from tests.support.classical import load, model

BY_NAME = {case.name: case for case in CASES}
FOREST = "treeEnsembleRegressor-NoTransform"
FOREST_CLASSES = "treeEnsembleClassifier-softmax"
MACHINE = "supportVectorClassifier-coupled probabilities"
LINE = "supportVectorRegressor-rbf, sparse"
NEAR = "kNearestNeighborsClassifier-linearIndex, 1, uniform"
ITEMS = "itemSimilarityRecommender-names, ratings and every input"
LINEAR = "glmClassifier-probit"

# What is changed: the way to a value, and the value; None leaves it out.
CHANGES: list[tuple[str, list[Any], Any, str]] = [
    (FOREST, ["treeEnsemble", "nodes", 0, "trueChildNodeId"], "99", "tree 0 has no node 99"),
    (FOREST, ["treeEnsemble", "nodes", 0, "trueChildNodeId"], "3", "child of two"),
    (FOREST, ["treeEnsemble", "nodes", 1, "trueChildNodeId"], "3", "are no trees"),
    (FOREST, ["treeEnsemble", "nodes", 1, "falseChildNodeId"], "5", "child of no other"),
    (FOREST, ["treeEnsemble", "nodes", 1, "nodeId"], "3", "one number"),
    (FOREST, ["treeEnsemble", "nodes", 0, "branchFeatureIndex"], "7", "looks at number 8"),
    (FOREST, ["treeEnsemble", "nodes", 0, "branchFeatureIndex"], str(2**64 - 1), "looks at number"),
    (FOREST, ["treeEnsemble", "numPredictionDimensions"], str(2**62), "dimensions and 1 base"),
    (FOREST, ["treeEnsemble", "nodes", 2, "evaluationInfo", 0, "evaluationIndex"], "1", "1 of 1"),
    (FOREST, ["treeEnsemble", "nodes"], [], "child of no other"),
    (FOREST, ["treeEnsemble", "nodes", 0, "nodeBehavior"], 9, "behavior 9"),
    (FOREST, ["treeEnsemble", "nodes", 0, "branchFeatureValue"], "NaN", "what is no number"),
    (FOREST, ["postEvaluationTransform"], 9, "its transform is 9"),
    (FOREST_CLASSES, ["stringClassLabels", "vector"], ["a", "b"], "2 classes and 3 sums"),
    (FOREST_CLASSES, ["stringClassLabels", "vector"], ["a", "b", "a"], "one label"),
    (FOREST_CLASSES, ["stringClassLabels"], None, "no class labels"),
    (MACHINE, ["kernel"], None, "no kernel"),
    (MACHINE, ["rho"], [1.0], "are 3 numbers each"),
    (MACHINE, ["probA"], None, "are 3 numbers each"),
    (MACHINE, ["numberOfSupportVectorsPerClass"], [2, 1], "3 classes have"),
    (MACHINE, ["coefficients", 0, "alpha"], [1.0], "rows of 1 to 4 numbers"),
    (LINE, ["sparseSupportVectors", "vectors", 0, "nodes", 0, "index"], 3, "outside of 1 to 2"),
    (LINE, ["sparseSupportVectors", "vectors", 0, "nodes", 0, "index"], 0, "outside of 1 to 2"),
    (LINE, ["coefficients", "alpha"], [1.0], "4 support vectors, 1 weights"),
    (NEAR, ["stringClassLabels", "vector"], ["a"], "5 samples and 1 labels"),
    (NEAR, ["numberOfNeighbors"], None, "asks 0 neighbours"),
    (NEAR, ["nearestNeighborsIndex", "numberOfDimensions"], 3, "have 2 numbers, not 3"),
    (ITEMS, ["itemItemSimilarities", 0, "itemId"], str(2**63), "there is no item"),
    (ITEMS, ["itemInputFeatureName"], "nothing", "not described"),
    (ITEMS, ["recommendedItemListOutputFeatureName"], "nothing", "not described"),
    (LINEAR, ["stringClassLabels", "vector"], ["a", "b", "c"], "3 classes and 1 rows"),
    (LINEAR, ["weights", 0, "value"], [], "2 numbers together, it takes 0"),
]


def _changed(name: str, way: list[Any], value: Any) -> Any:
    spec = copy.deepcopy(BY_NAME[name].spec)
    part = getattr(spec, BY_NAME[name].kind)
    told = MessageToDict(part)
    held = told
    for step in way[:-1]:
        held = held[step]
    if value is None:
        del held[way[-1]]
    else:
        held[way[-1]] = value
    part.Clear()
    ParseDict(told, part)
    return spec


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: f"{c[0].partition('-')[0]}: {c[3]}")
def test_a_damaged_model_is_refused_with_what_is_wrong(
    change: tuple[str, list[Any], Any, str], tmp_path: Path
) -> None:
    name, way, value, told = change
    spec = _changed(name, way, value)
    with pytest.raises(ModelError, match=told) as caught:
        load(spec, tmp_path)
    assert BY_NAME[name].kind in str(caught.value)


LINE_PART = {"weights": [{"value": [1, 2]}], "offset": [0]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ({"a": "string", "b": "double"}, {"y": "double"}, "input 'a' is a string"),
        ({"a": "double", "b": "double"}, {}, "no output"),
        ({"a": "double", "b": "double"}, {"y": "string"}, "output 'y' is no number"),
        ({"a": "double"}, {"y": "double"}, "1 numbers together, it takes 2"),
    ],
)
def test_a_description_that_does_not_fit_its_model_is_named(
    inputs: Any, outputs: Any, told: str, tmp_path: Path
) -> None:
    spec = model("glmRegressor", LINE_PART, inputs, outputs)
    with pytest.raises(ModelError, match=told):
        load(spec, tmp_path)


def test_an_output_that_nothing_gives_is_named(tmp_path: Path) -> None:
    spec = model("glmRegressor", LINE_PART, {"a": (2,)}, {"y": "double", "z": "double"})
    found = load(spec, tmp_path)
    with pytest.raises(InputError, match="gives its output 'z'"):
        found.predict({"a": [1, 2]})


def test_what_overflows_is_a_result_and_no_whole_number(tmp_path: Path) -> None:
    part = {"weights": [{"value": [1e308, 1e308]}], "offset": [0]}
    for kind, want in (("double", math.inf), ("int64", None)):
        found = load(model("glmRegressor", part, {"a": (2,)}, {"y": kind}), tmp_path)
        if want is not None:
            assert found.predict({"a": [9, 9]}) == {"y": want}
        else:
            with pytest.raises(InputError, match="is inf, and its description is of a whole"):
                found.predict({"a": [9, 9]})
