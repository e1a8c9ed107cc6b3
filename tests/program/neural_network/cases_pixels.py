"""Cases of layers for images that keep their channels: normalization, resizing, cutting."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.classic import Cases, border, normal, positive, weights
from tests.support.classic_math import grid, resized, taken

TABLE = Cases()
X = normal(2, 4, 7, 8)

# -- normalization -------------------------------------------------------------------------------
GAMMA, BETA, MEAN, VARIANCE = normal(4), normal(4, seed=1), normal(4, seed=2), positive(4)
NORM = {"channels": 4, "gamma": weights(GAMMA), "beta": weights(BETA)}


def each(values: Any) -> Any:
    """A number per channel."""
    return values.reshape(-1, 1, 1)


def normalized(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """Mean 0, variance 1 over axes."""
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


TABLE.add(
    "batchnorm",
    NORM | {"mean": weights(MEAN), "variance": weights(VARIANCE), "epsilon": 0.01},
    X,
    lambda x: (x - each(MEAN)) / np.sqrt(each(VARIANCE) + 0.01) * each(GAMMA) + each(BETA),
)
TABLE.add(
    "batchnorm",
    NORM | {"computeMeanVar": True, "instanceNormalization": True},
    X,
    lambda x: normalized(x, (2, 3), 1e-5) * each(GAMMA) + each(BETA),
    about="instance",
)
TABLE.add(
    "batchnorm",
    NORM | {"computeMeanVar": True, "epsilon": 0.1},
    X,
    lambda x: normalized(x, (0, 2, 3), 0.1) * each(GAMMA) + each(BETA),
    about="batch",
)
for _across, _axes in ((False, (-2, -1)), (True, (-3, -2, -1))):
    TABLE.add(
        "mvn",
        {"acrossChannels": _across, "normalizeVariance": True, "epsilon": 0.01},
        X,
        lambda x, axes=_axes: normalized(x, axes, 0.01),
        about="across" if _across else "within",
    )
TABLE.add("mvn", {}, X, lambda x: x - x.mean((-2, -1), keepdims=True), about="mean-only")
TABLE.add(
    "l2normalize",
    {"epsilon": 0.5},
    X,
    lambda x: x / np.sqrt((x.astype(np.float64) ** 2).sum((-3, -2, -1), keepdims=True) + 0.5),
)


def response(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    """Local response normalization across channels."""
    square, half = x.astype(np.float64) ** 2, size // 2
    sums = [square[:, max(c - half, 0) : c + half + 1].sum(1) for c in range(x.shape[1])]
    return x / (k + alpha / size * np.stack(sums, 1)) ** beta


TABLE.add(
    "lrn",
    {"alpha": 0.7, "beta": 0.6, "localSize": 3, "k": 1.5},
    X,
    lambda x: response(x, 3, 0.7, 0.6, 1.5),
)
G2, B2 = normal(7, 8, seed=1), normal(7, 8, seed=2)
TABLE.add(
    "layerNormalization",
    {"normalizedShape": [7, 8], "eps": 0.01, "gamma": weights(G2), "beta": weights(B2)},
    X,
    lambda x: normalized(x, (-2, -1), 0.01) * G2 + B2,
)

# -- resizing and cutting ------------------------------------------------------------------------
TABLE.add(
    "upsample",
    {"scalingFactor": [2, 3]},
    X,
    lambda x: x.repeat(2, -2).repeat(3, -1),
    about="nearest",
)
for _mode, _name in (
    ("DEFAULT", "upsample"),
    ("ALIGN_CORNERS_TRUE", "strict"),
    ("ALIGN_CORNERS_FALSE", "half"),
):
    TABLE.add(
        "upsample",
        {"scalingFactor": [2, 3], "mode": "BILINEAR", "linearUpsampleMode": _mode},
        X,
        lambda x, name=_name: resized(x, 14, 24, name),
        about=_mode.lower(),
    )
TABLE.add(
    "upsample",
    {"fractionalScalingFactor": [1.5, 2.25], "mode": "BILINEAR"}
    | {"linearUpsampleMode": "ALIGN_CORNERS_TRUE"},
    X,
    lambda x: resized(x, 10, 18, "strict"),
    about="fractional",
)
MODES = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "strict",
    "ALIGN_ENDPOINTS_MODE": "aligned",
    "UPSAMPLE_MODE": "upsample",
    "ROI_ALIGN_MODE": "roi",
}
for _mode, _name in MODES.items():
    for _size in ((5, 11), (1, 1)):
        TABLE.add(
            "resizeBilinear",
            {"targetSize": _size, "mode": {"samplingMethod": _mode}},
            X,
            lambda x, size=_size, name=_name: resized(x, *size, name),
            about=f"{_name}-{_size[0]}",
        )
BOXES = np.array([[1, 2, 5, 6], [0.5, 0, 3.5, 7]], np.float32)


def cropped(x: Any, boxes: Any, mode: str) -> Any:
    """Boxes [N, 4] of corners, height first, of images [B, C, H, W] in 3 x 4."""
    made = []
    for top, left, bottom, right in boxes:
        rows = top + grid_in(bottom - top, 3, mode)
        columns = left + grid_in(right - left, 4, mode)
        made.append(taken(taken(x.astype(np.float64), rows, 2), columns, 3))
    return np.stack(made)


def grid_in(extent: float, out: int, mode: str) -> Any:
    """Places in an interval of that extent."""
    return grid(extent + 1, out, mode)


CROP = {"targetSize": [3, 4], "mode": {"samplingMethod": "STRICT_ALIGN_ENDPOINTS_MODE"}}
TABLE.add(
    "cropResize",
    CROP | {"boxIndicesMode": {"boxMode": "CORNERS_HEIGHT_FIRST"}},
    (X[None], BOXES.reshape(2, 1, 4, 1, 1)),
    lambda x, b: cropped(x[0], b.reshape(-1, 4), "strict"),
    about="corners",
)
TABLE.add(
    "cropResize",
    CROP | {"boxIndicesMode": {"boxMode": "CENTER_SIZE_WIDTH_FIRST"}, "spatialScale": 0.5},
    (X[None], np.array([[8, 6, 8, 8], [7, 4, 14, 6]], np.float32).reshape(2, 1, 4, 1, 1)),
    lambda x, _b: cropped(x[0], BOXES, "strict"),
    about="centres",
)
TABLE.add(
    "cropResize",
    CROP | {"normalizedCoordinates": True, "boxIndicesMode": {"boxMode": "CORNERS_WIDTH_FIRST"}},
    (
        X[None],
        np.array(
            [[1, 2 / 7, 1 / 6, 6 / 7, 5 / 6], [0, 0, 0.5 / 6, 1, 3.5 / 6]], np.float32
        ).reshape(2, 1, 5, 1, 1),
    ),
    lambda x, _b: np.stack([cropped(x[0], BOXES, "strict")[i, 1 - i] for i in (0, 1)])[:, None],
    about="by-image",
)
PAD = {"paddingAmounts": border((2, 1), (0, 3))}
REST = [(0, 0), (0, 0), (2, 1), (0, 3)]
TABLE.add(
    "padding",
    PAD | {"constant": {"value": 0.5}},
    X,
    lambda x: np.pad(x, REST, constant_values=0.5),
    about="constant",
)
TABLE.add(
    "padding", PAD | {"reflection": {}}, X, lambda x: np.pad(x, REST, "reflect"), about="reflect"
)
TABLE.add("padding", PAD | {"replication": {}}, X, lambda x: np.pad(x, REST, "edge"), about="edge")
TABLE.add("crop", {"cropAmounts": border((1, 2), (0, 3))}, X, lambda x: x[..., 1:5, :5])
TABLE.add(
    "crop",
    {"offset": [1, 2]},
    (X, normal(2, 4, 3, 5)),
    lambda x, _like: x[..., 1:4, 2:7],
    about="like",
)


def blocks(x: Any, n: int) -> Any:
    """Space to depth: within a block, rows first; channels of one place of the block together."""
    b, c, h, w = x.shape
    split = x.reshape(b, c, h // n, n, w // n, n).transpose(0, 3, 5, 1, 2, 4)
    return split.reshape(b, n * n * c, h // n, w // n)


def spread(x: Any, n: int) -> Any:
    """Depth to space, the reverse of ``blocks``."""
    b, c, h, w = x.shape
    split = x.reshape(b, n, n, c // n**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return split.reshape(b, c // n**2, h * n, w * n)


def shuffled(x: Any, n: int) -> Any:
    """PIXEL_SHUFFLE: the channels of one output channel together."""
    b, c, h, w = x.shape
    split = x.reshape(b, c // n**2, n, n, h, w).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(b, c // n**2, h * n, w * n)


D = normal(2, 8, 4, 6, seed=12)
for _mode, _body in (
    ("SPACE_TO_DEPTH", blocks),
    ("DEPTH_TO_SPACE", spread),
    ("PIXEL_SHUFFLE", shuffled),
):
    TABLE.add(
        "reorganizeData",
        {"mode": _mode, "blockSize": 2},
        D,
        lambda x, body=_body: body(x, 2),
        about=_mode.lower(),
    )
