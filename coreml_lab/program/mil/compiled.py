"""Compiled models: ``.mlmodelc`` folders with a program as text, read and written.

A folder holds ``model.mil``, ``metadata.json`` and the weights that the program names. Those that
Core ML's compiler made have more, which only Core ML reads; those made here have no more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from coreml_lab.errors import ModelError
from coreml_lab.program import intake
from coreml_lab.program.mil import metadata, printer
from coreml_lab.program.mil.blobs import values
from coreml_lab.program.mil.description import feature, own_description
from coreml_lab.program.mil.parser import parse
from coreml_lab.program.mil.tools import proto
from coreml_lab.program.mil.weights import LFS, LFS_POINTER, USUAL, refuse_pointers

SUFFIX = ".mlmodelc"
TEXT, METADATA = "model.mil", "metadata.json"
BEGIN = "@model_path/"
# Larger files are not of this world: real programs have a few megabytes of text.
LARGEST = {TEXT: 256 << 20, METADATA: 32 << 20}
# What reading something of another form than is expected raises.
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
FETCH = "the file may be damaged: fetch the whole folder again"
CONVERT = "load the .mlmodel or .mlpackage that it was compiled from: only Core ML reads this one"


def is_compiled(path: Path) -> bool:
    """Whether a path is the folder of a compiled model."""
    return path.is_dir() and (path.suffix == SUFFIX or (path / TEXT).exists())


def open_compiled(path: Path) -> tuple[Any, Path]:
    """The description and program of a compiled model, and the folder of its weights.

    Raises:
        ModelError: where it is damaged, or of a kind other than an ML Program.
    """
    root = _root(path)
    about = _about(path, root)
    text = _text(path, root / TEXT)
    parsed = parse(text, f"{path.name}: {TEXT}")
    spec = proto.Model_pb2.Model()
    spec.mlProgram.CopyFrom(parsed.program)
    _adapt(spec.mlProgram)
    try:
        versions = [
            int(f.opset.removeprefix("CoreML")) + 1 for f in spec.mlProgram.functions.values()
        ]
        spec.specificationVersion = max(int(about.get("specificationVersion", 0)), *versions)
        metadata.fill(spec, parsed.attributes, about)
    except (*DAMAGED, RecursionError) as error:
        raise ModelError(
            f"{path.name}: what it says about its interface is damaged: {error!r}", hint=FETCH
        ) from error
    return spec, _weights(path, root, parsed.blobs)


def _adapt(program: Any) -> None:
    """Change what coremltools' loader does not take: other attributes, and lists by name."""
    for name in set(program.attributes) - {"buildInfo"}:
        del program.attributes[name]
    for function in program.functions.values():
        block = function.block_specializations[function.opset]
        places = [i for i, op in enumerate(block.operations) if _is_list(op)]
        taken = [block.operations.pop(i) for i in reversed(places)]
        lists = {op.outputs[0].name: op.attributes["val"] for op in taken}
        for operation in block.operations if lists else ():
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.name in lists:
                        binding.value.CopyFrom(lists[binding.name])


def _is_list(operation: Any) -> bool:
    constant = operation.type == "const" and "val" in operation.attributes
    return constant and operation.attributes["val"].type.HasField("listType")


def _root(path: Path) -> Path:
    """The folder of the program: the model's own, or the only one inside of it."""
    if (path / TEXT).is_file():
        return path
    inside = [p for p in sorted(path.iterdir()) if p.is_dir() and p.name.startswith("model")]
    told = _about(path, path).get("modelType")
    named = told.get("name", "") if isinstance(told, dict) else ""
    kind = str(named).removeprefix("MLModelType_")
    if len(inside) == 1 and (inside[0] / TEXT).is_file() and kind in {"", "mlProgram"}:
        return inside[0]
    if not any(path.iterdir()):
        raise ModelError(f"{path.name} is empty: there is no model in it", hint=FETCH)
    if not kind:
        networks = any(path.glob("*.espresso.net"))
        kind = "pipeline" if inside else "neuralNetwork" if networks else "unknown"
    if kind == "mlProgram":
        raise ModelError(f"{path.name}: its {TEXT} is missing", hint=FETCH)
    raise ModelError(
        f"{path.name} is a compiled Core ML model of kind {kind}, not an ML Program", hint=CONVERT
    )


def _text(path: Path, file: Path) -> str:
    """The text of a file, if it is one of a size that can be."""
    found = intake.text(path, file, LARGEST[file.name])
    if found.startswith(LFS.decode()):
        raise ModelError(f"{path.name}: {file.name} is a {LFS_POINTER}", hint="git lfs pull")
    return found


def _about(path: Path, root: Path) -> dict[str, Any]:
    """What ``metadata.json`` says; a folder without one is described by its program alone."""
    file = next((f for f in (root / METADATA, path / METADATA) if f.is_file()), None)
    if file is None:
        return {}
    try:
        held = json.loads(_text(path, file))
        return dict(held[0] if isinstance(held, list) else held)
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise ModelError(
            f"{path.name}: its {METADATA} is damaged: {error!r}", hint=FETCH
        ) from error


def _weights(path: Path, root: Path, blobs: frozenset[str]) -> Path:
    """The one folder that holds all files of weights, which must lie inside of the model's."""
    folders = set()
    for blob in sorted(blobs):
        file = root / blob.removeprefix(BEGIN)
        try:
            outside = not file.resolve().is_relative_to(root.resolve())
        except (ValueError, OSError):
            outside = True
        if outside or not blob.startswith(BEGIN):
            raise ModelError(
                f"{path.name}: its program takes weights from outside of the folder ({blob!r})",
                hint="do not trust this file",
            )
        folders.add(file.parent)
    if len(folders) > 1:
        raise ModelError(
            f"{path.name}: its weights lie in {len(folders)} folders; one is supported",
            hint="compile the model again",
        )
    folder = next(iter(folders), root / USUAL)
    refuse_pointers(path, folder)
    return folder


def write_compiled(spec: Any, weights: Path, folder: Path) -> None:
    """Write a model as a compiled folder that ``open_compiled`` reads.

    Raises:
        ModelError: where its weights are missing, or its program is none that can be written.
    """
    made = proto.Model_pb2.Model()
    made.CopyFrom(spec)
    files = dict.fromkeys(_rehomed(made.mlProgram))
    flexible = {n: _flexibility(made, n) for n in made.mlProgram.functions}
    try:
        text = printer.write(made.mlProgram, flexible)
    except (*DAMAGED, ZeroDivisionError) as error:
        raise ModelError(
            f"its program cannot be compiled: {error!r}", hint="convert the model again"
        ) from error
    (folder / TEXT).write_text(text, encoding="utf-8")
    about = json.dumps(metadata.write(made), indent=2, ensure_ascii=False)
    (folder / METADATA).write_text(about, encoding="utf-8")
    (folder / USUAL).mkdir()
    for name in files:
        if not (weights / name).is_file():
            raise ModelError(f"its weights {name} are missing", hint="fetch the whole model again")
        shutil.copy2(weights / name, folder / USUAL / name)


def _rehomed(program: Any) -> Iterator[str]:
    """The files of weights; every use of one is led to where compiled models have it."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            for value in values(block):
                if value.WhichOneof("value") == "blobFileValue":
                    name = PurePosixPath(value.blobFileValue.fileName).name
                    value.blobFileValue.fileName = f"{BEGIN}{USUAL}/{name}"
                    yield name


def _flexibility(spec: Any, name: str) -> dict[str, Any]:
    """What a function says about the shapes of its flexible inputs; mostly nothing."""
    described = {f.name: feature("", f) for f in own_description(spec, name).input}
    dynamic = {
        value.name: described[value.name]
        for value in spec.mlProgram.functions[name].inputs
        if value.name in described
        and any(d.WhichOneof("dimension") != "constant" for d in value.type.tensorType.dimensions)
    }
    entries: dict[str, dict[str, Any]] = {
        "DefaultShapes": {n: list(f.default_shape) for n, f in dynamic.items()},
        "EnumeratedShapes": {},
        "RangeDims": {n: [[a, b or -1] for a, b in f.bounds] for n, f in dynamic.items()},
    }
    listed = {n: f.enumerated for n, f in dynamic.items() if f.enumerated}
    # Inputs with as many shapes each have them together, one after the other.
    joint = len({len(shapes) for shapes in listed.values()}) == 1
    for n, shapes in listed.items():
        for i, shape in enumerate(shapes):
            key = f"shapes_{i}" if joint else f"{n}_{i}"
            entries["EnumeratedShapes"].setdefault(key, {})[n] = list(shape)
    return {kind: held for kind, held in entries.items() if held}
