"""Where a model file keeps its weights, and whether they are really there."""

from __future__ import annotations

import json
from pathlib import Path

from coreml_lab.errors import ModelError
from coreml_lab.program import intake

LFS = b"version https://git-lfs"
LFS_POINTER = "Git LFS pointer, not the file itself"
USUAL = "weights"
LARGEST_MANIFEST = 16 << 20


def weights_folder(path: Path, file: Path) -> Path:
    """The folder beside the model ``file``, or the other one that the package's manifest names.

    Raises:
        ModelError: where the weights are Git LFS pointers, or lie outside the package.
    """
    usual = file.parent / USUAL
    folder = usual if usual.is_dir() or not path.is_dir() else _named(path) or usual
    refuse_pointers(path, folder)
    return folder


def refuse_pointers(path: Path, folder: Path) -> None:
    """Refuse a folder of weights that were left where the model at ``path`` was taken from.

    Raises:
        ModelError: where a file is a Git LFS pointer.
    """
    for blob in folder.glob("*.bin") if folder.is_dir() else ():
        with blob.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise ModelError(
                    f"{path.name}: {blob.name} is a {LFS_POINTER}", hint="git lfs pull"
                )


def _named(package: Path) -> Path | None:
    """The first folder of the manifest; the model itself is a file."""
    data = json.loads(intake.text(package, package / "Manifest.json", LARGEST_MANIFEST))
    for item in data["itemInfoEntries"].values():
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            continue
        found = intake.located(package, item["path"])
        if found.is_dir():
            return found
    return None
