"""Cases of layers that change shapes, put values together, or see old networks' five axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.classic import Cases, few, normal, weights

TABLE = Cases()
X, Y = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
V = normal(3, 4)

# -- shapes --------------------------------------------------------------------------------------
TABLE.add("flatten", {}, X, lambda x: x.reshape(2, 60, 1, 1))
TABLE.add(
    "flatten",
    {"mode": "CHANNEL_LAST"},
    X,
    lambda x: x.transpose(0, 2, 3, 1).reshape(2, 60, 1, 1),
    about="channels-last",
)
TABLE.add("transpose", {"axes": [3, 1, 2, 0]}, X, lambda x: x.transpose(3, 1, 2, 0))
THIN = normal(1, 3, 1, 4)
TABLE.add("squeeze", {"axes": [0, -2]}, THIN, lambda x: x[0, :, 0])
TABLE.add("squeeze", {"squeezeAll": True}, THIN, lambda x: x[0, :, 0], about="all")
TABLE.add("squeeze", {"axes": [0]}, normal(1), lambda x: x, about="last-axis")
TABLE.add("expandDims", {"axes": [0, 2]}, V, lambda x: x[None, :, None])
TABLE.add("expandDims", {"axes": [-2, -1]}, V, lambda x: x[..., None, None], about="behind")
for _axis, _shape in ((-1, (24, 5)), (0, (1, 120)), (2, (6, 20)), (4, (120, 1))):
    TABLE.add(
        "flattenTo2D",
        {"axis": _axis},
        X,
        lambda x, shape=_shape: x.reshape(shape),
        about=f"axis{_axis}",
    )
TABLE.add("reshapeStatic", {"targetShape": [6, -1]}, X, lambda x: x.reshape(6, 20))
TABLE.add("reshapeLike", {}, (X, normal(6, 20)), lambda x, _like: x.reshape(6, 20))
TABLE.add("reshapeDynamic", {}, (X, few(6, 20)), lambda x, _shape: x.reshape(6, 20))
TABLE.add(
    "rankPreservingReshape", {"targetShape": [4, 0, -1, 1]}, X, lambda x: x.reshape(4, 3, 10, 1)
)
TABLE.add("getShape", {}, X, lambda _x: few(2, 3, 4, 5))

# -- joining -------------------------------------------------------------------------------------
TABLE.add("concat", {}, (X, Y, X), lambda *a: np.concatenate(a, -3))
TABLE.add(
    "concat",
    {"sequenceConcat": True},
    (X[None], Y[None]),
    lambda *a: np.concatenate(a, 0),
    about="sequence",
)
TABLE.add("concatND", {"axis": -1}, (X, Y), lambda *a: np.concatenate(a, -1))
TABLE.add(
    "concatND",
    {"axis": 1, "interleave": True},
    (X, Y),
    lambda *a: np.stack(a, 2).reshape(2, 6, 4, 5),
    about="interleaved",
)
TABLE.add("stack", {"axis": -2}, (X, Y), lambda *a: np.stack(a, -2))
TABLE.add("split", {"nOutputs": 3}, X, lambda x: tuple(np.split(x, 3, -3)))
TABLE.add("splitND", {"axis": -1, "numSplits": 5}, X, lambda x: tuple(np.split(x, 5, -1)))
TABLE.add(
    "splitND",
    {"axis": 2, "splitSizes": [1, 3]},
    X,
    lambda x: tuple(np.split(x, [1], 2)),
    about="sizes",
)
TABLE.add("sequenceRepeat", {"nRepetitions": 3}, X[None], lambda x: np.tile(x, (3, 1, 1, 1, 1)))
TABLE.add("tile", {"reps": [2, 3]}, V[None], lambda x: np.tile(x, (1, 2, 3)))
TABLE.add("tile", {}, (V, few(2, 3)), lambda x, _r: np.tile(x, (2, 3)), about="computed")
COLUMN = normal(3, 1)
TABLE.add(
    "broadcastToStatic",
    {"targetShape": [2, 3, 4]},
    COLUMN,
    lambda x: np.broadcast_to(x, (2, 3, 4)),
)
TABLE.add(
    "broadcastToLike", {}, (COLUMN, normal(2, 3, 4)), lambda x, like: np.broadcast_to(x, like.shape)
)
TABLE.add(
    "broadcastToDynamic",
    {},
    (COLUMN, few(2, 3, 4)),
    lambda x, _shape: np.broadcast_to(x, (2, 3, 4)),
)
TABLE.add(
    "reverse",
    {"reverseDim": [True, False, False, True]},
    X,
    lambda x: x[::-1, :, :, ::-1],
)


def reversed_starts(x: Any, lengths: Any) -> Any:
    """The first elements of each row's sequence from back to front."""
    made = x.copy()
    for i, n in enumerate(lengths.astype(int)):
        made[i, :n] = x[i, :n][::-1]
    return made


TABLE.add("reverseSeq", {"batchAxis": 0, "sequenceAxis": 1}, (V, few(3, 0, 4)), reversed_starts)

# -- old networks: [C] and [C, H, W], seen as [1, 1, C, H, W] -------------------------------------
IMAGE = normal(4, 3, 5)
TABLE.add("flatten", {}, IMAGE, lambda x: x.reshape(1, 1, 60, 1, 1), old=True)
TABLE.add(
    "reshape",
    {"targetShape": [2, 6, 5]},
    IMAGE,
    lambda x: x.reshape(1, 1, 2, 6, 5),
    old=True,
)
TABLE.add(
    "reshape",
    {"targetShape": [2, 6, 5], "mode": "CHANNEL_LAST"},
    IMAGE,
    lambda x: x.transpose(0, 1, 3, 4, 2).reshape(1, 1, 6, 5, 2).transpose(0, 1, 4, 2, 3),
    about="channels-last",
    old=True,
)
TABLE.add(
    "reshape",
    {"targetShape": [3, 2, 2, 5]},
    IMAGE,
    lambda x: x.reshape(3, 1, 2, 2, 5),
    about="sequence",
    old=True,
)
for _order, _perm in (
    ([0, 3, 1, 2], (0, 1, 4, 2, 3)),
    ([3, 1, 2, 0], (4, 1, 2, 3, 0)),
    ([0, 3, 2, 1], (0, 1, 4, 3, 2)),
):
    TABLE.add(
        "permute",
        {"axis": _order},
        IMAGE,
        lambda x, perm=_perm: x.transpose(perm),
        about="".join(map(str, _order)),
        old=True,
    )
TABLE.add("concat", {}, (IMAGE, IMAGE), lambda *a: np.concatenate(a, 2), old=True)
TABLE.add(
    "concat",
    {"sequenceConcat": True},
    (IMAGE, IMAGE),
    lambda *a: np.concatenate(a, 0),
    about="sequence",
    old=True,
)
TABLE.add("split", {"nOutputs": 2}, IMAGE, lambda x: tuple(np.split(x, 2, 2)), old=True)
TABLE.add(
    "sequenceRepeat", {"nRepetitions": 2}, IMAGE, lambda x: np.tile(x, (2, 1, 1, 1, 1)), old=True
)
M = normal(6, 60)
TABLE.add(
    "innerProduct",
    {"inputChannels": 60, "outputChannels": 6, "weights": weights(M)},
    IMAGE,
    lambda x: (x.reshape(1, 1, 60) @ M.T)[..., None, None],
    old=True,
    close=1e-4,
)
TABLE.add(
    "embedding",
    {"inputDim": 9, "outputChannels": 6, "weights": weights(normal(6, 9))},
    few(4),
    lambda _i: normal(6, 9)[:, 4].reshape(1, 1, 6, 1, 1),
    old=True,
)
TABLE.add(
    "reduce",
    {"mode": "SUM", "axis": "CHW"},
    IMAGE,
    lambda x: x.sum((2, 3, 4), keepdims=True),
    old=True,
    close=1e-4,
)
TABLE.add("add", {}, (IMAGE, normal(4)), lambda x, c: x + c, old=True)
