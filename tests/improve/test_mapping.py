"""Inputs and outputs of two models matched: by name, else by order and type."""

from __future__ import annotations

import numpy as np
import pytest

from coreml_lab.errors import InputError, NumericalError, UnknownParameter
from coreml_lab.improve.mapping import matched, pairing, read, tensors
from coreml_lab.program.graph import Dim, TensorType
from coreml_lab.records import PortInfo, ProgramInfo


def kind(*shape, dtype="float32"):
    return TensorType(shape, np.dtype(dtype))


def test_equal_names_go_first_and_the_rest_in_order():
    wanted = {"pixels": kind(1, 3), "mask": kind(1, 2, dtype="int64"), "x": kind(4)}
    given = {"x": kind(4), "image": kind(1, 3), "kept": kind(1, 2, dtype="int32")}
    assert pairing(wanted, given, "r.onnx", {}) == {"pixels": "image", "mask": "kept", "x": "x"}


def test_flexible_sizes_fit_and_halves_fit_wholes():
    wanted = {"a": kind(Dim("n"), 3, dtype="float16")}
    assert pairing(wanted, {"b": kind(7, 3)}, "r", {}) == {"a": "b"}


@pytest.mark.parametrize(
    "wanted",
    [
        {"a": kind(2, 4)},
        {"a": kind(2)},
        {"a": kind(2, 3, dtype="int32")},
        {"a": kind(2, 3), "b": kind(1)},
        {},
    ],
    ids=["size", "rank", "type", "more", "none"],
)
def test_what_cannot_be_matched_shows_both_sides(wanted):
    with pytest.raises(InputError, match=r"r\.onnx.*x: fp32\[2,3\]") as caught:
        pairing(wanted, {"x": kind(2, 3)}, "r.onnx", {})
    assert all(str(k) in caught.value.message for k in wanted.values())


def test_an_output_too_many_is_left_out_by_name_only():
    got, a, b = {"y": np.zeros(2)}, np.ones(2), np.ones((1, 2))
    assert matched(got, {"extra": a, "y": b}, "r", {}) == {"y": "y"}
    assert matched(got, {"other": a}, "r", {}) == {"y": "other"}
    with pytest.raises(NumericalError, match=r"r \(one: .*two: .*y: ") as caught:
        matched(got, {"one": a, "two": a}, "r", {})
    assert "names='y=one,…'" in caught.value.hint


def test_outputs_of_other_shapes_are_refused():
    with pytest.raises(NumericalError, match=r"\(2, 2\)"):
        matched({"y": np.zeros(4)}, {"y": np.zeros((2, 2))}, "r", {})


def test_names_that_are_given_go_before_equal_names_and_order():
    a, b = np.zeros(2), np.zeros(2)
    assert matched({"y": a, "z": b}, {"z": a, "w": b}, "r", {"y": "z"}) == {"y": "z", "z": "w"}
    with pytest.raises(UnknownParameter, match="no output of r 'v'") as caught:
        matched({"y": a}, {"z": a}, "r", {"y": "v"})
    assert caught.value.hint == "one of z"
    types = {"x": kind(1), "y": kind(1)}
    assert pairing(types, types, "r", {"x": "y"}) == {"x": "y", "y": "x"}


def test_names_are_also_read_from_text():
    assert read("y = Identity:0, z=b") == {"y": "Identity:0", "z": "b"}
    assert read({"y": "a"}) == {"y": "a"}
    assert read(None) == {}
    with pytest.raises(UnknownParameter, match="names="):
        read("y:Identity")


def test_images_and_probabilities_become_tensors_and_labels_are_left_out():
    ports = (
        PortInfo("picture", (1, 3, 2, 2), "fp32", "image", "BGR"),
        PortInfo("gray", (1, 1, 2, 2), "fp32", "image", "GRAYSCALE"),
        PortInfo("chances", (1, 2), "fp32", "dictionary"),
        PortInfo("label", (), "string", "label"),
    )
    info = ProgramInfo("m", "k", "", "fp32", (), ports, (), 0)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    outputs = {
        "picture": pixels,
        "gray": pixels[..., 0],
        "chances": {"cat": 0.25, "dog": 0.75},
        "label": "dog",
    }
    found = tensors(outputs, info)
    assert list(found) == ["picture", "gray", "chances"]
    assert found["picture"].shape == (1, 3, 2, 2)
    assert found["picture"][0, 0, 0, 0] == pixels[0, 0, 2]
    assert found["gray"].shape == (1, 1, 2, 2)
    assert found["chances"].tolist() == [0.25, 0.75]
