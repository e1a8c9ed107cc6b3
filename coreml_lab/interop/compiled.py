"""Compiled models for coremltools: temporary ``.mlmodelc`` folders, each made of a model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError

from coreml_lab.errors import ModelError
from coreml_lab.program import mil
from coreml_lab.program.mil.tools import ct, proto
from coreml_lab.run import classical

SUFFIX = ".mlmodelc"
# In the folder of a model that is evaluated as it is, because it is no program.
MODEL = "model.mlmodel"


def compile_model(source: Path) -> Path:
    """Make a new temporary ``.mlmodelc`` folder of a model; whoever asked for it removes it.

    Raises:
        ModelError: where the model is missing, broken, or of a kind that is not supported.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{source.stem}_", suffix=SUFFIX))
    try:
        spec = mil.open_model(source)
        if classical.is_classical(spec):
            (folder / MODEL).write_bytes(spec.SerializeToString())
        else:
            mil.compile_folder(source, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def is_compiled(path: str) -> bool:
    """Whether a path names a compiled model."""
    return path.rstrip("/").endswith(SUFFIX)


def source(folder: Path) -> Path:
    """The folder of a compiled model, or the file in it that is no program.

    Raises:
        ModelError: where it is missing.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no compiled model at {folder}", hint="check the path")
    return folder / MODEL if (folder / MODEL).is_file() else folder


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
        ct.models.utils._create_mlpackage(model, str(weights), str(package))  # noqa: SLF001
        return compile_model(package)


def _last_part(name: str) -> str:
    """The last part of a blob's name: it must not lead out of the folder."""
    last = PurePosixPath(name).name
    if last in {"", ".."} or "\0" in last:
        raise ModelError(f"{name!r} is not the name of a weights file")
    return last
