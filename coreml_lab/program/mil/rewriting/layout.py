"""The form of layers: Core ML's devices like one better than another that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import mb

RANKS = (2, 3)


def linear_to_conv(model: Any) -> Any:
    """Each linear layer as a convolution with a kernel of one by one.

    The Neural Engine is made for convolutions over (batch, channels, 1, length). Core ML's own
    passes take away the transpositions between two that follow each other.
    """
    return passed(model, [_convolutions])


def _convolutions(block: Any) -> None:
    for op in list(block.operations):
        for inner in op.blocks:
            with inner:
                _convolutions(inner)
        if op.op_type == "linear" and len(op.x.shape) in RANKS and op.weight.val is not None:
            made = _convolution(op)
            block.replace_uses_of_var_after_op(
                anchor_op=op, old_var=op.outputs[0], new_var=made, force_replace=True
            )
            block.remove_ops([op])


def _convolution(op: Any) -> Any:
    flat = len(op.x.shape) == 2  # noqa: PLR2004 - (batch, channels)
    weight = np.asarray(op.weight.val)[:, :, None, None]
    bias = {} if op.bias is None else {"bias": np.asarray(op.bias.val)}
    called = {"before_op": op}
    if flat:
        x = mb.expand_dims(x=op.x, axes=[2, 3], **called)
    else:
        x = mb.expand_dims(x=mb.transpose(x=op.x, perm=[0, 2, 1], **called), axes=[2], **called)
    y = mb.conv(x=x, weight=weight, **bias, name=f"{op.name}_conv", **called)
    if flat:
        return mb.squeeze(x=y, axes=[2, 3], name=op.name, **called)
    y = mb.squeeze(x=y, axes=[2], **called)
    return mb.transpose(x=y, perm=[0, 2, 1], name=op.name, **called)


def clean(model: Any) -> Any:
    """Core ML's own passes once more: fusions, constants folded, what nothing reads removed."""
    return passed(model)
