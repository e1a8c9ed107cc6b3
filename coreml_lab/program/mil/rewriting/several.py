"""Several packages of one, and one of several: chunks, and functions that share weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import CompileError, LabError, UnknownParameter
from coreml_lab.program.mil.reader import open_spec
from coreml_lab.program.mil.rewriting.package import linked
from coreml_lab.program.mil.tools import ct, quiet

MAIN = "main"


def merge(sources: Mapping[str, tuple[Path, str]], target: Path, *, default: str) -> None:
    """See ``mil.merge``."""
    if default not in sources:
        raise UnknownParameter(
            f"default={default!r} is none of the functions", hint="one of " + ", ".join(sources)
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part_") as temporary:
        folder = Path(temporary)
        part = folder / target.name
        try:
            described = _described(sources, folder / "in")
            described.default_function_name = default
            with quiet():
                ct.utils.save_multifunction(described, str(part))
        except LabError:
            raise
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"the models cannot be merged: {error}",
                stage="merge",
                hint="each must be an ML Program; states must be the same in all",
            ) from error
        part.rename(target)


def _described(sources: Mapping[str, tuple[Path, str]], folder: Path) -> Any:
    """The functions as coremltools takes them, of packages that it may write to."""
    found = ct.utils.MultiFunctionDescriptor()
    given: dict[Path, Path] = {}
    for name, (package, function) in sources.items():
        if package.suffix != ".mlpackage":
            raise CompileError(
                f"{package.name} is no package", stage="merge", hint="cl.edit(model).save(path)"
            )
        open_spec(package)
        if package not in given:
            given[package] = linked(package, folder / str(len(given)))
        found.add_function(
            str(given[package]), src_function_name=function or MAIN, target_function_name=name
        )
    return found


def bisect(package: Path, folder: Path) -> tuple[Path, Path]:
    """See ``mil.bisect``."""
    open_spec(package)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part_") as temporary:
        given = linked(package, Path(temporary) / "in")
        try:
            with quiet():
                ct.models.utils.bisect_model(str(given), temporary, check_output_correctness=False)
            made = [Path(temporary) / f"{package.stem}_chunk{i}.mlpackage" for i in (1, 2)]
            found = [folder / path.name for path in made]
            for path, place in zip(made, found, strict=True):
                shutil.move(path, place)
        except LabError:
            raise
        except Exception as error:  # see above
            raise CompileError(
                f"{package.name} cannot be cut in two: {error}",
                stage="chunk",
                hint="only a model with weights and one function can be",
            ) from error
    return found[0], found[1]
