"""Opening a model package for coremltools' tools, and writing what passes made of its program."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.models.utils import _apply_graph_pass

from coreml_lab.errors import CompileError
from coreml_lab.program.mil.compiled import is_compiled, open_compiled
from coreml_lab.program.mil.description import function_name
from coreml_lab.program.mil.reader import open_spec, reset_symbols, root_model
from coreml_lab.program.mil.tools import ct, load_proto, quiet

Block = Any
Edit = Callable[[Any], None]


def opened(package: Path) -> Any:
    """What coremltools' tools take; they do not read compiled models themselves.

    Raises:
        ModelError: for a file that is missing, broken or no ML Program.
    """
    if is_compiled(package):
        spec, weights = open_compiled(package)
        return ct.models.MLModel(spec, weights_dir=str(weights), skip_model_load=True)
    open_spec(package)
    if not package.is_dir():
        return ct.models.MLModel(str(package), skip_model_load=True)
    place = Path(tempfile.mkdtemp(prefix="coreml_lab_"))
    model = ct.models.MLModel(str(linked(package, place)), skip_model_load=True)
    weakref.finalize(model, shutil.rmtree, place, ignore_errors=True)
    return model


def linked(package: Path, folder: Path) -> Path:
    """A package in ``folder`` of the same name, with the contents of the one given.

    coremltools writes the list of contents of each package that it opens anew, in its place: a full
    disk would then cost the original. So it is given a list of its own, beside a link to the rest.
    """
    made = folder / package.name
    made.mkdir(parents=True)
    for part in package.resolve().iterdir():
        if part.is_dir():
            (made / part.name).symlink_to(part, target_is_directory=True)
        else:
            shutil.copyfile(part, made / part.name)
    return made


def alone(model: Any) -> None:
    """Refuse what coremltools' tools do not take.

    Raises:
        CompileError: for a model of several functions.
    """
    if model._is_multifunction():  # noqa: SLF001 - coremltools asks itself so
        raise CompileError(
            "a file of several functions cannot be rewritten as one",
            hint="change each model before they are merged: cl.merge({name: edit, …}, path)",
        )


def copied(package: Path, target: Path, *, function: str) -> None:
    """See ``mil.copy``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part_") as folder:
        part = Path(folder) / target.name
        if package.is_dir() and not is_compiled(package):
            shutil.copytree(package, part)
        else:
            with quiet():
                opened(package).save(str(part))
        _begins_with(part, function)
        part.rename(target)


def _begins_with(package: Path, function: str) -> None:
    """Make a function the one that runs where none is asked for."""
    spec, _ = open_spec(package)
    if function and function != function_name(spec, None):
        spec.description.defaultFunctionName = function
        root_model(package).write_bytes(spec.SerializeToString())


class Pass(AbstractGraphPass):  # type: ignore[misc]
    """A function that changes one block, as a pass over all functions of a program."""

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self._edit = edit

    def apply(self, prog: Any) -> None:
        """Change every function."""
        for function in prog.functions.values():
            with function:
                self._edit(function)


def passed(model: Any, passes: Iterable[Any] = (), version: int = 0) -> Any:
    """The model after ``passes``, and after Core ML's own that a conversion ends with.

    Args:
        model: what ``opened`` gave.
        passes: coremltools' passes, or functions that change a block (see ``Pass``).
        version: the specification version that is needed at least.

    Raises:
        CompileError: for a model of several functions, which coremltools' passes do not take.
    """
    alone(model)
    kept = dict(model.user_defined_metadata)
    made = _apply_graph_pass(
        model,
        [p if isinstance(p, AbstractGraphPass) else Pass(p) for p in passes],
        spec_version=max(version, model.get_spec().specificationVersion),
        skip_model_load=True,
        pymil_load_func=_load,
    )
    made.user_defined_metadata.update(kept)
    return made


def _load(**arguments: Any) -> Any:
    reset_symbols()
    return load_proto(**arguments)
