"""Pipelines: classical models, networks and programs in turn, features handed on by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name
from PIL import Image

import coreml_lab as cl
from coreml_lab.errors import EngineUnavailable, InputError, ModelError, Timeout
from coreml_lab.program.classical.stages import Stage
from coreml_lab.program.mil.tools import proto
from tests.program.classical.transforming import kept
from tests.support import classic
from tests.support.classical import Types, assert_same, load, model, save
from tests.support.packages import save as save_program

SCALER = {"shiftValue": [1, 2, 3], "scaleValue": [2, 0.5, -1]}
LINE = {"weights": [{"value": [1, -2, 3]}], "offset": [0.5]}
X = np.array([3.0, -4.0, 0.5])


def pipeline(
    models: list[Any],
    inputs: Types,
    outputs: Types,
    kind: str = "pipeline",
    names: tuple[str, ...] = (),
    **told: str,
) -> Any:
    """The message of a pipeline."""
    spec = model(kind, {}, inputs, outputs, **told)
    part = getattr(spec, kind)
    part = getattr(part, "pipeline", part)
    part.models.extend(models)
    part.names.extend(names)
    return spec


def scaled(x: Any) -> Any:
    return (x + np.array([1, 2, 3])) * [2, 0.5, -1]


def scaler() -> Any:
    return model("scaler", SCALER, {"x": (3,)}, {"s": (3,)})


def line(given: str = "s", made: str = "y") -> Any:
    return model("glmRegressor", LINE, {given: (3,)}, {made: "double"}, predicted=made)


def total(x: Any) -> float:
    return float(x @ [1, -2, 3] + 0.5)


def test_features_are_handed_on_by_name(tmp_path: Path) -> None:
    told: Types = {"x": (3,)}
    made: Types = {"y": "double", "s": (3,)}
    spec = pipeline([scaler(), line()], told, made, "pipelineRegressor", predicted="y")
    found = load(spec, tmp_path)
    assert_same(found.predict({"x": X}), {"y": total(scaled(X)), "s": scaled(X)})
    assert [op.op for op in found.info.ops] == ["scaler", "glmRegressor"]
    assert found.weight_bytes == 48 + 32
    recording = cl.profile(found, {"x": X}, runs=2, warmup=0)
    assert [span.node for span in recording.spans] == ["scaler", "glmRegressor"] * 2


def test_a_pipeline_inside_of_one_has_names_of_its_own(tmp_path: Path) -> None:
    # The inner s is not the outer one, which a later stage still reads.
    inner = pipeline([scaler(), line()], {"x": (3,)}, {"y": "double"}, names=("a", "b"))
    outer: list[Any] = [
        model("normalizer", {"normType": "L1"}, {"x": (3,)}, {"s": (3,)}),
        inner,
        line("s", "z"),
    ]
    spec = pipeline(outer, {"x": (3,)}, {"z": "double", "y": "double"})
    found = load(spec, tmp_path)
    wanted = {"z": total(X / np.abs(X).sum()), "y": total(scaled(X))}
    assert_same(found.predict({"x": X}), wanted)
    names = [op.name for op in found.info.ops]
    assert names == ["normalizer", "pipeline/a", "pipeline/b", "glmRegressor"]


def network(kind: str, shape: list[int], layers: list[Any], made: str) -> Any:
    """A classic network of x."""
    spec = proto.Model_pb2.Model(specificationVersion=4)
    part = getattr(spec, kind)
    part.SetInParent()
    part.arrayInputShapeMapping = 1
    classic.array_type(spec.description.input.add(name="s"), shape)
    classic.array_type(spec.description.output.add(name=made), [])
    for layer in layers:
        classic.add_layer(part, *layer)
    return spec


def program(folder: Path) -> Path:
    """A package of an ML Program with weights in a file of their own."""
    weight = np.arange(3 * 600, dtype=np.float32).reshape(3, 600) / 1000
    return save_program(
        folder / "net.mlpackage",
        lambda x: mb.reduce_sum(x=mb.matmul(x=x, y=weight), axes=[1], name="p"),
        [ct.TensorType("u", shape=(1, 3))],
        (1, 3),
    )


def test_networks_programs_and_classical_stages_are_mixed(tmp_path: Path) -> None:
    package = program(tmp_path)
    file = next(package.rglob("*.mlmodel"))
    inner = proto.Model_pb2.Model.FromString(file.read_bytes())
    given = inner.description.input[0].name
    net = network("neuralNetwork", [3], [("unary", {"type": "ABS"}, ["s"], [given])], given)
    stages = [scaler(), net, inner, line(given, "y")]
    spec = pipeline(stages, {"x": (3,)}, {"p": (1,), "y": "double"})
    spec.specificationVersion = inner.specificationVersion
    file.write_bytes(spec.SerializeToString())
    weight = np.arange(3 * 600).reshape(3, 600) / 1000
    hidden = np.abs(scaled(X))
    wanted = {"p": np.array([(hidden @ weight).sum()]), "y": total(hidden)}
    for _ in range(2):  # the second time from the cache
        found = cl.load(package, engine="portable")
        assert_same(found.predict({"x": X}), wanted, 1e-5)
    recording = cl.profile(found, {"x": X}, runs=1, warmup=0)
    told = {span.op: span.engine for span in recording.spans}
    assert told["mlProgram"] == told["neuralNetwork"] == "portable"
    assert told["scaler"] == told["glmRegressor"] == "classical"
    assert "NumPy" in found.plan.title


def test_a_detector_takes_an_image_and_gives_the_best_boxes(tmp_path: Path) -> None:
    """A network that looks at an image, and then the suppression, as converters export them."""
    order = np.random.default_rng(0)
    boxes = np.round(order.random((6, 4)) * 4) * 2 + [4, 4, 4, 4]
    chances = order.random((6, 2))
    net = proto.Model_pb2.Model(specificationVersion=4)
    image = net.description.input.add(name="image").type.imageType
    image.width, image.height, image.colorSpace = 4, 4, image.RGB
    for name, shape in (("raw_confidence", [6, 2]), ("raw_coordinates", [6, 4])):
        classic.array_type(net.description.output.add(name=name), shape)
    part = net.neuralNetwork
    part.arrayInputShapeMapping = part.imageInputShapeMapping = 1
    classic.add_layer(part, "reduceSum", {"reduceAll": True}, ["image"], ["sum"])
    classic.add_layer(part, "unary", {"type": "THRESHOLD", "alpha": 1.0}, ["sum"], ["one"])
    classic.add_layer(part, "unary", {"type": "POWER", "alpha": 0.0}, ["one"], ["unit"])
    for name, array in (("raw_confidence", chances), ("raw_coordinates", boxes)):
        kept_ = {"shape": list(array.shape), "data": classic.weights(array)}
        classic.add_layer(part, "loadConstantND", kept_, [], [f"{name}_known"])
        classic.add_layer(part, "multiplyBroadcastable", {}, ["unit", f"{name}_known"], [name])
    names = {
        "confidenceInputFeatureName": "raw_confidence",
        "coordinatesInputFeatureName": "raw_coordinates",
        "iouThresholdInputFeatureName": "iouThreshold",
        "confidenceThresholdInputFeatureName": "confidenceThreshold",
        "confidenceOutputFeatureName": "confidence",
        "coordinatesOutputFeatureName": "coordinates",
        "iouThreshold": 0.45,
        "confidenceThreshold": 0.25,
        "pickTop": {"perClass": True},
    }
    taken: Types = {"raw_confidence": (6, 2), "raw_coordinates": (6, 4)}
    made: Types = {"confidence": (), "coordinates": ()}
    nms = model("nonMaximumSuppression", names, taken, made)
    thresholds: Types = {"iouThreshold": "double", "confidenceThreshold": "double"}
    spec = pipeline([net, nms], thresholds, made)
    spec.description.input.add(name="image").CopyFrom(net.description.input[0])
    found = load(spec, tmp_path)
    picture = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    # What is only a threshold may be left out, though the description does not say so.
    for given in ({}, {"iouThreshold": 0.1, "confidenceThreshold": 0.6}):
        told = found.predict({"image": picture, **given})
        overlap, least = given.get("iouThreshold", 0.45), given.get("confidenceThreshold", 0.25)
        rows = kept(chances, boxes, overlap, least, per_class=True)
        np.testing.assert_allclose(told["confidence"], chances[rows], rtol=1e-5)
        np.testing.assert_allclose(told["coordinates"], boxes[rows], rtol=1e-5)
    assert found.info.inputs[-1].kind == "image"


def test_a_classifier_behind_encoders_gives_labels_and_chances(tmp_path: Path) -> None:
    hot = {"stringCategories": {"vector": ["red", "blue"]}}
    columns = [{"inputColumn": n, "inputDimensions": d} for n, d in (("hot", 2), ("size", 1))]
    part: dict[str, Any] = {"weights": [{"value": [1.0, -1.0, 0.5]}], "offset": [0.25]}
    part["stringClassLabels"] = {"vector": ["no", "yes"]}
    labels: Types = {"label": "string", "chances": "dictionary[string]"}
    told = {"predicted": "label", "probabilities": "chances"}
    stages = [
        model("oneHotEncoder", hot, {"colour": "string"}, {"hot": (2,)}),
        model(
            "featureVectorizer",
            {"inputList": columns},
            {"hot": (2,), "size": "double"},
            {"x": (3,)},
        ),
        model("glmClassifier", part, {"x": (3,)}, labels, **told),
    ]
    inputs: Types = {"colour": "string", "size": "double"}
    found = load(pipeline(stages, inputs, labels, "pipelineClassifier", **told), tmp_path)
    chance = 1 / (1 + np.exp(-(-1 + 0.5 * 3 + 0.25)))
    wanted = {"label": "yes", "chances": {"no": 1 - chance, "yes": chance}}
    assert_same(found.predict({"colour": "blue", "size": 3}), wanted)
    with pytest.raises(InputError, match="no category it knows") as caught:
        found.predict({"colour": "green", "size": 3})
    assert "stage oneHotEncoder" in "".join(caught.value.__notes__)


DAMAGED = {
    "no models": pipeline([], {"x": (3,)}, {"y": "double"}),
    "reads 's', which nothing before it makes": pipeline(
        [line(), scaler()], {"x": (3,)}, {"y": "double"}
    ),
    "gives its output 'z'": pipeline([scaler()], {"x": (3,)}, {"z": (3,)}),
    "stage scaler_1 is a damaged scaler": pipeline(
        [scaler(), model("scaler", {"shiftValue": [1, 2]}, {"s": (3,)}, {"t": (3,)})],
        {"x": (3,)},
        {"t": (3,)},
    ),
    "of kind wordTagger: Apple's closed framework": pipeline(
        [model("wordTagger", {}, {"x": "string"}, {"y": "string"})],
        {"x": "string"},
        {"y": "string"},
    ),
    "more than 1000 stages": pipeline(
        [model("identity", {}, {"x": "double"}, {"x": "double"})] * 1001,
        {"x": "double"},
        {"x": "double"},
    ),
}


@pytest.mark.parametrize("said", DAMAGED)
def test_a_pipeline_that_makes_no_sense_is_one_error(said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(DAMAGED[said], tmp_path)
    assert caught.value.hint


def test_without_networks_it_runs_on_the_cpu_alone(tmp_path: Path) -> None:
    path = save(pipeline([scaler()], {"x": (3,)}, {"s": (3,)}), tmp_path)
    assert_same(cl.load(path).to("cpu").predict({"x": X}), {"s": scaled(X)})
    with pytest.raises(EngineUnavailable, match="not on engine pytorch"):
        cl.load(path, engine="pytorch")


def test_an_updatable_pipeline_predicts(tmp_path: Path) -> None:
    spec = pipeline([scaler(), line()], {"x": (3,)}, {"y": "double"})
    spec.isUpdatable = True
    spec.description.trainingInput.add(name="x").CopyFrom(spec.description.input[0])
    assert_same(load(spec, tmp_path).predict({"x": X}), {"y": total(scaled(X))})


def test_a_deadline_holds_for_all_stages_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(pipeline([scaler(), line()], {"x": (3,)}, {"y": "double"}), tmp_path)
    assert loaded.predict({"x": X}, deadline=60.0) == loaded.predict({"x": X})
    whole, ran = Stage.run, list[str]()

    def slow(self: Any, features: Any) -> Any:
        ran.append(self.name)
        time.sleep(0.06)
        return whole(self, features)

    monkeypatch.setattr(Stage, "run", slow)
    with pytest.raises(Timeout, match="was stopped"):
        loaded.predict({"x": X}, deadline=0.05)
    assert len(ran) == 1
    loaded.predict({"x": X})
    assert len(ran) == 3


def test_networks_of_a_pipeline_get_what_is_left_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network("neuralNetwork", [3], [("unary", {"type": "ABS"}, ["s"], ["a"])], "a")
    spec = pipeline([scaler(), net, line("a")], {"x": (3,)}, {"y": "double"})
    loaded = load(spec, tmp_path)
    given, whole = list[float | None](), cl.Model.predict

    def predict(self: Any, inputs: Any, state: Any = None, *, deadline: Any = None) -> Any:
        if self is not loaded:
            given.append(deadline)
        return whole(self, inputs, state, deadline=deadline)

    monkeypatch.setattr(cl.Model, "predict", predict)
    loaded.predict({"x": X}, deadline=60.0)
    loaded.predict({"x": X}, deadline=0)
    first, second = given
    assert first is not None
    assert 0 < first < 60
    assert second == 0  # no limit, as was asked
