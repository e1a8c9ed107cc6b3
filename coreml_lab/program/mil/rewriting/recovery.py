"""Operations that a converter took apart, whole again, where coremltools has no pass that does it.

Its own passes, which every change ends with, recover layer norm, instance norm, batch norm, gelu
and leaky relu, fold what can be, and merge what is there twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import mb

# The specification that has attention as one operation (iOS 18).
VERSION = 9
RANKS = (3, 4, 5)


def fuse_silu(model: Any) -> Any:
    """``x * sigmoid(x)`` as one operation."""
    return passed(model, [lambda block: _each(block, "mul", _silu)])


def fuse_attention(model: Any) -> Any:
    """``softmax(scale * (q @ k.T) + mask) @ v`` as one operation."""
    return passed(model, [lambda block: _each(block, "matmul", _attention)], VERSION)


def _each(block: Any, kind: str, found: Callable[[Any], Any]) -> None:
    """Put what ``found`` makes of an operation in its place; None where it is something else."""
    for op in list(block.operations):
        for inner in op.blocks:
            with inner:
                _each(inner, kind, found)
        made = found(op) if op.op_type == kind else None
        if made is not None:
            block.replace_uses_of_var_after_op(
                anchor_op=op, old_var=op.outputs[0], new_var=made, force_replace=True
            )
            block.remove_ops([op])


def _made(var: Any, kind: str) -> Any:
    """The operation of a kind that makes a value, and that nothing else reads; else None."""
    op = var.op
    alone = op is not None and op.op_type == kind and len(op.outputs[0].child_ops) == 1
    return op if alone and op.outputs[0] not in op.enclosing_block.outputs else None


def _silu(op: Any) -> Any:
    for gate, x in ((op.y, op.x), (op.x, op.y)):
        sigmoid = _made(gate, "sigmoid")
        if sigmoid is not None and sigmoid.x is x:
            return mb.silu(x=x, name=op.name, before_op=op)
    return None


@dataclass(frozen=True)
class Scores:
    """What attention is by: ``scale * (query @ key.T) + mask``."""

    query: Any
    key: Any
    scale: float
    mask: Any = None


def _attention(op: Any) -> Any:
    weights = _made(op.x, "softmax")
    if weights is None or _flag(op, "transpose_x") or _flag(op, "transpose_y"):
        return None
    rank = len(op.y.shape)
    scores = _scores(weights.x) if int(weights.axis.val) in {-1, rank - 1} else None
    if scores is None or rank not in RANKS or not _fits(scores, op.y) or not _masks(scores):
        return None
    query, width = scores.query, int(scores.query.shape[-1])
    factor = scores.scale * math.sqrt(width)  # the operation divides by the root itself
    if not math.isclose(factor, 1, rel_tol=1e-3):
        kind = np.float16 if "fp16" in str(query.dtype) else np.float32
        query = mb.mul(x=query, y=kind(factor), before_op=op)
    mask = {} if scores.mask is None else {"attn_mask": scores.mask}
    return mb.scaled_dot_product_attention(
        query=query, key=scores.key, value=op.y, **mask, name=op.name, before_op=op
    )


def _scores(var: Any) -> Scores | None:
    """Scores without or with a mask that is added, scaled or not."""
    added = _made(var, "add")
    if added is None:
        return _product(var)
    for product, mask in ((added.x, added.y), (added.y, added.x)):
        found = _product(product)
        if found is not None and len(mask.shape) <= len(product.shape):
            return Scores(found.query, found.key, found.scale, mask)
    return None


def _product(var: Any) -> Scores | None:
    for kind, turned in (("mul", 1), ("real_div", -1)):
        scaled = _made(var, kind)
        if scaled is None:
            continue
        pairs = [(scaled.x, scaled.y)] + ([(scaled.y, scaled.x)] if kind == "mul" else [])
        for product, number in pairs:
            if number.val is not None and np.size(number.val) == 1:
                found = _product(product)
                factor = float(np.ravel(number.val)[0]) ** turned
                return found and Scores(found.query, found.key, found.scale * factor)
    return _matmul(_made(var, "matmul"))


def _matmul(op: Any) -> Scores | None:
    if op is None or _flag(op, "transpose_x"):
        return None
    if _flag(op, "transpose_y"):
        return Scores(op.x, op.y, 1.0)
    turned = _made(op.y, "transpose")
    if turned is None:
        return None
    order = [int(n) % len(op.y.shape) for n in turned.perm.val]
    last = len(order) - 1
    swaps = order == [*range(last - 1), last, last - 1]
    return Scores(op.x, turned.x, 1.0) if swaps else None


def _fits(scores: Scores, value: Any) -> bool:
    """Whether all have one rank and the same leading sizes: attention does not spread them."""
    shapes = [tuple(v.shape) for v in (scores.query, scores.key, value)]
    return (
        len({len(s) for s in shapes}) == 1
        and len({s[:-2] for s in shapes}) == 1
        and isinstance(shapes[0][-1], int | np.integer)
    )


def _masks(scores: Scores) -> bool:
    """Whether attention takes the mask: it does not spread a single column over all keys."""
    if scores.mask is None:
        return True
    shape, keys = tuple(scores.mask.shape), scores.key.shape[-2]
    return bool(shape) and (shape[-1] != 1 or keys == 1)


def _flag(op: Any, name: str) -> bool:
    held = op.inputs.get(name)
    return held is not None and bool(held.val)
