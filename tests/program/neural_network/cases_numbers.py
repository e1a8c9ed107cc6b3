"""Cases of layers for numbers: activations, arithmetic, comparison, reductions, products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.classic import Cases, integers, normal, positive, weights
from tests.support.classic_math import sigmoid, softmax

TABLE = Cases()
X, Y = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
ERF = np.vectorize(math.erf)
A3, B3 = normal(3, seed=2), positive(3)


def each(values: Any) -> Any:
    """A number per channel."""
    return values.reshape(-1, 1, 1)


ACTIVATIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "linear": ({"alpha": 2, "beta": 0.5}, lambda x: 2 * x + 0.5),
    "ReLU": ({}, lambda x: np.maximum(x, 0)),
    "leakyReLU": ({"alpha": 0.2}, lambda x: np.where(x >= 0, x, 0.2 * x)),
    "thresholdedReLU": ({"alpha": 0.3}, lambda x: np.where(x >= np.float32(0.3), x, 0)),
    "PReLU": ({"alpha": weights(A3)}, lambda x: np.where(x >= 0, x, each(A3) * x)),
    "tanh": ({}, np.tanh),
    "scaledTanh": ({"alpha": 1.5, "beta": 0.7}, lambda x: 1.5 * np.tanh(0.7 * x)),
    "sigmoid": ({}, sigmoid),
    "sigmoidHard": ({"alpha": 0.3, "beta": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    "ELU": ({"alpha": 0.7}, lambda x: np.where(x >= 0, x, 0.7 * (np.exp(x) - 1))),
    "softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "softplus": ({}, lambda x: np.log1p(np.exp(x))),
    "parametricSoftplus": (
        {"alpha": weights(A3), "beta": weights(B3)},
        lambda x: each(A3) * np.log1p(np.exp(each(B3) * x)),
    ),
}
for _kind, (_given, _wanted) in ACTIVATIONS.items():
    TABLE.add("activation", {_kind: _given}, X, _wanted, about=_kind)
TABLE.add(
    "activation",
    {"PReLU": {"alpha": weights([0.25])}},
    X,
    lambda x: np.where(x >= 0, x, 0.25 * x),
    about="PReLU-single",
)
TABLE.add(
    "clampedReLU",
    {"alpha": 0.2, "beta": 0.6},
    X,
    lambda x: np.minimum(np.where(x >= 0, x, 0.2 * x), 0.6),
)
GELU = {
    "EXACT": lambda x: 0.5 * x * (1 + ERF(x / np.sqrt(2))),
    "TANH_APPROXIMATION": lambda x: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)))
    ),
    "SIGMOID_APPROXIMATION": lambda x: x * sigmoid(1.702 * x),
}
for _mode, _wanted in GELU.items():
    TABLE.add("gelu", {"mode": _mode}, X, _wanted, about=_mode.lower())
TABLE.add("clip", {"minVal": -0.5, "maxVal": 0.75}, X, lambda x: np.clip(x, -0.5, 0.75))
TABLE.add("softmax", {}, X, lambda x: softmax(x, -3))
TABLE.add("softmaxND", {"axis": -2}, X, lambda x: softmax(x, -2))

# -- unary ---------------------------------------------------------------------------------------
PLAIN = ("ceil", "floor", "sign", "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp2")
for _kind in PLAIN:
    TABLE.add(_kind, {}, X, getattr(np, _kind))
TABLE.add("round", {}, X * 3, np.rint)
TABLE.add("erf", {}, X, ERF)
INVERSES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atanh": "arctanh"}
SMALL = np.tanh(X)
for _kind, _name in INVERSES.items():
    TABLE.add(_kind, {}, SMALL, getattr(np, _name))
TABLE.add("asinh", {}, X * 5, np.arcsinh)
TABLE.add("acosh", {}, positive(2, 3) + 1, np.arccosh)
# Of s = 1.5 x + 3, which is positive.
S = np.abs(X)
UNARY: dict[str, Any] = {
    "SQRT": np.sqrt,
    "RSQRT": lambda s: 1 / np.sqrt(s + 0.25),
    "INVERSE": lambda s: 1 / (s + 0.25),
    "POWER": lambda s: s**1.3,
    "EXP": np.exp,
    "LOG": np.log,
    "ABS": np.abs,
    "THRESHOLD": lambda s: np.maximum(s, np.float32(1.3)),
}
for _kind, _wanted in UNARY.items():
    TABLE.add(
        "unary",
        {"type": _kind, "scale": 1.5, "shift": 3, "epsilon": 0.25, "alpha": 1.3},
        S,
        lambda x, body=_wanted: body(1.5 * x + 3),
        about=_kind.lower(),
    )
TABLE.add("unary", {"type": "SQRT"}, S, np.sqrt, about="defaults")
TABLE.add("unary", {"type": "INVERSE"}, S, lambda x: 1 / (x + 1e-6), about="default-epsilon")

# -- arithmetic ----------------------------------------------------------------------------------
Z, ROW = normal(2, 3, 4, 5, seed=3), normal(1, 3, 1, 1, seed=4)
TABLE.add("add", {"alpha": 1.5}, X, lambda x: x + 1.5, about="number")
TABLE.add("add", {}, (X, Y, Z), lambda x, y, z: x + y + z)
TABLE.add("add", {}, (X, ROW), lambda x, r: x + r, about="channels")
TABLE.add("multiply", {"alpha": 1.5}, X, lambda x: x * 1.5, about="number")
TABLE.add("multiply", {}, (X, Y, ROW), lambda x, y, r: x * y * r)
TABLE.add("average", {}, (X, Y, Z), lambda x, y, z: (x + y + z) / 3)
TABLE.add("max", {}, (X, Y, Z), lambda x, y, z: np.maximum(np.maximum(x, y), z))
TABLE.add("min", {}, (X, Y, Z), lambda x, y, z: np.minimum(np.minimum(x, y), z))
SHAPES: dict[str, tuple[int, ...]] = {
    "one": (1,),
    "channels": (3,),
    "places": (1, 4, 5),
    "all": (3, 4, 5),
}
for _about, _shape in SHAPES.items():
    _w, _b = normal(*_shape, seed=5), normal(*_shape, seed=6)
    _spread = (-1, 1, 1) if len(_shape) == 1 else _shape
    _scale, _bias = _w.reshape(_spread), _b.reshape(_spread)
    TABLE.add(
        "bias",
        {"shape": _shape, "bias": weights(_b)},
        X,
        lambda x, b=_bias: x + b,
        about=_about,
    )
    TABLE.add(
        "scale",
        {"shapeScale": _shape, "scale": weights(_w), "hasBias": True}
        | {"shapeBias": _shape, "bias": weights(_b)},
        X,
        lambda x, w=_scale, b=_bias: x * w + b,
        about=_about,
    )
V = normal(4, 1, seed=7)
BROADCAST: dict[str, Any] = {
    "addBroadcastable": np.add,
    "subtractBroadcastable": np.subtract,
    "multiplyBroadcastable": np.multiply,
    "divideBroadcastable": np.divide,
    "maxBroadcastable": np.maximum,
    "minBroadcastable": np.minimum,
    "floorDivBroadcastable": np.floor_divide,
    "modBroadcastable": np.mod,
}
for _kind, _body in BROADCAST.items():
    TABLE.add(_kind, {}, (X, V), _body, close=1e-4)
TABLE.add("powBroadcastable", {}, (S, V), np.power)
M0, M1 = integers(3, 2, 3, 4), integers(3, 3, 4, seed=1)
COMPARED: dict[str, Any] = {
    "equal": np.equal,
    "notEqual": np.not_equal,
    "lessThan": np.less,
    "lessEqual": np.less_equal,
    "greaterThan": np.greater,
    "greaterEqual": np.greater_equal,
}
for _kind, _body in COMPARED.items():
    TABLE.add(_kind, {}, (M0, M1), lambda x, y, body=_body: body(x, y) * 1.0)
    TABLE.add(_kind, {"alpha": 1}, M0, lambda x, body=_body: body(x, 1) * 1.0, about="number")
JOINED: dict[str, Any] = {
    "logicalAnd": np.logical_and,
    "logicalOr": np.logical_or,
    "logicalXor": np.logical_xor,
}
for _kind, _body in JOINED.items():
    TABLE.add(_kind, {}, (M0, M1), lambda x, y, body=_body: body(x, y) * 1.0)
TABLE.add("logicalNot", {}, M0, lambda x: (x == 0) * 1.0)
TABLE.add(
    "whereBroadcastable",
    {},
    (M0, normal(4), normal(2, 3, 1, seed=1)),
    lambda c, a, b: np.where(c != 0, a, b),
)

# -- reductions ----------------------------------------------------------------------------------
AXES = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}
OLD: dict[str, Any] = {
    "SUM": np.sum,
    "AVG": np.mean,
    "PROD": np.prod,
    "LOGSUM": lambda x, a, keepdims: np.log(x + 0.5).sum(a, keepdims=keepdims),
    "SUMSQUARE": lambda x, a, keepdims: (x**2).sum(a, keepdims=keepdims),
    "L1": lambda x, a, keepdims: np.abs(x).sum(a, keepdims=keepdims),
    "L2": lambda x, a, keepdims: np.sqrt((x**2).sum(a, keepdims=keepdims)),
    "MAX": np.max,
    "MIN": np.min,
}
Q = positive(2, 3, 4, 5)
for (_mode, _body), _axis in zip(OLD.items(), [*AXES, *AXES], strict=False):
    TABLE.add(
        "reduce",
        {"mode": _mode, "axis": _axis, "epsilon": 0.5},
        Q,
        lambda x, body=_body, axes=AXES[_axis]: body(x, axes, keepdims=True),
        about=f"{_mode.lower()}-{_axis.lower()}",
        close=1e-4,
    )
TABLE.add(
    "reduce",
    {"mode": "ARGMAX", "axis": "C"},
    X,
    lambda x: x.argmax(-3)[:, None].astype(np.float32),
    about="argmax",
)
NEW: dict[str, Any] = {
    "reduceL1": OLD["L1"],
    "reduceL2": OLD["L2"],
    "reduceMax": np.max,
    "reduceMin": np.min,
    "reduceSum": np.sum,
    "reduceProd": np.prod,
    "reduceMean": np.mean,
    "reduceLogSum": lambda x, a, keepdims: np.log(x.sum(a, keepdims=keepdims)),
    "reduceSumSquare": OLD["SUMSQUARE"],
    "reduceLogSumExp": lambda x, a, keepdims: np.log(np.exp(x).sum(a, keepdims=keepdims)),
}
for _kind, _body in NEW.items():
    TABLE.add(
        _kind,
        {"axes": [-1, 1], "keepDims": True},
        Q,
        lambda x, body=_body: body(x, (1, 3), keepdims=True),
        about="kept",
        close=1e-4,
    )
    TABLE.add(
        _kind,
        {"reduceAll": True},
        Q[0, 0],
        lambda x, body=_body: body(x, (0, 1), keepdims=False).reshape(1),
        about="all",
        close=1e-4,
    )
for _kind, _name in (("argMax", "argmax"), ("argMin", "argmin")):
    TABLE.add(
        _kind,
        {"axis": -2},
        X,
        lambda x, name=_name: getattr(np, name)(x, -2)[:, :, None].astype(np.float32),
    )
    TABLE.add(
        _kind,
        {"axis": 1, "removeDim": True},
        X,
        lambda x, name=_name: getattr(np, name)(x, 1).astype(np.float32),
        about="removed",
    )

# -- products ------------------------------------------------------------------------------------
M, MB = normal(6, 5, seed=8), normal(6, seed=9)
DENSE = {"inputChannels": 5, "outputChannels": 6, "hasBias": True}
DENSE |= {"weights": weights(M), "bias": weights(MB)}
for _shape in ((5,), (3, 5), (2, 3, 5)):
    TABLE.add(
        "innerProduct",
        DENSE,
        normal(*_shape),
        lambda x: x @ M.T + MB,
        about=f"{len(_shape)}-axes",
    )
FLAT = normal(6, 12, seed=8)
TABLE.add(
    "innerProduct",
    {"inputChannels": 12, "outputChannels": 6, "weights": weights(FLAT)},
    normal(2, 3, 2, 2),
    lambda x: (x.reshape(2, 12) @ FLAT.T)[..., None, None],
    about="4-axes",
)
TABLE.add(
    "innerProduct",
    {"inputChannels": 12, "outputChannels": 6, "weights": weights(FLAT)},
    normal(4, 2, 3, 2, 2),
    lambda x: (x.reshape(4, 2, 12) @ FLAT.T)[..., None, None],
    about="5-axes",
)
TABLE.add(
    "embedding",
    {"inputDim": 9, "outputChannels": 6, "weights": weights(normal(6, 9)), "hasBias": True}
    | {"bias": weights(MB)},
    integers(9, 4, 1, 1, 1),
    lambda i: (normal(6, 9).T[i.ravel().astype(int)] + MB)[:, :, None, None],
)
TABLE.add(
    "embeddingND",
    {"vocabSize": 9, "embeddingSize": 6, "weights": weights(normal(6, 9)), "hasBias": True}
    | {"bias": weights(MB)},
    integers(9, 4, 2, 1),
    lambda i: normal(6, 9).T[i[..., 0].astype(int)] + MB,
)
TABLE.add(
    "batchedMatmul",
    {},
    (normal(2, 1, 3, 4), normal(5, 4, 2, seed=1)),
    lambda a, b: a @ b,
)
TABLE.add(
    "batchedMatmul",
    {"transposeA": True, "transposeB": True},
    (normal(2, 4, 3), normal(2, 5, 4, seed=1)),
    lambda a, b: a.swapaxes(1, 2) @ b.swapaxes(1, 2),
    about="transposed",
)
TABLE.add(
    "batchedMatmul",
    {},
    (normal(2, 4, 3), normal(3, seed=1)),
    lambda a, b: a @ b[:, None],
    about="vector",
)
# Stored column by column.
OWN = {"weightMatrixFirstDimension": 5, "weightMatrixSecondDimension": 6, "weights": weights(M)}
for _shape in ((5,), (3, 5), (2, 3, 5), (2, 2, 3, 5)):
    TABLE.add(
        "batchedMatmul",
        OWN | {"hasBias": True, "bias": weights(MB)},
        normal(*_shape),
        lambda x: x @ M.T + MB,
        about=f"own-{len(_shape)}-axes",
    )
P, R = normal(2, 6, 1, 1), normal(2, 6, 1, 1, seed=1)
TABLE.add("dot", {}, (P, R), lambda a, b: (a * b).sum(1, keepdims=True))
TABLE.add(
    "dot",
    {"cosineSimilarity": True},
    (P, R),
    lambda a, b: (
        (a * b).sum(1, keepdims=True)
        / np.sqrt((a**2).sum(1, keepdims=True) * (b**2).sum(1, keepdims=True))
    ),
    about="cosine",
)
