"""Frozen dataclasses as what JSON knows, and back again by their annotations.

What is read may come from anyone: it is checked field by field, and nothing is ever executed. A
class with forms of its own has ``as_plain`` and ``of_plain``; a field's metadata may name it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
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


class NotPlain(ValueError):
    """Something read is not what the annotations say; the message begins with where."""


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as what JSON knows; NaN and infinities as null."""
    if hasattr(value, "as_plain"):
        return value.as_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name))
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
        return {f.name: _reader(f.metadata.get("plain", hints[f.name])) for f in fields}

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


def _at(place: str | int, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except NotPlain as error:
        raise NotPlain(f"{str(place)[:40]}: {error}") from error


def _union(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(kind) for kind in sorted(kinds, key=lambda kind: kind is float)]

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


def _float(data: Any) -> float:
    if data is None:
        return NAN
    if type(data) not in (int, float):
        _check(data, float)
    try:
        return float(data)
    except OverflowError as error:
        raise NotPlain("a number that is too large") from error


SCALARS: dict[Any, Reader] = {
    float: _float,
    Any: lambda data: data,
    **{kind: functools.partial(_exactly, kind) for kind in (str, int, bool, type(None))},
}
