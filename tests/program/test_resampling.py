"""Sampling at points and cutting out boxes: values of coremltools' own tests, old forms, sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Array, Dim, Graph, Node, TensorType, Value
from coreml_lab.program.mil.tools import ct, mb, quiet
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.resampling import COORDINATES, FIXED, PADDINGS
from coreml_lab.program.ops.samples import normal, unit
from coreml_lab.run.lowering.graph import lower
from tests.support.converting import convert

REAL = np.dtype(np.float32)
SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
# Boxes, target size, constants, and what coremltools' tests expect of Core ML.
EXPECTED: dict[str, tuple[list[float], int, dict[str, Any], list[float]]] = {
    "whole pixels": ([1, 1, 2, 2], 2, {}, [6, 7, 10, 11]),
    "one pixel": ([1, 1, 2, 2], 1, {}, [8.5]),
    "parts": ([0, 0, 1 / 3, 1 / 3], 2, {"normalized_coordinates": True}, [1, 2, 5, 6]),
    "mirrored": ([2, 2, 1, 1], 2, {}, [11, 10, 7, 6]),
}


@pytest.mark.parametrize(("box", "side", "attrs", "want"), EXPECTED.values(), ids=EXPECTED)
def test_boxes_give_what_coremltools_own_tests_expect(
    box: list[float], side: int, attrs: dict[str, Any], want: list[float]
) -> None:
    got = OPS["crop_resize"].reference(
        SQUARE,
        np.array([box], np.float32),
        target_height=side,
        target_width=side,
        sampling_mode="ALIGN_CORNERS",
        **attrs,
    )
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-6)


def saved(folder: Path, opset: str, body: Any, **shapes: tuple[int, ...]) -> Path:
    """A package with a program of that opset."""
    target = getattr(ct.target, opset)
    specs = [mb.TensorSpec(shape=s) for s in shapes.values()]
    with quiet():
        program = mb.program(input_specs=specs, opset_version=target)(body)
        model = convert(
            program,
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        model.save(str(folder / "old.mlpackage"))
    return folder / "old.mlpackage"


def both(package: Path, feeds: dict[str, Array]) -> list[Array]:
    model = cl.load(package)
    return [next(iter(arm.predict(feeds).values())) for arm in (model, model.to("cpu"))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", ["iOS15", "iOS16"])
def test_old_boxes_are_cut_out_of_every_image(opset: str, tmp_path: Path) -> None:
    def body(x: Any, roi: Any) -> Any:
        return mb.crop_resize(x=x, roi=roi, target_height=2, target_width=3)

    package = saved(tmp_path, opset, body, x=(2, 3, 4, 5), roi=(3, 1, 4, 1, 1))
    x, boxes = normal(2, 3, 4, 5), np.array([[0, 0, 3, 4], [1, 0.5, 2, 3], [2, 2, 3, 1]])
    boxes = boxes.astype(np.float32)
    for got in both(package, {"x": x, "roi": boxes.reshape(3, 1, 4, 1, 1)}):
        assert got.shape == (3, 2, 3, 2, 3)
        for image in range(2):
            want = OPS["crop_resize"].reference(
                x, boxes, np.full(3, image), target_height=2, target_width=3
            )
            np.testing.assert_allclose(got[:, image], want, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_old_boxes_may_name_their_image(tmp_path: Path) -> None:
    roi = np.array([[1, 0, 0, 3, 4], [0, 1, 0.5, 5, 3]], np.float32)

    def body(x: Any) -> Any:
        # The rank of the result is what Core ML gives; MIL says two images where there is one.
        return mb.crop_resize(
            x=x, roi=roi.reshape(2, 1, 5, 1, 1), target_height=3, pad_value=np.float32(7)
        )

    x = normal(2, 3, 4, 5)
    for got in both(saved(tmp_path, "iOS16", body, x=x.shape), {"x": x}):
        want = OPS["crop_resize"].reference(
            x, roi[:, 1:], np.array([1, 0]), target_height=3, pad_value=7
        )
        assert got.shape == (2, 1, 3, 3, 1)
        np.testing.assert_allclose(got[:, 0], want, atol=1e-5)


def test_a_point_beyond_the_image_is_padded_whole() -> None:
    got = OPS["crop_resize"].reference(
        SQUARE, np.array([[0, 3, 0, 4]], np.float32), target_width=3, pad_value=-1
    )
    np.testing.assert_array_equal(got.ravel(), [4, -1, -1])


def padded(line: Array, padding: str, at: int) -> float:
    """Element ``at`` of the line that goes on for ever, as the documentation draws it."""
    n = len(line)
    mirror = [*range(n), *range(n - 2, 0, -1)]
    doubled = [*range(n), *range(n - 1, -1, -1)]
    index = {
        "constant": at if 0 <= at < n else -1,
        "border": min(max(at, 0), n - 1),
        "reflection": mirror[at % len(mirror)],
        "symmetric": doubled[at % len(doubled)],
    }[padding]
    return float(line[index]) if index >= 0 else 9.0


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("padding", PADDINGS)
def test_what_lies_beyond_the_image_is_as_documented(padding: str, n: int, sampling: str) -> None:
    line = np.arange(1, n + 1, dtype=np.float32)
    places = np.arange(-8, 9)
    points = np.stack([places, 0 * places], -1).reshape(1, 1, -1, 2).astype(np.float32)
    got = OPS["resample"].reference(
        line.reshape(1, 1, 1, n),
        points,
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=9.0,
        coordinates_mode="unnormalized",
        align_corners=True,
    )
    assert got.ravel().tolist() == [padded(line, padding, int(at)) for at in places]


def test_an_affine_map_to_a_single_pixel_looks_at_the_middle() -> None:
    same = np.array([[1, 0, 0, 0, 1, 0]], np.float32)
    got = OPS["affine"].reference(
        SQUARE, same, output_height=1, output_width=1, align_corners=True, **FIXED
    )
    assert got.item() == 8.5


def value(name: str, *shape: int | Dim) -> Value:
    return Value(Node("input", (TensorType(shape, REAL),), name=name))


def onnx_runtime(op: str, inputs: dict[str, Value], attrs: dict[str, Any], feeds: Any) -> Array:
    b, c, h, w = (Dim(k) for k in "pqrs")
    graph = Graph({"y": Value(Node(op, (TensorType((b, c, h, w), REAL),), inputs, attrs))})
    session = onnxruntime.InferenceSession(
        lower(graph).model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, feeds)[0])


FLEXIBLE = (Dim("b"), 2, Dim("h"), Dim("w"))
IMAGES = ((1, 2, 4, 3), (3, 2, 1, 6))


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_flexible_images_are_sampled_at_points(padding: str, coordinates: str) -> None:
    attrs = {"sampling_mode": "bilinear", "padding_mode": padding, "padding_value": 2.5}
    attrs |= {"coordinates_mode": coordinates, "align_corners": False}
    inputs = {"x": value("x", *FLEXIBLE), "coordinates": value("at", Dim("b"), Dim("m"), 5, 2)}
    for shape in IMAGES:
        x, at = normal(*shape), unit(shape[0], 2, 5, 2) * np.float32(3)
        np.testing.assert_allclose(
            onnx_runtime("resample", inputs, attrs, {"x": x, "at": at}),
            OPS["resample"].reference(x, at, **attrs),
            atol=1e-5,
        )


def test_flexible_images_are_seen_through_an_affine_map() -> None:
    attrs = {"output_height": 3, "output_width": 4, "align_corners": True, **FIXED}
    inputs = {"x": value("x", *FLEXIBLE), "transform_matrix": value("m", Dim("d"), 6)}
    for shape in IMAGES:
        for d in {1, shape[0]}:
            x, m = normal(*shape), unit(d, 6)
            np.testing.assert_allclose(
                onnx_runtime("affine", inputs, attrs, {"x": x, "m": m}),
                OPS["affine"].reference(x, m, **attrs),
                atol=1e-5,
            )


@pytest.mark.parametrize("normalized", [False, True])
def test_boxes_are_cut_out_of_flexible_images(normalized: bool) -> None:
    attrs = {"target_height": 3, "target_width": 2, "normalized_coordinates": normalized}
    boxes = np.array([[0, 0.1, 0.9, 0.7], [0.2, 0.3, 1, 1]], np.float32) * (1 if normalized else 2)
    at = np.array([0, 0], np.int32)
    for shape in IMAGES:
        x = normal(*shape)
        feeds = {"x": x, "boxes": boxes.astype(np.float32)}
        inputs = {"x": value("x", *FLEXIBLE), "boxes": value("boxes", Dim("n"), 4)}
        got = onnx_runtime("crop_resize", inputs, attrs | {"box_indices": at}, feeds)
        want = OPS["crop_resize"].reference(**feeds, box_indices=at, **attrs)
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_coordinates_that_are_no_numbers_or_huge_are_outside(padding: str, sampling: str) -> None:
    attrs = {"sampling_mode": sampling, "padding_mode": padding, "padding_value": 2.5}
    attrs |= {"coordinates_mode": "unnormalized", "align_corners": True}
    at = np.array([[np.nan, 0], [np.inf, 1], [-np.inf, 1], [1, 1e30], [4.5, 2]], np.float32)
    feeds = {"x": normal(1, 2, 4, 5), "at": at.reshape(1, 1, 5, 2)}
    inputs = {"x": value("x", *FLEXIBLE), "coordinates": value("at", 1, 1, 5, 2)}
    with np.errstate(invalid="ignore"):
        want = OPS["resample"].reference(*feeds.values(), **attrs)
    np.testing.assert_allclose(onnx_runtime("resample", inputs, attrs, feeds), want, atol=1e-5)
    if padding == "constant":
        assert (want[..., :4] == attrs["padding_value"]).all()
