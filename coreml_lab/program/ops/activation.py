"""Activation functions."""

from __future__ import annotations

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import normal


@op(
    samples=[{"x": normal(2, 3)}, {"x": normal(2, 3, 4), "axis": 0}],
    onnx=lambda o, x, *, axis: o.Softmax(x, axis=axis),
    torch=lambda t, x, *, axis: t.softmax(x, dim=axis),
)
def softmax(x: Array, *, axis: int = -1) -> Array:
    """Positive numbers that sum to one along ``axis``, in proportion to ``exp(x)``."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
