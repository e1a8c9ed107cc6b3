"""Cases of layers with windows over images: convolution and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.classic import Cases, border, normal, weights
from tests.support.classic_math import amounts_same, conv, deconv, pooled

TABLE = Cases()
X = normal(2, 4, 7, 8)
W, B = normal(6, 4, 3, 2, seed=1), normal(6, seed=2)
CONV = {"outputChannels": 6, "kernelChannels": 4, "kernelSize": [3, 2], "weights": weights(W)}
BIASED = CONV | {"hasBias": True, "bias": weights(B)}
ONES, NONE = [1, 1], [(0, 0), (0, 0)]
TABLE.add(
    "convolution", BIASED | {"valid": {}}, X, lambda x: conv(x, W, B, strides=ONES, pads=NONE)
)
TABLE.add(
    "convolution",
    BIASED | {"valid": {"paddingAmounts": border((1, 2), (0, 3))}, "stride": [2, 3]},
    X,
    lambda x: conv(x, W, B, strides=[2, 3], pads=[(1, 2), (0, 3)]),
    about="padded",
)
for _mode, _lower in (("BOTTOM_RIGHT_HEAVY", False), ("TOP_LEFT_HEAVY", True)):
    TABLE.add(
        "convolution",
        CONV | {"same": {"asymmetryMode": _mode}, "stride": [2, 1]},
        X,
        lambda x, low=_lower: conv(
            x,
            W,
            strides=[2, 1],
            pads=[amounts_same(7, 3, 2, lower=low), amounts_same(8, 2, 1, lower=low)],
        ),
        about=f"same-{_mode.lower()}",
    )
TABLE.add(
    "convolution",
    CONV | {"valid": {}, "dilationFactor": [2, 3]},
    X,
    lambda x: conv(x, W, strides=ONES, pads=NONE, dilations=[2, 3]),
    about="dilated",
)
GROUPED = normal(8, 2, 3, 3, seed=3)
TABLE.add(
    "convolution",
    {"outputChannels": 8, "kernelChannels": 2, "nGroups": 2, "weights": weights(GROUPED)}
    | {"valid": {}},
    X,
    lambda x: conv(x, GROUPED, strides=ONES, pads=NONE, groups=2),
    about="groups-default-kernel",
)
DEPTH = normal(4, 1, 3, 3, seed=3)
TABLE.add(
    "convolution",
    {"outputChannels": 4, "kernelChannels": 1, "nGroups": 4, "weights": weights(DEPTH)}
    | {"same": {}},
    X,
    lambda x: conv(x, DEPTH, strides=ONES, pads=[(1, 1), (1, 1)], groups=4),
    about="depthwise",
)
TABLE.add(
    "convolution",
    {"outputChannels": 6, "kernelChannels": 4, "kernelSize": [3, 2], "valid": {}},
    (X, W),
    lambda x, w: conv(x, w, strides=ONES, pads=NONE),
    about="computed-kernel",
)
TABLE.add(
    "convolution",
    BIASED | {"valid": {}},
    X[None] * normal(3, 1, 1, 1, 1),
    lambda x: conv(x.reshape(6, 4, 7, 8), W, B, strides=ONES, pads=NONE).reshape(3, 2, 6, 5, 7),
    about="five-axes",
)
U, V = normal(4, 3, 3, 4, seed=4), normal(6, seed=5)
TRANSPOSED = {
    "outputChannels": 6,
    "kernelChannels": 4,
    "nGroups": 2,
    "kernelSize": [3, 4],
    "stride": [2, 3],
    "isDeconvolution": True,
    "hasBias": True,
    "weights": weights(U),
    "bias": weights(V),
}


def up(x: Any, top: int, bottom: int, left: int, right: int) -> Any:
    """The deconvolution of ``TRANSPOSED``, cut at its sides."""
    whole = deconv(x, U, strides=[2, 3], groups=2)
    cut = whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]
    return cut + V.reshape(-1, 1, 1)


TABLE.add("convolution", TRANSPOSED | {"valid": {}}, X, lambda x: up(x, 0, 0, 0, 0), about="up")
TABLE.add(
    "convolution",
    TRANSPOSED | {"valid": {"paddingAmounts": border((1, 0), (2, 1))}},
    X,
    lambda x: up(x, 1, 0, 2, 1),
    about="up-padded",
)
# 7 * 2 + 1 rows and 8 * 3 + 1 columns: one too many of each for SamePadding.
TABLE.add("convolution", TRANSPOSED | {"same": {}}, X, lambda x: up(x, 0, 1, 0, 1), about="up-same")
TABLE.add(
    "convolution",
    TRANSPOSED | {"same": {"asymmetryMode": "TOP_LEFT_HEAVY"}},
    X,
    lambda x: up(x, 1, 0, 1, 0),
    about="up-same-lower",
)
TABLE.add(
    "convolution",
    TRANSPOSED | {"valid": {}, "outputShape": [12, 22]},
    X,
    lambda x: up(x, 1, 2, 1, 2),
    about="up-to-a-shape",
)
K1 = normal(4, 6, 1, 1, seed=6)
TABLE.add(
    "convolution",
    {"outputChannels": 6, "kernelChannels": 4, "kernelSize": [1, 1], "stride": [2, 2]}
    | {"isDeconvolution": True, "same": {}, "weights": weights(K1)}
    | {"hasBias": True, "bias": weights(V)},
    X,
    lambda x: (
        np.pad(deconv(x, K1, strides=[2, 2]), [(0, 0), (0, 0), (0, 1), (0, 1)])
        + V.reshape(-1, 1, 1)
    ),
    about="up-same-small-kernel",
)
X3 = normal(1, 4, 5, 6, 4)
W3, B3 = normal(6, 2, 2, 3, 2, seed=7), normal(6, seed=8)
SIZE3 = {"kernelDepth": 2, "kernelHeight": 3, "kernelWidth": 2}
VOLUME = {"outputChannels": 6, "inputChannels": 4, "nGroups": 2, **SIZE3, "hasBias": True}
VOLUME |= {"weights": weights(W3), "bias": weights(B3)}
THREE = [1, 1, 1]
TABLE.add(
    "convolution3d",
    VOLUME | {"paddingType": "VALID", "dilationHeight": 2},
    X3,
    lambda x: conv(x, W3, B3, strides=THREE, pads=[(0, 0)] * 3, dilations=[1, 2, 1], groups=2),
)
TABLE.add(
    "convolution3d",
    VOLUME | {"paddingType": "SAME", "strideDepth": 2},
    X3,
    lambda x: conv(
        x,
        W3,
        B3,
        strides=[2, 1, 1],
        pads=[amounts_same(5, 2, 2), amounts_same(6, 3, 1), amounts_same(4, 2, 1)],
        groups=2,
    ),
    about="same",
)
TABLE.add(
    "convolution3d",
    VOLUME | {"paddingType": "CUSTOM", "customPaddingFront": 1, "customPaddingRight": 2},
    X3,
    lambda x: conv(x, W3, B3, strides=THREE, pads=[(1, 0), (0, 0), (0, 2)], groups=2),
    about="padded",
)
U3 = normal(6, 4, 2, 3, 2, seed=9)
TABLE.add(
    "convolution3d",
    {"outputChannels": 6, "inputChannels": 4, **SIZE3, "strideWidth": 2, "isDeconvolution": True}
    | {"paddingType": "VALID", "weights": weights(U3), "hasBias": True, "bias": weights(B3)},
    X3,
    lambda x: deconv(x, U3.swapaxes(0, 1), strides=[1, 1, 2]) + B3.reshape(-1, 1, 1, 1),
    about="up",
)

# -- pooling -------------------------------------------------------------------------------------
P = normal(2, 3, 7, 9, seed=10)
POOL = {"kernelSize": [3, 2], "stride": [2, 3]}
LENGTH = {"MAX": np.nanmax, "AVERAGE": np.nanmean, "L2": lambda v, a: np.sqrt(np.nansum(v**2, a))}
for _type, _body in LENGTH.items():
    TABLE.add(
        "pooling",
        POOL | {"type": _type, "valid": {}},
        P,
        lambda x, body=_body: pooled(x, [3, 2], [2, 3], NONE, lambda v: body(v, -1)),
        about=_type.lower(),
    )
    TABLE.add(
        "pooling",
        {"type": _type, "globalPooling": True, "valid": {}},
        P,
        lambda x, body=_body: body(x.reshape(2, 3, -1), -1)[..., None, None],
        about=f"{_type.lower()}-global",
    )
    TABLE.add(
        "pooling",
        POOL | {"type": _type, "same": {}, "avgPoolExcludePadding": True},
        P,
        lambda x, body=_body: pooled(
            x,
            [3, 2],
            [2, 3],
            [amounts_same(7, 3, 2), amounts_same(9, 2, 3)],
            lambda v: body(v, -1),
        ),
        about=f"{_type.lower()}-same",
    )
TABLE.add(
    "pooling",
    POOL | {"type": "AVERAGE", "valid": {"paddingAmounts": border((1, 2), (1, 0))}},
    P,
    lambda x: pooled(x, [3, 2], [2, 3], [(1, 2), (1, 0)], lambda v: v.mean(-1), fill=0),
    about="average-padded",
)
TABLE.add(
    "pooling",
    POOL
    | {"type": "AVERAGE", "valid": {"paddingAmounts": border((1, 2), (1, 0))}}
    | {"avgPoolExcludePadding": True},
    P,
    lambda x: pooled(x, [3, 2], [2, 3], [(1, 2), (1, 0)], lambda v: np.nanmean(v, -1)),
    about="average-padding-excluded",
)


def last_pixel(
    x: Any, body: Any, pad: int, fill: float = np.nan, by: Any = ((3, 2), (2, 3))
) -> Any:
    """Windows by kernel and stride, the last of which takes in the last pixel."""
    (height, width), strides = by
    pads, counts = [], []
    for n, k, s in zip(x.shape[2:], (height, width), strides, strict=True):
        out = -(-(n + 2 * pad - k) // s) + 1
        out -= int(pad > 0 and (out - 1) * s >= n + pad)
        counts.append(out)
        pads.append((out - 1) * s + k - n - pad)
    # What lies behind the padding counts for no window.
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)], constant_values=fill)
    more = [(0, max(p - pad, 0)) for p in pads]
    made = pooled(x, (height, width), strides, more, body)
    return made[:, :, : counts[0], : counts[1]]


TABLE.add(
    "pooling",
    {"kernelSize": [3, 3], "stride": [2, 2], "includeLastPixel": {}},
    normal(2, 3, 8, 9),
    lambda x: last_pixel(x, lambda v: np.nanmax(v, -1), 0, by=((3, 3), (2, 2))),
    about="max-last-pixel",
)
PADDED = POOL | {"includeLastPixel": {"paddingAmounts": [1, 1]}}
TABLE.add(
    "pooling", PADDED | {"type": "MAX"}, P, lambda x: last_pixel(x, lambda v: np.nanmax(v, -1), 1),
    about="max-last-pixel-padded",
)  # fmt: skip
TABLE.add(
    "pooling",
    PADDED | {"type": "AVERAGE"},
    P,
    lambda x: last_pixel(x, lambda v: np.nanmean(v, -1), 1, fill=0),
    about="average-last-pixel-padded",
)
TABLE.add(
    "pooling",
    PADDED | {"type": "AVERAGE", "avgPoolExcludePadding": True},
    P,
    lambda x: last_pixel(x, lambda v: np.nanmean(v, -1), 1),
    about="average-last-pixel-excluded",
)
POOL3 = SIZE3 | {"strideDepth": 2, "strideHeight": 1, "strideWidth": 2}
for _type in ("MAX", "AVERAGE"):
    TABLE.add(
        "pooling3d",
        POOL3 | {"type": _type, "paddingType": "VALID"},
        X3,
        lambda x, body=LENGTH[_type]: pooled(
            x, [2, 3, 2], [2, 1, 2], [(0, 0)] * 3, lambda v: body(v, -1)
        ),
        about=_type.lower(),
    )
    TABLE.add(
        "globalPooling3d",
        {"type": _type},
        X3,
        lambda x, body=LENGTH[_type]: body(x.reshape(1, 4, -1), -1)[..., None, None, None],
        about=_type.lower(),
    )
TABLE.add(
    "pooling3d",
    POOL3 | {"type": "AVERAGE", "customPaddingTop": 1, "customPaddingBack": 1},
    X3,
    lambda x: pooled(
        x, [2, 3, 2], [2, 1, 2], [(0, 1), (1, 0), (0, 0)], lambda v: v.mean(-1), fill=0
    ),
    about="padded",
)
TABLE.add(
    "pooling3d",
    POOL3 | {"type": "AVERAGE", "paddingType": "SAME", "countExcludePadding": True},
    X3,
    lambda x: pooled(
        x,
        [2, 3, 2],
        [2, 1, 2],
        [amounts_same(5, 2, 2), amounts_same(6, 3, 1), amounts_same(4, 2, 2)],
        lambda v: np.nanmean(v, -1),
    ),
    about="same-excluded",
)
