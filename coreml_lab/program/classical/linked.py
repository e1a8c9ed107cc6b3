"""Linked models: a file that names another one, which is the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coreml_lab.errors import ModelError
from coreml_lab.program import mil

KIND = "linkedModel"
# Longer chains of links are nobody's models.
MOST = 8
# A link names a compiled model; off-Mac the one it was compiled from serves as well.
SOURCES = ("", ".mlpackage", ".mlmodel")
DISTRUST = "do not trust this file"
FETCH = "put the linked model where this one looks for it, or load that one"


def is_link(spec: Any) -> bool:
    """Whether a file names another one, which is the model."""
    return str(spec.WhichOneof("Type")) == KIND


def target(path: Path, spec: Any) -> Path:
    """The model that a link ends at: it lies beside the linking file or below, in its package.

    Raises:
        ModelError: where it is not there, lies elsewhere, or links go round in a circle.
    """
    seen: list[Path] = []
    while is_link(spec):
        seen.append(path.resolve())
        if len(seen) > MOST:
            raise ModelError(f"{path.name}: its links do not end", hint=DISTRUST)
        path, described = _next(path, spec), _names(spec)
        if path.resolve() in seen:
            raise ModelError(f"{path.name} is linked to itself", hint=DISTRUST)
        spec = mil.open_model(path)
        if described != _names(spec):
            raise ModelError(
                f"{path.name} has other inputs and outputs than the model that links to it",
                hint=FETCH,
            )
    return path


def _names(spec: Any) -> tuple[frozenset[str], frozenset[str]]:
    told = spec.description
    return frozenset(f.name for f in told.input), frozenset(f.name for f in told.output)


def _next(path: Path, spec: Any) -> Path:
    """The file that a link names, in the first of its search paths that has one."""
    link = spec.linkedModel.linkedModelFile
    name = str(link.linkedModelFileName.defaultValue)
    if not name or name != Path(name).name or "\\" in name or "\0" in name:
        raise ModelError(
            f"{path.name} is linked to {name!r}, which is no file name",
            hint=DISTRUST,
        )
    places = [_folder(path, p) for p in str(link.linkedModelSearchPath.defaultValue).split(":")]
    for found in (f for place in places for f in _named(place, name)):
        if found.resolve().is_relative_to(_home(path)):
            return found
        raise ModelError(
            f"{path.name}: its link to {name!r} leads out of its folder",
            hint=DISTRUST,
        )
    raise ModelError(f"{path.name} is linked to {name!r}, which is not there", hint=FETCH)


def _home(path: Path) -> Path:
    """What a link must not leave: the package, or the folder of the file."""
    return (path if path.is_dir() else path.parent).resolve()


def _folder(path: Path, given: str) -> Path:
    """One search path, which is relative to the place of the model's file.

    Raises:
        ModelError: for one that is absolute, an app's bundle, or leads out.
    """
    base = path / "Data" / "com.apple.CoreML" if path.is_dir() else path.parent
    if given.startswith("$"):
        raise ModelError(
            f"{path.name} is linked to a model in the bundle of an app ({given})", hint=FETCH
        )
    folder = base / (given or ".")
    if (
        Path(given).is_absolute()
        or "\0" in given
        or not folder.resolve().is_relative_to(_home(path))
    ):
        raise ModelError(
            f"{path.name}: its link searches outside of its folder ({given!r})",
            hint=DISTRUST,
        )
    return folder


def _named(folder: Path, name: str) -> Iterator[Path]:
    for suffix in SOURCES:
        found = folder / (Path(name).stem + suffix if suffix else name)
        with contextlib.suppress(OSError):  # a name too long for the system names nothing
            if found.exists():
                yield found
