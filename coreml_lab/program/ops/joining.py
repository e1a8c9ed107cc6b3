"""Operations that join tensors, cut them apart or repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import as_ints, size, sizes, times


def _concat_onnx(o: Any, values: Any, *, axis: Any, interleave: Any) -> Any:
    first = values[0]
    if not interleave:
        parts = [v if v.rank else o.Unsqueeze(v, o.ints([0])) for v in values]
        return o.Concat(*parts, axis=int(axis))
    axis = int(axis) % first.rank
    stacked = o.Concat(*(o.Unsqueeze(v, o.ints([axis + 1])) for v in values), axis=axis + 1)
    kept = [size(o, first, i) for i in range(first.rank)]
    kept[axis] = times(o, kept[axis], len(values))
    return o.Reshape(stacked, sizes(o, kept), allowzero=1)


def _concat_torch(t: Any, values: Any, *, axis: Any, interleave: Any) -> Any:
    if not interleave:
        return t.cat([v if v.ndim else v.reshape(1) for v in values], dim=int(axis))
    axis = int(axis) % values[0].ndim
    return t.stack(values, dim=axis + 1).flatten(axis, axis + 1)


@op(
    samples=[
        {"values": [normal(2, 3), normal(2, 1, seed=1)], "axis": 1},
        {"values": [normal(2, 3), normal(2, 3, seed=1)], "axis": -2, "interleave": True},
        {"values": [integers(2, 3), integers(1, 3, seed=1), integers(3, 3)], "axis": 0},
        {"values": [booleans(2), booleans(3, seed=1)], "axis": -1},
    ],
    onnx=_concat_onnx,
    torch=_concat_torch,
    limits=(Limit("apple", "Apple's evaluation ignores interleave", 1),),
)
def concat(values: Sequence[Array], *, axis: int, interleave: bool = False) -> Array:
    """Tensors one after the other along ``axis``, or in turns with ``interleave``."""
    if not interleave:
        return np.concatenate([np.atleast_1d(v) for v in values], axis)
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    place = axis % len(shape)
    return np.stack(values, place + 1).reshape(shape)


@op(
    samples=[
        {"values": [normal(2, 3), normal(2, 3, seed=1)], "axis": 1},
        {"values": [integers(2), integers(2, seed=1), integers(2, seed=2)], "axis": -1},
    ],
    onnx=lambda o, values, *, axis: o.Concat(
        *(o.Unsqueeze(v, o.ints([int(axis)])) for v in values), axis=int(axis)
    ),
    torch=lambda t, values, *, axis: t.stack(list(values), dim=int(axis)),
)
def stack(values: Sequence[Array], *, axis: int) -> Array:
    """Tensors of one shape side by side along a new dimension ``axis``."""
    return np.stack(values, axis)


def _lengths(whole: int, num_splits: Any, split_sizes: Any) -> list[int]:
    if split_sizes is not None:
        return as_ints(split_sizes)
    return [whole // int(num_splits)] * int(num_splits)


def _split_onnx(o: Any, x: Any, *, num_splits: Any, split_sizes: Any, axis: Any) -> Any:
    count, whole = len(o.node.types), x.shape[int(axis)]
    if split_sizes is None and not isinstance(whole, int):
        return o.Split(x, outputs=count, num_outputs=count, axis=int(axis))
    lengths = _lengths(whole, num_splits, split_sizes)
    return o.Split(x, o.ints(lengths), outputs=count, axis=int(axis))


@op(
    samples=[
        {"x": normal(2, 6), "num_splits": 3, "axis": 1},
        {"x": normal(6, 2), "split_sizes": [1, 3, 2], "axis": -2},
        {"x": integers(4), "num_splits": 2, "split_sizes": [1, 3], "axis": 0},
    ],
    onnx=_split_onnx,
    torch=lambda t, x, *, num_splits, split_sizes, axis: t.split(
        x, _lengths(x.shape[int(axis)], num_splits, split_sizes), dim=int(axis)
    ),
)
def split(
    x: Array,
    *,
    num_splits: int | None = None,
    split_sizes: Sequence[int] | Array | None = None,
    axis: int,
) -> tuple[Array, ...]:
    """``x`` cut along ``axis``: into ``num_splits`` equal parts, or as ``split_sizes`` says."""
    lengths = _lengths(x.shape[int(axis)], num_splits, split_sizes)
    return tuple(np.split(x, np.cumsum(lengths)[:-1], int(axis)))


@op(
    samples=[
        {"x": normal(2, 3), "reps": [2, 1]},
        {"x": integers(2, 3), "reps": [1, 3]},
        {"x": booleans(2), "reps": np.array([2], np.int32)},
    ],
    onnx=lambda o, x, reps: o.Tile(x, o.ints(reps)),
    torch=lambda t, x, reps: t.tile(x, tuple(as_ints(reps))),
)
def tile(x: Array, reps: Sequence[int] | Array) -> Array:
    """``x`` repeated ``reps[i]`` times along dimension ``i``."""
    return np.tile(x, as_ints(reps))


def _windows_onnx(o: Any, x: Any, *, axis: Any, size: Any, stride: Any) -> Any:
    axis, width, step = int(axis) % x.rank, int(size), int(stride)
    whole = x.shape[axis]
    if isinstance(whole, int):
        return o.Gather(x, o.ints(_windows(whole, width, step)), axis=axis)
    length = o.Reshape(o.Shape(x, start=axis, end=axis + 1), o.ints([]))
    firsts = o.Range(o.ints(0), o.Add(length, o.ints(1 - width)), o.ints(step))
    places = o.Add(o.Unsqueeze(firsts, o.ints([1])), o.ints(range(width)))
    return o.Gather(x, places, axis=axis)


def _windows(whole: int, width: int, step: int) -> Array:
    return np.arange(0, whole - width + 1, step)[:, None] + np.arange(width)


@op(
    samples=[
        {"x": normal(2, 7), "axis": 1, "size": 3},
        {"x": integers(8, 2), "axis": -2, "size": 2, "stride": 3},
    ],
    onnx=_windows_onnx,
    torch=lambda t, x, *, axis, size, stride: t.movedim(
        x.unfold(axis, size, stride), -1, axis % x.ndim + 1
    ),
)
def sliding_windows(x: Array, *, axis: int, size: int, stride: int = 1) -> Array:
    """Windows of ``size`` elements along ``axis``, ``stride`` apart, as a dimension after it."""
    return np.take(x, _windows(x.shape[axis], size, stride), axis)
