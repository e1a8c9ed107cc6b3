"""Operations that take, replace or reverse stretches of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import all_sizes, as_ints, constant, inverse, plus, size, sizes

Ints = Sequence[int] | Array
Masks = Sequence[bool] | Array | None

# ONNX cuts a bound at the dimension's size, so these mean "to the end" in either direction.
LAST = np.iinfo(np.int32).max
BEFORE_FIRST = -LAST


def _flags(mask: Any, rank: int) -> list[bool]:
    return [False] * rank if mask is None else [bool(m) for m in mask]


def _steps(stride: Any, rank: int) -> list[int]:
    return [1] * rank if stride is None else as_ints(stride)


def _slices(rank: int, begin: Any, end: Any, options: dict[str, Any]) -> tuple[slice | int, ...]:
    """The Python index that means the same."""
    first, last = as_ints(begin), as_ints(end)
    from_start, to_end = _flags(options["begin_mask"], rank), _flags(options["end_mask"], rank)
    squeezed, steps = _flags(options["squeeze_mask"], rank), _steps(options["stride"], rank)
    return tuple(
        (0 if from_start[i] else first[i])
        if squeezed[i]
        else slice(None if from_start[i] else first[i], None if to_end[i] else last[i], steps[i])
        for i in range(rank)
    )


def _bounds(
    o: Any, rank: int, begin: Any, end: Any, options: dict[str, Any]
) -> tuple[Any, Any, list[int]]:
    """Starts, ends and steps as ONNX's Slice takes them; a squeezed dimension keeps one element."""
    from_start, to_end = _flags(options["begin_mask"], rank), _flags(options["end_mask"], rank)
    squeezed = _flags(options["squeeze_mask"], rank)
    steps = [1 if q else s for q, s in zip(squeezed, _steps(options["stride"], rank), strict=True)]
    firsts = o.ints([0 if s > 0 else LAST for s in steps])
    lasts = o.ints([LAST if s > 0 else BEFORE_FIRST for s in steps])
    starts, ends = _choose(o, from_start, firsts, begin), _choose(o, to_end, lasts, end)
    if any(squeezed):
        after = _sum(o, starts, 1)
        ends = _choose(o, squeezed, _choose(o, after, o.ints([LAST] * rank), after), ends)
    return starts, ends, steps


def _choose(o: Any, condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` where ``condition`` (flags, or a vector that counts where it is 0), computed now where it can be."""
    constants = [v.const for v in (yes, no)]
    flags = condition if isinstance(condition, list) else condition.const
    if flags is not None and all(c is not None for c in constants):
        holds = np.asarray(flags) if isinstance(condition, list) else flags == 0
        return o.ints(np.where(holds, constants[0], constants[1]))
    if isinstance(condition, list):
        if not any(condition):
            return o.ints(no)
        return o.Where(o.const(condition), o.ints(yes), o.ints(no))
    return o.Where(o.Equal(condition, o.ints([0])), o.ints(yes), o.ints(no))


def _sum(o: Any, vector: Any, more: int) -> Any:
    return o.Add(vector, o.ints([more])) if vector.const is None else o.ints(vector.const + more)


def _slice_onnx(o: Any, x: Any, begin: Any, end: Any, **options: Any) -> Any:
    starts, ends, steps = _bounds(o, x.rank, begin, end, options)
    y = o.Slice(x, starts, ends, o.ints(range(x.rank)), o.ints(steps))
    squeezed = [i for i, q in enumerate(_flags(options["squeeze_mask"], x.rank)) if q]
    return o.Squeeze(y, o.ints(squeezed)) if squeezed else y


def _places(t: Any, x: Any, slices: Sequence[slice | int]) -> tuple[Any, ...]:
    """Index tensors of the sliced region, with squeezed dimensions kept as 1: torch knows no negative steps."""
    chosen = [np.atleast_1d(np.arange(n)[s]) for n, s in zip(x.shape, slices, strict=True)]
    return tuple(t.from_numpy(np.ascontiguousarray(i)).to(x.device) for i in np.ix_(*chosen))


def _slice_torch(t: Any, x: Any, begin: Any, end: Any, **options: Any) -> Any:
    slices = _slices(x.ndim, begin, end, options)
    kept = x[_places(t, x, slices)]
    shape = [n for n, s in zip(kept.shape, slices, strict=True) if isinstance(s, slice)]
    return kept.reshape(shape)


@op(
    samples=[
        {"x": normal(4, 6), "begin": [1, 0], "end": [3, 5]},
        {"x": normal(4, 6), "begin": [-1, 4], "end": [0, 1], "stride": [-1, -2]},
        {"x": normal(4, 6), "begin": [3, 1], "end": [0, 5], "begin_mask": [True, False], "end_mask": [True, False]},
        {"x": normal(4, 6), "begin": [3, 5], "end": [0, 5], "stride": [-1, -1], "begin_mask": [True, True], "end_mask": [True, True]},
        {"x": normal(4, 6), "begin": [-1, 1], "end": [0, 5], "squeeze_mask": [True, False]},
        {"x": normal(4, 6), "begin": [2, 1], "end": [0, 0], "squeeze_mask": [True, True]},
        {"x": integers(4, 6), "begin": np.array([1, -3], np.int32), "end": np.array([3, -1], np.int32)},
        {"x": normal(4, 6), "begin": np.array([-1, 2], np.int32), "end": np.array([0, 5], np.int32), "end_mask": [False, True], "squeeze_mask": [True, False]},
        {"x": booleans(5), "begin": [0], "end": [5], "stride": [2]},
    ],
    onnx=_slice_onnx,
    torch=_slice_torch,
)  # fmt: skip
def slice_by_index(
    x: Array,
    begin: Ints,
    end: Ints,
    *,
    stride: Ints | None = None,
    begin_mask: Masks = None,
    end_mask: Masks = None,
    squeeze_mask: Masks = None,
) -> Array:
    """``x[begin[0]:end[0]:stride[0], begin[1]:end[1]:stride[1], …]``, as in NumPy.

    ``begin_mask[i]`` starts at the first element, ``end_mask[i]`` goes to the last (in the direction of the stride), and
    ``squeeze_mask[i]`` takes the one element at ``begin[i]`` and drops the dimension.
    """
    options = {
        "stride": stride, "begin_mask": begin_mask, "end_mask": end_mask, "squeeze_mask": squeeze_mask,
    }  # fmt: skip
    return np.asarray(x[_slices(x.ndim, begin, end, options)])


def _by_size_onnx(o: Any, x: Any, begin: Any, size: Any) -> Any:
    starts, lengths = o.ints(begin), o.ints(size)
    if starts.const is not None and lengths.const is not None:
        ends = [
            _end(b, n) for b, n in zip(starts.const.tolist(), lengths.const.tolist(), strict=True)
        ]
        return o.Slice(x, starts, o.ints(ends), o.ints(range(x.rank)))
    zero, last = o.ints([0]), o.ints([LAST])
    ends = o.Add(starts, lengths)
    beyond = o.And(o.Less(starts, zero), o.GreaterOrEqual(ends, zero))
    whole = o.Or(o.Equal(lengths, o.ints([-1])), beyond)
    return o.Slice(x, starts, o.Where(whole, last, ends), o.ints(range(x.rank)))


def _end(begin: int, length: int) -> int:
    """The end of a slice: counted from the end it must not become 0, which is the beginning."""
    return LAST if length == -1 or (begin < 0 <= begin + length) else begin + length


def _stretch(begin: Any, size: Any) -> tuple[slice, ...]:
    return tuple(slice(b, _end(b, n)) for b, n in zip(as_ints(begin), as_ints(size), strict=True))


@op(
    samples=[
        {"x": normal(4, 6), "begin": [1, 2], "size": [2, 3]},
        {"x": normal(4, 6), "begin": [-3, 2], "size": [3, -1]},
        {"x": integers(4, 6), "begin": np.array([-2, 1], np.int32), "size": [2, 4]},
        {
            "x": normal(4, 6),
            "begin": np.array([1, 0], np.int32),
            "size": np.array([-1, 2], np.int32),
        },
    ],
    onnx=_by_size_onnx,
    torch=lambda t, x, begin, size: x[_stretch(begin, size)],  # noqa: ARG005 - tensors slice themselves
)
def slice_by_size(x: Array, begin: Ints, size: Ints) -> Array:
    """``size[i]`` elements from ``begin[i]`` on, in every dimension; a size of -1 takes all that follow."""
    return x[_stretch(begin, size)]


def _update_onnx(o: Any, x: Any, update: Any, begin: Any, end: Any, **options: Any) -> Any:
    starts, ends, steps = _bounds(o, x.rank, begin, end, options)
    squeezed = [i for i, q in enumerate(_flags(options["squeeze_mask"], x.rank)) if q]
    new = o.Unsqueeze(update, o.ints(squeezed)) if squeezed else update
    whole = [
        b and e and s == 1 and i not in squeezed
        for i, (b, e, s) in enumerate(
            zip(
                _flags(options["begin_mask"], x.rank),
                _flags(options["end_mask"], x.rank),
                steps,
                strict=True,
            )
        )
    ]
    depth = max((i + 1 for i, w in enumerate(whole) if not w), default=0)
    if depth == 0:
        return o.Identity(new)
    places = [_axis_places(o, x, a, starts, ends, steps[a]) for a in range(depth)]
    grid = o.Concat(*(o.Shape(p) for p in places), axis=0)
    columns = [
        o.Unsqueeze(
            o.Expand(o.Reshape(p, o.ints([-1] + [1] * (depth - 1 - a))), grid), o.ints([-1])
        )
        for a, p in enumerate(places)
    ]
    return o.ScatterND(x, o.Concat(*columns, axis=-1), new)


def _axis_places(o: Any, x: Any, axis: int, starts: Any, ends: Any, step: int) -> Any:
    """The positions along one dimension that a slice covers: the slice of its own index."""
    n = size(o, x, axis)
    scalar = o.ints([])
    every = (
        o.ints(range(n))
        if isinstance(n, int)
        else o.Range(o.ints(0), o.Reshape(n, scalar), o.ints(1))
    )
    at = (o.ints([axis]), o.ints([axis + 1]))
    return o.Slice(every, o.Slice(starts, *at), o.Slice(ends, *at), o.ints([0]), o.ints([step]))


def _update_torch(t: Any, x: Any, update: Any, begin: Any, end: Any, **options: Any) -> Any:
    y, slices = x.clone(), _slices(x.ndim, begin, end, options)
    places = _places(t, x, slices)
    y[places] = update.reshape([max(p.shape) for p in places])
    return y


@op(
    samples=[
        {"x": normal(4, 6), "update": normal(2, 3, seed=1), "begin": [1, 2], "end": [3, 5]},
        {"x": normal(4, 6), "update": normal(4, 3, seed=1), "begin": [0, 5], "end": [0, 0], "stride": [1, -2], "begin_mask": [True, False], "end_mask": [True, True]},
        {"x": normal(4, 6), "update": normal(6, seed=1), "begin": [-1, 0], "end": [0, 0], "begin_mask": [False, True], "end_mask": [False, True], "squeeze_mask": [True, False]},
        {"x": integers(4, 6), "update": integers(1, 6, seed=1), "begin": np.array([2, 0], np.int32), "end": np.array([3, 6], np.int32)},
    ],
    onnx=_update_onnx,
    torch=_update_torch,
)  # fmt: skip
def slice_update(
    x: Array,
    update: Array,
    begin: Ints,
    end: Ints,
    *,
    stride: Ints | None = None,
    begin_mask: Masks = None,
    end_mask: Masks = None,
    squeeze_mask: Masks = None,
) -> Array:
    """``x`` with the elements that ``slice_by_index`` would take replaced by ``update``."""
    options = {
        "stride": stride, "begin_mask": begin_mask, "end_mask": end_mask, "squeeze_mask": squeeze_mask,
    }  # fmt: skip
    y = np.copy(x)
    y[_slices(x.ndim, begin, end, options)] = update
    return y


def _crop_onnx(o: Any, x: Any, *, crop_height: Any, crop_width: Any) -> Any:
    (top, bottom), (left, right) = as_ints(crop_height), as_ints(crop_width)
    ends = [-bottom if bottom else LAST, -right if right else LAST]
    return o.Slice(x, o.ints([top, left]), o.ints(ends), o.ints([x.rank - 2, x.rank - 1]))


def _cropped(x: Any, crop_height: Any, crop_width: Any) -> Any:
    (top, bottom), (left, right) = as_ints(crop_height), as_ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@op(
    samples=[
        {"x": normal(2, 5, 6), "crop_height": [1, 2], "crop_width": [0, 3]},
        {"x": normal(1, 2, 5, 6), "crop_height": [2, 0], "crop_width": [1, 1]},
    ],
    onnx=_crop_onnx,
    torch=lambda t, x, *, crop_height, crop_width: _cropped(x, crop_height, crop_width),  # noqa: ARG005 - tensors slice themselves
)
def crop(x: Array, *, crop_height: Ints, crop_width: Ints) -> Array:
    """Images without ``crop_height`` rows at top and bottom and ``crop_width`` columns left and right."""
    return np.asarray(_cropped(x, crop_height, crop_width))


def _axes(rank: int, axes: Any) -> list[int]:
    return list(range(rank)) if axes is None else [a % rank for a in as_ints(axes)]


def _reverse_onnx(o: Any, x: Any, *, axes: Any) -> Any:
    along = _axes(x.rank, axes)
    back = o.ints([-1] * len(along))
    return o.Slice(x, back, o.ints([BEFORE_FIRST] * len(along)), o.ints(along), back)


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


def _reversed_places(shape: Sequence[int], lengths: Any, seq: int, batch: int) -> Array:
    """For every element, where along ``seq`` it comes from."""
    places = np.indices(shape)
    stretch = np.asarray(as_ints(lengths))[places[batch]]
    return np.where(places[seq] < stretch, stretch - 1 - places[seq], places[seq])


@op(
    samples=[
        {"x": normal(4, 3), "lengths": [2, 0, 4], "batch_axis": 1},
        {"x": integers(3, 2, 5), "lengths": np.array([1, 5, 3], np.int32), "seq_axis": 2},
    ],
    onnx=_reverse_sequence_onnx,
    torch=lambda t, x, lengths, *, seq_axis, batch_axis: t.take_along_dim(
        x, t.from_numpy(_reversed_places(x.shape, lengths, seq_axis % x.ndim, batch_axis % x.ndim)), seq_axis
    ),
)  # fmt: skip
def reverse_sequence(x: Array, lengths: Ints, *, seq_axis: int = 0, batch_axis: int = 0) -> Array:
    """The first ``lengths[i]`` elements along ``seq_axis`` reversed, for each ``i`` along ``batch_axis``."""
    seq, batch = seq_axis % x.ndim, batch_axis % x.ndim
    return np.take_along_axis(x, _reversed_places(x.shape, lengths, seq, batch), seq)


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
    torch=lambda t, x, *, axis, size, stride: t.movedim(  # noqa: ARG005
        x.unfold(axis, size, stride), -1, axis % x.ndim + 1
    ),
)
def sliding_windows(x: Array, *, axis: int, size: int, stride: int = 1) -> Array:
    """All windows of ``size`` elements along ``axis``, ``stride`` apart, in a new dimension after it."""
    return np.take(x, _windows(x.shape[axis], size, stride), axis)
