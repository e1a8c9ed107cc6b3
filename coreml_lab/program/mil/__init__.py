"""The only room that knows coremltools: type rules, writing, reading and rewriting programs.

Each function imports coremltools when it is called: that takes seconds, and a warm compile
cache never needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coreml_lab.program.description import Description
    from coreml_lab.program.graph import Array, Graph, Operand, TensorType
    from coreml_lab.program.mil.conversion import Recorded


def ready() -> None:
    """Import coremltools in a process of ours, which may be killed."""
    importlib.import_module("coreml_lab.program.mil.tools").bars_apart()


def infer(
    op: str, operands: Mapping[str, Operand], attrs: Mapping[str, Any]
) -> tuple[TensorType, ...]:
    """Types of the results of ``op``, by MIL's own type inference.

    Raises:
        ShapeError: when MIL refuses the operands.
    """
    from coreml_lab.program.mil.inference import infer as run  # noqa: PLC0415

    return run(op, operands, attrs)


def build(graph: Graph, package: Path, *, precision: str) -> None:
    """Write ``graph`` as a Core ML model package, optimised by coremltools' passes.

    Raises:
        CompileError: when coremltools refuses it.
    """
    from coreml_lab.program.mil.writer import build as run  # noqa: PLC0415

    run(graph, package, precision=precision)


def record(module: Any, kinds: Mapping[str, TensorType], examples: Mapping[str, Array]) -> Recorded:
    """Run a PyTorch module on examples, and record what it does.

    Args:
        module: a ``torch.nn.Module`` or what ``torch.export`` made of one.
        kinds: the types of its inputs, by the names that ``forward`` gives them.
        examples: arrays for some of them; noise stands for the others.

    Raises:
        UnknownParameter: where inputs and parameters differ.
        GraphError: where it cannot be called so, or returns something else than tensors.
    """
    from coreml_lab.program.mil.conversion import record as run  # noqa: PLC0415

    return run(module, kinds, examples)


def convert(recorded: Recorded, package: Path, *, precision: str, target: str | None) -> None:
    """Write a recorded PyTorch module as a Core ML model package.

    Raises:
        UnknownParameter: for a target that there is not.
        CompileError: when coremltools refuses it.
    """
    from coreml_lab.program.mil.conversion import convert as run  # noqa: PLC0415

    run(recorded, package, precision=precision, target=target)


def read(path: Path, *, function: str | None = None) -> Graph:
    """The program inside a Core ML model file, as Core ML executes it.

    Raises:
        ModelError: for a file that is missing, broken or of a kind that is not supported.
    """
    from coreml_lab.program.mil.reader import read as run  # noqa: PLC0415

    return run(path, function=function)


def describe(path: Path, *, function: str | None = None) -> Description:
    """What a model file says about its interface.

    Raises:
        ModelError: for a file that is missing or broken, or an interface no ML Program has.
    """
    from coreml_lab.program.mil.description import describe as run  # noqa: PLC0415
    from coreml_lab.program.mil.reader import open_program  # noqa: PLC0415

    with open_program(path) as (spec, _):
        return run(path, spec, function)


def open_model(path: Path) -> Any:
    """A model file's message, ``Model`` in Core ML's Model.proto, of whatever kind.

    Raises:
        ModelError: for a file that is missing or broken.
    """
    from coreml_lab.program.mil.reader import open_spec  # noqa: PLC0415

    return open_spec(path)[0]


def write_stage(model: Any, source: Path, folder: Path) -> Path:
    """Write one model of the pipeline at ``source`` as a file of its own below ``folder``.

    Raises:
        ModelError: where its weights are missing.
    """
    from coreml_lab.program.mil.extraction import write  # noqa: PLC0415
    from coreml_lab.program.mil.reader import folder_of_weights  # noqa: PLC0415

    return write(model, folder_of_weights(source), folder)


def is_classic(spec: Any) -> bool:
    """Whether a model is a classic neural network, which ``translate`` takes."""
    from coreml_lab.program.mil.neural_network import is_classic as run  # noqa: PLC0415

    return run(spec)


def translate(path: Path, package: Path) -> None:
    """Write the model of a classic neural network as a package with an ML Program.

    Raises:
        ModelError: for a file that is missing or broken, or a layer that cannot be.
    """
    from coreml_lab.program.mil.neural_network import translate as run  # noqa: PLC0415
    from coreml_lab.program.mil.reader import open_spec  # noqa: PLC0415

    run(path.name, open_spec(path)[0], package)


def compile_folder(path: Path, folder: Path) -> None:
    """Write a model into the empty ``folder`` as a compiled one, with its program as text.

    Raises:
        ModelError: for a file that is missing, broken or of a kind that is not supported.
    """
    from coreml_lab.program.mil.compiled import write_compiled  # noqa: PLC0415
    from coreml_lab.program.mil.description import describe as check  # noqa: PLC0415
    from coreml_lab.program.mil.reader import open_program  # noqa: PLC0415

    with open_program(path) as (spec, weights):
        check(path, spec, None)
        write_compiled(spec, weights, folder)


def computes(op: str) -> bool:
    """Whether an operation computes, in fp16 or fp32: not those that only hand values on."""
    from coreml_lab.program.mil.rewriting.precision import UNTOUCHED  # noqa: PLC0415

    return op not in UNTOUCHED


def rewrite(
    package: Path, target: Path, *, method: str, arguments: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write a copy of a model package with one thing changed, whole or not at all.

    Returns:
        What coremltools remarks on it: weights that it left as they were, and why.

    Raises:
        UnknownParameter: for a method or argument that there is not.
        CompileError: when coremltools refuses it.
    """
    from coreml_lab.program.mil.rewriting.methods import rewrite as run  # noqa: PLC0415

    return run(package, target, method=method, arguments=arguments)


def copy(package: Path, target: Path, *, function: str = "") -> None:
    """Write a model file as a package, whole or not at all.

    Args:
        package: the file: a package, or a compiled model, which becomes one.
        target: a package that does not exist.
        function: the one of several that is run where none is asked for; empty: as it was.

    Raises:
        ModelError: for a file that is missing or broken.
    """
    from coreml_lab.program.mil.rewriting.package import copied as run  # noqa: PLC0415

    run(package, target, function=function)


def merge(sources: Mapping[str, tuple[Path, str]], target: Path, *, default: str) -> None:
    """Write one package with several functions, whole or not at all.

    Args:
        sources: name of the function -> package, and the name of its function or empty.
        target: a package that does not exist.
        default: the function that is run where none is asked for.

    Raises:
        ModelError: for a file that is missing or broken.
        CompileError: when coremltools refuses them.
    """
    from coreml_lab.program.mil.rewriting.several import merge as run  # noqa: PLC0415

    run(sources, target, default=default)


def bisect(package: Path, folder: Path) -> tuple[Path, Path]:
    """Write a package as two, of nearly equal weights, into ``folder``.

    Raises:
        ModelError: for a file that is missing or broken.
        CompileError: when coremltools cannot cut it.
    """
    from coreml_lab.program.mil.rewriting.several import bisect as run  # noqa: PLC0415

    return run(package, folder)
