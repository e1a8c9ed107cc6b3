"""Model files -> programs: what load() reads, and what it keeps in the compile cache."""

from __future__ import annotations

from pathlib import Path

from coreml_lab.program import description as descriptions
from coreml_lab.program import mil
from coreml_lab.program.cache import Cache, size_files
from coreml_lab.program.program import Program, check_constants, describe
from coreml_lab.run import stages

# Where a cache entry keeps the package that was made for it.
PACKAGE = "model.mlpackage"


@stages.step("reading")
def read(package: Path, function: str | None, key: str, name: str) -> Program:
    """The program of a file, with what its description says."""
    graph = mil.read(package, function=function)
    check_constants(graph)
    info = describe(
        graph,
        name=name,
        key=key,
        package=package.absolute(),
        function=function or "",
        size=size_files(package),
    )
    info = descriptions.apply(info, mil.describe(package, function=function))
    return Program(info, package, graph)


@stages.step("passes")
def translated(source: Path, function: str | None, key: str, store: Cache) -> Program:
    """The program of a classic network; the cache keeps the package that it became."""
    made: list[Program] = []

    def fill(folder: Path) -> None:
        mil.translate(source, folder / PACKAGE)
        made.append(read(folder / PACKAGE, function, key, source.stem))
        made[0].save(folder)

    folder = store.put(key, fill, title=source.stem)
    return Program.open(folder, folder / PACKAGE, source.stem, made[0].graph)


def kept(folder: Path, source: Path) -> Program:
    """The program of a file that was read before, from its cache entry."""
    own = folder / PACKAGE
    return Program.open(folder, own if own.exists() else source, source.stem)
