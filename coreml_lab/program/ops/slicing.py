"""Operations that take or replace stretches of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import as_ints, size, unknown

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
    """Starts, ends and steps as ONNX's Slice takes them; a squeezed dimension keeps one."""
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
    """``yes`` where flags hold (or a vector is 0), else ``no``; computed now where it can be."""
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
    """Index tensors of the region, squeezed dimensions kept: torch knows no negative steps."""
    chosen = [np.atleast_1d(np.arange(n)[s]) for n, s in zip(x.shape, slices, strict=True)]
    return tuple(t.from_numpy(np.ascontiguousarray(i)) for i in np.ix_(*chosen))


def _slice_torch(t: Any, x: Any, begin: Any, end: Any, **options: Any) -> Any:
    slices = _slices(x.ndim, begin, end, options)
    if all(isinstance(s, int) or s.step > 0 for s in slices):
        return x[slices]
    kept = x[_places(t, x, slices)]
    shape = [n for n, s in zip(kept.shape, slices, strict=True) if isinstance(s, slice)]
    return kept.reshape(shape)


@op(
    samples=[
        {"x": normal(4, 6), "begin": [1, 0], "end": [3, 5]},
        {"x": normal(4, 6), "begin": [-1, 4], "end": [0, 1], "stride": [-1, -2]},
        {
            "x": normal(4, 6),
            "begin": [3, 1],
            "end": [0, 5],
            "begin_mask": [True, False],
            "end_mask": [True, False],
        },
        {
            "x": normal(4, 6),
            "begin": [3, 5],
            "end": [0, 5],
            "stride": [-1, -1],
            "begin_mask": [True, True],
            "end_mask": [True, True],
        },
        {"x": normal(4, 6), "begin": [-1, 1], "end": [0, 5], "squeeze_mask": [True, False]},
        {"x": normal(4, 6), "begin": [2, 1], "end": [0, 0], "squeeze_mask": [True, True]},
        {
            "x": integers(4, 6),
            "begin": np.array([1, -3], np.int32),
            "end": np.array([3, -1], np.int32),
        },
        {
            "x": normal(4, 6),
            "begin": np.array([-1, 2], np.int32),
            "end": np.array([0, 5], np.int32),
            "end_mask": [False, True],
            "squeeze_mask": [True, False],
        },
        {"x": booleans(5), "begin": [0], "end": [5], "stride": [2]},
    ],
    onnx=_slice_onnx,
    torch=_slice_torch,
)
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

    ``begin_mask[i]`` starts at the first element, ``end_mask[i]`` goes to the last (in the
    direction of the stride), and ``squeeze_mask[i]`` takes the one element at ``begin[i]`` and
    drops the dimension.
    """
    options = {
        "stride": stride,
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "squeeze_mask": squeeze_mask,
    }
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


def _anywhere(
    t: Any, x: Any, starts: Sequence[Any], sizes: Sequence[int], steps: Sequence[int]
) -> tuple[Any, ...]:
    """Index tensors of a region of known extent that begins at unknown places.

    They are computed on the device, which need not be asked.
    """
    places = []
    for i, (start, extent, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        first = t.within(start, x.shape[i]) if unknown(start) else start % x.shape[i]
        along = t.within(t.arange(extent) * step + first, x.shape[i])
        places.append(along.reshape([-1] + [1] * (x.ndim - 1 - i)))
    return tuple(places)


def _stretch(begin: Any, size: Any) -> tuple[slice, ...]:
    return tuple(slice(b, _end(b, n)) for b, n in zip(as_ints(begin), as_ints(size), strict=True))


def _by_size_torch(t: Any, x: Any, begin: Any, size: Any) -> Any:
    if not unknown(begin) or unknown(size) or -1 in as_ints(size):
        return x[_stretch(begin, size)]
    return x[_anywhere(t, x, list(begin.unbind(0)), as_ints(size), [1] * x.ndim)]


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
    torch=_by_size_torch,
)
def slice_by_size(x: Array, begin: Ints, size: Ints) -> Array:
    """``size[i]`` elements from ``begin[i]`` on, in every dimension; -1 takes all that follow."""
    return x[_stretch(begin, size)]


def _cut_dimensions(rank: int, steps: list[int], options: dict[str, Any]) -> int:
    """How many leading dimensions a slice does not take whole; all behind them it does."""
    masks = zip(
        _flags(options["begin_mask"], rank),
        _flags(options["end_mask"], rank),
        _flags(options["squeeze_mask"], rank),
        steps,
        strict=True,
    )
    whole = [begin and end and step == 1 and not one for begin, end, one, step in masks]
    return max((i + 1 for i, w in enumerate(whole) if not w), default=0)


def _update_onnx(o: Any, x: Any, update: Any, begin: Any, end: Any, **options: Any) -> Any:
    bounds = _bounds(o, x.rank, begin, end, options)
    squeezed = [i for i, q in enumerate(_flags(options["squeeze_mask"], x.rank)) if q]
    new = o.Unsqueeze(update, o.ints(squeezed)) if squeezed else update
    depth = _cut_dimensions(x.rank, bounds[2], options)
    if depth == 0:
        return new
    places = [_axis_places(o, x, axis, bounds) for axis in range(depth)]
    grid = o.Concat(*(o.Shape(p) for p in places), axis=0)
    columns = []
    for axis, place in enumerate(places):
        spread = o.Reshape(place, o.ints([-1] + [1] * (depth - 1 - axis)))
        columns.append(o.Unsqueeze(o.Expand(spread, grid), o.ints([-1])))
    return o.ScatterND(x, o.Concat(*columns, axis=-1), new)


def _axis_places(o: Any, x: Any, axis: int, bounds: tuple[Any, Any, list[int]]) -> Any:
    """The positions along one dimension that a slice covers: the slice of its own index."""
    n, (starts, ends, steps) = size(o, x, axis), bounds
    known = isinstance(n, int)
    every = o.ints(range(n)) if known else o.Range(o.ints(0), o.Reshape(n, o.ints([])), o.ints(1))
    at = (o.ints([axis]), o.ints([axis + 1]))
    first, last = o.Slice(starts, *at), o.Slice(ends, *at)
    return o.Slice(every, first, last, o.ints([0]), o.ints([steps[axis]]))


def _update_anywhere(t: Any, x: Any, update: Any, begin: Any, options: dict[str, Any]) -> Any:
    """The extent of the region is the update's, wherever it begins."""
    squeezed, steps = _flags(options["squeeze_mask"], x.ndim), _steps(options["stride"], x.ndim)
    given = iter(update.shape)
    sizes = [1 if one else next(given) for one in squeezed]
    from_start = _flags(options["begin_mask"], x.ndim)
    starts = [
        begin[i] if not from_start[i] else 0 if steps[i] > 0 or squeezed[i] else -1
        for i in range(x.ndim)
    ]
    return x.index_put(_anywhere(t, x, starts, sizes, steps), update.reshape(sizes))


def _update_torch(t: Any, x: Any, update: Any, begin: Any, end: Any, **options: Any) -> Any:
    if unknown(begin):
        return _update_anywhere(t, x, update, begin, options)
    y, slices = x.clone(), _slices(x.ndim, begin, end, options)
    if all(isinstance(s, int) or s.step > 0 for s in slices):
        y[slices] = update.reshape(y[slices].shape)
        return y
    places = _places(t, x, slices)
    y[places] = update.reshape([max(p.shape) for p in places])
    return y


@op(
    samples=[
        {"x": normal(4, 6), "update": normal(2, 3, seed=1), "begin": [1, 2], "end": [3, 5]},
        {
            "x": normal(4, 6),
            "update": normal(4, 3, seed=1),
            "begin": [0, 5],
            "end": [0, 0],
            "stride": [1, -2],
            "begin_mask": [True, False],
            "end_mask": [True, True],
        },
        {
            "x": normal(4, 6),
            "update": normal(6, seed=1),
            "begin": [-1, 0],
            "end": [0, 0],
            "begin_mask": [False, True],
            "end_mask": [False, True],
            "squeeze_mask": [True, False],
        },
        {
            "x": integers(4, 6),
            "update": integers(1, 6, seed=1),
            "begin": np.array([2, 0], np.int32),
            "end": np.array([3, 6], np.int32),
        },
    ],
    onnx=_update_onnx,
    torch=_update_torch,
)
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
        "stride": stride,
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "squeeze_mask": squeeze_mask,
    }
    y, place = np.copy(x), _slices(x.ndim, begin, end, options)
    if y[place].shape != np.shape(update):
        raise ValueError(f"the slice has shape {y[place].shape}, the update {np.shape(update)}")
    y[place] = update
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
    torch=lambda _, x, *, crop_height, crop_width: _cropped(x, crop_height, crop_width),
)
def crop(x: Array, *, crop_height: Ints, crop_width: Ints) -> Array:
    """Images less ``crop_height`` rows at top and bottom, ``crop_width`` columns at the sides."""
    return np.asarray(_cropped(x, crop_height, crop_width))
