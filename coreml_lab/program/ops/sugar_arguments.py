"""What the friendly spellings do to their arguments before they reach MIL's operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import ShapeError
from coreml_lab.program.ops.registry import OPS
from coreml_lab.program.tensors import Tensor, tensor

Ints = int | Sequence[int]
Padding = str | Ints


def run(name: str, **arguments: Any) -> Tensor:
    """Record the operation of that MIL name."""
    result: Tensor = OPS[name](**arguments)
    return result


def as_tensor(x: Any, rank: int | None = None, caller: str = "") -> Tensor:
    """``x`` as a tensor, of the rank the caller needs."""
    found = x if isinstance(x, Tensor) else tensor(x)
    if rank is not None and found.ndim != rank:
        raise ShapeError(
            f"{caller}(x: {found.value.type}): x has {found.ndim} dimensions, not {rank}",
            hint=f"reshape it to [batch, channels{', size' * (rank - 2)}]",
        )
    return found


def each(value: Ints, count: int, what: str, low: int = 0) -> list[int]:
    """One number per size: ``value`` for all, or one each."""
    given = [value] * count if isinstance(value, int | np.integer) else list(value)
    if len(given) != count or any(int(v) != v or v < low for v in given):
        raise ShapeError(
            f"{what}={value!r}: not one whole number of at least {low}, nor {count} of them",
            hint=f"{what}=1 or {what}={(1,) * count}",
        )
    return [int(v) for v in given]


def border(padding: Padding, count: int) -> dict[str, Any]:
    """Padding as MIL wants it: its kind, and before and after of each size."""
    if isinstance(padding, str):
        return {"pad_type": padding.lower()}
    both = [p for p in each(padding, count, "padding") for _ in ("before", "after")]
    return {"pad_type": "custom", "pad": both} if any(both) else {"pad_type": "valid"}


def fixed_sizes(x: Tensor, axes: Sequence[int], caller: str) -> list[int]:
    """The sizes of dimensions that must be known when the program is written."""
    sizes = [x.shape[a] for a in axes]
    if not all(isinstance(n, int) for n in sizes):
        raise ShapeError(
            f"{caller}(x: {x.value.type}): needs to know the sizes of dimensions {list(axes)}",
            hint="give those dimensions of the input a fixed size",
        )
    return [n for n in sizes if isinstance(n, int)]


def per_channel(values: Any, x: Tensor) -> Any:
    """One number per channel, shaped to broadcast over ``x``."""
    shape = [-1, *[1] * (x.ndim - 2)]
    if isinstance(values, Tensor):
        return run("reshape", x=values, shape=shape)
    return np.reshape(values, shape)
