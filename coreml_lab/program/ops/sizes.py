"""Sizes and axes for lowerings: Python ints where known, ONNX values where flexible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from coreml_lab.errors import UnsupportedOp


def as_ints(values: Any) -> list[int]:
    """A shape, axes or indices given as a list, an array or a torch tensor, as Python ints."""
    values = host(values)
    listed = values.tolist() if hasattr(values, "tolist") else [host(v) for v in values]
    return [int(v) for v in listed]


def host(value: Any) -> Any:
    """What a torch tensor holds, as an array; the tensor itself knows it where it is a constant.

    Anything else stays what it is. A tensor that does not know has to be waited for.
    """
    if not hasattr(value, "detach"):
        return value
    known = getattr(value, "known", None)
    return value.cpu().numpy() if known is None else known


def unknown(value: Any) -> bool:
    """Whether it is a torch tensor whose device would have to be asked."""
    return hasattr(value, "detach") and getattr(value, "known", None) is None


def constant(operand: Any) -> list[int] | None:
    """The ints that an ONNX operand always is, or None where it is computed."""
    return None if operand.const is None else as_ints(operand.const.reshape(-1))


def size(o: Any, x: Any, axis: int) -> Any:
    """Size of one dimension: an int, or a one-element ONNX vector where it is flexible."""
    axis %= x.rank
    known = x.shape[axis]
    return known if isinstance(known, int) else o.Shape(x, start=axis, end=axis + 1)


def sizes(o: Any, parts: Sequence[Any]) -> Any:
    """A shape for ONNX out of ints and one-element vectors."""
    if all(isinstance(p, int) for p in parts):
        return o.ints(list(parts))
    return o.Concat(*(o.ints([p]) if isinstance(p, int) else p for p in parts), axis=0)


def divided(o: Any, part: Any, by: int) -> Any:
    """``part // by``."""
    return part // by if isinstance(part, int) else o.Div(part, o.ints([by]))


def plus(o: Any, part: Any, more: int) -> Any:
    """``part + more``."""
    return part + more if isinstance(part, int) else o.Add(part, o.ints([more]))


def times(o: Any, part: Any, by: int) -> Any:
    """``part * by``."""
    return part * by if isinstance(part, int) else o.Mul(part, o.ints([by]))


def all_sizes(o: Any, x: Any) -> Any:
    """The whole shape of ``x`` for ONNX."""
    return o.ints(list(x.shape)) if all(isinstance(d, int) for d in x.shape) else o.Shape(x)


def nonempty(o: Any, x: Any) -> Any:
    """``x`` itself; where it has no elements, an error: for kernels that would end the process."""
    if all(isinstance(d, int) for d in x.shape):
        if 0 in x.shape:
            raise UnsupportedOp(f"{o.node.op}: {x.known} has no elements")
        return x
    # No size may be -2: ONNX Runtime says so.
    found = o.Shape(x)
    checked = o.Where(o.Equal(found, o.ints([0])), o.ints([-2]), found)
    return o.typed(o.Reshape(x, checked), x.known)


def inverse(permutation: Iterable[int]) -> list[int]:
    """The permutation that undoes another."""
    order = list(permutation)
    return [order.index(i) for i in range(len(order))]
