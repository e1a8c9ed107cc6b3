"""Files of weights (``weight.bin``): checked before coremltools' own reader is let at them.

A file begins with 64 bytes (how many entries, version 2). Each entry has 64 bytes that tell where
its data lie (``MILBlob/Blob/StorageFormat.hpp`` in coremltools): a mark, the type of its elements,
the bytes of its data, their offset, and the bits that are left over in the last byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from coreml_lab.errors import ModelError
from coreml_lab.program.mil.tools import proto

MIL = proto.MIL_pb2
ENTRY = struct.Struct("<IIQQQ")
MARK, VERSION = 0xDEADBEEF, 2
# The numbers that entries have for types of elements, and the bits of one element.
CODES = {
    "FLOAT16": (1, 16), "FLOAT32": (2, 32), "UINT8": (3, 8), "INT8": (4, 8), "BFLOAT16": (5, 16),
    "INT16": (6, 16), "UINT16": (7, 16), "INT4": (8, 4), "UINT1": (9, 1), "UINT2": (10, 2),
    "UINT4": (11, 4), "UINT3": (12, 3), "UINT6": (13, 6), "INT32": (14, 32), "UINT32": (15, 32),
}  # fmt: skip
# The same bytes may be read for several constants, which each get a copy.
TIMES, PLENTY = 8, 256 << 20
HINT = "the file may be damaged: fetch the whole package again"


def check(file: str, values: Iterator[Any], folder: Path) -> None:
    """Refuse values that are kept in files of weights where those do not hold them.

    Args:
        file: the model, as errors call it.
        values: MIL's values; those that are kept elsewhere are passed over.
        folder: where the files are.

    Raises:
        ModelError: naming file and offset, and what is wrong there.
    """
    asked: dict[str, list[Any]] = {}
    for value in values:
        if value.WhichOneof("value") == "blobFileValue":
            name = value.blobFileValue.fileName.rpartition("/")[2]
            asked.setdefault(name, []).append(value)
    for name, found in asked.items():
        _check(file, name, folder, found)


def values(block: Any) -> Iterator[Any]:
    """Every value that a block and those inside of it hold."""
    left = [block]
    while left:
        for operation in left.pop().operations:
            yield from operation.attributes.values()
            for argument in operation.inputs.values():
                bound = argument.arguments
                yield from (b.value for b in bound if b.WhichOneof("binding") == "value")
            left += operation.blocks


def _check(file: str, name: str, folder: Path, values: list[Any]) -> None:
    path = folder / name
    try:
        size = path.stat().st_size if name not in {"", ".", ".."} else 0
        with path.open("rb") as stream:
            _begin(stream)
            total = sum(_entry(stream, value, size) for value in values)
    except FileNotFoundError as error:
        raise ModelError(f"{file}: its weights {name} are missing", hint=HINT) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file}: its weights {name!r} cannot be read: {error}", hint=HINT
        ) from error
    if total > max(PLENTY, TIMES * size):
        raise ModelError(
            f"{file}: its program reads {total} bytes of {name}, which has {size}", hint=HINT
        )


def _begin(stream: BinaryIO) -> None:
    """Raise ValueError unless a file of weights begins here."""
    if int.from_bytes(stream.read(8)[4:], "little") != VERSION:
        raise ValueError(f"it is no file of weights of version {VERSION}")


def _entry(stream: BinaryIO, value: Any, size: int) -> int:
    """The bytes that one value has in a file of ``size`` bytes.

    Raises:
        ValueError: where they are not there.
    """
    at = int(value.blobFileValue.offset)
    if at + ENTRY.size > size:
        raise ValueError(f"offset {at} lies behind its {size} bytes")
    stream.seek(at)
    mark, code, length, begin, spare = ENTRY.unpack(stream.read(ENTRY.size))
    if mark != MARK:
        raise ValueError(f"at offset {at} no data begin")
    if begin + length > size:
        raise ValueError(f"its data at offset {begin} have {length} bytes, the file has {size}")
    kind = value.type.tensorType
    name = MIL.DataType.Name(kind.dataType)
    right, bits = CODES.get(name, (0, 0))
    if code != right:
        raise ValueError(f"at offset {at} are no elements of type {name.lower()}")
    count = math.prod(d.constant.size for d in kind.dimensions)
    # Where bytes are whole nothing is left over, and files of older writers may say anything.
    left = spare if bits % 8 else 0
    if count * bits + left != length * 8:
        raise ValueError(f"at offset {at} are {length} bytes, not {count} elements of {bits} bits")
    return int(length)
