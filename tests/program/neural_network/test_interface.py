"""The border of classic networks: images, classes, optional and flexible inputs, names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError, ModelError
from coreml_lab.program.mil.tools import proto
from tests.support.classic import (
    EXACT,
    FLOAT32,
    INT32,
    RANK5,
    add_layer,
    array_type,
    network_of,
    normal,
    save,
    single,
    weights,
)
from tests.support.packages import assert_same_when_compiled, compiled

COLOURS = proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace
DOUBLE = 65600
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
SCALE, BIASES = 0.5, {"redBias": 1, "greenBias": -2, "blueBias": 3, "grayBias": 4}


def picture(spec: Any, colour: str, name: str = "image", *, output: bool = False) -> Any:
    """Describe an image of 6 x 4 pixels."""
    side = spec.description.output if output else spec.description.input
    image = side.add(name=name).type.imageType
    image.width, image.height, image.colorSpace = 6, 4, COLOURS.Value(colour)
    return image


def seen(colour: str) -> Any:
    """The pixels as the network gets them: [C, H, W] in its order."""
    if colour == "GRAYSCALE":
        weighted = PIXELS.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((weighted + 0x8000) >> 16)[None].astype(np.float32)
    order = PIXELS[..., ::-1] if colour == "BGR" else PIXELS
    return order.transpose(2, 0, 1).astype(np.float32)


def image_spec(colour: str, *, rank4: bool) -> Any:
    """A network that gives out what it gets of an image."""
    spec = proto.Model_pb2.Model()
    network = network_of(spec, mapping=EXACT if rank4 else RANK5)
    network.imageInputShapeMapping = int(rank4)
    picture(spec, colour)
    array_type(spec.description.output.add(name="y"), ())
    add_layer(network, "multiply", {"alpha": 2}, ["image"], ["y"])
    return spec


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAYSCALE"])
def test_pixels_are_scaled_and_biased_in_the_order_of_their_colours(
    colour: str, rank4: bool, tmp_path: Path
) -> None:
    spec = image_spec(colour, rank4=rank4)
    step = spec.neuralNetwork.preprocessing.add(featureName="image")
    step.scaler.channelScale = SCALE
    for name, bias in BIASES.items():
        setattr(step.scaler, name, bias)
    made = cl.load(save(spec, tmp_path)).predict({"image": PIXELS})["y"]
    biases = {"RGB": [1, -2, 3], "BGR": [3, -2, 1], "GRAYSCALE": [4]}[colour]
    wanted = 2 * (seen(colour) * SCALE + np.reshape(biases, (-1, 1, 1)))
    np.testing.assert_allclose(made, wanted[None] if rank4 else wanted[None, None], rtol=1e-6)


def test_a_mean_image_is_taken_off_and_a_nameless_step_is_the_images(tmp_path: Path) -> None:
    mean = normal(3, 4, 6) * 10
    spec = image_spec("RGB", rank4=True)
    spec.neuralNetwork.preprocessing.add().meanImage.meanImage.extend(mean.ravel())
    made = cl.load(save(spec, tmp_path)).predict({"image": PIXELS})["y"]
    np.testing.assert_allclose(made[0], 2 * (seen("RGB") - mean), rtol=1e-5, atol=1e-4)
    del spec.neuralNetwork.preprocessing[0].meanImage.meanImage[1:]
    with pytest.raises(ModelError, match="mean image of 'image' has 1 numbers"):
        cl.load(save(spec, tmp_path, "short.mlmodel"))


def test_an_image_comes_out_as_an_image(tmp_path: Path) -> None:
    spec = image_spec("RGB", rank4=False)
    del spec.description.output[:]
    picture(spec, "RGB", "y", output=True)
    spec.neuralNetwork.layers[0].multiply.alpha = 0.5
    made = cl.load(save(spec, tmp_path)).predict({"image": PIXELS})["y"]
    np.testing.assert_array_equal(np.asarray(made), np.rint(PIXELS / 2))


def test_images_of_several_sizes_are_taken(tmp_path: Path) -> None:
    spec = image_spec("RGB", rank4=True)
    ranges = spec.description.input[0].type.imageType.imageSizeRange
    ranges.heightRange.lowerBound, ranges.heightRange.upperBound = 2, 8
    ranges.widthRange.lowerBound, ranges.widthRange.upperBound = 2, -1
    model = cl.load(save(spec, tmp_path))
    assert model.predict({"image": PIXELS})["y"].shape == (1, 3, 4, 6)
    assert model.predict({"image": PIXELS[:2, :5]})["y"].shape == (1, 3, 2, 5)
    with pytest.raises(InputError):
        model.predict({"image": np.zeros((9, 6, 3), np.uint8)})


def classifier(labels: list[Any], *, dictionary: str = "chances", blob: str = "p") -> Any:
    """A classifier by the softmax of its inputs, of an old network."""
    spec = proto.Model_pb2.Model()
    spec.specificationVersion = 1
    network = spec.neuralNetworkClassifier
    array_type(spec.description.input.add(name="x"), [len(labels)])
    add_layer(network, "softmax", {}, ["x"], ["p"])
    network.labelProbabilityLayerName = blob
    whole = not isinstance(labels[0], str)
    (network.int64ClassLabels if whole else network.stringClassLabels).vector.extend(labels)
    spec.description.predictedFeatureName = "label"
    kind = spec.description.output.add(name="label").type
    kind.int64Type.SetInParent() if whole else kind.stringType.SetInParent()
    if dictionary:
        spec.description.predictedProbabilitiesName = dictionary
        found = spec.description.output.add(name=dictionary).type.dictionaryType
        found.int64KeyType.SetInParent() if whole else found.stringKeyType.SetInParent()
    return spec


@pytest.mark.parametrize("blob", ["p", ""])
@pytest.mark.parametrize("labels", [["cat", "dog", "cow"], [7, 5, 2**40]])
def test_a_classifier_gives_its_label_and_a_dictionary(
    labels: list[Any], blob: str, tmp_path: Path
) -> None:
    model = cl.load(save(classifier(labels, blob=blob), tmp_path))
    made = model.predict({"x": np.array([0, 2, 1], np.float32)})
    e = np.exp([0, 2, 1])
    assert set(made) == {"label", "chances"}
    assert made["label"] == labels[1]
    assert list(made["chances"]) == labels
    np.testing.assert_allclose(list(made["chances"].values()), e / e.sum(), rtol=1e-5)


def test_a_classifier_without_a_named_dictionary_gives_one_by_the_label(tmp_path: Path) -> None:
    made = cl.load(save(classifier(["a", "b"], dictionary=""), tmp_path)).predict(
        {"x": np.array([1, 0], np.float32)}
    )
    assert made["label"] == "a"
    assert set(made["label_probs"]) == {"a", "b"}


def test_as_many_classes_as_probabilities_or_an_error(tmp_path: Path) -> None:
    spec = classifier(["a", "b"])
    spec.neuralNetworkClassifier.stringClassLabels.vector.append("c")
    with pytest.raises(ModelError, match="3 classes and 2 probabilities"):
        cl.load(save(spec, tmp_path))


@pytest.mark.parametrize("kind", ["doubleType", "multiArrayType"])
def test_a_regressor_gives_its_number(kind: str, tmp_path: Path) -> None:
    spec = proto.Model_pb2.Model()
    spec.specificationVersion = 1
    array_type(spec.description.input.add(name="x"), [3], dtype=DOUBLE)
    dense = {"inputChannels": 3, "outputChannels": 1, "weights": weights([1, 2, 3])}
    add_layer(spec.neuralNetworkRegressor, "innerProduct", dense, ["x"], ["price"])
    spec.description.predictedFeatureName = "price"
    getattr(spec.description.output.add(name="price").type, kind).SetInParent()
    made = cl.load(save(spec, tmp_path)).predict({"x": np.ones(3, np.float32)})["price"]
    assert made.ravel().tolist() == [6]


@pytest.mark.parametrize("default", [None, 2.5])
def test_an_input_that_is_left_out_has_its_default_or_zeros(
    default: float | None, tmp_path: Path
) -> None:
    spec = single([("add", {}, ["x", "more"], ["y"])], {"x": (2, 3), "more": (2, 3)}, ["y"])
    described = spec.description.input[1].type
    described.isOptional = True
    if default is not None:
        described.multiArrayType.floatDefaultValue = default
    model, x = cl.load(save(spec, tmp_path)), normal(2, 3)
    np.testing.assert_allclose(model.predict({"x": x})["y"], x + (default or 0), rtol=1e-6)
    np.testing.assert_allclose(model.predict({"x": x, "more": x})["y"], 2 * x, rtol=1e-6)


def ranged(array: Any) -> None:
    """Shapes (1 to 4, 3)."""
    array.shapeRange.sizeRanges.add(lowerBound=1, upperBound=4)
    array.shapeRange.sizeRanges.add(lowerBound=3, upperBound=3)


def listed(array: Any) -> None:
    """Shapes (2, 3) and (4, 3)."""
    for rows in (2, 4):
        array.enumeratedShapes.shapes.add(shape=[rows, 3])


@pytest.mark.parametrize(("describe", "refused"), [(ranged, 5), (listed, 3)])
def test_flexible_shapes_are_those_that_the_file_describes(
    describe: Callable[[Any], None], refused: int, tmp_path: Path
) -> None:
    dense = {"inputChannels": 3, "outputChannels": 5, "weights": weights(normal(5, 3))}
    spec = single(
        [("innerProduct", dense, ["x"], ["a"]), ("softmaxND", {"axis": 0}, ["a"], ["y"])],
        {"x": (2, 3)},
        ["y"],
    )
    describe(spec.description.input[0].type.multiArrayType)
    model = cl.load(save(spec, tmp_path))
    for rows in (2, 4):
        x = normal(rows, 3, seed=rows)
        e = np.exp(x @ normal(5, 3).T)
        np.testing.assert_allclose(model.predict({"x": x})["y"], e / e.sum(0), rtol=1e-4)
    with pytest.raises(InputError):
        model.predict({"x": normal(refused, 3)})


def test_whole_numbers_stay_whole_at_the_border(tmp_path: Path) -> None:
    spec = single([("add", {"alpha": 1}, ["x"], ["y"])], {"x": (3,)}, ["y"])
    for described in (spec.description.input[0], spec.description.output[0]):
        described.type.multiArrayType.dataType = INT32
    made = cl.load(save(spec, tmp_path)).predict({"x": np.array([1, 2, 3], np.int32)})["y"]
    assert made.dtype == np.int32
    assert made.tolist() == [2, 3, 4]
    assert spec.description.output[0].type.multiArrayType.dataType != FLOAT32


def test_an_old_networks_result_has_the_shape_that_is_described(tmp_path: Path) -> None:
    dense = {"inputChannels": 24, "outputChannels": 5, "weights": weights(normal(5, 24))}
    layers = [("innerProduct", dense, ["x"], ["y"])]
    spec = single(layers, {"x": (2, 3, 4)}, ["y"], mapping=RANK5)
    x = normal(2, 3, 4)
    whole = cl.load(save(spec, tmp_path)).predict({"x": x})["y"]
    assert whole.shape == (1, 1, 5, 1, 1)
    spec.description.output[0].type.multiArrayType.shape.append(5)
    made = cl.load(save(spec, tmp_path, "described.mlmodel")).predict({"x": x})["y"]
    assert made.shape == (5,)
    np.testing.assert_allclose(made, normal(5, 24) @ x.ravel(), rtol=1e-4, atol=1e-5)


def test_names_that_mil_cannot_have_stay_those_of_the_interface(tmp_path: Path) -> None:
    names = ["input.1", "input/1", "0"]
    spec = single([("add", {}, names, ["out:0"])], dict.fromkeys(names, (2,)), ["out:0"])
    model = cl.load(save(spec, tmp_path))
    assert list(model.inputs) == names
    made = model.predict({n: np.ones(2, np.float32) for n in names})
    assert made["out:0"].tolist() == [3, 3]
    again = cl.load(assert_same_when_compiled(save(spec, tmp_path)))
    assert again.predict({n: np.ones(2, np.float32) for n in names})["out:0"].tolist() == [3, 3]


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    spec = single([("add", {"alpha": 1}, ["x"], ["y"])], {"x": (2,)}, ["y", "x"])
    with pytest.raises(ModelError, match="output 'x' is one of its inputs"):
        cl.load(save(spec, tmp_path))


def test_two_outputs_may_be_one_value(tmp_path: Path) -> None:
    layers = [("add", {"alpha": 1}, ["x"], ["y"]), ("copy", {}, ["y"], ["z"])]
    model = cl.load(save(single(layers, {"x": (2,)}, ["y", "z"]), tmp_path))
    made = model.predict({"x": np.ones(2, np.float32)})
    assert made["y"].tolist() == made["z"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("before", "limit", "wanted"),
    [
        (True, 6, ["relu6"]),
        (True, 2, ["clip"]),
        (True, -1, ["relu", "minimum"]),
        (False, 6, ["minimum"]),
    ],
)
def test_what_layers_say_of_an_upper_limit_is_one_operation(
    before: bool, limit: float, wanted: list[str], tmp_path: Path
) -> None:
    negate = {"linear": {"alpha": -1}}
    layers = [
        ("activation", {"ReLU": {}} if before else {"linear": {"alpha": 1}}, ["x"], ["a"]),
        ("activation", negate, ["a"], ["b"]),
        ("unary", {"type": "THRESHOLD", "alpha": -limit}, ["b"], ["c"]),
        ("activation", negate, ["c"], ["y"]),
    ]
    x = normal(2, 3) * 5
    model = cl.load(save(single(layers, {"x": (2, 3)}, ["y"]), tmp_path))
    np.testing.assert_array_equal(
        model.predict({"x": x})["y"], np.minimum(np.maximum(x, 0) if before else x, limit)
    )
    assert [op.op for op in model.program.info.ops if op.op != "linear_activation"] == wanted


def test_an_updatable_network_computes_with_the_weights_it_has(tmp_path: Path) -> None:
    dense = {"inputChannels": 3, "outputChannels": 2, "weights": weights(np.ones(6))}
    spec = single([("innerProduct", dense, ["x"], ["y"])], {"x": (3,)}, ["y"])
    spec.isUpdatable = True
    spec.neuralNetwork.layers[0].isUpdatable = True
    spec.neuralNetwork.layers[0].innerProduct.weights.isUpdatable = True
    loss = spec.neuralNetwork.updateParams.lossLayers.add(name="loss")
    loss.meanSquaredErrorLossLayer.input = "y"
    array_type(spec.description.trainingInput.add(name="y_true"), (2,))
    made = cl.load(save(spec, tmp_path)).predict({"x": np.ones(3, np.float32)})["y"]
    assert made.tolist() == [3, 3]


def test_a_compiled_folder_is_made_of_a_classic_network(tmp_path: Path) -> None:
    """What ``cl.install_runtime()`` runs."""
    file = save(classifier(["a", "b"]), tmp_path)
    made = cl.load(compiled(file, tmp_path)).predict({"x": np.array([1, 0], np.float32)})
    assert made["label"] == "a"
    assert set(made["chances"]) == {"a", "b"}


def test_a_package_may_hold_a_classic_network(tmp_path: Path) -> None:
    from coremltools.models.utils import save_spec

    spec = single([("add", {"alpha": 1}, ["x"], ["y"])], {"x": (2,)}, ["y"])
    save_spec(spec, str(tmp_path / "net.mlpackage"))
    model = cl.load(tmp_path / "net.mlpackage")
    assert model.predict({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]
    assert model.name == "net"


@pytest.mark.parametrize("kind", ["visionFeaturePrint", "customModel"])
def test_other_kinds_of_models_are_refused_by_their_kind(kind: str, tmp_path: Path) -> None:
    spec = proto.Model_pb2.Model()
    spec.specificationVersion = 4
    getattr(spec, kind).SetInParent()
    with pytest.raises(ModelError, match=kind):
        cl.load(save(spec, tmp_path))


def test_a_sequence_of_any_length_enters_an_old_recurrent_network(tmp_path: Path) -> None:
    w, r = normal(4, 3), normal(4, 4, seed=1) * 0.5
    given = {"inputVectorSize": 3, "outputVectorSize": 4, "activation": {"tanh": {}}}
    given |= {"weightMatrix": weights(w), "recursionMatrix": weights(r), "sequenceOutput": True}
    layers = [("simpleRecurrent", given, ["x", "h"], ["y", "last"])]
    spec = single(layers, {"x": (3,), "h": (4,)}, ["y", "last"], mapping=RANK5)
    spec.description.input[1].type.isOptional = True
    model = cl.load(save(spec, tmp_path))
    for length in (1, 5):
        x, h = normal(length, 1, 3, 1, 1, seed=length), np.zeros(4, np.float32)
        rows = []
        for row in x[:, 0, :, 0, 0]:
            h = np.tanh(w @ row + r @ h)
            rows.append(h)
        made = model.predict({"x": x})
        np.testing.assert_allclose(made["y"][:, 0, :, 0, 0], rows, atol=1e-5)
        np.testing.assert_allclose(made["last"].ravel(), h, atol=1e-5)
    one = normal(3, seed=9)
    made = model.predict({"x": one, "h": np.ones(4, np.float32)})
    np.testing.assert_allclose(made["y"].ravel(), np.tanh(w @ one + r @ np.ones(4)), atol=1e-5)
