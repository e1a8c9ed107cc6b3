"""Resizing: the documented grids, what coremltools' own tests expect, and flexible sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime
import pytest

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array, Dim, Graph, Node, TensorType, Value
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.grids import LINEAR, MODES, NEAREST, between, nearest
from coreml_lab.program.ops.samples import normal
from coreml_lab.run.lowering.graph import lower

REAL, INT = np.dtype(np.float32), np.dtype(np.int32)
SIZES = (1, 2, 3, 5, 8, 16)


def documented(n: int, m: int, mode: str) -> list[float]:
    """Grid points by the formulas in coremltools' documentation of resize_bilinear."""
    if mode == "ALIGN_CORNERS" and m == 1:
        return [(n - 1) / 2]
    offset, spacing = 0.0, 0.0
    if mode in {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"}:
        spacing = (n - 1) / (m - 1) if m > 1 else 0.0
    elif mode == "DEFAULT":
        spacing = (n - n / m) / (m - 1) if m > 1 else 0.0
    elif mode == "OFFSET_CORNERS":
        delta = max(1, n - 1) / m
        offset, spacing = 0.5 * delta, delta
    else:
        spacing = n / m
        offset = 0.5 * spacing - 0.5
    return [min(n - 1, max(0, offset + i * spacing)) for i in range(m)]


@pytest.mark.parametrize("mode", MODES)
def test_every_grid_follows_the_documented_formula(mode: str) -> None:
    for n in SIZES:
        for m in SIZES:
            low, high, part = between(n, m, mode)
            want = documented(n, m, mode)
            np.testing.assert_allclose(low + part, want, atol=1e-6)
            assert (high <= n - 1).all()
            assert (low >= 0).all()


def test_the_grids_are_those_of_the_documentations_example() -> None:
    line = np.array([[[0.0, 1.0]]], np.float32)
    rows = {
        "UNALIGN_CORNERS": [0.0, 0.1, 0.5, 0.9, 1.0],
        "ALIGN_CORNERS": [0.0, 0.25, 0.5, 0.75, 1.0],
        "DEFAULT": [0.0, 0.4, 0.8, 1.0, 1.0],
        "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    for mode, row in rows.items():
        y = OPS["resize_bilinear"].reference(line, target_size_width=5, sampling_mode=mode)
        np.testing.assert_allclose(y[0, 0], row, atol=1e-6)


def test_nearest_copies_what_coremltools_own_tests_expect() -> None:
    x = np.array([-6.174, 9.371], np.float32).reshape(1, 1, 2, 1)
    y = OPS["resize"].reference(x, [1, 1, 3, 2], resized_dims=2, interpolation_mode=NEAREST)
    np.testing.assert_array_equal(y[0, 0, :, 0], x[0, 0, [0, 1, 1], 0])
    z = OPS["resize_nearest_neighbor"].reference(x, target_size_height=3, target_size_width=2)
    np.testing.assert_array_equal(z, y)


def test_nearest_takes_the_element_whose_middle_is_closest() -> None:
    for n in SIZES:
        for m in SIZES:
            want = [math.floor((2 * i + 1) * n / (2 * m)) for i in range(m)]
            assert nearest(n, m, "DEFAULT").tolist() == want


def test_flags_that_exclude_one_another_are_refused() -> None:
    with pytest.raises(UnsupportedOp, match="exclude one another"):
        OPS["upsample_bilinear"].reference(normal(1, 1, 2, 2), half_pixel_centers=True)


def onnx_runtime(graph: Graph, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(
        lower(graph).model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, feeds)[0])


def value(name: str, *shape: int | Dim, dtype: np.dtype[Any] = REAL) -> Value:
    return Value(Node("input", (TensorType(shape, dtype),), name=name))


@pytest.mark.parametrize("how", [LINEAR, NEAREST])
@pytest.mark.parametrize("mode", MODES)
def test_flexible_images_are_resized_to_sizes_fed_at_run_time(mode: str, how: str) -> None:
    n, h, w = Dim("n"), Dim("h"), Dim("w")
    x, shape = value("x", n, 2, h, w), value("shape", 2, dtype=INT)
    attrs = {"resized_dims": 2, "interpolation_mode": how, "sampling_mode": mode}
    out = TensorType((n, 2, Dim("p"), Dim("q")), REAL)
    graph = Graph({"y": Value(Node("resize", (out,), {"x": x, "shape": shape}, attrs))})
    for image, wanted in (((1, 2, 4, 3), (7, 1)), ((2, 2, 5, 1), (2, 4)), ((1, 2, 3, 3), (0, 6))):
        feeds = {"x": normal(*image), "shape": np.array(wanted, np.int32)}
        np.testing.assert_allclose(
            onnx_runtime(graph, feeds), OPS["resize"].reference(**feeds, **attrs), atol=1e-5
        )


UPSAMPLED = [
    ("resize_bilinear", {"target_size_height": 1, "target_size_width": 5, "sampling_mode": mode})
    for mode in MODES
] + [
    ("resize_nearest_neighbor", {"target_size_height": 3, "target_size_width": 5}),
    ("upsample_nearest_neighbor", {"scale_factor_height": 2, "scale_factor_width": 1.5}),
    ("upsample_bilinear", {"scale_factor_height": 2, "scale_factor_width": 1.5}),
    ("upsample_bilinear", {"scale_factor_height": 0.5, "align_corners": False}),
]


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("name", "attrs"), UPSAMPLED)
def test_flexible_images_are_resized_by_constants(
    name: str, attrs: dict[str, Any], lead: tuple[int, ...]
) -> None:
    n, h, w = Dim("n"), Dim("h"), Dim("w")
    out = TensorType(
        (
            *lead,
            n,
            attrs.get("target_size_height", Dim("p")),
            attrs.get("target_size_width", Dim("q")),
        ),
        REAL,
    )
    graph = Graph({"y": Value(Node(name, (out,), {"x": value("x", *lead, n, h, w)}, attrs))})
    for image in ((1, 4, 3), (2, 6, 2), (0, 2, 2)):
        feeds = {"x": normal(*lead, *image)}
        np.testing.assert_allclose(
            onnx_runtime(graph, feeds), OPS[name].reference(**feeds, **attrs), atol=1e-5
        )
