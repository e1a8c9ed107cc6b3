"""Operations that write elements at computed places.

``mode`` says how what is written meets what was there: ``update`` replaces it, ``add``, ``sub``,
``mul``, ``div``, ``max`` and ``min`` combine both, however often a place is named. ``div`` divides
by the product of what is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.arithmetic import quotient_onnx, quotient_torch, real_div
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import integers, normal, positive
from coreml_lab.program.ops.sizes import inverse

MODES = ("update", "add", "sub", "mul", "div", "max", "min")
COMBINE: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _written(data: Array, at: tuple[Array, ...], updates: Array, mode: str) -> Array:
    result = np.copy(data)
    if mode == "update":
        result[at] = updates
    elif mode == "div":
        divisor = np.ones_like(data)
        np.multiply.at(divisor, at, updates)
        result = real_div.reference(data, divisor)
    else:
        COMBINE[mode].at(result, at, updates)
    return result


def _write_onnx(
    o: Any, write: Callable[[Any, Any, str], Any], data: Any, updates: Any, mode: str
) -> Any:
    """``write(onto, updates, reduction)``, with the modes that ONNX lacks made of those it has."""
    if mode == "div":
        ones = o.Expand(o.const(1, o.out.dtype), o.Shape(data))
        divisor = write(ones, updates, "mul")
        whole = o.out.dtype.kind == "i"
        return quotient_onnx(o, data, divisor) if whole else o.Div(data, divisor)
    if mode == "sub":
        return write(data, o.Neg(updates), "add")
    return write(data, updates, "none" if mode == "update" else mode)


def _write_torch(t: Any, data: Any, at: Any, updates: Any, mode: str) -> Any:
    """Rows ``at`` of a matrix combined with ``updates``."""
    if mode == "update":
        return data.index_copy(0, at, updates)
    if mode in {"add", "sub"}:
        return data.index_add(0, at, updates, alpha=1 if mode == "add" else -1)
    rows = at[:, None].expand_as(updates)
    if mode == "div":
        divisor = t.scatter_reduce(t.ones_like(data), 0, rows, updates, "prod")
        return quotient_torch("trunc")(t, data, divisor)
    reduce = {"mul": "prod", "max": "amax", "min": "amin"}[mode]
    return t.scatter_reduce(data, 0, rows, updates, reduce)


def _scatter_onnx(
    o: Any, data: Any, indices: Any, updates: Any, *, axis: Any, mode: Any, **_: Any
) -> Any:
    axis, own = int(axis) % data.rank, indices.rank
    front = [axis, *(i for i in range(data.rank) if i != axis)]
    first = [*range(axis, axis + own)]
    order = first + [i for i in range(data.rank - 1 + own) if i not in first]
    onto = o.Transpose(data, perm=front) if axis else data
    new = o.Transpose(updates, perm=order) if axis else updates
    places = o.Unsqueeze(o.ints(indices), o.ints([-1]))

    def write(rows: Any, written: Any, how: str) -> Any:
        return o.ScatterND(rows, places, written, reduction=how)

    y = _write_onnx(o, write, onto, new, str(mode))
    return o.Transpose(y, perm=inverse(front)) if axis else y


def _scatter_torch(
    t: Any, data: Any, indices: Any, updates: Any, *, axis: Any, mode: Any, **_: Any
) -> Any:
    places = t.as_tensor(indices)
    axis, own = int(axis) % data.ndim, places.ndim
    onto = t.movedim(data, axis, 0)
    new = t.movedim(updates, list(range(axis, axis + own)), list(range(own)))
    rows = onto.reshape(onto.shape[0], -1)
    at = t.within(indices, onto.shape[0]).reshape(-1)
    y = _write_torch(t, rows, at, new.reshape(at.numel(), -1), str(mode))
    return t.movedim(y.reshape(onto.shape), 0, axis)


@op(
    samples=[
        *(
            {
                "data": normal(4, 3),
                "indices": np.array([2, 0, 2], np.int32),
                "updates": positive(3, 3, seed=1),
                "mode": m,
            }
            for m in MODES
            if m != "update"
        ),
        {
            "data": normal(4, 3),
            "indices": np.array([2, 0], np.int32),
            "updates": normal(2, 3, seed=1),
            "mode": "update",
            "validate_indices": True,
        },
        {
            "data": normal(2, 5, 3),
            "indices": np.array([4, 1], np.int32),
            "updates": normal(2, 2, 3, seed=1),
            "axis": 1,
        },
        {
            "data": integers(4, 3),
            "indices": [2, 1],
            "updates": integers(4, 2, low=1, seed=1),
            "axis": -1,
            "mode": "div",
        },
    ],
    onnx=_scatter_onnx,
    torch=_scatter_torch,
)
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """``data`` with ``updates`` combined into the slices at ``indices`` along ``axis``."""
    axis, at = axis % data.ndim, np.asarray(indices)
    own = list(range(axis, axis + at.ndim))
    new = np.moveaxis(updates, own, list(range(at.ndim)))
    return np.moveaxis(_written(np.moveaxis(data, axis, 0), (at,), new, mode), 0, axis)


def _along_onnx(
    o: Any, data: Any, indices: Any, updates: Any, *, axis: Any, mode: Any, **_: Any
) -> Any:
    def write(onto: Any, new: Any, how: str) -> Any:
        return o.ScatterElements(onto, indices, new, axis=int(axis), reduction=how)

    return _write_onnx(o, write, data, updates, str(mode))


def _grid(indices: Any, axis: int) -> tuple[Array, ...]:
    """The position of every element of ``indices``, with itself along ``axis``."""
    places = list(np.indices(np.shape(indices)))
    places[axis] = np.asarray(indices)
    return tuple(places)


def _along_torch(
    t: Any, data: Any, indices: Any, updates: Any, *, axis: Any, mode: Any, **_: Any
) -> Any:
    axis = int(axis) % data.ndim
    places = list(t.meshgrid(*(t.arange(n) for n in updates.shape), indexing="ij"))
    places[axis] = t.within(indices, data.shape[axis])
    at = _flat(data.shape, places)
    y = _write_torch(t, data.reshape(-1, 1), at.reshape(-1), updates.reshape(-1, 1), str(mode))
    return y.reshape(data.shape)


def _flat(shape: Any, places: list[Any]) -> Any:
    """Positions as numbers of rows, counting the dimensions they name."""
    at = places[0]
    for n, place in zip(shape[1:], places[1:], strict=False):
        at = at * n + place
    return at


@op(
    samples=[
        *(
            {
                "data": normal(4, 3),
                "indices": np.array([[2, 0, 1], [2, 1, 1]], np.int32),
                "updates": positive(2, 3, seed=1),
                "mode": m,
            }
            for m in MODES
            if m != "update"
        ),
        {
            "data": normal(2, 4),
            "indices": np.array([[3, 0], [1, 2]], np.int32),
            "updates": normal(2, 2, seed=1),
            "axis": 1,
            "mode": "update",
        },
        {
            "data": integers(2, 4),
            "indices": np.array([[3, 0], [1, 2]], np.int32),
            "updates": integers(2, 2, seed=1),
            "axis": -1,
            "validate_indices": True,
        },
    ],
    onnx=_along_onnx,
    torch=_along_torch,
    limits=tuple(
        Limit("apple", "Apple's evaluation replaces whatever the mode", i) for i in (*range(6), 7)
    ),
)
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    *,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """``data`` with each update combined in at its own place, but at its index along ``axis``."""
    return _written(data, _grid(indices, axis), updates, mode)


def _nd_onnx(o: Any, data: Any, indices: Any, updates: Any, *, mode: Any, **_: Any) -> Any:
    places = o.ints(indices)

    def write(onto: Any, new: Any, how: str) -> Any:
        return o.ScatterND(onto, places, new, reduction=how)

    return _write_onnx(o, write, data, updates, str(mode))


def _nd_torch(t: Any, data: Any, indices: Any, updates: Any, *, mode: Any, **_: Any) -> Any:
    columns = t.as_tensor(indices).unbind(-1)
    depth = len(columns)
    places = [t.within(c, n) for c, n in zip(columns, data.shape, strict=False)]
    at = _flat(data.shape[:depth], places).reshape(-1)
    rows = data.reshape(int(np.prod(data.shape[:depth])), -1)
    return _write_torch(t, rows, at, updates.reshape(at.numel(), -1), str(mode)).reshape(data.shape)


@op(
    samples=[
        *(
            {
                "data": normal(4, 3),
                "indices": np.array([[2], [0], [2]], np.int32),
                "updates": positive(3, 3, seed=1),
                "mode": m,
            }
            for m in MODES
            if m != "update"
        ),
        {
            "data": normal(4, 3),
            "indices": np.array([[2, 1], [0, 2]], np.int32),
            "updates": normal(2, seed=1),
            "mode": "update",
        },
        {
            "data": integers(2, 3, 4),
            "indices": np.array([[[1, 2]], [[0, 1]]], np.int32),
            "updates": integers(2, 1, 4, seed=1),
            "validate_indices": False,
        },
        {
            "data": normal(5),
            "indices": np.array([[4], [1]], np.int32),
            "updates": normal(2, seed=1),
            "validate_indices": True,
        },
    ],
    onnx=_nd_onnx,
    torch=_nd_torch,
)
def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    *,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """``data`` with ``updates`` combined into the positions that ``indices`` spells out."""
    return _written(data, tuple(np.moveaxis(np.asarray(indices), -1, 0)), updates, mode)
