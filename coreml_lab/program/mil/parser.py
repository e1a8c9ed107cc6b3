"""The text of a compiled model's program (``model.mil``) -> MIL's protobuf.

Scalars have two spellings, ``tensor<fp16, []>`` up to iOS17 and ``fp16`` after; both are read
everywhere. No text of Core ML's own with nested blocks was at hand: they are read as ``printer``
writes them, ``cond(…)[…] block0() { … } -> (…) block1() { … } -> (…);``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coreml_lab.program.mil import wire
from coreml_lab.program.mil.expressions import Expressions, plain
from coreml_lab.program.mil.literals import unquoted
from coreml_lab.program.mil.scanner import STRING
from coreml_lab.program.mil.tools import proto

MIL = proto.MIL_pb2
VERSION = re.compile(r"\s*program\s*\(\s*1(?:\.\d+)?\s*\)")
# Core ML's compiler writes ios16, other tools the protobuf's name CoreML6.
OPSET = re.compile(r"\s*(ios\d+|CoreML\d+)\b")
# MIL's opsets are numbered from iOS 10 = 0; iOS 26 follows upon 18, and was to be called 19.
IOS = {15: "CoreML5", 16: "CoreML6", 17: "CoreML7", 18: "CoreML8", 26: "CoreML9"}
OPSETS = {f"ios{ios}": opset for ios, opset in IOS.items()}
OPSETS |= {opset: opset for opset in IOS.values()} | {"ios19": "CoreML9"}


@dataclass(frozen=True)
class Parsed:
    """A program, the files of its weights, and what its functions say beyond the protobuf."""

    program: Any
    blobs: frozenset[str]
    attributes: Mapping[str, Mapping[str, Any]]


def parse(text: str, file: str) -> Parsed:
    """The program that ``text`` describes; ``file`` is what errors call it.

    Raises:
        ModelError: naming the line, where it is not the text of a program.
    """
    return _Parser(text, file).parse()


class _Parser(Expressions):
    """Recursive descent: one method per thing of the language."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.program = MIL.Program(version=1)
        self.said: dict[str, Mapping[str, Any]] = {}
        # Of each block around this place: what has been computed.
        self._names: list[set[str]] = []

    def parse(self) -> Parsed:
        """``program(1.0) [buildInfo = …] { func …; }``."""
        scan = self.scan
        # Each statement ends with one; other semicolons are rare.
        if scan.text.count(";") > wire.MOST_STEPS:
            raise wire.too_many(scan.file, "operations", wire.MOST_STEPS)
        if not scan.find(VERSION):
            raise scan.error("the text of a program begins with program(1.…)")
        self._attributes(self.program.attributes)
        scan.expect("{")
        while not scan.accept("}"):
            self._function()
        if scan.text[scan.at :].strip():
            raise scan.error("the end is expected")
        return Parsed(self.program, frozenset(self.blobs), self.said)

    def _function(self) -> None:
        """``func main<ios17>(type x) [FlexibleShapeInformation = …] { … } -> (y);``."""
        scan = self.scan
        scan.expect("func")
        name = scan.word("the name of a function")
        if name in self.program.functions:
            raise scan.error(f"the function {name} is there twice")
        scan.expect("<")
        opset = OPSETS.get(scan.take(OPSET, "an opset such as ios17"))
        if opset is None:
            raise scan.error("this version does not know this opset")
        scan.expect(">")
        function, beyond = self.program.functions[name], MIL.Function()
        function.opset = opset
        with self._scope():
            self._parameters(function.inputs)
            self._attributes(beyond.attributes)
            self._body(function.block_specializations[opset])
        self.said[name] = {key: plain(value) for key, value in beyond.attributes.items()}
        scan.expect(";")

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Names made inside are unknown outside."""
        self.scan.deeper()
        self._names.append(set())
        yield
        self._names.pop()
        self.scan.higher()

    def _parameters(self, made: Any) -> None:
        """``(type name, …)``."""
        self.scan.expect("(")
        for _ in self.scan.until(")"):
            self._names[-1].add(self._declared(made))

    def _declared(self, made: Any) -> str:
        """``type name``."""
        value = made.add()
        self.type(value.type)
        value.name = self._name("a name")
        return str(value.name)

    def _body(self, block: Any) -> None:
        """``{ statement … } -> (name, …)``."""
        scan = self.scan
        scan.expect("{")
        while not scan.accept("}"):
            self._statement(block.operations.add())
        scan.expect("->")
        scan.expect("(")
        for _ in scan.until(")"):
            block.outputs.append(self._known(self._name("the name of a result")))

    def _name(self, what: str) -> str:
        """The name of a value; in quotation marks, a spelling of our own, where it is no word."""
        found = self.scan.find(STRING)
        return unquoted(found[1]) if found else self.scan.word(what)

    def _known(self, name: str) -> str:
        if not any(name in names for names in self._names):
            raise self.scan.error(f"{name} is used but nothing before computes it")
        return name

    def _statement(self, operation: Any) -> None:
        """``type name, … = op(name = value, …)[name = value, …] …;``."""
        scan = self.scan
        begin, made = scan.at, set()
        scan.word("a statement")
        # What only changes a state has no results.
        results = not scan.accept("(")
        scan.at = begin
        if results:
            made.add(self._declared(operation.outputs))
            while scan.accept(","):
                made.add(self._declared(operation.outputs))
            scan.expect("=")
        operation.type = scan.word("the name of an operation")
        scan.expect("(")
        for _ in scan.until(")"):
            name = scan.word("the name of an argument")
            scan.expect("=")
            self._argument(operation.inputs[name].arguments)
        self._attributes(operation.attributes)
        self._blocks(operation)
        self._names[-1].update(made)

    def _argument(self, bindings: Any) -> None:
        """One value, or several in parentheses."""
        if not self.scan.accept("("):
            self._binding(bindings.add())
            return
        for _ in self.scan.until(")"):
            self._binding(bindings.add())

    def _binding(self, binding: Any) -> None:
        """The name of a value, or a constant."""
        scan = self.scan
        begin = scan.at
        name = self._name("a value")
        if scan.accept("<") or scan.accept("("):
            scan.at = begin
            self.value(binding.value)
        else:
            binding.name = self._known(name)

    def _attributes(self, attributes: Any) -> None:
        """``[name = value, …]``, which may be missing."""
        scan = self.scan
        if not scan.accept("["):
            return
        for _ in scan.until("]"):
            name = scan.word("the name of an attribute")
            scan.expect("=")
            self.value(attributes[name])

    def _blocks(self, operation: Any) -> None:
        """``name(type name, …) { … } -> (…)`` for each nested block, up to the semicolon."""
        while not self.scan.accept(";"):
            self.scan.word("a semicolon or a block")
            block = operation.blocks.add()
            with self._scope():
                self._parameters(block.inputs)
                self._body(block)
