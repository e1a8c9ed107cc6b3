"""The long axis last: images of one column become images of one row, which hold the same numbers.

PyTorch's converter writes layers over a sequence as images of (length, 1). The Neural Engine fills
every row up to 64 bytes, and kernels for CPUs work along rows: both have next to nothing to do in
one of a single number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import mb

SWAP = (0, 1, 3, 2)
IMAGE = 4


def long_axis_last(model: Any) -> Any:
    """Convolutions, pools and batch norms over (length, 1) work over (1, length).

    Core ML's own passes take away the transpositions in between; those that stay move nothing,
    since one of the two sizes is one.
    """
    return passed(model, [_turned])


def _turned(block: Any) -> None:
    for op in list(block.operations):
        for inner in op.blocks:
            with inner:
                _turned(inner)
        if op.op_type in TURNED and _column(op.x) and _column(op.outputs[0]):
            _turn(block, op)


def _column(var: Any) -> bool:
    shape = var.shape
    return len(shape) == IMAGE and _is(shape[3], 1) and not _is(shape[2], 1)


def _is(size: Any, number: int) -> bool:
    """Whether a size is known to be that number: it may be a symbol."""
    return isinstance(size, int | np.integer) and int(size) == number


def _turn(block: Any, op: Any) -> None:
    given = TURNED[op.op_type](op)
    if given is None:
        return
    x = mb.transpose(x=op.x, perm=SWAP, before_op=op)
    y = getattr(mb, op.op_type)(x=x, **given, name=f"{op.name}_row", before_op=op)
    back = mb.transpose(x=y, perm=SWAP, name=op.name, before_op=op)
    block.replace_uses_of_var_after_op(
        anchor_op=op, old_var=op.outputs[0], new_var=back, force_replace=True
    )
    block.remove_ops([op])


def _window(op: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Parameters with a number for each of both axes, turned; others as they are."""
    found = {name: op.inputs[name].val for name in names if op.inputs.get(name) is not None}
    for name in ("kernel_sizes", "strides", "dilations"):
        if name in found:
            found[name] = np.asarray(found[name])[[1, 0]]
    if "pad" in found:
        found["pad"] = np.asarray(found["pad"])[[2, 3, 0, 1]]
    return found


def _conv(op: Any) -> dict[str, Any] | None:
    if op.weight.val is None:  # it is stored small: its shape is not ours to change
        return None
    weight = np.ascontiguousarray(np.swapaxes(op.weight.val, 2, 3))
    bias = {} if op.bias is None else {"bias": op.bias}
    names = ("strides", "pad_type", "pad", "dilations", "groups")
    return {"weight": weight, **bias, **_window(op, names)}


def _pool(op: Any) -> dict[str, Any]:
    names = ("kernel_sizes", "strides", "pad_type", "pad", "ceil_mode")
    return _window(op, (*names, "exclude_padding_from_average"))


def _same(op: Any) -> dict[str, Any]:
    return {name: var for name, var in op.inputs.items() if name != "x" and var is not None}


# What works over images, and its arguments for an image that is turned.
TURNED: Mapping[str, Callable[[Any], dict[str, Any] | None]] = {
    "conv": _conv,
    "max_pool": _pool,
    "avg_pool": _pool,
    "batch_norm": _same,
}
