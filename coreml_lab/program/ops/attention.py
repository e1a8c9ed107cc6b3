"""Attention: each position of one sequence reads all positions of another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, normal


def _attention_onnx(o: Any, query: Any, key: Any, value: Any, attn_mask: Any) -> Any:
    width = query.shape[-1]
    if isinstance(width, int):
        scale = o.scalar(1 / math.sqrt(max(width, 1)), query)
    else:
        size = o.cast(o.Shape(query, start=-1), query.dtype)
        scale = o.Reciprocal(o.Sqrt(size))
    scores = o.MatMul(o.Mul(query, scale), o.swap(key))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        attn_mask = o.Where(attn_mask, o.scalar(0, query), o.scalar(-np.inf, query))
    if attn_mask is not None:
        scores = o.Add(scores, attn_mask)
    return o.MatMul(o.Softmax(scores, axis=-1), value)


def _mask(*shape: int) -> Array:
    """Who may look at whom; everybody at the first, so that no row is empty."""
    allowed = booleans(*shape)
    allowed[..., 0] = True
    return allowed


@op(
    samples=[
        {
            "query": normal(2, 3, 4),
            "key": normal(2, 5, 4, seed=1),
            "value": normal(2, 5, 6, seed=2),
        },
        {
            "query": normal(1, 2, 3, 8),
            "key": normal(1, 2, 3, 8, seed=1),
            "value": normal(1, 2, 3, 8, seed=2),
            "attn_mask": _mask(3, 3),
        },
        {
            "query": normal(2, 3, 4),
            "key": normal(2, 5, 4, seed=1),
            "value": normal(2, 5, 6, seed=2),
            "attn_mask": normal(2, 3, 5, seed=3),
        },
    ],
    onnx=_attention_onnx,
    torch=lambda t, query, key, value, attn_mask: t.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask
    ),
)
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """Mixed values: ``softmax(query key^T / sqrt(width) + mask) value``.

    A mask of truth values lets the true ones take part; a mask of numbers is added.
    """
    scores = query @ np.swapaxes(key, -1, -2)
    scores = scores / np.sqrt(np.float32(max(query.shape[-1], 1)))
    if attn_mask is not None:
        added = np.where(attn_mask, 0, -np.inf) if attn_mask.dtype == np.bool_ else attn_mask
        scores = scores + added.astype(np.float32)
    weights = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
    return np.asarray((weights / weights.sum(-1, keepdims=True)) @ value).astype(query.dtype)
