"""Operations that order, reverse, count and mark elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.arrays import as_data
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import as_ints, host, inverse, size, sizes

Ints = Sequence[int] | Array

# ONNX cuts a bound at the dimension's size.
LAST = np.iinfo(np.int32).max


def _one_hot_onnx(
    o: Any, indices: Any, one_hot_vector_size: Any, *, axis: Any, on_value: Any, off_value: Any
) -> Any:
    place = int(axis) % (indices.rank + 1)
    depth = one_hot_vector_size
    column = o.ints([-1] + [1] * (indices.rank - place))
    if depth.const is not None:
        classes = o.const(np.arange(int(depth.const)).reshape(column.const), np.int32)
    else:
        scalar = o.Reshape(depth, o.ints([]))
        classes = o.Reshape(o.Range(o.const(0, np.int32), scalar, o.const(1, np.int32)), column)
    hit = o.Equal(o.Unsqueeze(indices, o.ints([place])), classes)
    on, off = as_data(on_value), as_data(off_value)
    if on.dtype == bool:  # ONNX Runtime has no Where for truth values
        marked = o.Xor(hit, o.const(off)) if bool(on) != bool(off) else o.Or(hit, o.const(on))
        return marked if bool(on) or bool(off) else o.And(hit, o.const(on))
    return o.Where(hit, o.const(on), o.const(off))


def _one_hot_torch(
    t: Any, indices: Any, depth: Any, *, axis: Any, on_value: Any, off_value: Any
) -> Any:
    places = t.as_tensor(indices).unsqueeze(-1)
    hit = t.movedim(places == t.arange(int(host(depth))), -1, int(axis))
    on, off = (t.from_numpy(np.array(as_data(v))) for v in (on_value, off_value))
    return t.where(hit, on, off)


@op(
    samples=[
        {"indices": np.array([2, 0, 3], np.int32), "one_hot_vector_size": 4},
        {
            "indices": np.array([[1, -1], [7, 0]], np.int32),
            "one_hot_vector_size": 3,
            "axis": 1,
            "on_value": 2.5,
            "off_value": -1.0,
        },
        {
            "indices": np.array([2, 0], np.int32),
            "one_hot_vector_size": np.array(3, np.int32),
            "axis": 0,
        },
        {
            "indices": np.array([2, 0], np.int32),
            "one_hot_vector_size": 3,
            "on_value": False,
            "off_value": True,
        },
    ],
    onnx=_one_hot_onnx,
    torch=_one_hot_torch,
)
def one_hot(
    indices: Array,
    one_hot_vector_size: int,
    *,
    axis: int = -1,
    on_value: float = 1,
    off_value: float = 0,
) -> Array:
    """``on_value`` where the place along a new ``axis`` is the index, ``off_value`` elsewhere.

    An index outside ``[0, one_hot_vector_size)`` marks nothing.
    """
    hit = np.asarray(indices)[..., None] == np.arange(int(one_hot_vector_size))
    return np.where(np.moveaxis(hit, -1, axis), as_data(on_value), as_data(off_value))


def _order(x: Array, axis: int, *, ascending: bool) -> Array:
    """Indices of the sorted elements; equal ones keep their order."""
    wide = np.asarray(x).astype(np.int64 if np.asarray(x).dtype.kind in "iu" else x.dtype)
    return np.argsort(wide if ascending else -wide, axis, kind="stable").astype(np.int32)


def _topk_onnx(
    o: Any, x: Any, *, k: Any, axis: Any, ascending: Any, return_indices: Any, **_: Any
) -> Any:
    count = size(o, x, int(axis)) if int(k) == -1 else int(k)
    # Always sorted: "no particular order" allows it, and results can be compared.
    values, indices = o.TopK(
        x, sizes(o, [count]), outputs=2, axis=int(axis), largest=int(not ascending), sorted=1
    )
    return (values, o.cast(indices, np.int32)) if return_indices else values


def _topk_torch(t: Any, x: Any, **options: Any) -> Any:
    axis, k = int(options["axis"]), int(options["k"])
    count = x.shape[axis] if k == -1 else k
    values, indices = t.sort(x, dim=axis, descending=not options["ascending"], stable=True)
    best = values.narrow(axis, 0, count)
    if not options["return_indices"]:
        return best
    kind = getattr(t, str(options["output_indices_dtype"] or "int32"))
    return best, indices.narrow(axis, 0, count).to(kind)


@op(
    samples=[
        {"x": normal(2, 5)},
        {"x": normal(2, 5), "k": 3, "axis": 1, "ascending": True},
        {"x": normal(5, 2), "k": 2, "axis": 0, "sort": False},
        {"x": normal(2, 5), "k": 2, "return_indices": False},
        {"x": integers(3, 6), "k": 4, "output_indices_dtype": "uint16"},
    ],
    onnx=_topk_onnx,
    torch=_topk_torch,
)
def topk(
    x: Array,
    *,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,  # noqa: ARG001 - always sorted, which "no particular order" allows
    return_indices: bool = True,
    output_indices_dtype: str | None = None,
) -> tuple[Array, Array] | Array:
    """The ``k`` largest elements along ``axis`` (smallest if ``ascending``), and where they are.

    ``k`` of -1 means all; of equal elements the first comes first. The indices are int32 unless
    asked for as uint16.
    """
    count = x.shape[axis] if int(k) == -1 else int(k)
    indices = np.take(_order(x, axis, ascending=ascending), np.arange(count), axis)
    values = np.take_along_axis(x, indices, axis)
    kind = "int32" if output_indices_dtype is None else str(output_indices_dtype)
    return (values, indices.astype(kind)) if return_indices else values


def _argsort_onnx(o: Any, x: Any, *, axis: Any, ascending: Any) -> Any:
    every = sizes(o, [size(o, x, int(axis))])
    _, indices = o.TopK(x, every, outputs=2, axis=int(axis), largest=int(not ascending), sorted=1)
    return o.cast(indices, np.int32)


@op(
    samples=[
        {"x": normal(2, 5)},
        {"x": normal(5, 2), "axis": 0, "ascending": True},
        {"x": np.array([[4, 9, -2, 7]], np.int32)},
    ],
    onnx=_argsort_onnx,
    torch=lambda t, x, *, axis, ascending: t.argsort(
        x, dim=int(axis), descending=not ascending, stable=True
    ).int(),
)
def argsort(x: Array, *, axis: int = -1, ascending: bool = False) -> Array:
    """The indices that sort ``x`` along ``axis``, largest first unless ``ascending``.

    Equal elements keep their order.
    """
    return _order(x, axis, ascending=ascending)


@op(
    samples=[
        {"x": np.array([[0.0, 1.5, 0.0], [-2.0, 0.0, 3.0]], np.float32)},
        {"x": booleans(7)},
        {"x": np.array([0, 3, 0, -1], np.int32)},
    ],
    onnx=lambda o, x: o.cast(o.Transpose(o.NonZero(x), perm=[1, 0]), np.int32),
    torch=lambda t, x: t.nonzero(x).int(),
)
def non_zero(x: Array) -> Array:
    """The positions of the elements that are not zero, one per row."""
    return np.argwhere(x).astype(np.int32)


def _cumsum_torch(t: Any, x: Any, *, axis: Any, exclusive: Any, reverse: Any) -> Any:
    turned = t.flip(x, [axis]) if reverse else x
    total = t.cumsum(turned, int(axis), dtype=x.dtype)
    total = total - turned if exclusive else total
    return t.flip(total, [axis]) if reverse else total


@op(
    samples=[
        {"x": normal(3, 4)},
        {"x": normal(3, 4), "axis": 1, "exclusive": True},
        {"x": integers(3, 4), "axis": -1, "reverse": True},
        {"x": integers(3, 4), "exclusive": True, "reverse": True},
    ],
    onnx=lambda o, x, *, axis, exclusive, reverse: o.CumSum(
        x, o.ints(int(axis)), exclusive=int(exclusive), reverse=int(reverse)
    ),
    torch=_cumsum_torch,
    limits=(
        Limit("apple", "Apple's evaluation fails for exclusive sums", 1),
        Limit("apple", "Apple's evaluation fails for exclusive sums", 3),
    ),
)
def cumsum(x: Array, *, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """Running sums along ``axis``.

    Without the element itself if ``exclusive``, from the end if ``reverse``.
    """
    turned = np.flip(x, axis) if reverse else x
    total = np.cumsum(turned, axis, dtype=x.dtype)
    if exclusive:
        first = np.zeros_like(x.take(range(min(x.shape[axis], 1)), axis))
        total = np.concatenate([first, total.take(range(x.shape[axis] - 1), axis)], axis)
    return np.flip(total, axis) if reverse else total


def _axes(rank: int, axes: Any) -> list[int]:
    return list(range(rank)) if axes is None else [a % rank for a in as_ints(axes)]


def _reverse_onnx(o: Any, x: Any, *, axes: Any) -> Any:
    along = _axes(x.rank, axes)
    back = o.ints([-1] * len(along))
    return o.Slice(x, back, o.ints([-LAST] * len(along)), o.ints(along), back)


@op(
    samples=[{"x": normal(2, 3)}, {"x": integers(2, 3, 4), "axes": [-1, 0]}],
    onnx=_reverse_onnx,
    torch=lambda t, x, *, axes: t.flip(x, _axes(x.ndim, axes)),
)
def reverse(x: Array, *, axes: Ints | None = None) -> Array:
    """The elements in reverse order along ``axes`` (all of them by default)."""
    return np.flip(x, _axes(x.ndim, axes))


def _reverse_sequence_onnx(o: Any, x: Any, lengths: Any, *, seq_axis: Any, batch_axis: Any) -> Any:
    seq, batch = int(seq_axis) % x.rank, int(batch_axis) % x.rank
    # ONNX knows the operation only for the first two dimensions.
    perm = [batch, seq, *(i for i in range(x.rank) if i not in {batch, seq})]
    moved = o.ReverseSequence(o.Transpose(x, perm=perm), o.ints(lengths), batch_axis=0, time_axis=1)
    return o.Transpose(moved, perm=inverse(perm))


def _reverse_sequence_torch(t: Any, x: Any, lengths: Any, *, seq_axis: Any, batch_axis: Any) -> Any:
    seq, batch = int(seq_axis) % x.ndim, int(batch_axis) % x.ndim

    def along(values: Any, axis: int) -> Any:
        return values.reshape([-1 if i == axis else 1 for i in range(x.ndim)])

    place = along(t.arange(x.shape[seq]), seq)
    stretch = along(t.as_tensor(lengths).long(), batch)
    return t.take_along_dim(x, t.where(place < stretch, stretch - 1 - place, place), seq)


def _reversed_places(shape: Sequence[int], lengths: Any, seq: int, batch: int) -> Array:
    """For every element, where along ``seq`` it comes from."""
    places = np.indices(shape)
    stretch = np.asarray(as_ints(lengths), np.intp)[places[batch]]
    return np.where(places[seq] < stretch, stretch - 1 - places[seq], places[seq])


@op(
    samples=[
        {"x": normal(4, 3), "lengths": [2, 0, 4], "batch_axis": 1},
        {"x": integers(3, 2, 5), "lengths": np.array([1, 5, 3], np.int32), "seq_axis": 2},
    ],
    onnx=_reverse_sequence_onnx,
    torch=_reverse_sequence_torch,
)
def reverse_sequence(x: Array, lengths: Ints, *, seq_axis: int = 0, batch_axis: int = 0) -> Array:
    """The first ``lengths[i]`` elements along ``seq_axis`` reversed, ``i`` along ``batch_axis``."""
    seq, batch = seq_axis % x.ndim, batch_axis % x.ndim
    return np.take_along_axis(x, _reversed_places(x.shape, lengths, seq, batch), seq)
