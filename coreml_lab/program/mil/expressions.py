"""Types and values in the text of a program: ``tensor<fp16, [2]>([0x1p+0, 0x1p+1])``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from coreml_lab.program.mil.literals import DTYPES, NAMES, parser, tensor_value, unquoted
from coreml_lab.program.mil.scanner import SCALAR, STRING, Scanner
from coreml_lab.program.mil.tools import proto

MIL = proto.MIL_pb2
TENSOR = re.compile(r"\s*tensor\s*<\s*(\w+)\s*,\s*\[([^\]]*)\]\s*>")
# A size or an offset of more digits does not fit 64 bits.
BLOB = re.compile(
    r"\s*BLOBFILE\s*\(\s*path\s*=\s*(?:tensor\s*<\s*string\s*,\s*\[\s*\]\s*>|string)"
    r'\s*\(\s*"([^"\\]*)"\s*\)\s*,'
    r"\s*offset\s*=\s*(?:tensor\s*<\s*uint64\s*,\s*\[\s*\]\s*>|uint64)"
    r"\s*\(\s*(\d{1,18})\s*\)\s*\)"
)
SIZE = re.compile(r"\s*(\d{1,18}|\?)\s*")
FLAT = str.maketrans("[]", "  ")


class Expressions:
    """What types and values are made of; ``blobs`` collects the files that hold weights."""

    def __init__(self, text: str, file: str) -> None:
        self.scan = Scanner(text, file)
        self.blobs: set[str] = set()
        self._types: dict[tuple[str, str], Any] = {}

    def type(self, kind: Any) -> None:
        """Any type; scalars may be written ``fp16`` or ``tensor<fp16, []>``."""
        found = self.scan.find(TENSOR)
        if found:
            kind.CopyFrom(self._tensor(found[1], found[2]))
            return
        name = self.scan.word("a type")
        if name in DTYPES:
            kind.CopyFrom(self._tensor(name, ""))
            return
        make = {"state": self._state, "list": self._list, "tuple": self._tuple, "dict": self._dict}
        if name not in make:
            raise self.scan.error(f"{name} is no type that this version knows")
        self.scan.deeper()
        self.scan.expect("<")
        make[name](kind)
        self.scan.expect(">")
        self.scan.higher()

    def _tensor(self, dtype: str, sizes: str) -> Any:
        """``tensor<dtype, [sizes]>``; types repeat, and are made once."""
        if (dtype, sizes) not in self._types:
            if dtype not in DTYPES:
                raise self.scan.error(f"{dtype} is no type of elements that this version knows")
            kind = MIL.ValueType()
            kind.tensorType.dataType = DTYPES[dtype]
            for size in sizes.split(",") if sizes.strip() else ():
                self._size(kind.tensorType.dimensions.add(), size)
            kind.tensorType.rank = len(kind.tensorType.dimensions)
            self._types[dtype, sizes] = kind
        return self._types[dtype, sizes]

    def _size(self, dimension: Any, text: str) -> None:
        found = SIZE.fullmatch(text)
        if not found:
            raise self.scan.error(f"{text.strip()!r} is no size")
        if found[1] == "?":
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = int(found[1])

    def _state(self, kind: Any) -> None:
        self.type(kind.stateType.wrappedType)

    def _list(self, kind: Any) -> None:
        self.type(kind.listType.type)
        self.scan.expect(",")
        self._size(kind.listType.length, self.scan.take(SIZE, "a length"))

    def _tuple(self, kind: Any) -> None:
        self.type(kind.tupleType.types.add())
        while self.scan.accept(","):
            self.type(kind.tupleType.types.add())

    def _dict(self, kind: Any) -> None:
        self.type(kind.dictionaryType.keyType)
        self.scan.expect(",")
        self.type(kind.dictionaryType.valueType)

    def value(self, value: Any) -> None:
        """``type(literal)``, or ``type(BLOBFILE(…))`` for what is kept in a file."""
        self.type(value.type)
        self.scan.expect("(")
        if found := self.scan.find(BLOB):
            value.blobFileValue.fileName = found[1]
            value.blobFileValue.offset = int(found[2])
            self.blobs.add(found[1])
        elif self.scan.accept("BLOBFILE"):
            raise self.scan.error("(path = …, offset = …) is expected")
        else:
            self._literal(value)
        self.scan.expect(")")

    def _literal(self, value: Any) -> None:
        """What is in the parentheses: its form depends on the type."""
        fill = {
            "tensorType": self._tensor_literal,
            "listType": self._list_literal,
            "tupleType": self._tuple_literal,
            "dictionaryType": self._dict_literal,
        }
        kind = value.type.WhichOneof("type")
        if kind not in fill:
            raise self.scan.error("a state has no value here")
        self.scan.deeper()
        fill[kind](value)
        self.scan.higher()

    def _tensor_literal(self, value: Any) -> None:
        kind = value.type.tensorType
        dtype = NAMES[kind.dataType]
        items = self._strings() if dtype == "string" else self._numbers(parser(dtype))
        known = all(d.WhichOneof("dimension") == "constant" for d in kind.dimensions)
        count = math.prod(d.constant.size for d in kind.dimensions) if known else len(items)
        if len(items) != count:
            raise self.scan.error(f"{count} elements are declared, {len(items)} are there")
        tensor_value(dtype, items, value.immediateValue.tensor)

    def _numbers(self, parse: Callable[[str], Any]) -> list[Any]:
        """One number, or all those in (nested) brackets, in their order."""
        scan = self.scan
        flat = (
            scan.bracketed().translate(FLAT) if scan.accept("[") else scan.take(SCALAR, "a value")
        )
        try:
            return [parse(item.strip()) for item in flat.split(",")] if flat.strip() else []
        except (ValueError, OverflowError) as error:
            raise scan.error(str(error)) from error

    def _strings(self) -> list[str]:
        """One string, or all those in (nested) brackets."""
        scan = self.scan
        if not scan.accept("["):
            return [unquoted(scan.take(STRING, "a string"))]
        scan.deeper()
        found = [text for _ in scan.until("]") for text in self._strings()]
        scan.higher()
        return found

    def _inner(self, value: Any, kind: Any) -> None:
        value.type.CopyFrom(kind)
        self._literal(value)

    def _list_literal(self, value: Any) -> None:
        made = value.immediateValue.list
        made.SetInParent()
        close = "]" if self.scan.accept("[") else ")"
        if close == ")":
            self.scan.expect("(")
        for _ in self.scan.until(close):
            self._inner(made.values.add(), value.type.listType.type)

    def _tuple_literal(self, value: Any) -> None:
        kinds, made = value.type.tupleType.types, value.immediateValue.tuple
        self.scan.expect("(")
        for i, _ in enumerate(self.scan.until(")")):
            if i == len(kinds):
                raise self.scan.error("a tuple has more values than types")
            self._inner(made.values.add(), kinds[i])

    def _dict_literal(self, value: Any) -> None:
        kind, made = value.type.dictionaryType, value.immediateValue.dictionary
        made.SetInParent()
        self.scan.expect("{")
        for _ in self.scan.until("}"):
            pair = made.values.add()
            self.scan.expect("{")
            self._inner(pair.key, kind.keyType)
            self.scan.expect(",")
            self._inner(pair.value, kind.valueType)
            self.scan.expect("}")


def plain(value: Any) -> Any:
    """A value of the protobuf as Python's own: what attributes hold."""
    held = value.immediateValue
    which = held.WhichOneof("value")
    if which == "dictionary":
        pairs = [(plain(pair.key), plain(pair.value)) for pair in held.dictionary.values]
        return {key: value for key, value in pairs if not isinstance(key, list | dict)}
    if which in {"list", "tuple"}:
        return [plain(each) for each in getattr(held, which).values]
    kind = held.tensor.WhichOneof("value")
    items = list(getattr(held.tensor, kind).values) if kind else []
    return items if value.type.tensorType.rank or len(items) != 1 else items[0]
