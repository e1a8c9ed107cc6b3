"""``x[…]``: NumPy's indices as MIL's slices and gathers."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import ShapeError
from coreml_lab.program.graph import Dim
from coreml_lab.program.promotion import is_tensor, op


@dataclass
class _Slice:
    """The arguments of ``slice_by_index``, dimension by dimension."""

    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    begin_mask: list[bool] = field(default_factory=list)
    end_mask: list[bool] = field(default_factory=list)
    squeeze_mask: list[bool] = field(default_factory=list)

    def add(
        self, begin: int | None, end: int | None, stride: int = 1, *, squeeze: bool = False
    ) -> None:
        """One more dimension; None is the border in the direction of the stride."""
        self.begin.append(begin if begin is not None else 0)
        self.end.append(end if end is not None else 0)
        self.stride.append(stride)
        self.begin_mask.append(begin is None)
        self.end_mask.append(end is None)
        self.squeeze_mask.append(squeeze)

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return all(self.begin_mask) and all(self.end_mask) and all(s == 1 for s in self.stride)


def take(x: Any, index: Any) -> Any:
    """The elements of tensor ``x`` that ``index`` means in NumPy.

    Integers, slices, ``...`` and ``None`` in any combination, or one list, array or tensor of
    integers among full slices.

    Raises:
        ShapeError: for an index outside the tensor or of another kind.
    """
    parts = _complete(x, index if isinstance(index, tuple) else (index,))
    listed = [i for i, p in enumerate(parts) if is_tensor(p) or isinstance(p, np.ndarray | list)]
    if listed:
        return _gather(x, parts, listed)
    cut, new, place = _Slice(), [], 0
    for axis, part in _with_axes(parts):
        if part is None:
            new.append(place)
        elif isinstance(part, slice):
            _add_slice(cut, x, axis, part)
        else:
            _add_integer(cut, x, axis, part)
        place += 0 if part is not None and not isinstance(part, slice) else 1
    if not cut.whole:
        x = op("slice_by_index", x, **vars(cut))
    return op("expand_dims", x, axes=new) if new else op("identity", x) if cut.whole else x


def _complete(x: Any, parts: tuple[Any, ...]) -> list[Any]:
    """The parts with ``...`` written out, one per dimension and new axis."""
    named = sum(p is not None and p is not Ellipsis for p in parts)
    dots = sum(p is Ellipsis for p in parts)
    if named > x.ndim or dots > 1:
        told = f"{dots} ellipses" if dots > 1 else f"{named} indices"
        raise ShapeError(
            f"{told} for a tensor of {x.ndim} dimensions: {x.value.type}",
            hint="give at most one index per dimension, and one ...",
        )
    fill = [slice(None)] * (x.ndim - named)
    whole = parts if dots else (*parts, Ellipsis)
    at = next(i for i, p in enumerate(whole) if p is Ellipsis)
    return [*whole[:at], *fill, *whole[at + 1 :]]


def _with_axes(parts: list[Any]) -> list[tuple[int, Any]]:
    """Each part with the dimension it is about."""
    axis, found = 0, []
    for part in parts:
        found.append((axis, part))
        axis += part is not None
    return found


def _add_slice(cut: _Slice, x: Any, axis: int, part: slice) -> None:
    size = x.shape[axis]
    if part.step == 0:
        raise ShapeError("a slice step of 0", hint="use 1, or -1 to go backwards")
    if part in (slice(None), slice(None, None, 1)):
        cut.add(None, None)
    elif isinstance(size, Dim):
        cut.add(part.start, part.stop, 1 if part.step is None else part.step)
    else:
        begin, end, stride = part.indices(size)
        if not range(begin, end, stride):
            raise ShapeError(
                f"{_written(part)} of dimension {axis} of {x.value.type} is empty",
                hint="Core ML has no empty tensors",
            )
        # Going backwards past the first element has no number: -1 is the last one.
        cut.add(begin, None if end < 0 else end, stride)


def _written(part: slice) -> str:
    texts = ["" if v is None else str(v) for v in (part.start, part.stop, part.step)]
    return ":".join(texts if part.step is not None else texts[:2])


def _add_integer(cut: _Slice, x: Any, axis: int, part: Any) -> None:
    try:
        index = operator.index(part)
    except TypeError as error:
        raise ShapeError(
            f"{part!r} cannot index a tensor",
            hint="use integers, slices, ..., None, or one list of integers",
        ) from error
    size = x.shape[axis]
    index = index if isinstance(size, Dim) else _inside(index, size, axis, x)
    cut.add(index, index + 1, squeeze=True)


def _inside(index: int, size: int, axis: int, x: Any) -> int:
    """The index counted from the front."""
    if not -size <= index < size:
        raise ShapeError(
            f"index {index} is outside dimension {axis} of {x.value.type}",
            hint=f"use {-size} to {size - 1}",
        )
    return index % size


def _gather(x: Any, parts: list[Any], listed: list[int]) -> Any:
    others = [p for i, p in enumerate(parts) if i != listed[0]]
    if len(listed) > 1 or any(p != slice(None) for p in others):
        raise ShapeError(
            "a list or array index goes with full slices only",
            hint="index in two steps, or use cl.ops.gather_nd",
        )
    axis, index = listed[0], parts[listed[0]]
    size = x.shape[axis]
    if not is_tensor(index):
        index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise ShapeError(
            f"an index of {index.dtype} values", hint="use integers; cl.ops.select takes truths"
        )
    if not isinstance(size, Dim):
        # MIL calls negative indices out of bounds.
        index = _from_front(index, size, axis, x)
    return op("gather", x, index, axis=axis)


def _from_front(index: Any, size: int, axis: int, x: Any) -> Any:
    if is_tensor(index):
        return op("select", index < 0, index + size, index)
    for i in (index.min(initial=0), index.max(initial=0)):
        _inside(int(i), size, axis, x)
    return (index % size).astype(np.int32)
