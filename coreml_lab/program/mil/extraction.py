"""One model of a pipeline as a file of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from coreml_lab.errors import ModelError
from coreml_lab.program.mil import blobs
from coreml_lab.program.mil.weights import USUAL

INNER = Path("com.apple.CoreML")
ROOT, WEIGHTS = "model", "weights"


def write(model: Any, weights: Path, folder: Path) -> Path:
    """Write a message as a model file below ``folder``; an ML Program brings its weights.

    Raises:
        ModelError: where its weights are missing.
    """
    if model.WhichOneof("Type") != "mlProgram":
        file = folder / "model.mlmodel"
        file.write_bytes(model.SerializeToString())
        return file
    package = folder / "model.mlpackage"
    home = package / "Data" / INNER
    (home / USUAL).mkdir(parents=True)
    (home / "model.mlmodel").write_bytes(model.SerializeToString())
    for name in sorted(_files(model)):
        if not name or name in {".", ".."} or not (weights / name).is_file():
            raise ModelError(f"its weights {name} are missing", hint="fetch the whole model again")
        shutil.copyfile(weights / name, home / USUAL / name)
    items = {
        ROOT: {"path": str(INNER / "model.mlmodel"), "author": INNER.name, "name": "model.mlmodel"},
        WEIGHTS: {"path": str(INNER / USUAL), "author": INNER.name, "name": USUAL},
    }
    told = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": ROOT}
    (package / "Manifest.json").write_text(json.dumps(told), encoding="utf-8")
    return package


def _files(model: Any) -> set[str]:
    """The names of the files in which its weights lie."""
    found = set()
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for value in blobs.values(block):
                if value.WhichOneof("value") == "blobFileValue":
                    found.add(value.blobFileValue.fileName.rpartition("/")[2])
    return found
