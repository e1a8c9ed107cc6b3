"""An ONNX model as a file that stands by itself: what any ONNX runtime takes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, checker, helper

from coreml_lab.errors import EngineError

# The largest 32-bit number that is also one of fp32's.
HIGHEST = float(2**32 - 2**8)


def self_contained(model: onnx.ModelProto, entropy: str) -> onnx.ModelProto:
    """The model with its own source of ``entropy``, which our engines feed it as an input."""
    if not entropy:
        return model
    (asked,) = (i for i in model.graph.input if i.name == entropy)
    model.graph.input.remove(asked)
    drawn = f"{entropy}:drawn"
    source = helper.make_node("RandomUniform", [], [drawn], drawn, shape=[2], high=HIGHEST)
    words = helper.make_node("Cast", [drawn], [entropy], entropy, to=TensorProto.UINT32)
    for node in (words, source):
        model.graph.node.insert(0, node)
    return model


def checked(model: onnx.ModelProto, notes: Mapping[str, str]) -> bytes:
    """The file of a model with ``notes`` in its metadata, after ONNX's checker agreed.

    Raises:
        EngineError: where ONNX refuses it; beyond 2 GB, it cannot be one file.
    """
    helper.set_model_props(model, dict(notes))
    try:
        checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString()
    except (ValueError, checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(
            f"ONNX does not accept the program: {str(error).splitlines()[0]}",
            hint="beyond 2 GB compress its weights; anything else is worth a bug report",
        ) from error
    return data
