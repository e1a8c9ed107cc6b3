"""Core ML model file -> Graph: the program that Core ML really executes."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from coreml_lab.errors import ModelError
from coreml_lab.program import heap, intake
from coreml_lab.program.graph import Graph
from coreml_lab.program.mil import blobs, budget, wire
from coreml_lab.program.mil.compiled import is_compiled, open_compiled
from coreml_lab.program.mil.description import (
    function_name,
    own_description,
    require_program,
)
from coreml_lab.program.mil.functions import FunctionReader
from coreml_lab.program.mil.neural_network.translation import is_classic, translate
from coreml_lab.program.mil.tools import LOCK, load_proto, mil_program, proto, types_forgotten
from coreml_lab.program.mil.weights import LARGEST_MANIFEST, LFS, LFS_POINTER, weights_folder

# How coremltools' loader says that a file of weights is not there.
ABSENT = "Could not open"
# Attributes by which coremltools' tools say where an operation ought to run, and number it.
HINTS = frozenset({"IntendedBackend", "debug_id"})
SYMBOL_FLOOR = 10**6
# Names of functions that an error lists.
SHOWN = 20


def read(path: Path, *, function: str | None = None) -> Graph:
    """See ``mil.read``."""
    # coremltools' program is full of cycles and holds on to the weights.
    with open_program(path) as (spec, weights), LOCK, heap.collected(), types_forgotten():
        return _graph(path, spec, weights, function)


@contextlib.contextmanager
def open_program(path: Path) -> Iterator[tuple[Any, Path]]:
    """The ML Program of a model file and the folder of its weights; classic networks become one.

    Raises:
        ModelError: for a file that is missing, broken or of a kind that is not supported.
    """
    spec, weights = open_spec(path)
    if not is_classic(spec):
        require_program(path.name, spec)
        yield spec, weights
        return
    with tempfile.TemporaryDirectory(prefix="coreml_lab-") as folder:
        package = Path(folder, "model.mlpackage")
        with LOCK, types_forgotten():
            translate(path.name, spec, package)
        yield open_spec(package)


def _graph(path: Path, spec: Any, weights: Path, function: str | None) -> Graph:
    name = function_name(spec, function)
    _only(path, spec.mlProgram, name)
    reset_symbols()
    for block in _blocks(spec.mlProgram):
        _without_hints(block)
        blobs.check(path.name, blobs.values(block), weights)
    try:
        with budget.bounded():
            program = load_proto(
                spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights)
            )
    except Exception as error:  # the loader raises bare Exceptions of every kind
        raise ModelError(
            f"{path.name}: its program cannot be read: {_reason(error)}", hint=_hint(error)
        ) from error
    described = own_description(spec, name)
    graph = FunctionReader(path.name, described).graph(program.functions[name])
    if not graph.outputs and not graph.updates:
        raise ModelError(f"{path.name}: nothing comes out of {name!r}", hint="convert it again")
    return graph


def _only(path: Path, program: Any, name: str) -> None:
    """Leave out the other functions: they would be read, with their weights, for nothing."""
    if name not in program.functions:
        known = ", ".join(sorted(program.functions)[:SHOWN]) or "it has none"
        raise ModelError(f"{path.name} has no function {name!r}", hint=f"one of {known}")
    for other in set(program.functions) - {name}:
        del program.functions[other]


def _blocks(program: Any) -> Iterator[Any]:
    for made in program.functions.values():
        yield from made.block_specializations.values()


def _without_hints(block: Any) -> None:
    """Leave out what coremltools' loader refuses: where operations ought to run, tools' numbers."""
    for operation in block.operations:
        packed = operation.type.startswith("constexpr_")
        kept = {"name", "val"} if operation.type == "const" else {"name"}
        for name in list(operation.attributes):
            if name in HINTS if packed else name not in kept:
                del operation.attributes[name]
        for inner in operation.blocks:
            _without_hints(inner)


def open_spec(path: Path) -> tuple[Any, Path]:
    """The parsed description of a model file, and the folder of its weights.

    Raises:
        ModelError: where the file is missing, truncated, or not a Core ML model.
    """
    if not path.exists():
        raise ModelError(
            f"there is no model at {path}",
            hint="check the path; coreml-lab models fetches the tour's models",
        )
    intake.examine(path)
    if is_compiled(path):
        return open_compiled(path)
    file = root_model(path) if path.is_dir() else path
    spec = proto.Model_pb2.Model()
    try:
        data = file.read_bytes()
        if data.startswith(LFS):
            raise ModelError(f"{path.name}: {file.name} is a {LFS_POINTER}", hint="git lfs pull")
        wire.check(path.name, data, spec.DESCRIPTOR)
        spec.ParseFromString(data)
    except (OSError, DecodeError) as error:
        raise ModelError(
            f"{path.name}: {file.name} cannot be read: {error}",
            hint="the file may be truncated: fetch it again",
        ) from error
    if not data or not spec.specificationVersion:
        raise ModelError(
            f"{path.name}: {file.name} is not a Core ML model", hint="give a .mlpackage or .mlmodel"
        )
    _countable(path.name, spec)
    return spec, weights_folder(path, file)


def folder_of_weights(path: Path) -> Path:
    """Where a model file that is not compiled has its weights."""
    return weights_folder(path, root_model(path) if path.is_dir() else path)


def root_model(package: Path) -> Path:
    """The file a package's manifest names as its model; it must lie inside the package."""
    manifest = package / "Manifest.json"
    if not manifest.exists():
        raise ModelError(
            f"{package.name} has no Manifest.json: it is not a model package",
            hint="give the .mlpackage folder itself",
        )
    try:
        data = json.loads(intake.text(package, manifest, LARGEST_MANIFEST))
        item = data["itemInfoEntries"][data["rootModelIdentifier"]]["path"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{package.name}: its Manifest.json is broken: {error!r}",
            hint="fetch or save the package again",
        ) from error
    found = intake.located(package, str(item))
    if not found.is_file():
        raise ModelError(
            f"{package.name}: {item} is missing", hint="fetch or save the package again"
        )
    return found


def _countable(file: str, spec: Any) -> None:
    """Refuse models with more operations or layers than can be read in reasonable time."""
    kind = spec.WhichOneof("Type")
    left = [b for f in spec.mlProgram.functions.values() for b in f.block_specializations.values()]
    steps, layers = 0, getattr(getattr(spec, kind), "layers", ()) if kind else ()
    while left:
        operations = left.pop().operations
        steps += len(operations)
        if steps > wire.MOST_STEPS:
            break
        left += [block for operation in operations for block in operation.blocks]
    if max(steps, len(layers)) > wire.MOST_STEPS:
        raise wire.too_many(file, "operations", wire.MOST_STEPS)


def reset_symbols() -> None:
    """Work around coremltools 9.0: symbols of one load break the next flexible model."""
    mil_program.k_used_symbols.clear()
    mil_program.k_num_internal_syms = max(mil_program.k_num_internal_syms, SYMBOL_FLOOR)


def _reason(error: Exception) -> str:
    if ABSENT in str(error):
        return f"its weights {Path(str(error).partition(ABSENT)[2].strip()).name} are missing"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _hint(error: Exception) -> str:
    if ABSENT in str(error):
        return "fetch the whole package again, its weights folder included"
    if "custom_layer" in str(error).lower() or "Custom Layer" in str(error):
        return "custom layers need the app that brings their code"
    return "the file may be truncated or made by a newer coremltools: fetch or convert it again"
