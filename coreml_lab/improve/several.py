"""merge() and chunk(): one package of several models, and several of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import CompileError, LabError, UnknownParameter
from coreml_lab.improve.actions import size
from coreml_lab.program import mil

SUFFIX = ".mlpackage"


def merge(
    models: Mapping[str, Any], path: str | os.PathLike[str], *, default: str | None = None
) -> Path:
    """Write one package with a function for each model; weights that are equal are stored once.

    ``cl.load(path, function="name")`` runs one of them. It needs iOS 18 or macOS 15.

    Args:
        models: name of the function -> a loaded model, an edit, or the path of a package.
        path: a new ``.mlpackage``.
        default: the function that is run where none is asked for (default: the first).

    Raises:
        LabError: where there is such a file already.
        UnknownParameter: for no models, or a default that is none of them.
        CompileError: where coremltools refuses them.
    """
    target = _new(Path(path))
    if not models:
        raise UnknownParameter("merge needs models", hint='merge({"a": one, "b": other}, path)')
    sources = {name: _source(model) for name, model in models.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    mil.merge(sources, target, default=next(iter(models)) if default is None else default)
    return target


def chunk(model: Any, folder: str | os.PathLike[str], *, parts: int = 2) -> tuple[Path, ...]:
    """Write a model as several packages to be run one after the other, of nearly equal weights.

    What one needs of those before it has the same name in both: collect all outputs, and feed each
    what it asks for. A device that cannot hold a model as a whole may hold its parts.

    Args:
        model: a loaded model, an edit, or the path of a package; it has one function.
        folder: where ``NAME_1.mlpackage`` and the others go.
        parts: how many, 2 or more; the one with the most weights is cut in two until there are so
            many.

    Raises:
        LabError: where there are such files already.
        UnknownParameter: for fewer than two parts.
        CompileError: where coremltools cannot cut it: no weights, several functions.
    """
    if parts < 2:  # noqa: PLR2004 - one part is the model itself
        raise UnknownParameter(f"parts={parts}", hint="2 or more")
    package, _ = _source(model)  # coremltools refuses a package of several functions
    name = package.stem if isinstance(model, str | os.PathLike) else model.name
    place = Path(folder)
    targets = tuple(_new(place / f"{name}_{i + 1}{SUFFIX}") for i in range(parts))
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".part_") as temporary:
        found = [package]
        while len(found) < parts:
            found = _cut(found, Path(temporary))
        for made, target in zip(found, targets, strict=True):
            made.rename(target)
    return targets


def _cut(packages: list[Path], folder: Path) -> list[Path]:
    """With the largest that can be cut as two."""
    refused: CompileError | None = None
    for package in sorted(packages, key=size, reverse=True):
        try:
            halves = mil.bisect(package, Path(tempfile.mkdtemp(dir=folder)))
        except CompileError as error:
            refused = refused or error
            continue
        place = packages.index(package)
        return [*packages[:place], *halves, *packages[place + 1 :]]
    assert refused is not None  # noqa: S101 - for the type checker: there is one package at least
    raise refused


def _source(model: Any) -> tuple[Path, str]:
    """The package of a model, and which function of it."""
    if isinstance(model, str | os.PathLike):
        return Path(model), ""
    steps = getattr(model, "steps", None)
    if steps is not None:
        return model.file, "" if steps else model.function
    return Path(model.info.package), model.info.function


def _new(path: Path) -> Path:
    if path.suffix != SUFFIX:
        raise UnknownParameter(f"{path.name}: packages end in {SUFFIX}", hint=f"{path}{SUFFIX}")
    if path.exists():
        raise LabError(f"{path} exists already", hint="give a new name: nothing is overwritten")
    return path
