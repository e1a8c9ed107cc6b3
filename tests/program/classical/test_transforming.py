"""What transformers refuse: files that make no sense, and values that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.errors import InputError, ModelError
from tests.support.classical import Types, load, model

ARRAY: Types = {"x": (3,)}
MADE: Types = {"y": (3,)}
WORDS: Types = {"x": "string"}
NUMBER: Types = {"y": "int64"}
NAMES = {
    "confidenceInputFeatureName": "c",
    "coordinatesInputFeatureName": "b",
    "confidenceOutputFeatureName": "d",
    "coordinatesOutputFeatureName": "e",
}
BOXES: Types = {"c": (2, 1), "b": (2, 4)}
KEPT: Types = {"d": (), "e": ()}

DAMAGED: dict[str, tuple[str, dict[str, Any], Types, Types]] = {
    "2 shifts": ("scaler", {"shiftValue": [1, 2]}, ARRAY, MADE),
    "it takes numbers": ("scaler", {}, WORDS, MADE),
    "2 inputs": ("normalizer", {}, {"a": "double", "b": "double"}, MADE),
    "takes element 3": ("arrayFeatureExtractor", {"extractIndex": [3]}, ARRAY, MADE),
    "it has no columns": ("featureVectorizer", {}, ARRAY, MADE),
    "no input of numbers": (
        "featureVectorizer",
        {"inputList": [{"inputColumn": "z", "inputDimensions": 1}]},
        ARRAY,
        MADE,
    ),
    "numbers$": (
        "featureVectorizer",
        {"inputList": [{"inputColumn": "x", "inputDimensions": 2**63}]},
        ARRAY,
        MADE,
    ),
    "1 inputs and 2 outputs": ("identity", {}, ARRAY, {"a": (3,), "b": (3,)}),
    "imputedStringValue cannot": ("imputer", {"imputedStringValue": "a"}, ARRAY, MADE),
    "2 numbers for an array": ("imputer", {"imputedDoubleArray": {"vector": [1, 2]}}, ARRAY, MADE),
    "no categories": ("oneHotEncoder", {}, WORDS, MADE),
    "there twice": ("oneHotEncoder", {"stringCategories": {"vector": ["a", "a"]}}, WORDS, MADE),
    "are no strings": ("oneHotEncoder", {"int64Categories": {"vector": [1]}}, WORDS, MADE),
    "it has no table": ("categoricalMapping", {}, WORDS, NUMBER),
    "maps a integer": ("categoricalMapping", {"int64ToStringMap": {}}, WORDS, NUMBER),
    "no dictionary by its keys": (
        "dictVectorizer",
        {"stringToIndex": {"vector": ["a"]}},
        {"x": "dictionary[int64]"},
        MADE,
    ),
    "it is not described": ("nonMaximumSuppression", NAMES, {"c": (2, 1)}, KEPT),
    "threshold of it": ("nonMaximumSuppression", {**NAMES, "iouThreshold": -1}, BOXES, KEPT),
}


@pytest.mark.parametrize("said", DAMAGED)
def test_a_transformer_that_makes_no_sense_is_one_error(said: str, tmp_path: Path) -> None:
    kind, part, inputs, outputs = DAMAGED[said]
    with pytest.raises(ModelError, match=said.rstrip("$")) as caught:
        load(model(kind, part, inputs, outputs), tmp_path)
    assert f"a damaged {kind}" in caught.value.message
    assert caught.value.hint


REFUSED: dict[str, tuple[str, dict[str, Any], Types, Types, dict[str, Any]]] = {
    "'c' is no category": (
        "oneHotEncoder",
        {"stringCategories": {"vector": ["a", "b"]}},
        WORDS,
        MADE,
        {"x": "c"},
    ),
    "'c' is not in its table": (
        "categoricalMapping",
        {"stringToInt64Map": {"map": {"a": 1}}},
        WORDS,
        NUMBER,
        {"x": "c"},
    ),
    "a number at 3, there are 2": (
        "featureVectorizer",
        {"inputList": [{"inputColumn": "x", "inputDimensions": 2}]},
        {"x": "dictionary[int64]"},
        MADE,
        {"x": {3: 1.0}},
    ),
    "which is below 0": (
        "nonMaximumSuppression",
        {**NAMES, "iouThresholdInputFeatureName": "overlap"},
        BOXES,
        KEPT,
        {"c": np.ones((2, 1)), "b": np.ones((2, 4)), "overlap": -0.5},
    ),
    "not of as many boxes": (
        "nonMaximumSuppression",
        NAMES,
        {"c": (), "b": ()},
        KEPT,
        {"c": np.ones((3, 1)), "b": np.ones((2, 4))},
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_a_transformer_cannot_take_is_an_input_error(said: str, tmp_path: Path) -> None:
    kind, part, inputs, outputs, given = REFUSED[said]
    with pytest.raises(InputError, match=said) as caught:
        load(model(kind, part, inputs, outputs), tmp_path).predict(given)
    assert caught.value.hint


def test_no_boxes_are_none(tmp_path: Path) -> None:
    flexible: Types = {"c": (), "b": ()}
    empty = {"c": np.zeros((0, 5)), "b": np.zeros((0, 4))}
    found = load(model("nonMaximumSuppression", NAMES, flexible, KEPT), tmp_path).predict(empty)
    assert found["d"].shape == (0, 5)
    assert found["e"].shape == (0, 4)


def test_scikit_learns_transformers_give_the_same(tmp_path: Path) -> None:
    learn = pytest.importorskip("sklearn.preprocessing")
    rows = np.random.default_rng(0).standard_normal((20, 3))
    fitted = learn.StandardScaler().fit(rows)
    part = {"shiftValue": (-fitted.mean_).tolist(), "scaleValue": (1 / fitted.scale_).tolist()}
    pairs = [(fitted, model("scaler", part, ARRAY, MADE))]
    for name, norm in (("LMax", "max"), ("L1", "l1"), ("L2", "l2")):
        made = model("normalizer", {"normType": name}, ARRAY, MADE)
        pairs.append((learn.Normalizer(norm).fit(rows), made))
    for theirs, spec in pairs:
        ours = load(spec, tmp_path).predict([{"x": row} for row in rows])
        np.testing.assert_allclose([o["y"] for o in ours], theirs.transform(rows), rtol=1e-12)
