"""Real numbers as integers by one rule, on every processor: cut, not left to its instructions.

The fraction is lost, what lies beyond the integer type stops at its ends, and NaN becomes 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array

INT32 = np.dtype(np.int32)


def ends(kind: np.dtype[Any]) -> tuple[float, float]:
    """The least and the greatest number that an integer type holds."""
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def saturated(values: Any, kind: np.dtype[Any] = INT32) -> Array:
    """The NumPy body."""
    numbers = np.where(np.isnan(values), 0, values).astype(np.float64)
    return np.asarray(np.clip(np.trunc(numbers), *ends(kind)).astype(kind))


def saturated_onnx(o: Any, x: Any, kind: np.dtype[Any] = INT32, *, double: bool = False) -> Any:
    """The lowering; ``double`` says that ``x`` is in double precision. The result is int32."""
    # Single precision holds the ends of the narrow types only.
    wide = np.dtype(np.float64 if double or kind == INT32 else np.float32)
    inside = x if double or wide == np.float32 else o.cast(x, wide)
    low, high = (o.const(n, wide, raw=True) for n in ends(kind))
    whole = o.Where(o.IsNaN(x), o.const(0, wide, raw=True), o.Clip(inside, low, high))
    return o.cast(whole, INT32)


def saturated_torch(t: Any, x: Any, kind: np.dtype[Any] = INT32) -> Any:
    """The lowering to torch, as 64-bit integers."""
    return t.nan_to_num(x.double(), nan=0.0).clamp(*ends(kind)).trunc().to(t.int64)
