"""Transformers made by hand, and what the comments of their protos define them to give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.classical import ModelCase, ModelCases, Types, model

_cases = ModelCases()
X = np.array([3.0, -4.0, 0.5])
ARRAY: Types = {"x": (3,)}
MADE: Types = {"y": (3,)}
NAN = math.nan


def _numbers() -> None:
    add = _cases.add
    each = {"shiftValue": [1, 2, 3], "scaleValue": [2, 0.5, -1]}
    add(
        model("scaler", each, ARRAY, MADE),
        {"x": X},
        lambda x: {"y": np.array([(x[0] + 1) * 2, (x[1] + 2) * 0.5, -(x[2] + 3)])},
    )
    add(
        model("scaler", {"shiftValue": [1], "scaleValue": [3]}, ARRAY, MADE),
        {"x": X},
        lambda x: {"y": np.array([3 * (v + 1) for v in x])},
        "one for all",
    )
    add(
        model("scaler", {"scaleValue": [3]}, {"x": "double"}, {"y": "double"}),
        {"x": 2},
        lambda x: {"y": 3.0 * x},
        "a number",
    )
    norms = {
        "LMax": lambda x: max(abs(v) for v in x),
        "L1": lambda x: sum(abs(v) for v in x),
        "L2": lambda x: math.sqrt(sum(v * v for v in x)),
    }
    for name, norm in norms.items():
        add(
            model("normalizer", {"normType": name}, ARRAY, MADE),
            ({"x": X}, {"x": np.zeros(3)}),
            lambda x, n=norm: {"y": np.array([v / (n(x) or 1) for v in x])},
            name,
        )
    spec = model("arrayFeatureExtractor", {"extractIndex": [2, 0, 2]}, ARRAY, MADE)
    add(spec, {"x": X}, lambda x: {"y": np.array([x[2], x[0], x[2]])})
    spec = model("arrayFeatureExtractor", {"extractIndex": [1]}, ARRAY, {"y": "double"})
    add(spec, {"x": X}, lambda x: {"y": float(x[1])}, "a number")
    spec = model("arrayFeatureExtractor", {"extractIndex": [1]}, ARRAY, {"y": "int64"})
    add(spec, {"x": X}, lambda x: {"y": int(x[1])}, "a whole number")
    columns = [
        {"inputColumn": "b", "inputDimensions": 1},
        {"inputColumn": "x", "inputDimensions": 3},
        {"inputColumn": "a", "inputDimensions": 1},
        {"inputColumn": "s", "inputDimensions": 2},
    ]
    taken: Types = {"a": "int64", "b": "double", "x": (3,), "s": "dictionary[int64]"}
    add(
        model("featureVectorizer", {"inputList": columns}, taken, {"y": (7,)}),
        {"a": 7, "b": 0.25, "x": X, "s": {1: 5.0}},
        lambda a, b, x, s: {"y": np.array([b, *x, a, s.get(0, 0), s.get(1, 0)])},
    )
    add(
        model("identity", {}, {"a": "string", "x": (3,)}, {"x": (3,), "a": "string"}),
        {"a": "text", "x": X},
        lambda a, x: {"x": x, "a": a},
    )
    add(
        model("identity", {}, {"a": "int64"}, {"b": "int64"}), {"a": 3}, lambda a: {"b": a}, "named"
    )


def _imputers() -> None:
    def add(part: dict[str, Any], kind: Any, pairs: list[tuple[Any, Any]], about: str) -> None:
        spec = model("imputer", part, {"x": kind}, {"y": kind}, optional=True)
        for i, (given, wanted) in enumerate(pairs):
            inputs = {} if given is None else {"x": given}
            _cases.add(spec, inputs, lambda x=None, w=wanted: {"y": w}, f"{about}-{i}")

    nan = {"replaceDoubleValue": "NaN"}
    add({"imputedDoubleValue": 2.5, **nan}, "double", [(NAN, 2.5), (1.0, 1.0), (None, 2.5)], "NaN")
    add({"imputedDoubleValue": 2.5}, "double", [(-1.0, -1.0), (None, 2.5)], "left out")
    whole = {"imputedInt64Value": 7, "replaceInt64Value": -1}
    add(whole, "int64", [(-1, 7), (3, 3), (None, 7)], "whole")
    text = {"imputedStringValue": "none", "replaceStringValue": ""}
    add(text, "string", [("", "none"), ("a", "a"), (None, "none")], "text")
    array = {"imputedDoubleArray": {"vector": [1, 2, 3]}, **nan}
    given, wanted = np.array([NAN, 5, NAN]), np.array([1.0, 5, 3])
    add(array, (3,), [(given, wanted), (None, np.array([1.0, 2, 3]))], "array")
    add({"imputedDoubleValue": 9, **nan}, (3,), [(given, np.array([9.0, 5, 9]))], "one for all")
    array = {"imputedInt64Array": {"vector": [1, 2, 3]}, "replaceInt64Value": 5}
    add(array, (3,), [(np.array([4.0, 5, 5]), np.array([4.0, 2, 3]))], "whole array")
    held = {"imputedStringDictionary": {"map": {"a": 1, "b": 2}}, **nan}
    pairs = [({"b": NAN, "c": 3.0}, {"b": 2.0, "c": 3.0, "a": 1.0}), (None, {"a": 1.0, "b": 2.0})]
    add(held, "dictionary[string]", pairs, "dictionary")
    held = {"imputedInt64Dictionary": {"map": {"4": 1}}}
    add(held, "dictionary[int64]", [({5: 2.0}, {5: 2.0, 4: 1.0})], "whole keys")


def _encoders() -> None:
    add = _cases.add
    words, numbers = ["cat", "dog", "ant"], [4, -2, 9]
    for listed, kind, key in (
        (words, "string", "stringCategories"),
        (numbers, "int64", "int64Categories"),
    ):
        known = {key: {"vector": listed}, "handleUnknown": "IgnoreUnknown"}
        add(
            model("oneHotEncoder", known, {"x": kind}, MADE),
            [{"x": v} for v in (*listed, type(listed[0])(77))],
            lambda x, known=listed: {"y": np.array([float(x == k) for k in known])},
            kind,
        )
        sparse = {**known, "outputSparse": True}
        add(
            model("oneHotEncoder", sparse, {"x": kind}, {"y": "dictionary[int64]"}),
            [{"x": v} for v in (listed[1], type(listed[0])(77))],
            lambda x, known=listed: {"y": {i: 1.0 for i, k in enumerate(known) if k == x}},
            f"{kind} sparse",
        )
    table = {"stringToInt64Map": {"map": {"a": 5, "b": -1}}, "int64Value": 99}
    add(
        model("categoricalMapping", table, {"x": "string"}, {"y": "int64"}),
        [{"x": v} for v in "abc"],
        lambda x: {"y": {"a": 5, "b": -1}.get(x, 99)},
        "to numbers",
    )
    table = {"int64ToStringMap": {"map": {"5": "a", "-1": "b"}}, "strValue": "?"}
    add(
        model("categoricalMapping", table, {"x": "int64"}, {"y": "string"}),
        [{"x": v} for v in (5, -1, 0)],
        lambda x: {"y": {5: "a", -1: "b"}.get(x, "?")},
        "to strings",
    )
    add(
        model("dictVectorizer", {"stringToIndex": {"vector": words}}, {"x": WORDS}, MADE),
        ({"x": {"ant": 2.0, "cat": -1}}, {"x": {}}, {"x": {"bee": 4.0}}),
        lambda x: {"y": np.array([x.get(w, 0.0) for w in words])},
        "words",
    )
    numbered: Types = {"x": "dictionary[int64]"}
    add(
        model("dictVectorizer", {"int64ToIndex": {"vector": numbers}}, numbered, MADE),
        {"x": {9: 2.0, 4: 1.5}},
        lambda x: {"y": np.array([x.get(n, 0.0) for n in numbers])},
        "numbers",
    )


WORDS = "dictionary[string]"


def glyphs(*boxes: tuple[int, int, int, int]) -> Any:
    """Boxes given by their corners, as centre and size."""
    return np.array([[(a + c) / 2, (b + d) / 2, c - a, d - b] for a, b, c, d in boxes], float)


def kept(confidence: Any, boxes: Any, overlap: float, least: float, *, per_class: bool) -> Any:
    """Rows that stay, by counting the unit squares that boxes of whole numbers cover."""

    def squares(box: Any) -> set[tuple[int, int]]:
        x, y, w, h = box
        low = round(x - w / 2), round(y - h / 2)
        return {(low[0] + i, low[1] + j) for i in range(round(w)) for j in range(round(h))}

    rows: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -max(confidence[i])):
        mine, kind = squares(boxes[i]), list(confidence[i]).index(max(confidence[i]))
        if max(confidence[i]) < least:
            continue
        for k in rows:
            other = squares(boxes[k])
            alike = list(confidence[k]).index(max(confidence[k])) == kind or not per_class
            if alike and len(mine & other) / len(mine | other) > overlap:
                break
        else:
            rows.append(i)
    return rows


def _suppression() -> None:
    order = np.random.default_rng(3)
    corners = order.integers(0, 8, (12, 2))
    boxes = glyphs(*((*c, *(c + order.integers(2, 7, 2))) for c in corners))
    confidence = order.random((12, 3)) / 3
    names = {
        "confidenceInputFeatureName": "c",
        "coordinatesInputFeatureName": "b",
        "confidenceOutputFeatureName": "confidence",
        "coordinatesOutputFeatureName": "coordinates",
        "iouThresholdInputFeatureName": "overlap",
        "confidenceThresholdInputFeatureName": "least",
        "iouThreshold": 0.3,
        "confidenceThreshold": 0.1,
        "stringClassLabels": {"vector": ["a", "b", "c"]},
    }
    examples = [{"c": confidence, "b": boxes}]
    examples += [{"c": confidence, "b": boxes, "overlap": o} for o in (0.0, 0.6, 1.0)]
    examples += [{"c": confidence, "b": boxes, "overlap": 0.5, "least": 0.28}]
    for per_class in (False, True):
        for count in (None, 3, 12):
            given: Types = {"c": (12, 3), "b": (12, 4)}
            shapes = ((count, 3), (count, 4)) if count else ((), ())
            made = dict(zip(("confidence", "coordinates"), shapes, strict=True))

            def wanted(
                c: Any,
                b: Any,
                overlap: float = 0.3,
                least: float = 0.1,
                *,
                count: Any = count,
                per_class: bool = per_class,
            ) -> dict[str, Any]:
                rows = kept(c, b, overlap, least, per_class=per_class)[:count]
                found = np.zeros((count or len(rows), 7))
                found[: len(rows)] = np.hstack([c, b])[rows]
                return {"confidence": found[:, :3], "coordinates": found[:, 3:]}

            part = names | {"pickTop": {"perClass": per_class}}
            about = f"{'per class' if per_class else 'all'} {count or ''}"
            spec = model("nonMaximumSuppression", part, given, made)
            _cases.add(spec, examples, wanted, about)


_numbers()
_imputers()
_encoders()
_suppression()
CASES: list[ModelCase] = _cases.rows
