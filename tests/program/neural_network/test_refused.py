"""Classic networks that cannot be: each is one error that names the layer and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from tests.support.classic import (
    save,
    single,
)


def test_a_custom_layer_is_refused_by_its_name_and_class(tmp_path: Path) -> None:
    layers = [("custom", {"className": "Swirl"}, ["x"], ["y"])]
    spec = single(layers, {"x": (3,)}, ["y"])
    with pytest.raises(ModelError, match=r"layer 'y' \(custom\): .*class 'Swirl'") as caught:
        cl.load(save(spec, tmp_path))
    assert "the app" in caught.value.hint


BROKEN: dict[str, tuple[Any, str]] = {
    "a value that nothing makes": (("add", {"alpha": 1}, ["z"], ["y"]), "reads 'z'"),
    "too many inputs": (("softmax", {}, ["x", "x"], ["y"]), "2 inputs"),
    "too many outputs": (("softmaxND", {"axis": 0}, ["x"], ["y", "z"]), "2 outputs"),
    "an axis that is none": (("gather", {"axis": 5}, ["x", "x"], ["y"]), "axis 5"),
    "too few axes": (("softmax", {}, ["x"], ["y"]), "1 axes"),
    "more numbers than there can be": (
        ("fillStatic", {"targetShape": [10**6, 10**6]}, [], ["y"]),
        "1000000000000 numbers",
    ),
    "a range without end": (
        ("rangeStatic", {"endValue": 1e30, "stepSizeValue": 1e-30}, [], ["y"]),
        "numbers; at most",
    ),
    "a step of nothing": (("rangeStatic", {"endValue": 5}, [], ["y"]), "step is 0"),
    "shapes that do not meet": (
        ("reshapeStatic", {"targetShape": [7]}, ["x"], ["y"]),
        r"layer 'y' \(reshapeStatic\)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_layer_that_cannot_be_is_refused_by_its_name_and_type(name: str, tmp_path: Path) -> None:
    layer, told = BROKEN[name]
    with pytest.raises(ModelError, match=told) as caught:
        cl.load(save(single([layer], {"x": (3,)}, ["y"]), tmp_path))
    assert "net.mlmodel: layer 'y'" in str(caught.value)


def test_an_output_that_nothing_makes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'z'"):
        cl.load(save(single([("add", {}, ["x"], ["y"])], {"x": (3,)}, ["z"]), tmp_path))


def test_a_layer_of_a_type_that_is_not_known_is_refused(tmp_path: Path) -> None:
    spec = single([("add", {}, ["x"], ["y"])], {"x": (3,)}, ["y"])
    spec.neuralNetwork.layers[0].ClearField("add")
    with pytest.raises(ModelError, match="no such layer type"):
        cl.load(save(spec, tmp_path))
