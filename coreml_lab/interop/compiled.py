"""Compiled models: ``.mlmodelc`` folders that only this runtime reads.

Each holds a copy of the package or file it was made from. Compiling checks the file; the work
itself is done at the first load, and kept in the compile cache.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from coremltools.models.utils import _create_mlpackage
from google.protobuf.message import DecodeError

from coreml_lab.errors import ModelError
from coreml_lab.program import mil
from coreml_lab.program.mil.tools import proto

SUFFIX = ".mlmodelc"
SOURCES = (".mlpackage", ".mlmodel")


def compile_model(source: Path) -> Path:
    """Make a new temporary ``.mlmodelc`` folder of a model; whoever asked for it removes it.

    Raises:
        ModelError: where the model is missing, broken, or of a kind that is not supported.
    """
    mil.describe(source)
    folder = Path(tempfile.mkdtemp(prefix=f"{source.stem}_", suffix=SUFFIX))
    copy = shutil.copytree if source.is_dir() else shutil.copy2
    # A temporary package is named *.mlpackage, a model file *.mlmodel: the copy keeps the name.
    copy(source, folder / source.name)
    return folder


def is_compiled(path: str) -> bool:
    """Whether a path names a compiled model."""
    return path.rstrip("/").endswith(SUFFIX)


def source(folder: Path) -> Path:
    """The model inside a compiled folder.

    Raises:
        ModelError: where it is missing or was not made by this runtime.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no compiled model at {folder}", hint="check the path")
    found = [p for p in sorted(folder.iterdir()) if p.suffix in SOURCES]
    if len(found) != 1:
        raise ModelError(
            f"{folder.name} was not compiled by this runtime",
            hint="compile the .mlpackage again with coremltools.models.utils.compile_model",
        )
    return found[0]


def assembled(spec: bytes, blobs: Mapping[str, bytes]) -> Path:
    """A compiled model of a description and weights held in memory.

    Raises:
        ModelError: where the bytes are no model, or a blob's name is none of a file.
    """
    model = proto.Model_pb2.Model()
    try:
        model.ParseFromString(spec)
    except DecodeError as error:
        raise ModelError(f"the bytes are not a Core ML model: {error}") from error
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "weights"
        weights.mkdir()
        for name, blob in blobs.items():
            (weights / _last_part(name)).write_bytes(blob)
        package = Path(temporary) / "asset.mlpackage"
        _create_mlpackage(model, str(weights), str(package))
        return compile_model(package)


def _last_part(name: str) -> str:
    """The last part of a blob's name: it must not lead out of the folder."""
    last = PurePosixPath(name).name
    if last in {"", ".."} or "\0" in last:
        raise ModelError(f"{name!r} is not the name of a weights file")
    return last
