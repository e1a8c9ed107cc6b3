"""Cases of layers that move numbers: slicing, gathering, sorting, constants, boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.classic import Cases, few, integers, normal, weights

TABLE = Cases()
X = normal(2, 3, 4, 5)
V = normal(3, 4)

# -- slicing -------------------------------------------------------------------------------------
for _axis, _wanted in (
    ("CHANNEL_AXIS", lambda x: x[:, 1:3:2]),
    ("HEIGHT_AXIS", lambda x: x[:, :, 1:3:2]),
    ("WIDTH_AXIS", lambda x: x[..., 1:3:2]),
):
    TABLE.add(
        "slice",
        {"startIndex": 1, "endIndex": 3, "stride": 2, "axis": _axis},
        X,
        _wanted,
        about=_axis.lower(),
    )
TABLE.add(
    "slice",
    {"startIndex": -4, "endIndex": -1, "stride": 1, "axis": "WIDTH_AXIS"},
    X,
    lambda x: x[..., -4:-1],
    about="negative",
)
FIVES = normal(5, 5, 5)
STATIC = {"beginIds": [1, 2, 3], "endIds": [3, -3, 2], "strides": [2, 2, 2]}
STATIC |= {"beginMasks": [True, False, True], "endMasks": [False, True, True]}
TABLE.add("sliceStatic", STATIC, FIVES, lambda x: x[:3:2, 2::2, ::2])
TABLE.add(
    "sliceStatic",
    STATIC | {"squeezeMasks": [False, True, False]},
    FIVES,
    lambda x: x[:3:2, 2, ::2],
    about="squeezed",
)
TABLE.add(
    "sliceStatic",
    {"beginIds": [-1, 0, 0], "endIds": [0, -2, 5], "strides": [-2, 1, 1]}
    | {"beginMasks": [False] * 3, "endMasks": [False] * 3},
    FIVES,
    lambda x: x[-1:0:-2, 0:-2],
    about="backwards",
)
TABLE.add(
    "sliceDynamic",
    {"endIds": [3, -1, 5], "strides": [1, 2, 1]},
    (FIVES, few(1, 0, 2)),
    lambda x, _b: x[1:3, 0:-1:2, 2:5],
)
TABLE.add(
    "sliceDynamic",
    {"endMasks": [False, True, False], "strides": [1, 1, 1]},
    (FIVES, few(1, 2, 2), few(3, 0, 5)),
    lambda x, _b, _e: x[1:3, 2:, 2:5],
    about="computed-end",
)
TABLE.add("sliceBySize", {"size": 2, "axis": 1}, (FIVES, few(2)), lambda x, _b: x[:, 2:4])
TABLE.add(
    "slidingWindows",
    {"axis": 1, "windowSize": 3, "step": 2},
    FIVES,
    lambda x: np.stack([x[:, 0:3], x[:, 2:5]], 1),
)
TABLE.add(
    "constantPad",
    {"value": 0.5, "padAmounts": [0, 1, 4, 0]},
    V,
    lambda x: np.pad(x, [(0, 1), (4, 0)], constant_values=0.5),
)
TABLE.add(
    "constantPad",
    {"padAmounts": [0, 5, 7, 0], "padToGivenOutputSizeMode": True},
    V,
    lambda x: np.pad(x, [(0, 2), (3, 0)]),
    about="to-sizes",
)
TABLE.add(
    "constantPad",
    {"value": 0.5},
    (V, few(1, 2, 0, 3)),
    lambda x, _p: np.pad(x, [(1, 2), (0, 3)], constant_values=0.5),
    about="computed",
)

# -- gathering -----------------------------------------------------------------------------------
TABLE.add(
    "gather",
    {"axis": 1},
    (FIVES, np.array([[0, -1, 2], [4, 1, 1]], np.float32)),
    lambda x, i: np.take(x, i.astype(int), 1),
)
POINTS = np.array([[0, 1], [4, 2], [3, 3]], np.float32)
TABLE.add("gatherND", {}, (FIVES, POINTS), lambda x, i: x[tuple(i.astype(int).T)])
TABLE.add(
    "gatherAlongAxis",
    {"axis": 1},
    (FIVES, integers(5, 5, 2, 5)),
    lambda x, i: np.take_along_axis(x, i.astype(int), 1),
)
MODES: dict[str, Callable[..., Any]] = {
    "SCATTER_UPDATE": lambda _a, b: b,
    "SCATTER_ADD": np.add,
    "SCATTER_SUB": np.subtract,
    "SCATTER_MUL": np.multiply,
    "SCATTER_DIV": np.divide,
    "SCATTER_MAX": np.maximum,
    "SCATTER_MIN": np.minimum,
}


def scattered(x: Any, indices: Any, updates: Any, mode: str) -> Any:
    """Rows of the second axis written one after the other."""
    made = x.copy()
    for k, i in enumerate(indices.astype(int)):
        made[:, i] = MODES[mode](made[:, i], updates[:, k])
    return made


def scattered_points(x: Any, indices: Any, updates: Any, mode: str) -> Any:
    """Rows at points written one after the other."""
    made = x.copy()
    for point, row in zip(indices.astype(int), updates, strict=True):
        made[tuple(point)] = MODES[mode](made[tuple(point)], row)
    return made


def scattered_along(x: Any, indices: Any, updates: Any, mode: str) -> Any:
    """Elements along the second axis written one after the other."""
    made = x.copy()
    for place in np.ndindex(*indices.shape):
        at = (place[0], int(indices[place]), place[2])
        made[at] = MODES[mode](made[at], updates[place])
    return made


ORDER = np.argsort(normal(5, 5, 5, seed=2), 1)[:, :2].astype(np.float32)
for _mode in MODES:
    _about = _mode.lower().removeprefix("scatter_")
    TABLE.add(
        "scatter",
        {"axis": 1, "mode": _mode},
        (FIVES, few(3, 0, 4), normal(5, 3, 5, seed=1) + 3),
        lambda x, i, u, mode=_mode: scattered(x, i, u, mode),
        about=_about,
    )
    TABLE.add(
        "scatterND",
        {"mode": _mode},
        (FIVES, POINTS, normal(3, 5, seed=1) + 3),
        lambda x, i, u, mode=_mode: scattered_points(x, i, u, mode),
        about=_about,
    )
    TABLE.add(
        "scatterAlongAxis",
        {"axis": 1, "mode": _mode},
        (FIVES, ORDER, normal(5, 2, 5, seed=1) + 3),
        lambda x, i, u, mode=_mode: scattered_along(x, i, u, mode),
        about=_about,
    )
TABLE.add("whereNonZero", {}, integers(2, 3, 4), lambda x: np.argwhere(x).astype(np.float32))

# -- sorting, triangles, sums --------------------------------------------------------------------
for _bottom in (False, True):
    TABLE.add(
        "topK",
        {"axis": -2, "K": 2, "useBottomK": _bottom},
        X,
        lambda x, s=1 if _bottom else -1: (
            np.take_along_axis(x, np.argsort(s * x, -2)[:, :, :2], -2),
            np.argsort(s * x, -2)[:, :, :2].astype(np.float32),
        ),
        about="bottom" if _bottom else "top",
    )
TABLE.add(
    "topK",
    {"axis": -2},
    (X, few(3)),
    lambda x, _k: (
        -np.sort(-x, -2)[:, :, :3],
        np.argsort(-x, -2)[:, :, :3].astype(np.float32),
    ),
    about="computed",
)
for _descending, _sign in ((False, 1), (True, -1)):
    TABLE.add(
        "argSort",
        {"axis": 2, "descending": _descending},
        X,
        lambda x, s=_sign: np.argsort(s * x, 2, kind="stable").astype(np.float32),
        about="descending" if _descending else "ascending",
    )
for _exclusive in (False, True):
    for _reverse in (False, True):

        def _summed(x: Any, e: bool = _exclusive, r: bool = _reverse) -> Any:
            x = x[:, ::-1] if r else x
            made = np.cumsum(x, 1) - (x if e else 0)
            return made[:, ::-1] if r else made

        TABLE.add(
            "cumSum",
            {"axis": 1, "excludeFinalSum": _exclusive, "reverse": _reverse},
            X,
            _summed,
            about=f"{'exclusive' if _exclusive else 'inclusive'}{'-reverse' * _reverse}",
        )
for _lower, _upper in ((1, 0), (-1, 2), (0, -1)):

    def _band(x: Any, low: int = _lower, up: int = _upper) -> Any:
        m, n = np.indices(x.shape[-2:])
        return x * (((low < 0) | (m - n <= low)) & ((up < 0) | (n - m <= up)))

    TABLE.add(
        "matrixBandPart",
        {"numLower": _lower, "numUpper": _upper},
        FIVES,
        _band,
        about=f"{_lower}-{_upper}",
    )
for _k in (-2, 0, 1):
    TABLE.add("lowerTriangular", {"k": _k}, FIVES, lambda x, k=_k: np.tril(x, k), about=f"k{_k}")
    TABLE.add("upperTriangular", {"k": _k}, FIVES, lambda x, k=_k: np.triu(x, k), about=f"k{_k}")

# -- constants -----------------------------------------------------------------------------------
DATA = normal(3, 4, 5, seed=9)
TABLE.add("loadConstant", {"shape": [3, 4, 5], "data": weights(DATA)}, (), lambda: DATA[None, None])
TABLE.add(
    "loadConstantND", {"shape": [3, 20], "data": weights(DATA)}, (), lambda: DATA.reshape(3, 20)
)
TABLE.add("fillStatic", {"value": 1.5, "targetShape": [2, 3]}, (), lambda: np.full((2, 3), 1.5))
TABLE.add(
    "rangeStatic",
    {"startValue": 1, "endValue": 6, "stepSizeValue": 1.5},
    (),
    lambda: np.arange(1, 6, 1.5),
)
TABLE.add("fillLike", {"value": 1.5}, V, lambda x: np.full(x.shape, 1.5))
TABLE.add("fillDynamic", {"value": 1.5}, few(2, 3), lambda _s: np.full((2, 3), 1.5))
TABLE.add(
    "rangeDynamic",
    {"startValue": 1, "stepSizeValue": 1.5},
    few(6),
    lambda _e: np.arange(1, 6, 1.5),
)
TABLE.add(
    "rangeDynamic",
    {},
    (few(6), few(2), few(2)),
    lambda *_a: np.arange(2, 6, 2.0),
    about="computed",
)
TABLE.add(
    "oneHot",
    {"oneHotVectorSize": 4, "axis": -1, "onValue": 5, "offValue": -1},
    integers(4, 2, 3),
    lambda i: np.where(np.eye(4)[i.astype(int)] > 0, 5, -1),
)
TABLE.add(
    "oneHot",
    {"axis": 0, "onValue": 1},
    (few(2, -1, 0), few(3)),
    lambda *_a: np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], np.float32),
    about="computed",
)

# -- boxes ---------------------------------------------------------------------------------------
CENTRES = np.array([[[2, 2, 2, 2], [2.2, 2, 2, 2], [6, 6, 2, 2], [6, 6.1, 2, 2]]], np.float32)
SCORES = np.array([[[0.9, 0.1], [0.3, 0.8], [0.2, 0.7], [0.6, 0.1]]], np.float32)


def surviving(kept: list[int], most: int) -> Callable[..., Any]:
    """The rows of what stays, padded with 0, indices with -1."""

    def body(boxes: Any, scores: Any) -> Any:
        none = most - len(kept)
        rows = [np.pad(a[:, kept], [(0, 0), (0, none), (0, 0)]) for a in (boxes, scores)]
        indices = np.array([[*kept, *[-1] * none]], np.float32)
        return (*rows, indices, few(len(kept)))

    return body


SUPPRESS = {"iouThreshold": 0.5, "scoreThreshold": 0.2, "maxBoxes": 3}
TABLE.add("NonMaximumSuppression", SUPPRESS, (CENTRES, SCORES), surviving([0, 2], 3))
TABLE.add(
    "NonMaximumSuppression",
    SUPPRESS | {"perClassSuppression": True, "maxBoxes": 5},
    (CENTRES, SCORES),
    surviving([0, 1, 2, 3], 5),
    about="per-class",
)
TABLE.add(
    "NonMaximumSuppression",
    SUPPRESS | {"scoreThreshold": 0.95},
    (CENTRES, SCORES),
    surviving([0], 3),
    about="none-passes",
)
