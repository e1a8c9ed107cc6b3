"""A model as a file: Core ML's own (``save``), or ONNX for any ONNX runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

from coreml_lab.errors import EngineError, InputError, ModelError
from coreml_lab.plain import copy_atomically
from coreml_lab.program.program import Program
from coreml_lab.run.lowering.packed import OFF, allowed

# Protobuf's limit, less room for everything but the weights.
LARGEST = (2 << 30) - (64 << 20)


def save_package(package: Path, target: Path) -> Path:
    """Copy a model's file to ``target``, whole or not at all.

    Raises:
        InputError: where the ending is not that of the file.
        ModelError: where there is something already, or it cannot be written.
    """
    if target.suffix != package.suffix:
        raise InputError(
            f"{target.name}: the model is a file of the kind {package.suffix}",
            hint=f"model.save('{target.stem}{package.suffix}')",
        )
    if target.exists():
        raise ModelError(f"{target} exists already", hint="give a new name: nothing is overwritten")
    try:
        return copy_atomically(package, target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}", hint="another folder?") from error


def export_onnx(program: Program, path: str | Path, *, packed: str = OFF) -> Path:
    """Write ``program`` as ONNX, checked by ONNX's own checker; states are inputs and outputs.

    Numerics are widened: fp16 values, weights among them, are fp32 in the file. So are weights
    stored in fewer bits, unless ``packed`` keeps those of large products as they are. Beyond 2 GB
    the weights lie in a second file beside it, which ends in ``.data``.

    Raises:
        UnknownParameter: for an unknown ``packed``.
        UnsupportedOp: for an operation that has no ONNX form.
        EngineError: where the file cannot be written, or ONNX does not accept it.
    """
    from coreml_lab.run.lowering.alone import check, self_contained  # noqa: PLC0415 - onnx is heavy
    from coreml_lab.run.lowering.graph import lower  # noqa: PLC0415

    target = Path(path).expanduser()
    lowered = self_contained(lower(program.graph, keep=allowed(packed)))
    notes = {"coreml_lab.program": program.info.name, "coreml_lab.key": program.key}
    # The runtime keeps no state between calls: who runs the file feeds each output back.
    notes |= {
        f"coreml_lab.state.{name}": new or "never written" for name, new in lowered.states.items()
    }
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            part = Path(folder) / target.name
            lowered.write(part, apart=lowered.nbytes > LARGEST, notes=notes)
            check(part)
            # The model comes last: what it refers to is there.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == part):
                file.replace(target.with_name(file.name))
    except OSError as error:
        raise EngineError(
            f"{program.info.name} cannot be written to {target}: {error}",
            hint="give a file in a folder that exists and can be written",
        ) from error
    return target
