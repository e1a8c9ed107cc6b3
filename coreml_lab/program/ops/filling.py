"""Operations that make elements: constants, ranges, padding, and the band of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.arrays import as_data
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import all_sizes, as_ints, constant, host

NUMPY_MODE: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _pads(rank: int, pad: Any) -> list[tuple[int, int]]:
    """Elements before and after each dimension; those that ``pad`` leaves out come first."""
    ends = np.reshape(as_ints(pad), (-1, 2)).tolist()
    return [(0, 0)] * (rank - len(ends)) + [(a, b) for a, b in ends]


def _pad_onnx(o: Any, x: Any, pad: Any, *, mode: Any, constant_val: Any) -> Any:
    known = constant(pad)
    if known is None:
        pairs = o.Transpose(o.Reshape(o.ints(pad), o.ints([-1, 2])), perm=[1, 0])
        ends = o.Reshape(pairs, o.ints([-1]))
    else:
        before, after = zip(*_pads(x.rank, known), strict=True)
        ends = o.ints([*before, *after])
    fill = o.scalar(float(constant_val), x) if mode == "constant" else None
    return o.Pad(x, ends, fill, mode=NUMPY_MODE[str(mode)])


def _pad_torch(t: Any, x: Any, pad: Any, *, mode: Any, constant_val: Any) -> Any:
    pads = _pads(x.ndim, pad)
    if mode == "constant":
        flat = [n for pair in reversed(pads) for n in pair]
        return t.nn.functional.pad(x, flat, value=float(constant_val))
    for axis, ends in enumerate(pads):
        if any(ends):
            places = np.pad(np.arange(x.shape[axis]), ends, NUMPY_MODE[str(mode)])
            x = x.index_select(axis, t.from_numpy(places))
    return x


@op(
    samples=[
        {"x": normal(2, 3), "pad": [1, 2]},
        {"x": normal(1, 3, 4), "pad": [0, 0, 1, 0, 2, 1], "constant_val": 1.5},
        {"x": normal(2, 3, 4), "pad": [1, 2, 3, 0], "mode": "reflect"},
        {"x": normal(2, 3), "pad": [2, 1, 0, 3], "mode": "replicate"},
        {"x": normal(2, 3), "pad": np.array([0, 1, 2, 0], np.int32)},
    ],
    onnx=_pad_onnx,
    torch=_pad_torch,
)
def pad(
    x: Array, pad: Sequence[int] | Array, *, mode: str = "constant", constant_val: float = 0.0
) -> Array:
    """``x`` with elements before and after its last dimensions: ``pad`` has a pair for each.

    ``mode``: ``constant`` adds ``constant_val``, ``reflect`` mirrors without repeating the edge,
    ``replicate`` repeats it.
    """
    pads = _pads(np.ndim(x), pad)
    if mode == "constant":
        return np.pad(x, pads, constant_values=constant_val)
    return np.asarray(np.pad(x, pads, NUMPY_MODE[mode]))


def _full_torch(t: Any, sizes: Sequence[int], value: Any) -> Any:
    number = as_data(value)
    return t.full(sizes, number.item(), dtype=t.kind(number.dtype))


@op(
    samples=[
        {"shape": [2, 3]},
        {"shape": [2, 3], "value": 2.5},
        {"shape": [4], "value": 7},
        {"shape": [1, 2], "value": True},
        {"shape": np.array([3, 2], np.int32), "value": -1.0},
    ],
    onnx=lambda o, shape, *, value: o.Expand(o.const(as_data(value)), o.ints(shape)),
    torch=lambda t, shape, *, value: _full_torch(t, as_ints(shape), value),
)
def fill(shape: Sequence[int] | Array, *, value: float = 0.0) -> Array:
    """A tensor of ``shape`` holding ``value`` everywhere, of the type of ``value``."""
    return np.full(as_ints(shape), as_data(value))


@op(
    samples=[
        {"ref_tensor": normal(2, 3)},
        {"ref_tensor": integers(2, 3), "value": 1.5},
        {"ref_tensor": booleans(4), "value": 3},
    ],
    onnx=lambda o, ref_tensor, *, value: o.Expand(
        o.const(as_data(value)), all_sizes(o, ref_tensor)
    ),
    torch=lambda t, ref, *, value: _full_torch(t, tuple(ref.shape), value),
)
def fill_like(ref_tensor: Array, *, value: float = 0.0) -> Array:
    """A tensor of the shape of ``ref_tensor`` holding ``value`` everywhere, of its type."""
    return np.full(np.shape(ref_tensor), as_data(value))


def _range(end: Any, start: Any, step: Any) -> Array:
    first = as_data(np.asarray(start))
    return np.arange(first, np.asarray(end), np.asarray(step), dtype=first.dtype)


@op(
    samples=[
        {"end": 10, "start": 2, "step": 3},
        {"end": -1.0, "start": 1.0, "step": -0.5},
        {
            "end": np.array(5, np.int32),
            "start": np.array(0, np.int32),
            "step": np.array(2, np.int32),
        },
    ],
    onnx=lambda o, end, start, step: o.Range(start, end, step),
    torch=lambda t, *ends: t.from_numpy(_range(*map(host, ends))),
)
def range_1d(end: Any, start: Any, step: Any) -> Array:
    """The numbers ``start``, ``start + step``, … that come before ``end``."""
    return _range(end, start, step)


def _band_onnx(o: Any, x: Any, *, lower: Any, upper: Any) -> Any:
    whole = x.dtype == np.int32  # ONNX Runtime has no Trilu for int32
    y = o.cast(x, np.int64) if whole else x
    if lower >= 0:
        y = o.Trilu(y, o.ints(-int(lower)), upper=1)
    if upper >= 0:
        y = o.Trilu(y, o.ints(int(upper)), upper=0)
    return o.cast(y, np.int32) if whole else y


def _band_torch(t: Any, x: Any, *, lower: Any, upper: Any) -> Any:
    y = t.triu(x, -int(lower)) if lower >= 0 else x
    return t.tril(y, int(upper)) if upper >= 0 else y


@op(
    samples=[
        {"x": normal(4, 5)},
        {"x": normal(2, 4, 5), "lower": 1},
        {"x": normal(5, 4), "lower": 0, "upper": 2},
        {"x": integers(4, 4), "upper": 0},
    ],
    onnx=_band_onnx,
    torch=_band_torch,
)
def band_part(x: Array, *, lower: int = -1, upper: int = -1) -> Array:
    """Matrices with zeros outside a band around the main diagonal.

    ``lower`` diagonals below it and ``upper`` above it are kept; a negative number keeps them all.
    """
    y = np.triu(x, -lower) if lower >= 0 else np.asarray(x)
    return np.tril(y, upper) if upper >= 0 else y
