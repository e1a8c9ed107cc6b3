"""An ONNX model as a file that stands by itself: what any ONNX runtime takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper

from coreml_lab.errors import EngineError
from coreml_lab.run.lowering.model import Lowered

# The largest 32-bit number that is also one of fp32's.
HIGHEST = float(2**32 - 2**8)


def self_contained(lowered: Lowered) -> Lowered:
    """The model with its own source of entropy, which our engines feed it as an input."""
    if not lowered.entropy:
        return lowered
    frame = onnx.ModelProto()
    frame.CopyFrom(lowered.frame)
    (asked,) = (i for i in frame.graph.input if i.name == lowered.entropy)
    frame.graph.input.remove(asked)
    drawn = f"{lowered.entropy}:drawn"
    source = helper.make_node("RandomUniform", [], [drawn], drawn, shape=[2], high=HIGHEST)
    to = TensorProto.UINT32
    words = helper.make_node("Cast", [drawn], [lowered.entropy], lowered.entropy, to=to)
    for node in (words, source):
        frame.graph.node.insert(0, node)
    return dataclasses.replace(lowered, frame=frame, entropy="")


def check(file: Path) -> None:
    """Let ONNX's own checker see a model.

    Raises:
        EngineError: where it refuses it.
    """
    try:
        checker.check_model(str(file), full_check=True)
    except (ValueError, checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(
            f"ONNX does not accept the program: {str(error).splitlines()[0]}",
            hint="this is worth a bug report",
        ) from error
