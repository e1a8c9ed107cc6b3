"""What a model is kept in: single files, packages with odd or missing weights, compiled folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name

import coreml_lab as cl
from coreml_lab.errors import ModelError
from coreml_lab.program import mil
from coreml_lab.program.mil.tools import KEPT
from tests.support.packages import compiled, identity, save


def test_an_mlmodel_file_that_holds_an_ml_program_opens(tmp_path: Path) -> None:
    package = save(tmp_path / "m.mlpackage", identity, [ct.TensorType("x", shape=(2, 3))], (2, 3))
    file = tmp_path / "net.mlmodel"
    shutil.copy(next(package.rglob("*.mlmodel")), file)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(cl.load(file).predict({"x": x})["y"], x)


def weighted(tmp_path: Path) -> Path:
    kernel = np.ones((64, 64), np.float32)
    return save(
        tmp_path / "m.mlpackage",
        lambda x: mb.matmul(x=x, y=kernel, name="y"),
        [ct.TensorType("x", shape=(1, 64))],
        (1, 64),
    )


def test_a_compiled_folder_opens_and_is_kept_in_the_cache(tmp_path: Path) -> None:
    folder = compiled(weighted(tmp_path), tmp_path)
    x = np.ones((1, 64), np.float32)
    for _ in range(2):
        model = cl.load(str(folder) + "/")
        np.testing.assert_array_equal(model.predict({"x": x})["y"], np.full((1, 64), 64))
    assert model.name == "m"


KINDS = {
    "neuralNetwork": ["model.espresso.net", "model.espresso.weights", "coremldata.bin"],
    "pipeline": ["model0/model.mil", "model1/coremldata.bin"],
    "unknown": ["coremldata.bin"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_of_another_kind_is_refused_by_its_kind(kind: str, tmp_path: Path) -> None:
    for name in KINDS[kind]:
        (tmp_path / "net.mlmodelc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "net.mlmodelc" / name).write_bytes(b"?")
    with pytest.raises(ModelError, match=f"compiled Core ML model of kind {kind}"):
        cl.load(tmp_path / "net.mlmodelc")
    (tmp_path / "net.mlmodelc" / "metadata.json").write_text('[{"modelType": "other"}]')
    with pytest.raises(ModelError, match=f"of kind {kind}"):
        cl.load(tmp_path / "net.mlmodelc")
    said = [{"modelType": {"name": "MLModelType_treeEnsembleClassifier"}}]
    (tmp_path / "net.mlmodelc" / "metadata.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="of kind treeEnsembleClassifier"):
        cl.load(tmp_path / "net.mlmodelc")


def test_a_program_in_a_folder_of_its_own_is_found(tmp_path: Path) -> None:
    folder = compiled(weighted(tmp_path), tmp_path)
    inner = folder / "model0"
    inner.mkdir()
    for name in ("model.mil", "weights"):
        (folder / name).rename(inner / name)
    found = cl.load(folder).predict({"x": np.ones((1, 64), np.float32)})["y"]
    np.testing.assert_array_equal(found, np.full((1, 64), 64))


def test_a_weights_folder_of_another_name_is_found_through_the_manifest(tmp_path: Path) -> None:
    package = weighted(tmp_path)
    weights = next(p for p in package.rglob("weights") if p.is_dir())
    weights.rename(weights.with_name("blobs"))
    manifest = package / "Manifest.json"
    manifest.write_text(manifest.read_text().replace("/weights", "/blobs"))
    found = cl.load(package).predict({"x": np.ones((1, 64), np.float32)})["y"]
    np.testing.assert_array_equal(found, np.full((1, 64), 64))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    package = weighted(tmp_path)
    shutil.rmtree(next(p for p in package.rglob("weights") if p.is_dir()))
    with pytest.raises(ModelError, match=r"weight\.bin are missing"):
        cl.load(package)


def test_nothing_of_coremltools_stays_of_a_flexible_model_that_was_read() -> None:
    spec, kernel = cl.spec(1, 1, cl.Dim("n", 4, 8), 4), np.ones((1, 1, 3, 3), np.float32)
    net = cl.compile(lambda x: {"y": cl.ops.conv(x, kernel, pad_type="same")}, x=spec)
    mil.read(package := Path(net.info.package))
    before = [len(kept) for kept in KEPT]
    for _ in range(3):
        assert "conv" in [n.op for n in mil.read(package).ops]
    assert [len(kept) for kept in KEPT] == before
