"""Layers that put values together, take them apart, or repeat them."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.registry import MANY, LayerError, layer
from coreml_lab.program.mil.neural_network.values import (
    RANK5,
    as_int,
    at_least,
    axis_of,
    same,
    sizes,
    vector,
)
from coreml_lab.program.mil.tools import is_symbolic, mb

CHANNEL = -3
SEQUENCE = -5


@layer("concat", inputs=(1, MANY), floats=False)
def concat(p: Any, *xs: Any) -> Any:
    """Side by side along the channels, or along the sequence."""
    axis = SEQUENCE if p.sequenceConcat else CHANNEL
    at_least(xs[0], -axis)
    return mb.concat(values=same(xs), axis=axis)


@layer("concatND", inputs=(1, MANY), floats=False)
def concat_nd(p: Any, *xs: Any) -> Any:
    """Side by side along an axis, or element by element in turns."""
    axis = axis_of(p.axis, xs[0].rank)
    return mb.concat(values=same(xs), axis=axis, interleave=bool(p.interleave))


@layer("stack", inputs=(1, MANY), floats=False)
def stack(p: Any, *xs: Any) -> Any:
    """Side by side along a new axis."""
    return mb.stack(values=same(xs), axis=int(p.axis))


@layer("split", images=True, floats=False)
def split(p: Any, x: Any) -> Any:
    """Equal parts of the channels."""
    at_least(x, -CHANNEL)
    return mb.split(x=x, num_splits=int(p.nOutputs), axis=CHANNEL)


@layer("splitND", floats=False)
def split_nd(p: Any, x: Any) -> Any:
    """Parts along an axis, equal or of given sizes."""
    axis = axis_of(p.axis, x.rank)
    if p.splitSizes:
        return mb.split(x=x, split_sizes=[int(n) for n in p.splitSizes], axis=axis)
    return mb.split(x=x, num_splits=int(p.numSplits), axis=axis)


@layer("sequenceRepeat", floats=False)
def sequence_repeat(p: Any, x: Any) -> Any:
    """The sequence several times, one after the other."""
    at_least(x, RANK5)
    times = max(int(p.nRepetitions), 1)
    return mb.tile(x=x, reps=[times if i == x.rank + SEQUENCE else 1 for i in range(x.rank)])


@layer("tile", inputs=(1, 2), floats=False)
def tile(p: Any, x: Any, times: Any = None) -> Any:
    """Each axis several times; fewer numbers are for the last axes."""
    if times is not None:
        return mb.tile(x=x, reps=as_int(vector(times)))
    reps = [int(n) for n in p.reps]
    if not 1 <= len(reps) <= x.rank:
        raise LayerError(f"its reps has {len(reps)} numbers for {x.rank} axes")
    return mb.tile(x=x, reps=[1] * (x.rank - len(reps)) + reps)


@layer("broadcastToStatic", floats=False)
def broadcast_to_static(p: Any, x: Any) -> Any:
    """A given shape, by repeating axes of length 1."""
    return _broadcast(x, [int(n) for n in p.targetShape])


@layer("broadcastToLike", inputs=2, floats=False)
def broadcast_to_like(_p: Any, x: Any, like: Any) -> Any:
    """The shape of the second input, by repeating axes of length 1."""
    return _broadcast(x, sizes(like))


def _broadcast(x: Any, dims: list[Any]) -> Any:
    x = _ranked(x, len(dims))
    reps: list[Any] = []
    for own, size in zip(x.shape, dims, strict=True):
        if not is_symbolic(own) and own == 1:
            reps.append(size)
        elif not is_symbolic(own) and isinstance(size, int) and own != size:
            raise LayerError(f"shape {tuple(x.shape)} does not repeat to {tuple(dims)}")
        else:
            reps.append(1)
    if all(isinstance(r, int) for r in reps):
        return mb.tile(x=x, reps=reps) if set(reps) != {1} else mb.identity(x=x)
    parts = [np.array([r], np.int32) if isinstance(r, int) else r for r in reps]
    return mb.tile(x=x, reps=mb.concat(values=parts, axis=0))


def _ranked(x: Any, rank: int) -> Any:
    if x.rank > rank:
        raise LayerError(f"its input has {x.rank} axes, its result {rank}")
    return mb.expand_dims(x=x, axes=list(range(rank - x.rank))) if x.rank < rank else x


@layer("broadcastToDynamic", inputs=2, floats=False)
def broadcast_to_dynamic(_p: Any, x: Any, shape: Any) -> Any:
    """The shape that is the second input, by repeating axes of length 1."""
    shape = as_int(vector(shape))
    if shape.val is not None:
        return _broadcast(x, [int(n) for n in shape.val])
    if is_symbolic(shape.shape[0]):
        raise LayerError("the number of axes of its result is not known")
    x = _ranked(x, int(shape.shape[0]))
    own = np.array([1 if is_symbolic(d) else d for d in x.shape], np.int32)
    if any(is_symbolic(d) for d in x.shape):
        return mb.tile(x=x, reps=mb.floor_div(x=shape, y=mb.shape(x=x)))
    return mb.tile(x=x, reps=mb.floor_div(x=shape, y=own))


@layer("reverse", floats=False)
def reverse(p: Any, x: Any) -> Any:
    """Some axes from back to front."""
    if len(p.reverseDim) != x.rank:
        raise LayerError(f"its reverseDim has {len(p.reverseDim)} marks for {x.rank} axes")
    axes = [i for i, marked in enumerate(p.reverseDim) if marked]
    return mb.reverse(x=x, axes=axes) if axes else mb.identity(x=x)


@layer("reverseSeq", inputs=2, floats=False)
def reverse_sequence(p: Any, x: Any, lengths: Any) -> Any:
    """The first elements of each sequence of a batch from back to front."""
    return mb.reverse_sequence(
        x=x,
        lengths=as_int(vector(lengths)),
        seq_axis=axis_of(p.sequenceAxis, x.rank),
        batch_axis=axis_of(p.batchAxis, x.rank),
    )
