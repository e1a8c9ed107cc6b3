"""Frozen dataclasses as what JSON knows, and back again by their annotations.

What is read may come from anyone: it is checked field by field, and nothing is ever executed. A
class with forms of its own has ``as_plain`` and ``of_plain``; a field's metadata may name it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
import shutil
import tempfile
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

Reader = Callable[[Any], Any]
UMASK = os.umask(0)
os.umask(UMASK)
NAN = math.nan  # one object everywhere: records that hold it are equal
# Fields that are the same wherever they occur: of what has passed and of sizes none is below zero.
LENGTHS = {"duration_ns", "wall_ns", "warmup_ns", "run_ns", "region_ns", "overhead_ns"}
SIZES = {"bytes", "size_bytes", "weight_bytes"}
# UCUM writes units in visible ASCII characters.
UNIT = re.compile("[!-~]{0,100}")
# Metadata of a field whose numbers may be such as JSON lacks: they are written as words.
ANY_NUMBER = {"any_number": True}
WORDS = {"nan": NAN, "inf": math.inf, "-inf": -math.inf}


class NotPlain(ValueError):
    """Something read is not what the annotations say; the message begins with where."""


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as what JSON knows; NaN and infinities as null."""
    if hasattr(value, "as_plain"):
        return value.as_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: (_worded if "any_number" in f.metadata else to_plain)(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not f.metadata.get("transient")
        }
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.value if isinstance(value, Enum) else value


def from_plain(kind: Any, data: Any) -> Any:
    """The ``kind`` that ``to_plain`` made ``data`` of.

    A field that ``data`` lacks has its default, so that a new field needs one; null is NaN where a
    float is asked for.

    Args:
        kind: a dataclass, or an annotation such as ``tuple[Placement, ...]``.
        data: what ``json.loads`` gave.

    Raises:
        NotPlain: where a field is missing, unknown or of another type.
    """
    return _reader(kind)(data)


def from_json(text: str) -> Any:
    """JSON text as ``json.loads`` gives it, without the NaN and infinities that are no JSON.

    Raises:
        ValueError: where it is not JSON.
    """
    return json.loads(text, parse_constant=_no_json)


def _no_json(word: str) -> Any:
    raise NotPlain(f"{word} is not JSON")


def write_atomically(path: Path, data: bytes) -> Path:
    """Write ``data`` beside ``path`` and move it there: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # Who may read it is the user's affair, as with any file.
        Path(temporary).chmod(0o666 & ~UMASK)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def copy_atomically(source: Path, target: Path) -> Path:
    """Copy a file or folder beside ``target`` and move it there: never half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part_") as folder:
        part = Path(folder) / target.name
        if source.is_dir():
            shutil.copytree(source, part)
        else:
            shutil.copy2(source, part)
        part.rename(target)
    return target


@functools.cache
def _reader(kind: Any) -> Reader:
    if hasattr(kind, "of_plain"):
        return cast("Reader", kind.of_plain)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return functools.partial(_enum, kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        return _tuple(arguments)
    return SCALARS[kind] if origin is None else _mapping(*map(_reader, arguments))


def _dataclass(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = [f for f in dataclasses.fields(kind) if not f.metadata.get("transient")]
    missing = dataclasses.MISSING
    needed = {f.name for f in fields if f.default is missing and f.default_factory is missing}

    @functools.cache
    def readers() -> dict[str, Reader]:
        return {f.name: _field(f, f.metadata.get("plain", hints[f.name])) for f in fields}

    def read(data: Any) -> Any:
        _check(data, dict)
        known, found = readers(), {}
        if not needed <= data.keys():
            raise NotPlain(f"no {', '.join(sorted(needed - data.keys()))}")
        for name, value in data.items():
            if name not in known:
                raise NotPlain(f"{name[:40]!r} is not known")
            found[name] = _at(name, known[name], value)
        return kind(**found)

    return read


def _field(told: dataclasses.Field[Any], kind: Any) -> Reader:
    """A field's reader, which minds what its name says."""
    read = _reader(kind)
    if told.name in LENGTHS | SIZES:
        return functools.partial(_not_negative, read)
    if "any_number" in told.metadata:
        return lambda data: WORDS[data] if isinstance(data, str) and data in WORDS else read(data)
    return functools.partial(_unit, read) if told.name == "unit" else read


def _worded(value: Any) -> Any:
    beyond = isinstance(value, float) and not math.isfinite(value)
    return str(float(value)) if beyond else to_plain(value)


def _not_negative(read: Reader, data: Any) -> Any:
    found = read(data)
    for value in found if isinstance(found, tuple) else (found,):
        if value is not None and value < 0:
            raise NotPlain(f"{value} is below zero")
    return found


def _unit(read: Reader, data: Any) -> Any:
    found = read(data)
    if not UNIT.fullmatch(found):
        raise NotPlain("not a unit")
    return found


def _at(place: str | int, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except NotPlain as error:
        raise NotPlain(f"{str(place)[:40]}: {error}") from error


def _union(kinds: tuple[Any, ...]) -> Reader:
    some = [kind for kind in kinds if kind is not type(None)]
    readers = [_reader(kind) for kind in sorted(some, key=lambda kind: kind is float)]

    def read(data: Any) -> Any:
        if data is None and type(None) in kinds:
            return None
        problems = []
        for reader in readers:
            try:
                return reader(data)
            except NotPlain as error:
                problems.append(str(error))
        raise NotPlain(" and ".join(problems))

    return read


def _tuple(kinds: tuple[Any, ...]) -> Reader:
    if kinds[-1] is Ellipsis:
        one = _reader(kinds[0])

        def read_all(data: Any) -> tuple[Any, ...]:
            _check(data, list)
            return tuple([_at(i, one, value) for i, value in enumerate(data)])

        return read_all
    readers = [_reader(kind) for kind in kinds]

    def read(data: Any) -> tuple[Any, ...]:
        _check(data, list)
        if len(data) != len(readers):
            raise NotPlain(f"{len(data)} values, not {len(readers)}")
        return tuple(_at(i, r, v) for i, (r, v) in enumerate(zip(readers, data, strict=True)))

    return read


def _mapping(key: Reader, value: Reader) -> Reader:
    def read(data: Any) -> dict[Any, Any]:
        _check(data, dict)
        return {key(k): _at(k, value, v) for k, v in data.items()}

    return read


def _enum(kind: type[Enum], data: Any) -> Enum:
    try:
        return kind(data)
    except ValueError as error:
        raise NotPlain(f"{str(data)[:40]!r} is no {kind.__name__.lower()}") from error


def _check(data: Any, kind: type) -> None:
    if type(data) is not kind:
        raise NotPlain(f"{type(data).__name__} instead of {kind.__name__}")


def _exactly(kind: type, data: Any) -> Any:
    _check(data, kind)
    return data


def _int(data: Any) -> int:
    _check(data, int)
    if not -(2**63) <= data < 2**63:
        raise NotPlain(TOO_LARGE)
    return int(data)


def _float(data: Any) -> float:
    if data is None:
        return NAN
    if type(data) not in (int, float):
        _check(data, float)
    try:
        found = float(data)
    except OverflowError as error:
        raise NotPlain(TOO_LARGE) from error
    if not math.isfinite(found):  # 1e999: what is unknown is null
        raise NotPlain(TOO_LARGE)
    return found


TOO_LARGE = "a number that is too large"
SCALARS: dict[Any, Reader] = {
    float: _float,
    int: _int,
    Any: lambda data: data,
    **{kind: functools.partial(_exactly, kind) for kind in (str, bool, type(None))},
}
