"""Layers that change shapes and the order of axes, and leave the numbers as they are."""

from __future__ import annotations

from typing import Any

from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import (
    RANK5,
    as_int,
    at_least,
    axis_of,
    batched,
    product,
    reshape,
    sizes,
    vector,
)
from coreml_lab.program.mil.tools import mb

IMAGE = 3
CHANNEL = -3
LAST = 1
DEPTH_TO_SPACE, PIXEL_SHUFFLE = 1, 2
# From [channel, height, width] to [height, width, channel] and back.
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@layer("flatten", images=True, floats=False)
def flatten(p: Any, x: Any) -> Any:
    """An image as channels: [C·H·W, 1, 1], in the order C, H, W or H, W, C."""
    at_least(x, IMAGE)
    lead, own = sizes(x)[:CHANNEL], sizes(x)[CHANNEL:]
    if p.mode == LAST:
        x = batched(x, 4, lambda v: mb.transpose(x=v, perm=CHANNELS_LAST))
    return reshape(x, [*lead, product(own), 1, 1])


@layer("reshape", floats=False)
def reshape_old(p: Any, x: Any) -> Any:
    """[Seq, 1, C, H, W] with other C, H and W, or with another sequence, too."""
    at_least(x, IMAGE)
    target = [int(n) for n in p.targetShape]
    if len(target) not in {IMAGE, IMAGE + 1}:
        raise LayerError(f"its targetShape has {len(target)} numbers, not 3 or 4")
    lead = sizes(x)[:CHANNEL]
    if len(target) > IMAGE:
        lead = [target[0], *[1] * (max(x.rank, RANK5) - IMAGE - 1)]
    image = target[CHANNEL:]
    if p.mode != LAST:
        return reshape(x, [*lead, *image])
    x = batched(x, 4, lambda v: mb.transpose(x=v, perm=CHANNELS_LAST))
    x = reshape(x, [*lead, image[1], image[2], image[0]])
    return batched(x, 4, lambda v: mb.transpose(x=v, perm=CHANNELS_FIRST))


@layer("permute", floats=False)
def permute(p: Any, x: Any) -> Any:
    """Sequence, channel, height and width in another order; the batch stays where it is."""
    order = [int(n) for n in p.axis] or [0, 1, 2, 3]
    if sorted(order) != [0, 1, 2, 3]:
        raise LayerError(f"its axis {order} is no order of 0, 1, 2, 3")
    # Of [sequence, batch, channel, height, width], the axes that can move.
    moving = [0, 2, 3, 4]
    perm = [moving[order[0]], 1, *(moving[n] for n in order[1:])]
    if x.rank == RANK5 - 1 and not order[0]:
        return mb.transpose(x=x, perm=[0, *(n - 1 for n in perm[2:])])
    if x.rank != RANK5:
        raise LayerError(f"its input has {x.rank} axes, not {RANK5}")
    return mb.transpose(x=x, perm=perm)


@layer("reorganizeData", images=True, floats=False)
def reorganize_data(p: Any, x: Any) -> Any:
    """Blocks of pixels as channels, or channels as blocks, in two orders."""
    block = int(p.blockSize)
    if p.mode == PIXEL_SHUFFLE:
        return batched(x, 4, lambda v: mb.pixel_shuffle(x=v, upscale_factor=block))
    if p.mode == DEPTH_TO_SPACE:
        return batched(x, 4, lambda v: mb.depth_to_space(x=v, block_size=block))
    return batched(x, 4, lambda v: mb.space_to_depth(x=v, block_size=block))


@layer("transpose", floats=False)
def transpose(p: Any, x: Any) -> Any:
    """Axes in another order."""
    return mb.transpose(x=x, perm=[int(n) for n in p.axes])


@layer("squeeze", floats=False)
def squeeze(p: Any, x: Any) -> Any:
    """Without axes of length 1; one axis always stays."""
    if p.squeezeAll or not p.axes:
        axes = [i for i, d in enumerate(x.shape) if d == 1]
    else:
        axes = sorted({axis_of(a, x.rank) for a in p.axes})
    axes = axes[1:] if len(axes) == x.rank else axes
    return mb.squeeze(x=x, axes=axes) if axes else mb.identity(x=x)


@layer("expandDims", floats=False)
def expand_dims(p: Any, x: Any) -> Any:
    """With axes of length 1 at places of the result."""
    return mb.expand_dims(x=x, axes=[int(a) for a in p.axes])


@layer("flattenTo2D", floats=False)
def flatten_to_2d(p: Any, x: Any) -> Any:
    """The axes before one and those from it on, as two."""
    dims = sizes(x)
    axis = p.axis + x.rank if p.axis < 0 else p.axis
    if not 0 <= axis <= x.rank:
        raise LayerError(f"axis {p.axis} is not one of {x.rank}")
    return reshape(x, [product(dims[:axis]), product(dims[axis:])])


@layer("reshapeStatic", floats=False)
def reshape_static(p: Any, x: Any) -> Any:
    """Another shape; one size may be -1."""
    return mb.reshape(x=x, shape=[int(n) for n in p.targetShape])


@layer("reshapeLike", inputs=2, floats=False)
def reshape_like(_p: Any, x: Any, like: Any) -> Any:
    """The shape of the second input."""
    return reshape(x, sizes(like))


@layer("reshapeDynamic", inputs=2, floats=False)
def reshape_dynamic(_p: Any, x: Any, shape: Any) -> Any:
    """The shape that is the second input."""
    return mb.reshape(x=x, shape=as_int(vector(shape)))


@layer("rankPreservingReshape", floats=False)
def rank_preserving_reshape(p: Any, x: Any) -> Any:
    """Another shape of as many axes; 0 keeps a size, -1 is what is left."""
    target = [int(n) for n in p.targetShape]
    if len(target) != x.rank:
        raise LayerError(f"its targetShape has {len(target)} numbers for {x.rank} axes")
    dims = sizes(x)
    if all(isinstance(d, int) for d in dims):
        return mb.reshape(x=x, shape=[n or d for n, d in zip(target, dims, strict=True)])
    # MIL's reshape keeps the size of an axis whose target is 0, too.
    return mb.reshape(x=x, shape=target)


@layer("getShape", floats=False)
def get_shape(_p: Any, x: Any) -> Any:
    """The sizes of its input."""
    return mb.shape(x=x)
