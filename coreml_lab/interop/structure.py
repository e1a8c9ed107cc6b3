"""The structure of a model, in coremltools' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coremltools.models import compute_plan as public

from coreml_lab.program.mil.description import require_program
from coreml_lab.program.mil.reader import open_spec


class OperationProxy:
    """Stands for an operation in coremltools' hands; it has no methods there."""


def structure(model: Path) -> Any:
    """The ``MLModelStructure`` of a model file.

    Raises:
        ModelError: where it is not an ML Program.
    """
    spec, _ = open_spec(model)
    require_program(model.name, spec)
    functions = {
        name: public.MLModelStructureProgramFunction(
            [_named(i) for i in function.inputs],
            _block(function.block_specializations[function.opset]),
        )
        for name, function in spec.mlProgram.functions.items()
    }
    return public.MLModelStructure(None, public.MLModelStructureProgram(functions), None)


def _block(block: Any) -> Any:
    return public.MLModelStructureProgramBlock(
        [_named(i) for i in block.inputs],
        [_operation(o) for o in block.operations],
        list(block.outputs),
    )


def _operation(operation: Any) -> Any:
    return public.MLModelStructureProgramOperation(
        {name: _argument(a) for name, a in operation.inputs.items()},
        operation.type,
        [_named(o) for o in operation.outputs],
        [_block(b) for b in operation.blocks],
        OperationProxy(),
    )


def _argument(argument: Any) -> Any:
    return public.MLModelStructureProgramArgument([_binding(b) for b in argument.arguments])


def _binding(binding: Any) -> Any:
    """Either the name of a value or a constant."""
    if binding.WhichOneof("binding") == "name":
        return public.MLModelStructureProgramBinding(binding.name, None)
    return public.MLModelStructureProgramBinding(None, public.MLModelStructureProgramValue())


def _named(value: Any) -> Any:
    return public.MLModelStructureProgramNamedValueType(
        value.name, public.MLModelStructureProgramValueType()
    )
