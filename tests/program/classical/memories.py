"""Models that remember examples, made by hand: support vectors, neighbours, items."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tests.program.classical.predictors import LABELS, NAMES, NUMBERS, TOLD, named
from tests.support.classical import ModelCase, ModelCases, Types, model

_cases = ModelCases()
VECTORS = [[1.0, 0.0], [0.5, -1.5], [0.0, 2.0], [-1.0, 0.25]]
ALPHAS = [[0.5, -0.25, 1.0, -0.75], [0.3, 0.6, -0.2, -0.4]]
RHO = [0.1, -0.2, 0.3]
KERNELS: dict[str, tuple[dict[str, Any], Any]] = {
    "linear": ({"linearKernel": {}}, np.dot),
    "rbf": (
        {"rbfKernel": {"gamma": 0.7}},
        lambda u, v: math.exp(-0.7 * sum((a - b) ** 2 for a, b in zip(u, v, strict=True))),
    ),
    "poly": (
        {"polyKernel": {"gamma": 0.5, "c": 1.5, "degree": 3}},
        lambda u, v: (0.5 * _dot(u, v) + 1.5) ** 3,
    ),
    "sigmoid": (
        {"sigmoidKernel": {"gamma": 0.4, "c": -0.1}},
        lambda u, v: math.tanh(0.4 * _dot(u, v) - 0.1),
    ),
}
POINTS = [{"x": np.array(x)} for x in ([0.3, 0.4], [-2.0, 1.0], [1.0, -1.0], [0.0, 3.0])]
PLACE: Types = {"x": (2,)}


def _dot(u: Any, v: Any) -> float:
    return float(sum(a * b for a, b in zip(u, v, strict=True)))


def vectors(*, sparse: bool) -> dict[str, Any]:
    """The support vectors, with or without their zeros."""
    if not sparse:
        return {"denseSupportVectors": {"vectors": [{"values": row} for row in VECTORS]}}
    rows = [[{"index": i + 1, "value": v} for i, v in enumerate(row) if v] for row in VECTORS]
    return {"sparseSupportVectors": {"vectors": [{"nodes": row} for row in rows]}}


def _regressors() -> None:
    for (name, (kernel, body)), sparse in itertools.product(KERNELS.items(), (False, True)):
        part = {"kernel": kernel, **vectors(sparse=sparse), "rho": 0.25}
        part["coefficients"] = {"alpha": ALPHAS[0]}
        spec = model("supportVectorRegressor", part, PLACE, {"y": "double"}, predicted="y")

        def wanted(x: Any, body: Any = body) -> dict[str, Any]:
            pairs = zip(ALPHAS[0], VECTORS, strict=True)
            return {"y": sum(alpha * body(v, x) for alpha, v in pairs) - 0.25}

        _cases.add(spec, POINTS, wanted, f"{name}, {'sparse' if sparse else 'dense'}")


def decisions(x: Any, body: Any, sizes: list[int]) -> dict[tuple[int, int], float]:
    """LIBSVM's decision of each pair of classes, term by term."""
    owner = [c for c, size in enumerate(sizes) for _ in range(size)]
    found = {}
    for pair, (i, j) in enumerate(itertools.combinations(range(len(sizes)), 2)):
        total = -RHO[pair]
        for n, own in enumerate(owner):
            if own in {i, j}:
                total += ALPHAS[j - 1 if own == i else i][n] * body(VECTORS[n], x)
        found[i, j] = total
    return found


def _machine(sizes: list[int], kernel: str, *, sparse: bool, odds: bool) -> dict[str, Any]:
    count = len(sizes)
    pairs = count * (count - 1) // 2
    part = {"kernel": KERNELS[kernel][0], **vectors(sparse=sparse), "rho": RHO[:pairs]}
    part["numberOfSupportVectorsPerClass"] = sizes
    part["coefficients"] = [{"alpha": row} for row in ALPHAS[: count - 1]]
    part["stringClassLabels"] = {"vector": NAMES[:count]}
    return part | (
        {"probA": [-1.5, -2, -1][:pairs], "probB": [0.1, 0, -0.1][:pairs]} if odds else {}
    )


def _odds(decided: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    sides = zip(decided.items(), [-1.5, -2, -1], [0.1, 0, -0.1], strict=False)
    return {pair: 1 / (1 + math.exp(d * a + b)) for (pair, d), a, b in sides}


def _coupled(odds: dict[tuple[int, int], float], count: int) -> list[float]:
    """The minimum that pairwise coupling iterates to, by linear equations (Wu et al., eq. 21)."""
    r = {**odds, **{(j, i): 1 - odd for (i, j), odd in odds.items()}}
    q = np.array(
        [
            [
                sum(r[s, t] ** 2 for s in range(count) if s != t) if t == u else -r[u, t] * r[t, u]
                for u in range(count)
            ]
            for t in range(count)
        ]
    )
    whole = np.block([[q, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    return [float(v) for v in np.linalg.solve(whole, [0.0] * count + [1.0])[:count]]


def _classifiers() -> None:
    for name, (_, body) in KERNELS.items():

        def voted(x: Any, body: Any = body) -> dict[str, Any]:
            votes = [0, 0, 0]
            for (i, j), decision in decisions(x, body, [2, 1, 1]).items():
                votes[i if decision > 0 else j] += 1
            return {"label": NAMES[votes.index(max(votes))]}

        part = _machine([2, 1, 1], name, sparse=name == "poly", odds=False)
        spec = model("supportVectorClassifier", part, PLACE, {"label": "string"})
        _cases.add(spec, POINTS, voted, f"votes, {name}")

    body = KERNELS["rbf"][1]

    def two(x: Any) -> dict[str, Any]:
        (odd,) = _odds(decisions(x, body, [2, 2])).values()
        return named([odd, 1 - odd])

    def three(x: Any) -> dict[str, Any]:
        return named(_coupled(_odds(decisions(x, body, [2, 1, 1])), 3))

    part = _machine([2, 2], "rbf", sparse=True, odds=True)
    spec = model("supportVectorClassifier", part, PLACE, LABELS, **TOLD)
    _cases.add(spec, POINTS, two, "probabilities of two")
    part = _machine([2, 1, 1], "rbf", sparse=False, odds=True)
    spec = model("supportVectorClassifier", part, PLACE, LABELS, **TOLD)
    # Coupling stops when it is within 0.005 / 3 of the minimum.
    _cases.add(spec, POINTS, three, "coupled probabilities", close=0.005)


SAMPLES = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [2.0, 2.0], [-1.0, -1.0]]
OWNERS = ["a", "b", "a", "c", "b"]
WHOLE = [5, 3, 5, 4, 3]


def _voted(x: Any, count: int, owners: list[Any], *, inverse: bool) -> dict[str, Any]:
    far = sorted(
        (sum((a - b) ** 2 for a, b in zip(s, x, strict=True)), n) for n, s in enumerate(SAMPLES)
    )
    labels = sorted(set(owners))
    votes = dict.fromkeys(labels, 0.0)
    for distance, n in far[:count]:
        here = far[0][0] == 0
        votes[owners[n]] += (float(distance == 0) if here else 1 / distance) if inverse else 1
    return named([v / sum(votes.values()) for v in votes.values()], labels)


def _neighbours() -> None:
    points = [{"x": np.array(x)} for x in ([0.2, 0.1], [1.0, 0.0], [1.5, 1.5], [-3.0, 1.0])]
    index = {
        "numberOfDimensions": 2,
        "floatSamples": [{"vector": s} for s in SAMPLES],
        "squaredEuclideanDistance": {},
    }
    ways = itertools.product(("linearIndex", "singleKdTreeIndex"), (1, 3, 99), (False, True))
    for how, count, inverse in ways:
        part = {
            "nearestNeighborsIndex": {**index, how: {}},
            "numberOfNeighbors": {"defaultValue": count},
            "inverseDistanceWeighting" if inverse else "uniformWeighting": {},
            "stringClassLabels": {"vector": OWNERS},
        }
        spec = model("kNearestNeighborsClassifier", part, PLACE, LABELS, **TOLD)
        wanted = lambda x, c=count, i=inverse: _voted(x, c, OWNERS, inverse=i)  # noqa: E731
        about = f"{how}, {count}, {'inverse distance' if inverse else 'uniform'}"
        _cases.add(spec, points, wanted, about)
    part = {"nearestNeighborsIndex": index, "numberOfNeighbors": {"defaultValue": 2}}
    whole = {**part, "int64ClassLabels": {"vector": WHOLE}, "defaultInt64Label": 9}
    spec = model("kNearestNeighborsClassifier", whole, PLACE, NUMBERS, **TOLD)
    spec.isUpdatable = True
    _cases.add(
        spec, points, lambda x: _voted(x, 2, WHOLE, inverse=False), "updatable, whole numbers"
    )
    empty = {"nearestNeighborsIndex": {"numberOfDimensions": 2}, "defaultStringLabel": "none"}
    empty["numberOfNeighbors"] = {"defaultValue": 1}
    spec = model("kNearestNeighborsClassifier", empty, PLACE, LABELS, **TOLD)
    _cases.add(spec, points[0], lambda x: named([1.0], ["none"]), "without samples")


SIMILAR = {0: {1: 0.5, 2: 0.25}, 1: {0: 0.5, 3: 1.0}, 2: {3: -0.5}}
SHIFT = {1: 0.5}
ITEMS = ["tea", "milk", "salt", "rice"]


def _recommended(
    had: dict[int, float], only: list[int] | None = None, without: list[int] | None = None
) -> list[tuple[int, float]]:
    """Items and scores by the formula in the proto: sum of sim(k, i) * (score_i - shift_k)."""
    found = []
    for k in range(4):
        score = sum(SIMILAR.get(i, {}).get(k, 0) * (s - SHIFT.get(k, 0)) for i, s in had.items())
        if k not in (had if without is None else without) and (only is None or k in only):
            found.append((k, float(score)))
    return sorted(found, key=lambda pair: -pair[1])


def _recommenders() -> None:
    part = {
        "itemItemSimilarities": [
            {
                "itemId": i,
                "similarItemList": [{"itemId": k, "similarityScore": s} for k, s in row.items()],
                "itemScoreAdjustment": SHIFT.get(i, 0),
            }
            for i, row in SIMILAR.items()
        ],
        "itemInputFeatureName": "had",
        "numRecommendationsInputFeatureName": "k",
        "itemRestrictionInputFeatureName": "only",
        "itemExclusionInputFeatureName": "without",
        "recommendedItemListOutputFeatureName": "items",
        "recommendedItemScoreOutputFeatureName": "scores",
    }
    inputs: Types = {
        "had": "dictionary[string]",
        "k": "int64",
        "only": "sequence[string]",
        "without": "sequence[string]",
    }
    outputs: Types = {"items": "sequence[string]", "scores": "dictionary[string]"}
    named_items = {**part, "itemStringIds": {"vector": ITEMS}}
    spec = model("itemSimilarityRecommender", named_items, inputs, outputs, optional=True)

    def wanted(had: Any, k: int = 99, only: Any = None, without: Any = None) -> dict[str, Any]:
        places = {ITEMS.index(n): s for n, s in had.items() if n in ITEMS}
        lists = [v and [ITEMS.index(n) for n in v] for v in (only, without)]
        best = _recommended(places, *lists)[:k]
        return {"items": [ITEMS[i] for i, _ in best], "scores": {ITEMS[i]: s for i, s in best}}

    had = {"tea": 2.0, "milk": 1.0}
    examples = [{"had": had}, {"had": had, "k": 1}, {"had": {"tea": 1.0, "unknown": 5.0}}]
    examples += [{"had": had, "only": ["rice"]}, {"had": had, "without": ["rice"], "k": 2}]
    _cases.add(spec, examples, wanted, "names, ratings and every input")
    whole: Types = {
        "had": "sequence[int64]",
        **{
            n: t.replace("string", "int64")
            for n, t in list(inputs.items())[1:]
            if isinstance(t, str)
        },
    }
    spec = model(
        "itemSimilarityRecommender", part, whole, {"items": "sequence[int64]"}, optional=True
    )
    spec.itemSimilarityRecommender.recommendedItemScoreOutputFeatureName = ""
    wanted_list = lambda had: {  # noqa: E731
        "items": [i for i, _ in _recommended(dict.fromkeys(had, 1.0))]
    }
    _cases.add(spec, [{"had": [0, 2]}, {"had": []}], wanted_list, "a list of numbers")


_regressors()
_classifiers()
_neighbours()
_recommenders()
CASES: list[ModelCase] = _cases.rows
