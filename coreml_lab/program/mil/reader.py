"""Core ML model file -> Graph: the program that Core ML really executes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from coreml_lab.errors import ModelError
from coreml_lab.program.graph import Dim, Graph, Node, Operand, TensorType, Value
from coreml_lab.program.mil.tools import (
    LOCK,
    is_symbolic,
    load_proto,
    mil_program,
    nptype_from_builtin,
    proto,
)

# coremltools numbers its targets from iOS13 = 4; MIL opsets are named after the iOS release.
OPSET_OFFSET = 9
SYMBOL_FLOOR = 10**6
# For the Neural Engine's sake coremltools casts integers to 16 bits before gathers, negative ones
# to uint16 too. Core ML is reported not to narrow there (apple/coremltools#2222), so neither do we.
NARROW = frozenset({"int16", "uint16"})
LFS = b"version https://git-lfs"
LFS_POINTER = "Git LFS pointer, not the file itself"


def read(path: Path, *, function: str | None = None) -> Graph:
    """See ``mil.read``."""
    spec, weights = open_spec(path)
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ModelError(
            f"{path.name} is a Core ML model of kind {kind or 'unknown'}, not an ML Program",
            hint="convert it again with coremltools: convert_to='mlprogram'",
        )
    with LOCK:
        _reset_symbols()
        try:
            program = load_proto(
                spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights)
            )
        except Exception as error:  # the loader raises bare Exceptions of every kind
            raise ModelError(
                f"{path.name}: its program cannot be read: {_reason(error)}", hint=_hint(error)
            ) from error
        name = function or _default_function(spec, program)
        if name not in program.functions:
            raise ModelError(
                f"{path.name} has no function {name!r}",
                hint="one of " + ", ".join(program.functions),
            )
        return _Reader(path.name, spec).graph(program.functions[name])


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
    file = _root_model(path) if path.is_dir() else path
    spec = proto.Model_pb2.Model()
    try:
        data = file.read_bytes()
        if data.startswith(LFS):
            raise ModelError(f"{path.name}: {file.name} is a {LFS_POINTER}", hint="git lfs pull")
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
    weights = file.parent / "weights"
    for blob in weights.glob("*.bin") if weights.is_dir() else ():
        with blob.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise ModelError(
                    f"{path.name}: {blob.name} is a {LFS_POINTER}", hint="git lfs pull"
                )
    return spec, weights


def _root_model(package: Path) -> Path:
    """The file a package's manifest names as its model; it must lie inside the package."""
    manifest = package / "Manifest.json"
    if not manifest.exists():
        raise ModelError(
            f"{package.name} has no Manifest.json: it is not a model package",
            hint="give the .mlpackage folder itself",
        )
    try:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        item = data["itemInfoEntries"][data["rootModelIdentifier"]]["path"]
        found: Path = (package / "Data" / str(item)).resolve()
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"{package.name}: its Manifest.json is broken: {error!r}",
            hint="fetch or save the package again",
        ) from error
    if not found.is_relative_to(package.resolve()):
        raise ModelError(
            f"{package.name}: its manifest points outside the package ({item})",
            hint="do not trust this file",
        )
    if not found.is_file():
        raise ModelError(
            f"{package.name}: {item} is missing", hint="fetch or save the package again"
        )
    return found


def _reset_symbols() -> None:
    """Work around coremltools 9.0: symbols of one load break the next flexible model."""
    mil_program.k_used_symbols.clear()
    mil_program.k_num_internal_syms = max(mil_program.k_num_internal_syms, SYMBOL_FLOOR)


def _default_function(spec: Any, program: Any) -> str:
    named = getattr(spec.description, "defaultFunctionName", "")
    return named or (
        "main" if "main" in program.functions else next(iter(program.functions), "main")
    )


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _hint(error: Exception) -> str:
    if "custom_layer" in str(error).lower() or "Custom Layer" in str(error):
        return "custom layers need the app that brings their code"
    return "the file may be truncated or made by a newer coremltools: fetch or convert it again"


def _plain(value: Any) -> Any:
    """Flags, counts and names as Python's own; floats keep their width."""
    return value.item() if isinstance(value, np.bool_ | np.integer | np.str_) else value


class _Reader:
    """One function of a program, as a Graph."""

    def __init__(self, file: str, spec: Any) -> None:
        self.file = file
        self.spec = spec
        self.made: dict[Any, Value] = {}
        self.consts: dict[Any, Value] = {}
        self.dims: dict[str, Dim] = {}

    def graph(self, function: Any) -> Graph:
        opset = int(function.opset_version.value) + OPSET_OFFSET
        self._bounds(function)
        inputs = {}
        for name, var in function.inputs.items():
            inputs[name] = Node(
                "input", (self._type(var),), name=name, where=self.file, opset=opset
            )
            self.made[var] = Value(inputs[name])
        for op in function.operations:
            if op.op_type != "const" and not all(v.val is not None for v in op.outputs):
                self._node(op, opset)
        return Graph({var.name: self._value(var) for var in function.outputs}, inputs)

    def _bounds(self, function: Any) -> None:
        """Names and bounds of flexible dimensions, from the model's description."""
        described = {f.name: f for f in self.spec.description.input}
        for name, var in function.inputs.items():
            if name not in described:
                continue
            kind = described[name].type.WhichOneof("Type")
            if kind != "multiArrayType":
                raise ModelError(
                    f"{self.file}: input {name!r} is of type {kind}, not a multi-array",
                    hint="convert the model with a TensorType input",
                )
            ranges = described[name].type.multiArrayType.shapeRange.sizeRanges
            for symbol, bound in zip(var.shape, ranges, strict=False):
                if is_symbolic(symbol):
                    low, high = max(int(bound.lowerBound), 0), max(int(bound.upperBound), 0)
                    self.dims.setdefault(str(symbol), Dim(f"d{len(self.dims)}", low, high))

    def _type(self, var: Any) -> TensorType:
        try:
            dtype = np.dtype(nptype_from_builtin(var.dtype))
        except (TypeError, AttributeError) as error:
            raise ModelError(
                f"{self.file}: {var.name} is not a tensor ({var.sym_type})",
                hint="see cl.doctor() for what runs",
            ) from error
        dtype = np.dtype(np.int32) if dtype.name in NARROW else dtype
        return TensorType(tuple(self._size(d) for d in var.shape), dtype)

    def _size(self, size: Any) -> int | Dim:
        """A size as ours, numbered: coremltools' symbols differ from process to process."""
        if not is_symbolic(size):
            return int(size)
        return self.dims.setdefault(str(size), Dim(f"d{len(self.dims)}"))

    def _node(self, op: Any, opset: int) -> None:
        inputs: dict[str, Operand] = {}
        attrs: dict[str, Any] = {}
        for name, var in op.inputs.items():
            if var is None or name.startswith("_"):
                continue
            if isinstance(var, tuple | list):
                inputs[name] = tuple(self._value(v) for v in var)
            elif var in self.made or not op.input_spec.input_types[name].const:
                inputs[name] = self._value(var)
            else:
                attrs[name] = _plain(var.val)
        if op.op_type == "cast" and attrs["dtype"] in NARROW:
            attrs["dtype"] = "int32"
        first = op.outputs[0].name
        types = tuple(self._type(v) for v in op.outputs)
        node = Node(
            op.op_type, types, inputs, attrs, name=first, where=f"{self.file}: {first}", opset=opset
        )
        for i, var in enumerate(op.outputs):
            self.made[var] = Value(node, i)

    def _value(self, var: Any) -> Value:
        if var in self.made:
            return self.made[var]
        if var.val is None:
            raise ModelError(
                f"{self.file}: {var.name} is used but nothing computes it",
                hint="the program is damaged: convert it again",
            )
        if var not in self.consts:
            array = np.asarray(var.val)
            self.consts[var] = Value(
                Node(
                    "const",
                    (TensorType(array.shape, array.dtype),),
                    attrs={"val": array},
                    name=var.name,
                )
            )
        return self.consts[var]
