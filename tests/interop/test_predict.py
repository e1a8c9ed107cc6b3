"""coremltools' own models on our runtime: predict, states, compiled models, assets."""

from __future__ import annotations

import errno
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.program.mil.tools import TARGET, ct, mb
from tests.program.classical.test_models import CASES
from tests.support.classical import ModelCase, assert_same, save
from tests.support.seam_models import converted, counter, expected, network

pytestmark = pytest.mark.usefixtures("runtime")
# A number, an array, labels with probabilities, dictionaries and lists.
NAMED = {"glmRegressor-several targets of an array", "glmClassifier-logit"} | {
    "itemSimilarityRecommender-names, ratings and every input"
}
CLASSICAL = [case for case in CASES if case.name in NAMED]


def compiled(package: str) -> str:
    path = package.replace(".mlpackage", ".mlmodelc")
    ct.models.utils.compile_model(package, path)
    return path


def test_a_model_predicts_from_its_description_and_from_its_path(package: str, x: Any) -> None:
    for model in (network(), ct.models.MLModel(package)):
        np.testing.assert_allclose(model.predict({"x": x})["y"], expected(x), atol=1e-6)


def test_a_list_is_a_batch(x: Any) -> None:
    results = network().predict([{"x": x}, {"x": -x}])
    np.testing.assert_allclose(results[0]["y"], expected(x), atol=1e-6)
    np.testing.assert_allclose(results[1]["y"], expected(-x), atol=1e-6)


def test_half_floats_come_back_as_float32_and_arrays_are_left_alone(x: Any) -> None:
    half = {"x": x.astype(np.float16)}
    given = half["x"].copy()
    inputs = [ct.TensorType(name="x", dtype=np.float16)]
    outputs = [ct.TensorType(name="y", dtype=np.float16)]
    model = network(inputs=inputs, outputs=outputs, compute_precision=ct.precision.FLOAT16)
    result = model.predict(half)["y"]
    assert result.dtype == np.float32
    assert np.array_equal(given, half["x"].astype(np.float16))
    np.testing.assert_allclose(result, expected(x), atol=2e-3)


def test_numbers_are_converted_between_types(x: Any) -> None:
    model = network()
    whole = np.arange(8, dtype=np.int32).reshape(1, 8)
    for given in (whole, whole.astype(np.float64), whole.astype(np.float32).tolist()):
        result = model.predict({"x": given})["y"]
        np.testing.assert_allclose(result, expected(whole), atol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_an_element_type_the_binding_does_not_know_is_its_error(dtype: str) -> None:
    with pytest.raises(RuntimeError, match=r"^value type not convertible$"):
        network().predict({"x": np.ones((1, 8), dtype)})


def test_a_read_only_array_is_its_error_too(x: Any) -> None:
    x.flags.writeable = False
    with pytest.raises(RuntimeError, match=r"^value type not convertible$"):
        network().predict({"x": x})


def test_a_wrong_shape_is_told_in_core_mls_words() -> None:
    words = (
        r"For input feature 'x', the provided shape \(1 × 7\) is not compatible with the model's"
    )
    with pytest.raises(RuntimeError, match=r'^\{\n    NSLocalizedDescription = "' + words):
        network().predict({"x": np.ones((1, 7), np.float32)})


def test_a_missing_input_is_a_runtime_error_that_names_it() -> None:
    with pytest.raises(RuntimeError, match="missing: x"):
        network().predict({})


def test_an_index_out_of_range_is_told_in_core_mls_words() -> None:
    specs = [mb.TensorSpec(shape=(2,), dtype=ct.converters.mil.mil.types.int32)]

    @mb.program(input_specs=specs, opset_version=TARGET)
    def program(i: Any) -> Any:
        return mb.gather(x=np.arange(4, dtype=np.float32), indices=i, axis=0, name="y")

    model = converted(program)
    assert model.predict({"i": np.array([1, 3], np.int32)})["y"].tolist() == [1, 3]
    with pytest.raises(RuntimeError, match="Unable to compute the prediction using ML Program"):
        model.predict({"i": np.array([1, 9], np.int32)})


def test_a_model_that_cannot_be_loaded_warns_and_fails_at_predict(
    package: str, monkeypatch: pytest.MonkeyPatch, x: Any
) -> None:
    blob = Path(package, "Data/com.apple.CoreML/weights/weight.bin")
    blob.write_bytes(blob.read_bytes()[:8])
    with pytest.warns(RuntimeWarning, match="You will not be able to run predict"):
        model = ct.models.MLModel(package)
    with pytest.raises(RuntimeError, match="NSLocalizedDescription"):
        model.predict({"x": x})


def test_times_are_whole_nanoseconds(x: Any) -> None:
    model = network()
    assert model.load_duration_in_nano_seconds > 0
    assert model.last_predict_duration_in_nano_seconds is None
    model.predict({"x": x})
    assert isinstance(model.last_predict_duration_in_nano_seconds, int)
    assert 0 < model.last_predict_duration_in_nano_seconds < 10**11


def test_a_compiled_model_equals_the_model(package: str, x: Any) -> None:
    path = compiled(package)
    for units in ct.ComputeUnit:
        hints = {"reshapeFrequency": ct.ReshapeFrequency.Infrequent}
        model = ct.models.CompiledMLModel(path, units, optimization_hints=hints)
        np.testing.assert_allclose(model.predict({"x": x})["y"], expected(x), atol=1e-6)
    assert len(model.predict([{"x": x}] * 3)) == 3


def test_a_temporary_compiled_model_goes_with_its_owner() -> None:
    model = network()
    path = Path(model.get_compiled_model_path())
    assert path.suffix == ".mlmodelc"
    assert path.is_dir()
    del model
    gc.collect()
    assert not path.exists()


def test_a_compiled_model_has_its_program_as_text(package: str) -> None:
    folder = Path(compiled(package))
    assert sorted(p.name for p in folder.iterdir()) == ["metadata.json", "model.mil", "weights"]
    assert 'softmax(axis = y_axis_0, x = cut)[name = string("y")];' in (
        folder / "model.mil"
    ).read_text(encoding="utf-8")


def test_a_compiled_model_that_is_damaged_or_missing_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mlmodelc"
    damaged.mkdir()
    (damaged / "model.mil").write_text("program")
    for path, words in ((damaged, "model.mil, line 1"), (tmp_path / "no.mlmodelc", "no comp")):
        with pytest.raises(RuntimeError, match=words):
            ct.models.CompiledMLModel(str(path))


def test_what_cannot_be_compiled_is_one_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mlmodel"
    broken.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"Error compiling model: broken\.mlmodel"):
        ct.models.utils.compile_model(str(broken))


def test_assets_come_from_a_path_and_from_memory(package: str, x: Any) -> None:
    assets = ct.models.model.MLModelAsset
    model = ct.models.MLModel(package)
    blob = Path(model.weights_dir, "weight.bin").read_bytes()
    spec = model.get_spec().SerializeToString()
    for asset in (
        assets.from_path(compiled(package)),
        assets.from_memory(spec, {"weights/weight.bin": blob}),
        assets.from_memory(spec, {"../../weight.bin": blob}),
    ):
        loaded = ct.models.CompiledMLModel.from_asset(asset)
        np.testing.assert_allclose(loaded.predict({"x": x})["y"], expected(x), atol=1e-6)


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(RuntimeError, match="NSLocalizedDescription"):
        ct.models.model.MLModelAsset.from_memory(b"\xff\xff no model")


@pytest.mark.parametrize("name", ["..", "weights/..", "", "/", "a\0b"])
def test_a_blob_without_a_file_name_is_a_runtime_error(name: str) -> None:
    spec = network().get_spec().SerializeToString()
    with pytest.raises(RuntimeError, match="is not the name of a weights file"):
        ct.models.model.MLModelAsset.from_memory(spec, {name: b"blob"})


def test_a_full_disk_is_a_runtime_error(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("coreml_lab.program.mil.compiled.shutil.copy2", full)
    with pytest.raises(RuntimeError, match=r"Error compiling model: .*No space left on device"):
        ct.models.utils.compile_model(package)


def test_a_state_lives_from_one_prediction_to_the_next() -> None:
    model = counter()
    state = model.make_state()
    one = np.ones((1, 4), np.float32)
    for n in (1, 2, 3):
        assert model.predict({"x": one.copy()}, state)["y"].tolist() == [[n] * 4]
    assert state.read_state("total").dtype == np.float32
    state.write_state("total", one * 7)
    assert model.predict({"x": one.copy()}, state)["y"].tolist() == [[8] * 4]
    assert model.make_state().read_state("total").tolist() == [[0] * 4]


def test_wrong_uses_of_a_state_are_runtime_errors() -> None:
    model = counter()
    state = model.make_state()
    for wrong in (
        lambda: state.read_state("nothing"),
        lambda: state.write_state("total", np.ones(3, np.float32)),
        lambda: state.write_state("total", 1.0),
        lambda: model.predict({"x": np.ones((1, 4), np.float32)}),
        lambda: network().make_state().read_state("total"),
    ):
        with pytest.raises(RuntimeError):
            wrong()


def test_a_function_of_several_is_the_one_that_runs(tmp_path: Path, x: Any) -> None:
    other = np.eye(8, dtype=np.float32)
    network().save(str(tmp_path / "a.mlpackage"))
    network(other).save(str(tmp_path / "b.mlpackage"))
    both = ct.utils.MultiFunctionDescriptor()
    both.add_function(str(tmp_path / "a.mlpackage"), "main", "first")
    both.add_function(str(tmp_path / "b.mlpackage"), "main", "second")
    both.default_function_name = "first"
    path = str(tmp_path / "both.mlpackage")
    ct.utils.save_multifunction(both, path)
    for name, weight in ((None, None), ("first", None), ("second", other)):
        result = ct.models.MLModel(path, function_name=name).predict({"x": x})["y"]
        wanted = expected(x) if weight is None else expected(x, weight)
        np.testing.assert_allclose(result, wanted, atol=1e-6)


def test_images_go_in_as_pictures() -> None:
    image = pytest.importorskip("PIL.Image")

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 2, 4))], opset_version=TARGET)
    def program(x: Any) -> Any:
        return mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False, name="y")

    model = converted(program, inputs=[ct.ImageType(name="x", shape=(1, 3, 2, 4))])
    result = model.predict({"x": image.new("RGB", (4, 2), (10, 20, 30))})["y"]
    np.testing.assert_allclose(result, [[10, 20, 30]], atol=1e-4)


@pytest.mark.parametrize("case", CLASSICAL, ids=lambda case: case.name)
def test_a_classical_model_predicts_from_its_description_and_compiled(
    case: ModelCase, tmp_path: Path
) -> None:
    file = str(save(case.spec, tmp_path))
    loaded = ct.models.MLModel(file)
    folder = ct.models.utils.compile_model(file, str(tmp_path / "model.mlmodelc"))
    for model in (loaded, ct.models.CompiledMLModel(folder)):
        for inputs in case.examples:
            assert_same(model.predict(inputs), case.wanted(**inputs), case.close)
