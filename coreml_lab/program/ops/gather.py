"""Operations that read elements at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal


def _gather_onnx(o: Any, x: Any, indices: Any, *, axis: Any, batch_dims: Any, **_: Any) -> Any:
    axis, batch = int(axis) % x.rank, int(batch_dims)
    if batch == 0:
        return o.Gather(x, indices, axis=axis)
    # GatherND reads along the first dimension after the batch: bring the axis there, and back.
    passed = axis - batch
    front = [*range(batch), axis, *range(batch, axis), *range(axis + 1, x.rank)]
    moved = o.Transpose(x, perm=front) if passed else x
    picked = o.GatherND(moved, o.Unsqueeze(o.ints(indices), o.ints([-1])), batch_dims=batch)
    own = indices.rank - batch
    between = range(indices.rank, indices.rank + passed)
    behind = range(indices.rank + passed, own + x.rank - 1)
    order = [*range(batch), *between, *range(batch, indices.rank), *behind]
    return o.Transpose(picked, perm=order) if passed and own else picked


def _gather_torch(t: Any, x: Any, indices: Any, *, axis: Any, batch_dims: Any, **_: Any) -> Any:
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    at = t.within(indices, x.shape[axis])
    moved = t.movedim(x, axis, batch)
    lead = [
        t.arange(n).reshape([-1] + [1] * (at.ndim - 1 - i)) for i, n in enumerate(x.shape[:batch])
    ]
    picked = moved[(*lead, at)]
    own = list(range(batch, at.ndim))
    return t.movedim(picked, own, [i + axis - batch for i in own])


@op(
    samples=[
        {"x": normal(4, 3), "indices": np.array([2, 0, 3], np.int32)},
        {"x": normal(2, 5, 3), "indices": integers(2, 2, low=0, high=5), "axis": 1},
        {
            "x": normal(2, 5, 3),
            "indices": integers(2, 4, low=0, high=5),
            "axis": 1,
            "batch_dims": 1,
        },
        {
            "x": normal(2, 3, 5, 4),
            "indices": integers(2, 2, 3, low=0, high=5),
            "axis": 2,
            "batch_dims": 1,
        },
        {
            "x": integers(4, 3),
            "indices": np.array(2, np.int32),
            "axis": -1,
            "validate_indices": True,
        },
        {"x": normal(4, 3), "indices": [1, 1, 0]},
    ],
    onnx=_gather_onnx,
    torch=_gather_torch,
)
def gather(
    x: Array,
    indices: Array,
    *,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """The slices of ``x`` at ``indices`` along ``axis``; ``batch_dims`` dimensions go together.

    A negative index counts from the end (from iOS17 on MIL leaves that undefined); one that is out
    of range is an error on every engine here, with or without ``validate_indices``.
    """
    axis, at = axis % x.ndim, np.asarray(indices)
    if batch_dims == 0:
        return np.asarray(np.take(x, at, axis))
    batch = x.shape[:batch_dims]
    rest = (*x.shape[batch_dims:axis], *at.shape[batch_dims:], *x.shape[axis + 1 :])
    parts = [np.take(x[i], at[i], axis - batch_dims) for i in np.ndindex(batch)]
    return np.reshape(parts, (*batch, *rest)).astype(x.dtype)


@op(
    samples=[
        {"x": normal(4, 3), "indices": integers(2, 3, low=0, high=4)},
        {"x": normal(2, 3, 5), "indices": integers(2, 3, 2, low=0, high=5), "axis": -1},
        {
            "x": integers(2, 3),
            "indices": integers(2, 4, low=0, high=3),
            "axis": 1,
            "validate_indices": True,
        },
    ],
    onnx=lambda o, x, indices, *, axis, **_: o.GatherElements(x, indices, axis=int(axis)),
    torch=lambda t, x, indices, *, axis, **_: t.take_along_dim(
        x, t.within(indices, x.shape[axis]), int(axis)
    ),
)
def gather_along_axis(
    x: Array,
    indices: Array,
    *,
    axis: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """For every index, the element of ``x`` at the same place but at that index along ``axis``."""
    return np.take_along_axis(x, np.asarray(indices), axis)


def _gather_nd_torch(t: Any, x: Any, indices: Any, *, batch_dims: Any, **_: Any) -> Any:
    batch = int(batch_dims)
    at = t.as_tensor(indices).long()
    lead = [
        t.arange(n).reshape([-1] + [1] * (at.ndim - 2 - i)) for i, n in enumerate(x.shape[:batch])
    ]
    own = zip(at.unbind(-1), x.shape[batch:], strict=False)
    return x[(*lead, *(t.within(places, n) for places, n in own))]


@op(
    samples=[
        {"x": normal(4, 3), "indices": np.array([[1, 2], [3, 0]], np.int32)},
        {"x": normal(2, 3, 4), "indices": np.array([[[1]], [[0]]], np.int32)},
        {
            "x": normal(2, 3, 4),
            "indices": np.array([[[2, 1]], [[0, 3]]], np.int32),
            "batch_dims": 1,
        },
        # Not negative: coremltools' pass to 16-bit integers may take such data for uint16.
        {
            "x": integers(4, low=0),
            "indices": np.array([[1], [3]], np.int32),
            "validate_indices": True,
        },
    ],
    onnx=lambda o, x, indices, *, batch_dims, **_: o.GatherND(
        x, o.ints(indices), batch_dims=int(batch_dims)
    ),
    torch=_gather_nd_torch,
)
def gather_nd(
    x: Array,
    indices: Array,
    *,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - every engine here checks
) -> Array:
    """The slices of ``x`` at the positions that the rows of ``indices`` spell out.

    The last dimension of ``indices`` holds the first coordinates of a position, after
    ``batch_dims`` common ones.
    """
    at = np.asarray(indices)
    lead = np.ix_(*(np.arange(n) for n in x.shape[:batch_dims]))
    own = at.ndim - 1 - batch_dims
    grids = tuple(g.reshape(*g.shape, *[1] * own) for g in lead)
    return np.asarray(x[(*grids, *np.moveaxis(at, -1, 0))])
