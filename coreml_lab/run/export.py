"""Model.export_onnx(): the program as an ONNX file for any ONNX runtime."""

from __future__ import annotations

from pathlib import Path

from coreml_lab.errors import EngineError
from coreml_lab.program.program import Program


def export_onnx(program: Program, path: str | Path) -> Path:
    """Write ``program`` as ONNX, checked by ONNX's own checker; states are inputs and outputs.

    Numerics are widened: fp16 values, weights among them, are fp32 in the file.

    Raises:
        UnsupportedOp: for an operation that has no ONNX form.
        EngineError: where the file cannot be written, or would be larger than ONNX allows.
    """
    from coreml_lab.run.onnx_alone import checked, self_contained  # noqa: PLC0415 - onnx is heavy
    from coreml_lab.run.onnx_graph import lower  # noqa: PLC0415

    target = Path(path).expanduser()
    lowered = lower(program.graph)
    notes = {"coreml_lab.program": program.info.name, "coreml_lab.key": program.key}
    # The runtime keeps no state between calls: who runs the file feeds each output back.
    notes |= {
        f"coreml_lab.state.{name}": new or "never written" for name, new in lowered.states.items()
    }
    data = checked(self_contained(lowered.model, lowered.entropy), notes)
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EngineError(
            f"{program.info.name} cannot be written to {target}: {error}",
            hint="give a file in a folder that exists and can be written",
        ) from error
    return target
