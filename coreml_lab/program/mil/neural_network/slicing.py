"""Layers that cut out a part, or put a border around."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.convolutions import borders
from coreml_lab.program.mil.neural_network.registry import LayerError, layer, pair
from coreml_lab.program.mil.neural_network.values import (
    as_float,
    as_int,
    at_least,
    axis_of,
    sizes,
    vector,
)
from coreml_lab.program.mil.tools import is_symbolic, mb

IMAGE = 3
AXES = {0: -3, 1: -2, 2: -1}
MASKS = ("beginMasks", "endMasks", "squeezeMasks")


def _part(x: Any, parts: dict[int, tuple[Any, Any, int]]) -> Any:
    """Some axes from a begin up to an end (None: the rest) by a stride, the others whole."""
    axes = {axis_of(a, x.rank): part for a, part in parts.items()}
    whole = (0, None, 1)
    rows = [axes.get(i, whole) for i in range(x.rank)]
    return mb.slice_by_index(
        x=x,
        begin=[r[0] for r in rows],
        end=[0 if r[1] is None else r[1] for r in rows],
        stride=[r[2] for r in rows],
        end_mask=[r[1] is None for r in rows],
    )


@layer("slice", images=True, floats=False)
def slice_old(p: Any, x: Any) -> Any:
    """A part of channels, height or width; negative indices count from the end."""
    stride = max(int(p.stride), 1)
    return _part(x, {AXES[p.axis]: (int(p.startIndex), int(p.endIndex), stride)})


@layer(
    "crop",
    inputs=(1, 2),
    images=True,
    floats=False,
    limits="a second input must have a fixed height and width",
)
def crop(p: Any, x: Any, like: Any = None) -> Any:
    """Height and width without a border, or as many as a second input has from an offset on."""
    at_least(x, IMAGE)
    if like is None:
        sides = borders(p.cropAmounts)
        parts = {a: (s, -e if e else None, 1) for a, (s, e) in zip((-2, -1), sides, strict=True)}
        return _part(x, parts)
    extent = like.shape[-2:]
    if any(is_symbolic(d) for d in extent):
        raise LayerError("the height and width of its second input must be fixed")
    starts = pair(p.offset, 0)
    parts = {a: (s, s + int(n), 1) for a, s, n in zip((-2, -1), starts, extent, strict=True)}
    return _part(x, parts)


@layer("sliceStatic", floats=False)
def slice_static(p: Any, x: Any) -> Any:
    """A part of each axis; an axis may be squeezed out."""
    squeezed = list(p.squeezeMasks)
    given: dict[str, Any] = {
        "begin": [int(n) for n in p.beginIds],
        "end": [int(n) for n in p.endIds],
        "stride": [int(n) for n in p.strides],
        "begin_mask": [bool(m) for m in p.beginMasks],
        "end_mask": [bool(m) for m in p.endMasks],
    }
    for name, values in given.items():
        if len(values) != x.rank:
            raise LayerError(f"its {name} has {len(values)} values for {x.rank} axes")
    if any(squeezed):
        given["squeeze_mask"] = squeezed
        # An axis that is squeezed out is taken at its begin, whatever else is said of it.
        given["begin_mask"] = [m and not s for m, s in zip(p.beginMasks, squeezed, strict=True)]
    return _ranked(mb.slice_by_index(x=x, **given))


def _ranked(x: Any) -> Any:
    return x if x.rank else mb.expand_dims(x=x, axes=[0])


@layer(
    "sliceDynamic",
    inputs=(2, 7),
    floats=False,
    limits="strides and masks must not be computed: ML Programs have them constant",
)
def slice_dynamic(p: Any, x: Any, begin: Any, *more: Any) -> Any:
    """A part of each axis; begin, end, stride and masks may be computed."""
    given: dict[str, Any] = {"begin": as_int(vector(begin))}
    fields = ("endIds", "strides", *MASKS)
    names = ("end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    for i, (field, name) in enumerate(zip(fields, names, strict=True)):
        if i < len(more):
            given[name] = _computed(more[i], name)
            continue
        own = [bool(m) if field in MASKS else int(m) for m in getattr(p, field)]
        if own:
            given[name] = own
    given.setdefault("end", [0] * x.rank)
    squeezed = given.get("squeeze_mask")
    if squeezed is not None and any(squeezed) and "begin_mask" in given:
        both = zip(given["begin_mask"], squeezed, strict=True)
        given["begin_mask"] = [m and not s for m, s in both]
    return _ranked(mb.slice_by_index(x=x, **given))


def _computed(x: Any, name: str) -> Any:
    """A parameter that is a value of the network; MIL wants strides and masks constant."""
    if name == "end":
        return as_int(vector(x))
    if x.val is None:
        raise LayerError(f"its {name} is computed; ML Programs have it constant")
    numbers = np.asarray(x.val).ravel()
    return [int(n) if name == "stride" else bool(n) for n in numbers]


@layer("sliceBySize", inputs=2, floats=False)
def slice_by_size(p: Any, x: Any, begin: Any) -> Any:
    """As many elements of an axis as the layer says, from a computed index on."""
    axis = axis_of(p.axis, x.rank)
    start = as_int(vector(begin))
    zero = np.zeros(1, np.int32)
    starts = mb.concat(values=[start if i == axis else zero for i in range(x.rank)], axis=0)
    size = [int(p.size) if i == axis else -1 for i in range(x.rank)]
    return mb.slice_by_size(x=x, begin=starts, size=size)


@layer("slidingWindows", floats=False)
def sliding_windows(p: Any, x: Any) -> Any:
    """All windows along an axis, as a new axis."""
    axis = axis_of(p.axis, x.rank)
    size, stride = int(p.windowSize), max(int(p.step), 1)
    return mb.sliding_windows(x=x, axis=axis, size=size, stride=stride)


@layer("padding", images=True)
def padding(p: Any, x: Any) -> Any:
    """A border around height and width: a constant, a reflection, or the edge repeated."""
    pad = [n for side in borders(p.paddingAmounts) for n in side]
    kind = p.WhichOneof("PaddingType") or "constant"
    if kind == "constant":
        return mb.pad(x=x, pad=pad, mode="constant", constant_val=np.float32(p.constant.value))
    return mb.pad(x=x, pad=pad, mode={"reflection": "reflect", "replication": "replicate"}[kind])


@layer("constantPad", inputs=(1, 2), floats=False)
def constant_pad(p: Any, x: Any, amounts: Any = None) -> Any:
    """A constant before and after each axis, by as much as is said or up to given sizes."""
    value = np.float32(p.value)
    x = as_float(x)
    if amounts is not None:
        pad = as_int(vector(amounts))
        if p.padToGivenOutputSizeMode:
            pad = _to_sizes_computed(x, pad)
        return mb.pad(x=x, pad=pad, mode="constant", constant_val=value)
    pad = [int(n) for n in p.padAmounts]
    if len(pad) != 2 * x.rank:
        raise LayerError(f"its padAmounts has {len(pad)} numbers for {x.rank} axes")
    if p.padToGivenOutputSizeMode:
        dims = sizes(x)
        if not all(isinstance(d, int) for d in dims):
            return mb.pad(
                x=x,
                pad=_to_sizes_computed(x, np.array(pad, np.int32)),
                mode="constant",
                constant_val=value,
            )
        pad = [max(n - dims[i // 2], 0) if n else 0 for i, n in enumerate(pad)]
    return mb.pad(x=x, pad=pad, mode="constant", constant_val=value)


def _to_sizes_computed(x: Any, pad: Any) -> Any:
    """Sizes of the result, before or after each axis, as amounts of padding."""
    own = mb.reshape(x=mb.shape(x=x), shape=[-1, 1])
    both = mb.reshape(x=pad, shape=[x.rank, 2])
    amounts = mb.maximum(x=mb.sub(x=both, y=own), y=np.int32(0))
    return mb.reshape(x=amounts, shape=[-1])
