"""What goes into Core ML and comes out: element types, pictures, labels, functions, one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Dim
from coreml_lab.program.mil.tools import ct, mb
from tests.support.native import Double
from tests.support.packages import picture_output, save
from tests.support.stateful import build

X = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 5, 3), np.uint8)


@pytest.mark.parametrize("dtype", ["int32", "int8", "bool", "fp32"])
def test_every_element_type_comes_back_as_declared(mac: Double, dtype: str) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.identity(x)}, x=cl.spec(3, dtype=dtype))
    values = np.array([0, 1, 1], model.inputs["x"].dtype)
    found = model.predict({"x": values})["y"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_scalars_and_flexible_shapes_pass(mac: Double) -> None:
    scalar = cl.compile(lambda x: {"y": cl.ops.add(x, 1.0)}, x=cl.spec())
    assert scalar.predict({"x": 2.0})["y"] == 3
    assert scalar.predict({"x": 2.0})["y"].shape == scalar.outputs["y"].shape
    flexible = cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(Dim("n", 1, 8), 3))
    for n in (1, 5, 2):
        assert flexible.predict({"x": np.ones((n, 3), np.float32)})["y"].shape == (n, 3)
    assert mac.worker.pid is not None


def pictures(folder: Path, colour: str) -> Path:
    layout = getattr(ct.colorlayout, colour)
    path = save(
        folder / "m.mlpackage",
        lambda x: mb.add(x=x, y=np.float32(-20.4), name="y"),
        [ct.ImageType("x", (1, 3, 4, 5), color_layout=layout)],
        (1, 3, 4, 5),
    )
    picture_output(path, colour, 5, 4)
    return path


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_images_go_in_and_come_out_as_pictures(mac: Double, tmp_path: Path, colour: str) -> None:
    path = pictures(tmp_path, colour)
    found = cl.load(path).predict({"x": PIXELS})["y"]
    wanted = cl.load(path, engine="portable").predict({"x": PIXELS})["y"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    assert mac.calls("predict") == [[{"x": "other"}]]


def test_a_classifier_gives_its_label_and_its_probabilities(mac: Double, tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        lambda x: mb.softmax(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False), name="p"),
        [ct.TensorType("x", (1, 3, 4, 5))],
        (1, 3, 4, 5),
        classifier_config=ct.ClassifierConfig(["cat", "dog", "eel"]),
    )
    x = {"x": PIXELS.transpose(2, 0, 1)[None] / np.float32(255)}
    found, wanted = cl.load(path).predict(x), cl.load(path, engine="portable").predict(x)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name] == (pytest.approx(value) if isinstance(value, dict) else value)
    assert len(mac.calls("predict")) == 1


def test_the_function_that_is_asked_for_runs(mac: Double, tmp_path: Path) -> None:
    both = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("one", 1), ("two", 2)):
        path = save(
            tmp_path / f"{name}.mlpackage",
            lambda x, factor=factor: mb.mul(x=x, y=np.float32(factor), name="y"),
            [ct.TensorType("x", (2, 8))],
            (2, 8),
        )
        both.add_function(str(path), "main", name)
    both.default_function_name = "one"
    path = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(both, str(path))
    for function, factor in ((None, 1), ("one", 1), ("two", 2)):
        found = cl.load(path, function=function).predict({"x": X})["y"]
        np.testing.assert_array_equal(found, X * factor)
    assert [call[1] for call in mac.calls("load")] == ["", "one", "two"]


def test_a_file_of_one_mlmodel_runs_too(mac: Double, tmp_path: Path) -> None:
    path = build(tmp_path, lambda x: mb.add(x=x, y=np.float32(1), name="y"), {"x": (2, 8)})
    file = tmp_path / "alone.mlmodel"
    file.write_bytes(next(path.rglob("*.mlmodel")).read_bytes())
    np.testing.assert_array_equal(cl.load(file).predict({"x": X})["y"], X + 1)
    assert len(mac.calls("predict")) == 1
