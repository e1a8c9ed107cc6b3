"""Numbers and strings of a program's text, and the fields of MIL's protobuf that hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.mil.tools import pack_bits, proto, unpack_bits

MIL = proto.MIL_pb2
# The names of element types in a program's text.
DTYPES: dict[str, int] = {"bool": MIL.BOOL, "string": MIL.STRING} | {
    f"fp{bits}": MIL.DataType.Value(f"FLOAT{bits}") for bits in (16, 32, 64)
}
DTYPES |= {f"int{bits}": MIL.DataType.Value(f"INT{bits}") for bits in (4, 8, 16, 32, 64)}
DTYPES |= {
    f"uint{bits}": MIL.DataType.Value(f"UINT{bits}") for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)
}
NAMES = {number: name for name, number in DTYPES.items()}
# These are kept as bytes; of those not named here several elements share a byte.
BYTES = {"fp16": "<f2", "int8": "i1", "uint8": "u1", "uint32": "<u4"}
PACKED = frozenset({"int4", "uint1", "uint2", "uint3", "uint4", "uint6"})
FIELDS = {"bool": "bools", "string": "strings", "fp32": "floats", "fp64": "doubles"}
FIELDS |= {"int64": "longInts", "uint64": "longInts"}
LIMITS = {f"int{b}": (-(1 << (b - 1)), (1 << (b - 1)) - 1) for b in (4, 8, 16, 32, 64)}
LIMITS |= {f"uint{b}": (0, (1 << b) - 1) for b in (1, 2, 3, 4, 6, 8, 16, 32, 64)}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
TRAILING = re.compile(r"\.?0+p")
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def tensor_value(dtype: str, items: Sequence[Any], value: Any) -> None:
    """Put elements into ``value``, a ``TensorValue``, as coremltools' loader takes them.

    Raises:
        ValueError: where an element is not of the type.
    """
    if dtype in BYTES or not items:
        with np.errstate(over="ignore"):
            packed = np.asarray(items, BYTES.get(dtype, "u1"))
    elif dtype in PACKED:
        packed = pack_bits(np.asarray(items, "i1" if dtype[0] == "i" else "u1"), _bits(dtype))
    if dtype in BYTES or dtype in PACKED:
        value.bytes.values = packed.tobytes()
    else:
        field = getattr(value, FIELDS.get(dtype, "ints"))
        # A tensor without elements has the field too.
        field.SetInParent()
        field.values.extend(items)


def elements(dtype: str, count: int, value: Any) -> Sequence[Any]:
    """The elements that ``tensor_value`` put there.

    Raises:
        ValueError: where there are not ``count`` of them.
    """
    if dtype in BYTES:
        found: Sequence[Any] = np.frombuffer(value.bytes.values, BYTES[dtype]).tolist()
    elif dtype in PACKED:
        codes = np.frombuffer(value.bytes.values, np.uint8)
        found = unpack_bits(codes, _bits(dtype), count, dtype[0] == "i").tolist() if count else []
    else:
        found = list(getattr(value, FIELDS.get(dtype, "ints")).values)
    if len(found) != count:
        raise ValueError(f"{len(found)} elements of type {dtype}, not {count}")
    return found


def _bits(dtype: str) -> int:
    return int(dtype.lstrip("uint"))


def parser(dtype: str) -> Callable[[str], Any]:
    """What makes an element of its text."""
    if dtype == "bool":
        return _truth
    return _number if dtype.startswith("fp") else _whole(*LIMITS[dtype])


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text} is neither true nor false")
    return text == "true"


def _number(text: str) -> float:
    return float.fromhex(text) if "x" in text.lower() else float(text)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{text} is not between {low} and {high}")
        return number

    return parse


def written(item: Any) -> str:
    """An element as text: floats in hexadecimal, which is exact."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float):
        return TRAILING.sub("p", item.hex())
    return quoted(item) if isinstance(item, str) else str(item)


def quoted(text: str) -> str:
    """A string as text."""
    for escape, character in {"\\": "\\", '"': '"', **ESCAPES}.items():
        text = text.replace(character, f"\\{escape}")
    return f'"{text}"'


def unquoted(text: str) -> str:
    """The string between two quotation marks."""
    return ESCAPED.sub(lambda m: ESCAPES.get(m[1], m[1]), text) if "\\" in text else text
