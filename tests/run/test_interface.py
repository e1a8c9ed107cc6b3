"""The border of a model: images, classifiers, defaults, enumerated shapes, functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name
from PIL import Image

import coreml_lab as cl
from coreml_lab.errors import InputError, ModelError
from coreml_lab.explain.agreement import agree
from coreml_lab.plain import from_plain, to_plain
from coreml_lab.records import ProgramInfo
from coreml_lab.run.simulated import noise, usual
from tests.support.converting import convert
from tests.support.packages import assert_same_when_compiled, identity, picture_output, save

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 5, 3), np.uint8)
PLANES = PIXELS.transpose(2, 0, 1)[None].astype(np.float32)


def image(colour: str, channels: int = 3, **options: Any) -> Any:
    return ct.ImageType(
        "x", shape=(1, channels, 4, 5), color_layout=getattr(ct.colorlayout, colour), **options
    )


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("give", [lambda p: p, Image.fromarray], ids=["numpy", "pillow"])
def test_a_colour_image_is_fed_in_the_models_order_scaled_by_the_program(
    tmp_path: Path, colour: str, give: Any
) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        identity,
        [image(colour, scale=0.5, bias=[1, 2, 3])],
        (1, 3, 4, 5),
    )
    found = cl.load(path).predict({"x": give(PIXELS)})["y"]
    planes = PLANES if colour == "RGB" else PLANES[:, ::-1]
    expected = planes * 0.5 + np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("p") / "net.mlpackage"
    return cl.load(save(path, identity, [image("RGB")], (1, 3, 4, 5)))


def test_a_gray_image_fills_all_channels_and_alpha_is_dropped(pictured: Any) -> None:
    gray = PIXELS[..., 0]
    found = pictured.predict({"x": gray})["y"]
    np.testing.assert_array_equal(found, np.repeat(gray[None, None], 3, axis=1))
    transparent = Image.fromarray(PIXELS).convert("RGBA")
    np.testing.assert_array_equal(pictured.predict({"x": transparent})["y"], PLANES)


def test_a_tensor_that_is_laid_out_already_passes(pictured: Any) -> None:
    np.testing.assert_array_equal(pictured.predict({"x": PLANES})["y"], PLANES)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (PIXELS[:, :2], "an image of 2 x 4 pixels, not 5 x 4", "image.resize((5, 4))"),
        (Image.new("RGB", (9, 4)), "an image of 9 x 4 pixels, not 5 x 4", "image.resize"),
        (PIXELS.astype(np.int32), "not int32 (4, 5, 3)", "uint8"),
        (PLANES[0], "not float32 (3, 4, 5)", "uint8"),
        (Image.new("F", (5, 4)), "mode 'F'", "RGB"),
        (PLANES[..., :2], "has shape (1, 3, 4, 2), not (1, 3, 4, 5)", "fp32"),
        ("cat.png", "float32", "astype"),
    ],
)
def test_what_is_no_such_image_is_one_error(
    pictured: Any, value: Any, message: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        pictured.predict({"x": value})
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "'x'" in caught.value.message


def test_grayscale_takes_the_luma_that_pillow_takes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlpackage", identity, [image("GRAYSCALE", 1)], (1, 1, 4, 5))
    model = cl.load(path)
    expected = np.asarray(Image.fromarray(PIXELS).convert("L"), np.float32)[None, None]
    for given in (PIXELS, Image.fromarray(PIXELS)):
        np.testing.assert_array_equal(model.predict({"x": given})["y"], expected)
    np.testing.assert_array_equal(
        model.predict({"x": PIXELS[..., 1]})["y"], PIXELS[None, None, ..., 1]
    )


def test_grayscale_fp16_takes_floats(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        identity,
        [image("GRAYSCALE_FLOAT16", 1)],
        (1, 1, 4, 5),
        dtype=ct.converters.mil.mil.types.fp16,
    )
    model = cl.load(path)
    values = np.linspace(-2, 2, 20, dtype=np.float32).reshape(4, 5)
    for given in (values, values.astype(np.float16), Image.fromarray(values)):
        found = model.predict({"x": given})["y"]
        np.testing.assert_array_equal(found[0, 0], values.astype(np.float16))


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_an_image_output_is_a_pillow_image_clipped_and_rounded(tmp_path: Path, colour: str) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        lambda x: mb.add(x=x, y=np.float32(-20.4), name="y"),
        [image(colour)],
        (1, 3, 4, 5),
    )
    picture_output(path, colour, 5, 4)
    model = cl.load(path)
    found = model.predict({"x": PIXELS})["y"]
    assert found.mode == "RGB"
    assert found.size == (5, 4)
    expected = np.clip(np.rint(PIXELS.astype(np.float32) - 20.4), 0, 255)
    np.testing.assert_array_equal(np.asarray(found), expected)
    assert model.info.outputs[0].colour == colour
    assert agree({"y": found}, {"y": found})[0].identical


def scores(x: Any) -> Any:
    return mb.softmax(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False), axis=-1, name="p")


@pytest.mark.parametrize("labels", [["cat", "dog", "eel"], [10, 20, 30]])
def test_a_classifier_gives_its_label_and_its_probabilities(
    tmp_path: Path, labels: list[Any]
) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        scores,
        [ct.TensorType("x", shape=(1, 3, 4, 5))],
        (1, 3, 4, 5),
        classifier_config=ct.ClassifierConfig(labels, predicted_feature_name="which"),
    )
    x = np.zeros((1, 3, 4, 5), np.float32)
    x[:, 1] = 2
    for _ in range(2):  # the second one comes from the cache
        model = cl.load(path)
        found = model.predict({"x": x})
        (chances,) = (v for k, v in found.items() if k != "which")
        assert found["which"] == labels[1]
        assert list(chances) == labels
        expected = np.exp([0, 2, 0]) / np.exp([0, 2, 0]).sum()
        np.testing.assert_allclose(list(chances.values()), expected, rtol=1e-6)
        assert list(model.outputs) == list(found)
    slow = model.to("cpu").predict({"x": x})
    assert slow["which"] == labels[1]
    assert [a.output for a in agree(found, slow)] == [k for k in found if k != "which"]


def test_a_list_of_inputs_gives_a_list_of_results(pictured: Any) -> None:
    found = pictured.predict([{"x": PIXELS}, {"x": PIXELS[::-1]}])
    assert len(found) == 2
    np.testing.assert_array_equal(found[1]["y"], PLANES[:, :, ::-1])
    assert pictured.predict([]) == []


def test_an_optional_input_that_is_left_out_has_its_default(tmp_path: Path) -> None:
    @mb.program(
        input_specs=[mb.TensorSpec((2, 3)), mb.TensorSpec((2, 3))], opset_version=ct.target.iOS17
    )
    def program(x: Any, bias: Any) -> Any:
        return mb.add(x=x, y=bias, name="y")

    path = tmp_path / "m.mlpackage"
    convert(
        program,
        inputs=[
            ct.TensorType("x", shape=(2, 3)),
            ct.TensorType("bias", shape=(2, 3), default_value=np.full((2, 3), 7, np.float32)),
        ],
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    ).save(str(path))
    model = cl.load(assert_same_when_compiled(path))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.predict({"x": x})["y"], x + 7)
    np.testing.assert_array_equal(model.predict({"x": x, "bias": x})["y"], x + 1)
    with pytest.raises(InputError, match="missing: x"):
        model.predict({"bias": x})
    with pytest.raises(InputError, match="unknown: z"):
        model.predict({"x": x, "z": x})


def test_enumerated_shapes_admit_only_those_listed(tmp_path: Path) -> None:
    shapes = ct.EnumeratedShapes([[1, 3, 4, 4], [1, 3, 8, 8]], default=[1, 3, 4, 4])
    size = [ct.converters.mil.mil.get_new_symbol() for _ in range(2)]
    path = save(
        tmp_path / "m.mlpackage",
        lambda x: mb.relu(x=x, name="y"),
        [ct.TensorType("x", shape=shapes)],
        (1, 3, *size),
    )
    model = cl.load(path)
    for side in (4, 8):
        x = np.ones((1, 3, side, side), np.float32)
        assert model.predict({"x": x})["y"].shape == x.shape
    for shape in ((1, 3, 6, 6), (1, 3, 4, 8)):
        with pytest.raises(InputError, match="enumerated shapes") as caught:
            model.predict({"x": np.ones(shape, np.float32)})
        assert caught.value.hint == "one of (1, 3, 4, 4), (1, 3, 8, 8)"
    made = noise(usual(model.inputs, model.info))
    assert model.predict(made)["y"].shape == (1, 3, 4, 4)
    with pytest.raises(InputError, match=r"not \(1, 3, 4…8, 4…8\)"):
        model.predict({"x": np.ones((1, 3, 9, 9), np.float32)})


def listed_together(tmp_path: Path, first: Any, second: Any) -> Path:
    @mb.program(
        input_specs=[mb.TensorSpec((1, ct.converters.mil.mil.get_new_symbol())) for _ in range(2)],
        opset_version=ct.target.iOS18,
    )
    def program(x: Any, y: Any) -> Any:
        sums = [mb.reduce_sum(x=v, axes=[1], keep_dims=False) for v in (x, y)]
        return mb.add(x=sums[0], y=sums[1], name="z")

    path = tmp_path / "m.mlpackage"
    convert(
        program,
        inputs=[
            ct.TensorType("x", shape=ct.EnumeratedShapes(first)),
            ct.TensorType("y", shape=ct.EnumeratedShapes(second)),
        ],
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    ).save(str(path))
    return path


def test_enumerated_shapes_of_several_inputs_go_together(tmp_path: Path) -> None:
    path = listed_together(tmp_path, [[1, 2], [1, 2], [1, 4]], [[1, 2], [1, 3], [1, 6]])
    model = cl.load(assert_same_when_compiled(path))
    for pair in ((2, 2), (2, 3), (4, 6)):
        fed = {n: np.ones((1, k), np.float32) for n, k in zip("xy", pair, strict=True)}
        assert model.predict(fed)["z"].tolist() == [sum(pair)]
    with pytest.raises(InputError, match="but not together") as caught:
        model.predict({"x": np.ones((1, 4), np.float32), "y": np.ones((1, 3), np.float32)})
    assert caught.value.hint == (
        "one of x (1, 2) with y (1, 2); x (1, 2) with y (1, 3); x (1, 4) with y (1, 6)"
    )


def test_an_optional_input_without_a_default_must_be_given(tmp_path: Path) -> None:
    def optional(described: Any) -> None:
        described.input[0].type.isOptional = True

    path = save(tmp_path / "m.mlpackage", identity, [ct.TensorType("x", shape=(2, 3))], (2, 3))
    with pytest.raises(InputError, match=r"missing: x \(optional, but the file keeps no default\)"):
        cl.load(rewritten(path, optional)).predict({})


def test_an_image_of_flexible_size_keeps_its_range(tmp_path: Path) -> None:
    height, width = (ct.RangeDim(4, 8, default=4) for _ in range(2))
    size = [ct.converters.mil.mil.get_new_symbol() for _ in range(2)]
    path = save(
        tmp_path / "m.mlpackage",
        lambda x: mb.relu(x=x, name="y"),
        [ct.ImageType("x", shape=(1, 3, height, width))],
        (1, 3, *size),
    )
    model = cl.load(path)
    made = noise(usual(model.inputs, model.info))
    assert made["x"].dtype == np.uint8
    assert model.predict(made)["y"].shape == (1, 3, 4, 4)
    assert model.predict({"x": PIXELS})["y"].shape == (1, 3, 4, 5)
    with pytest.raises(InputError, match="image of 5 x 2 pixels, not 4…8 x 4…8"):
        model.predict({"x": PIXELS[:2]})


def test_each_function_of_a_file_opens_with_its_own_interface(tmp_path: Path) -> None:
    shape = (1, 3, 4, 5)
    one = save(tmp_path / "a.mlpackage", identity, [image("BGR")], shape)
    two = save(
        tmp_path / "b.mlpackage",
        lambda x: mb.relu(x=x, name="z"),
        [ct.TensorType("x", shape=shape)],
        shape,
    )
    both = ct.utils.MultiFunctionDescriptor()
    both.add_function(str(one), "main", "seen")
    both.add_function(str(two), "main", "plain")
    both.default_function_name = "seen"
    path = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(both, str(path))
    assert_same_when_compiled(path)
    assert_same_when_compiled(path, "plain")
    seen, plain = cl.load(path), cl.load(path, function="plain")
    assert set(seen.functions) == {"seen", "plain"}
    np.testing.assert_array_equal(seen.predict({"x": PIXELS})["y"], PLANES[:, ::-1])
    np.testing.assert_array_equal(plain.predict({"x": -PLANES})["z"], np.zeros(shape))
    with pytest.raises(ModelError, match="has no function 'other'") as caught:
        cl.load(path, function="other")
    assert "seen" in caught.value.hint


def test_the_interface_survives_json(pictured: Any) -> None:
    info = pictured.info
    assert from_plain(ProgramInfo, json.loads(json.dumps(to_plain(info)))) == info
    assert info.inputs[0].kind == "image"
    old = to_plain(info)
    for row in (*old["inputs"], *old["outputs"]):
        for new in set(row) - {"name", "shape", "dtype"}:
            del row[new]
    del old["functions"], old["labels"]
    assert from_plain(ProgramInfo, old).inputs[0].shape == (1, 3, 4, 5)


@pytest.mark.parametrize("given", [PIXELS, "text", [PIXELS], None])
def test_inputs_that_are_no_dictionary_are_one_error(pictured: Any, given: Any) -> None:
    with pytest.raises(InputError, match="dictionary by name") as caught:
        pictured.predict(given)
    assert "predict({'x'" in caught.value.hint


def rewritten(path: Path, change: Any) -> Path:
    file = next(path.rglob("*.mlmodel"))
    spec = ct.utils.load_spec(str(file))
    change(spec.description)
    file.write_bytes(spec.SerializeToString())
    return path


def no_colour(described: Any) -> None:
    described.input[0].type.imageType.colorSpace = 0


def sequence(described: Any) -> None:
    described.input[0].type.sequenceType.SetInParent()


def no_type(described: Any) -> None:
    described.output[0].type.Clear()


def flat(described: Any) -> None:
    described.output[0].type.imageType.colorSpace = 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_colour, "INVALID_COLOR_SPACE"),
        (sequence, "input 'x' is of type sequenceType, which ML Programs do not have"),
        (no_type, "output 'p' is of type unknown"),
        (flat, "'p' is described as an image, but its tensor has shape"),
    ],
)
def test_a_damaged_description_is_one_error(tmp_path: Path, change: Any, message: str) -> None:
    path = save(tmp_path / "m.mlpackage", scores, [image("RGB")], (1, 3, 4, 5))
    with pytest.raises(ModelError) as caught:
        cl.load(rewritten(path, change))
    assert message in caught.value.message


@pytest.mark.parametrize("count", [1, 2])
def test_a_classifier_of_flexible_batch_takes_one_example(tmp_path: Path, count: int) -> None:
    batch = ct.converters.mil.mil.get_new_symbol()
    path = save(
        tmp_path / "m.mlpackage",
        scores,
        [ct.TensorType("x", shape=(ct.RangeDim(1, 2), 3, 4, 5))],
        (batch, 3, 4, 5),
        classifier_config=ct.ClassifierConfig(["cat", "dog", "eel"]),
    )
    x = np.zeros((count, 3, 4, 5), np.float32)
    if count == 1:
        assert cl.load(path).predict({"x": x})["classLabel"] == "cat"
    else:
        with pytest.raises(InputError, match="6 probabilities for 3 classes"):
            cl.load(path).predict({"x": x})
