"""MIL's protobuf -> the text of a compiled model's program, as ``parser`` reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from coreml_lab.program.mil.literals import NAMES, elements, quoted, written
from coreml_lab.program.mil.parser import IOS
from coreml_lab.program.mil.scanner import WORD
from coreml_lab.program.mil.tools import proto

MIL = proto.MIL_pb2
RELEASES = {opset: ios for ios, opset in IOS.items()}
# From here on scalars are written ``fp16``, before ``tensor<fp16, []>``.
COMPACT = 18
VERSIONS = {True: "1.3", False: "1.0"}
INDENT = "    "


def write(program: Any, flexible: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a program; ``flexible`` holds the flexible shapes of its functions, by kind.

    Raises:
        ValueError, KeyError: for what the protobuf admits but no program has.
    """
    opsets = [RELEASES[f.opset] for f in program.functions.values()]
    out = _Printer(compact=max(opsets, default=0) >= COMPACT)
    parts = [f"program({VERSIONS[out.compact]})", out.attributes(program.attributes).lstrip(), "{"]
    for name in sorted(program.functions):
        parts += out.function(name, program.functions[name], flexible.get(name, {}))
    return "\n".join([*filter(None, parts), "}", ""])


def _flexibility(entries: Mapping[str, Any], *, compact: bool) -> str:
    """The attribute that holds a function's flexible shapes, if it has any."""
    if not entries:
        return ""
    name = "string" if compact else "tensor<string, []>"
    sizes = "tensor<int32, [?]>"
    kinds = {
        "DefaultShapes": f"dict<{name}, {sizes}>",
        "EnumeratedShapes": f"dict<{name}, dict<{name}, {sizes}>>",
        "RangeDims": f"dict<{name}, list<tensor<int32, [2]>, ?>>",
    }
    types = ", ".join(f"tuple<{name}, {kinds[kind]}>" for kind in entries)
    pairs = ", ".join(f"({quoted(kind)}, {_entry(held)})" for kind, held in entries.items())
    return f" [FlexibleShapeInformation = tuple<{types}>(({pairs}))]"


def _entry(held: Any) -> str:
    if not isinstance(held, Mapping):
        return json.dumps(held)
    return f"{{{', '.join(f'{{{quoted(k)}, {_entry(v)}}}' for k, v in held.items())}}}"


class _Printer:
    """``compact`` is the spelling of newer programs."""

    def __init__(self, *, compact: bool) -> None:
        self.compact = compact

    def function(self, name: str, function: Any, shapes: Mapping[str, Any]) -> Iterator[str]:
        """The lines of a function."""
        # Parameters are written in the order of their names, as Core ML's compiler does.
        given = self._typed(sorted(function.inputs, key=lambda value: str(value.name)))
        flexible = _flexibility(shapes, compact=self.compact)
        yield f"{INDENT}func {name}<ios{RELEASES[function.opset]}>({given}){flexible} {{"
        block = function.block_specializations[function.opset]
        yield from self._body(block, 3)
        yield f"{INDENT * 2}}} -> ({', '.join(map(_named, block.outputs))});"

    def _body(self, block: Any, depth: int) -> Iterator[str]:
        for operation in block.operations:
            yield from self._statement(operation, depth)

    def _statement(self, operation: Any, depth: int) -> Iterator[str]:
        results = self._typed(operation.outputs)
        given = ", ".join(
            f"{name} = {self._argument(operation.inputs[name])}"
            for name in sorted(operation.inputs)
        )
        begin = f"{results} = " if results else ""
        line = f"{begin}{operation.type}({given}){self.attributes(operation.attributes)}"
        for i, block in enumerate(operation.blocks):
            yield f"{INDENT * depth}{line} block{i}({self._typed(block.inputs)}) {{"
            yield from self._body(block, depth + 1)
            line = f"}} -> ({', '.join(map(_named, block.outputs))})"
        yield f"{INDENT * depth}{line};"

    def _typed(self, values: Iterable[Any]) -> str:
        return ", ".join(f"{self._type(v.type)} {_named(v.name)}" for v in values)

    def _argument(self, argument: Any) -> str:
        found = [
            _named(b.name) if b.WhichOneof("binding") == "name" else self._value(b.value)
            for b in argument.arguments
        ]
        return found[0] if len(found) == 1 else f"({', '.join(found)})"

    def attributes(self, attributes: Mapping[str, Any]) -> str:
        """``[name = value, …]`` of whatever has any."""
        named = [f"{name} = {self._value(attributes[name])}" for name in sorted(attributes)]
        return f"[{', '.join(named)}]" if named else ""

    def _type(self, kind: Any) -> str:
        which = kind.WhichOneof("type")
        if which == "tensorType":
            dtype = NAMES[kind.tensorType.dataType]
            if self.compact and not kind.tensorType.dimensions:
                return dtype
            return f"tensor<{dtype}, [{', '.join(map(_size, kind.tensorType.dimensions))}]>"
        if which == "stateType":
            return f"state<{self._type(kind.stateType.wrappedType)}>"
        if which == "listType":
            return f"list<{self._type(kind.listType.type)}, {_size(kind.listType.length)}>"
        if which == "tupleType":
            return f"tuple<{', '.join(map(self._type, kind.tupleType.types))}>"
        pair = kind.dictionaryType
        return f"dict<{self._type(pair.keyType)}, {self._type(pair.valueType)}>"

    def _value(self, value: Any) -> str:
        if value.WhichOneof("value") == "blobFileValue":
            held = value.blobFileValue
            string, whole = (
                ("string", "uint64")
                if self.compact
                else ("tensor<string, []>", "tensor<uint64, []>")
            )
            path, offset = f"{string}({quoted(held.fileName)})", f"{whole}({held.offset})"
            return f"{self._type(value.type)}(BLOBFILE(path = {path}, offset = {offset}))"
        return f"{self._type(value.type)}({self._literal(value)})"

    def _literal(self, value: Any) -> str:
        held = value.immediateValue
        which = held.WhichOneof("value")
        if which == "dictionary":
            pairs = ((self._literal(p.key), self._literal(p.value)) for p in held.dictionary.values)
            return f"{{{', '.join(f'{{{key}, {item}}}' for key, item in pairs)}}}"
        if which in {"list", "tuple"}:
            inside = ", ".join(map(self._literal, getattr(held, which).values))
            return f"[{inside}]" if which == "list" else f"({inside})"
        kind = value.type.tensorType
        sizes = [int(d.constant.size) for d in kind.dimensions]
        items = elements(NAMES[kind.dataType], math.prod(sizes), held.tensor)
        return nested([written(item) for item in items], sizes)


def _named(name: str) -> str:
    """The name of a value; in quotation marks where it is none in Core ML's own texts."""
    return name if WORD.fullmatch(name) else quoted(name)


def _size(dimension: Any) -> str:
    constant = dimension.WhichOneof("dimension") == "constant"
    return str(dimension.constant.size) if constant else "?"


def nested(items: Sequence[str], sizes: Sequence[int]) -> str:
    """Elements in brackets, one pair per dimension."""
    if not sizes:
        return items[0]
    if len(sizes) == 1 or not items:
        return f"[{', '.join(items)}]"
    step = len(items) // sizes[0]
    rows = (nested(items[i : i + step], sizes[1:]) for i in range(0, len(items), step))
    return f"[{', '.join(rows)}]"
