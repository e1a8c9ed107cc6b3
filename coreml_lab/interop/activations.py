"""Activations as int8: coremltools' own calibration, fed by our runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coreml_lab.errors import CompileError, InputError, LabError
from coreml_lab.interop.runtime import install_runtime
from coreml_lab.program.graph import Array


def quantize_activations(
    package: Path,
    target: Path,
    samples: Sequence[Mapping[str, Array]],
    *,
    weight_threshold: int = 2048,
    skip: Sequence[str] = (),
) -> None:
    """Write a copy of a package whose weights and activations are symmetric int8.

    Args:
        package: the model; one in fp32 is brought to fp16 first, the type of coremltools' scales.
        target: where to write.
        samples: inputs to take the ranges of activations from, name -> array.
        weight_threshold: arrays of fewer elements stay as they are.
        skip: operations that stay as they are.

    Raises:
        InputError: without samples.
        CompileError: where coremltools refuses it, or the samples do not fit.
    """
    if not samples:
        raise InputError(
            "W8A8 needs samples to take the ranges of activations from", hint="data=[{name: array}]"
        )
    from coreml_lab.program.mil.rewriting.methods import save  # noqa: PLC0415 - coremltools takes seconds
    from coreml_lab.program.mil.tools import quiet  # noqa: PLC0415

    with quiet(), install_runtime():
        try:
            model = _quantized(package, samples, weight_threshold=weight_threshold, skip=skip)
        except LabError:
            raise
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"{package.name}: its activations cannot be quantized: {error}",
                stage="w8a8",
                hint="samples must be inputs of the model: name -> array",
            ) from error
        save(model, target)


def _quantized(
    package: Path,
    samples: Sequence[Mapping[str, Array]],
    *,
    weight_threshold: int,
    skip: Sequence[str],
) -> Any:
    import coremltools.optimize.coreml as cto  # noqa: PLC0415

    from coreml_lab.program.mil.rewriting.package import opened  # noqa: PLC0415
    from coreml_lab.program.mil.rewriting.precision import float16  # noqa: PLC0415
    from coreml_lab.program.mil.rewriting.weights import quantize_weights  # noqa: PLC0415

    model = opened(package)
    _stateless(package, model.get_spec())
    half = float16(model)
    how = cto.OpLinearQuantizerConfig(mode="linear_symmetric")
    kept = dict.fromkeys((*skip, *_whole_numbers(half.get_spec())))
    config = cto.OptimizationConfig(global_config=how, op_name_configs=kept)
    model = cto.linear_quantize_activations(half, config, [dict(s) for s in samples])
    return quantize_weights(model, weight_threshold=weight_threshold, skip=skip)


def _stateless(package: Path, spec: Any) -> None:
    """Calibration runs each sample for itself, without what was kept of those before."""
    if kept := ", ".join(state.name for state in spec.description.state):
        raise CompileError(
            f"{package.name} keeps states ({kept}): its activations cannot be quantized",
            stage="w8a8",
            hint="apply w8a8 before states, or quantize_weights, which needs no runs",
        )


def _whole_numbers(spec: Any) -> list[str]:
    """Operations whose results are whole numbers: coremltools' scales are for none of them.

    It adds some itself, such as those that count a transformer's indices from the front.
    """
    from coreml_lab.program.mil.tools import proto  # noqa: PLC0415 - coremltools takes seconds

    kind = proto.MIL_pb2.DataType
    return [
        op.outputs[0].name
        for function in spec.mlProgram.functions.values()
        for op in function.block_specializations[function.opset].operations
        if any("INT" in kind.Name(out.type.tensorType.dataType) for out in op.outputs)
    ]
