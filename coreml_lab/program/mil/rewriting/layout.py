"""The form of layers: Core ML's devices like one better than another that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import mb

RANKS = (2, 3)
VALID, CUSTOM = "valid", "custom"


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


def fold_pads(model: Any) -> Any:
    """Convolutions that fill up their inputs with zeros themselves: one copy less for each."""
    return passed(model, [_folded])


def _folded(block: Any) -> None:
    for op in list(block.operations):
        for inner in op.blocks:
            with inner:
                _folded(inner)
        if op.op_type == "conv" and (amounts := _padded(op)) is not None:
            # Already there: in the order of the axes, before and after each.
            own = np.zeros_like(amounts) if op.pad_type.val == VALID else op.pad.val
            names = ("weight", "bias", "strides", "dilations", "groups")
            given = {name: op.inputs[name] for name in names if op.inputs.get(name) is not None}
            made = mb.conv(
                x=op.x.op.x, **given, pad_type=CUSTOM, pad=amounts + own, name=op.name, before_op=op
            )
            block.replace_uses_of_var_after_op(
                anchor_op=op, old_var=op.outputs[0], new_var=made, force_replace=True
            )
            block.remove_ops([op])


def _padded(op: Any) -> Any:
    """How much a pad of zeros before a convolution adds to each axis; None where there is none."""
    pad = op.x.op
    if pad is None or pad.op_type != "pad" or op.pad_type.val not in {VALID, CUSTOM}:
        return None
    amounts, value = pad.pad.val, pad.constant_val
    if amounts is None or pad.mode.val != "constant" or (value is not None and value.val != 0):
        return None
    axes = 2 * (len(op.x.shape) - 2)
    whole = np.concatenate([np.zeros(max(0, axes - len(amounts)), np.int32), amounts])
    return None if np.any(whole[:-axes]) else whole[-axes:].astype(np.int32)
