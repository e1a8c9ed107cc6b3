"""Operations that only rearrange: reshape, transpose, and trading depth or batch for space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import booleans, integers, normal
from coreml_lab.program.ops.sizes import as_ints, constant, divided, host, plus, size, sizes, times

Ints = Sequence[int] | Array

# The opset from which a 0 in reshape's shape counts dimensions from the right.
RIGHT_ALIGNED = 17


def resolved(old: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """``wanted`` with its 0 and -1 replaced by sizes."""
    missing = len(old) - len(wanted)
    new = [
        w if w != 0 else old[missing + i] if missing + i >= 0 else 1 for i, w in enumerate(wanted)
    ]
    if -1 in new:
        at = new.index(-1)
        new[at] = math.prod(old) // max(1, math.prod(n for i, n in enumerate(new) if i != at))
    return new


def _reshape_onnx(o: Any, x: Any, shape: Any) -> Any:
    if constant(shape) is None and not isinstance(shape.shape[0], int):
        return o.Reshape(x, o.ints(shape))  # not even the rank is known before it runs
    target = [d if isinstance(d, int) else -1 for d in o.out.shape]
    static = all(isinstance(d, int) for d in x.shape)
    # For a flexible x, MIL's inference leaves a 0 as it stands.
    if 0 not in target and target.count(-1) <= 1:
        return o.Reshape(x, o.ints(target))
    if static and -1 not in target:
        return o.Reshape(x, o.ints(target), allowzero=1)
    wanted, known, missing = o.ints(shape), constant(shape), x.rank - o.out.rank
    # Aligned left or of equal rank, a 0 means in ONNX what it means in MIL.
    plain = o.node.opset < RIGHT_ALIGNED or missing == 0 or (known is not None and 0 not in known)
    if plain:
        return o.Reshape(x, wanted)
    kept = [size(o, x, missing + i) if missing + i >= 0 else 1 for i in range(o.out.rank)]
    return o.Reshape(x, o.Where(o.Equal(wanted, o.ints([0])), sizes(o, kept), wanted))


@op(
    samples=[
        {"x": normal(2, 3, 4), "shape": [4, -1]},
        {"x": normal(3, 4, 2), "shape": [1, 0, -1, 0]},
        {"x": integers(2, 3), "shape": [3, 2]},
        {"x": booleans(6), "shape": [2, 3]},
        {"x": normal(2, 6), "shape": np.array([3, 4], np.int32)},
    ],
    onnx=_reshape_onnx,
    torch=lambda t, x, shape: t.reshape(x, resolved(x.shape, as_ints(shape))),
)
def reshape(x: Array, shape: Ints) -> Array:
    """The same numbers in the same order under another ``shape``.

    One entry may be -1: what is left over. A 0 keeps the size of ``x`` at that place, counted from
    the right (1 where ``x`` has no such dimension); before iOS17 a 0 is only allowed where the rank
    stays the same, which is the same rule.
    """
    return np.reshape(x, resolved(np.shape(x), as_ints(shape)))


def _like(
    references: Sequence[Any], begins: Sequence[Any], ends: Sequence[Any], masks: Sequence[Any]
) -> list[int]:
    parts = zip(references, *map(as_ints, (begins, ends, masks)), strict=True)
    return [d for r, b, e, m in parts for d in r.shape[b : None if m else e]]


@op(
    samples=[
        {
            "x": normal(2, 12),
            "ref_tensors": [normal(2, 3, 5), normal(7, 4, 1)],
            "begins": [0, 1],
            "ends": [2, 0],
            "end_masks": [False, True],
        },
    ],
    onnx=lambda o, x, *_: o.Reshape(x, o.ints(o.out.sizes)),  # MIL requires a known shape
    torch=lambda t, x, refs, begins, ends, masks: t.reshape(x, _like(refs, begins, ends, masks)),
)
def reshape_like(
    x: Array,
    ref_tensors: Sequence[Array],
    begins: Sequence[Any],
    ends: Sequence[Any],
    end_masks: Sequence[Any],
) -> Array:
    """``x`` in a shape put together from slices of other tensors' shapes.

    Tensor ``i`` gives its sizes ``begins[i]`` to ``ends[i]``, or to its last where
    ``end_masks[i]``.
    """
    return np.reshape(x, _like(ref_tensors, begins, ends, end_masks))


@op(
    samples=[{"x": normal(2, 3, 4), "perm": [2, 0, 1]}, {"x": integers(2, 3), "perm": [-1, 0]}],
    onnx=lambda o, x, *, perm: o.Transpose(x, perm=[p % x.rank for p in as_ints(perm)]),
    torch=lambda t, x, *, perm: t.permute(x, as_ints(perm)),
)
def transpose(x: Array, *, perm: Ints) -> Array:
    """Dimensions in another order: ``perm[i]`` says which one comes to place ``i``."""
    return np.transpose(x, as_ints(perm))


def _expanded(x: Any, axes: Any) -> list[int]:
    axes = as_ints(axes)
    rank = len(x.shape) + len(axes)
    places, old = {a % rank for a in axes}, iter(x.shape)
    return [1 if i in places else next(old) for i in range(rank)]


@op(
    samples=[{"x": normal(2, 3), "axes": [1]}, {"x": integers(2, 3), "axes": [-1, 0]}],
    onnx=lambda o, x, *, axes: o.Unsqueeze(x, o.ints(as_ints(axes))),
    torch=lambda t, x, *, axes: t.reshape(x, _expanded(x, axes)),
)
def expand_dims(x: Array, *, axes: Ints) -> Array:
    """New dimensions of size 1 at the places ``axes`` of the result."""
    return np.reshape(x, _expanded(np.asarray(x), axes))


def _single(shape: Sequence[Any], axes: Any) -> tuple[int, ...]:
    """The dimensions to drop: as in PyTorch, one that is not 1 stays although it is named."""
    wanted = range(len(shape)) if axes is None else [a % len(shape) for a in as_ints(axes)]
    return tuple(sorted({a for a in wanted if shape[a] == 1}))


def _squeeze_onnx(o: Any, x: Any, *, axes: Any) -> Any:
    drop = _single(x.shape, axes)
    return o.Squeeze(x, o.ints(drop)) if drop else x


@op(
    samples=[
        {"x": normal(1, 3, 1, 2)},
        {"x": normal(1, 3, 1, 2), "axes": [-2]},
        {"x": integers(1, 3, 1), "axes": [0, 2]},
    ],
    onnx=_squeeze_onnx,
    torch=lambda t, x, *, axes: t.squeeze(x, _single(x.shape, axes)),
)
def squeeze(x: Array, *, axes: Ints | None = None) -> Array:
    """Without the dimensions of size 1 among ``axes`` (all by default); others named stay."""
    return np.squeeze(x, _single(np.shape(x), axes))


@op(
    samples=[{"x": normal(2, 3, 4)}, {"x": integers(2, 3, 2), "axis": -1}],
    onnx=lambda o, x, *, axis: o.Flatten(x, axis=int(axis)),
    torch=lambda t, x, *, axis: t.reshape(
        x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    ),
)
def flatten2d(x: Array, *, axis: int = 1) -> Array:
    """A matrix: the dimensions before ``axis`` become its rows, the others its columns."""
    return np.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _shape_onnx(o: Any, x: Any) -> Any:
    known = all(isinstance(d, int) for d in x.shape)
    return o.const(x.shape, np.int32) if known else o.cast(o.Shape(x), np.int32)


@op(
    samples=[{"x": normal(2, 3, 4)}, {"x": booleans(5)}],
    onnx=_shape_onnx,
    torch=lambda t, x: t.tensor(list(x.shape), dtype=t.int32),
)
def shape(x: Array) -> Array:
    """The sizes of the dimensions of ``x``, as a vector of int32."""
    return np.array(np.shape(x), np.int32)


@op(
    samples=[{"x": normal(2, 8, 3, 4), "block_size": 2}],
    onnx=lambda o, x, *, block_size: o.DepthToSpace(x, blocksize=int(block_size), mode="DCR"),
    torch=lambda t, x, *, block_size: _from_depth(x, int(block_size), t.permute),
)
def depth_to_space(x: Array, *, block_size: int) -> Array:
    """Channels become pixels: ``block_size`` squared of them make a block.

    Shape ``(n, b*b*c, h, w)`` becomes ``(n, c, b*h, b*w)``; channel ``(i*b + j)*c + k`` goes to
    pixel ``(i, j)`` of channel ``k`` (as in TensorFlow; ``pixel_shuffle`` numbers the channels as
    PyTorch does).
    """
    return np.asarray(_from_depth(x, int(block_size), np.transpose))


def _from_depth(x: Any, b: int, permute: Any) -> Any:
    n, c, h, w = x.shape
    blocks = x.reshape(n, b, b, c // (b * b), h, w)
    return permute(blocks, (0, 3, 4, 1, 5, 2)).reshape(n, c // (b * b), h * b, w * b)


def _to_depth(x: Any, b: int, permute: Any) -> Any:
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    return permute(blocks, (0, 3, 5, 1, 2, 4)).reshape(n, c * b * b, h // b, w // b)


@op(
    samples=[{"x": normal(2, 3, 4, 6), "block_size": 2}],
    onnx=lambda o, x, *, block_size: o.SpaceToDepth(x, blocksize=int(block_size)),
    torch=lambda t, x, *, block_size: _to_depth(x, int(block_size), t.permute),
)
def space_to_depth(x: Array, *, block_size: int) -> Array:
    """Pixels become channels: the inverse of ``depth_to_space``."""
    return np.asarray(_to_depth(x, int(block_size), np.transpose))


@op(
    samples=[{"x": normal(2, 8, 3, 4), "upscale_factor": 2}],
    onnx=lambda o, x, *, upscale_factor: o.DepthToSpace(
        x, blocksize=int(upscale_factor), mode="CRD"
    ),
    torch=lambda t, x, *, upscale_factor: t.pixel_shuffle(x, int(upscale_factor)),
)
def pixel_shuffle(x: Array, *, upscale_factor: int) -> Array:
    """Channels become pixels, numbered as in PyTorch's ``PixelShuffle``.

    Shape ``(n, c*f*f, h, w)`` becomes ``(n, c, f*h, f*w)``; channel ``k*f*f + i*f + j`` goes to
    pixel ``(i, j)`` of channel ``k``.
    """
    f = int(upscale_factor)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // (f * f), h * f, w * f)


def _pixel_unshuffle_onnx(o: Any, x: Any, *, downscale_factor: Any) -> Any:
    f = int(downscale_factor)
    n, c, h, w = (size(o, x, i) for i in range(4))
    h, w = divided(o, h, f), divided(o, w, f)
    # SpaceToDepth puts the pixel before the channel; only the order of the channels differs.
    parts = o.Reshape(o.SpaceToDepth(x, blocksize=f), sizes(o, [n, f * f, c, h, w]), allowzero=1)
    swapped = o.Transpose(parts, perm=[0, 2, 1, 3, 4])
    return o.Reshape(swapped, sizes(o, [n, times(o, c, f * f), h, w]), allowzero=1)


@op(
    samples=[{"x": normal(2, 3, 4, 6), "downscale_factor": np.uint32(2)}],
    onnx=_pixel_unshuffle_onnx,
    torch=lambda t, x, *, downscale_factor: t.pixel_unshuffle(x, int(downscale_factor)),
)
def pixel_unshuffle(x: Array, *, downscale_factor: int) -> Array:
    """Pixels become channels: the inverse of ``pixel_shuffle``."""
    f = int(downscale_factor)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4)
    return blocks.reshape(n, c * f * f, h // f, w // f)


def _space_to_batch_onnx(o: Any, x: Any, *, block_shape: Any, paddings: Any) -> Any:
    (b, d), pads = as_ints(block_shape), np.asarray(host(paddings)).tolist()
    n, c = size(o, x, 0), size(o, x, 1)
    h, w = (divided(o, plus(o, size(o, x, 2 + i), sum(pads[i])), (b, d)[i]) for i in range(2))
    padded = o.Pad(x, o.ints([p[0] for p in pads] + [p[1] for p in pads]), None, o.ints([2, 3]))
    blocks = o.Reshape(padded, sizes(o, [n, c, h, b, w, d]), allowzero=1)
    images = sizes(o, [times(o, n, b * d), c, h, w])
    return o.Reshape(o.Transpose(blocks, perm=[3, 5, 0, 1, 2, 4]), images, allowzero=1)


def _space_to_batch_torch(t: Any, x: Any, *, block_shape: Any, paddings: Any) -> Any:
    (b, d), ((top, bottom), (left, right)) = (
        as_ints(block_shape),
        np.asarray(host(paddings)).tolist(),
    )
    padded = t.nn.functional.pad(x, (left, right, top, bottom))
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // b, b, w // d, d)
    return t.permute(blocks, (3, 5, 0, 1, 2, 4)).reshape(n * b * d, c, h // b, w // d)


@op(
    samples=[
        {"x": normal(2, 3, 3, 4), "block_shape": [2, 3], "paddings": [[1, 0], [0, 2]]},
    ],
    onnx=_space_to_batch_onnx,
    torch=_space_to_batch_torch,
)
def space_to_batch(x: Array, *, block_shape: Ints, paddings: Any) -> Array:
    """Pixels become batch entries: those of a block go to one smaller image each.

    ``x`` is padded with zeros first; image ``(i*d + j)*n + k`` of the result comes from image ``k``
    of ``x``.
    """
    (b, d), pads = as_ints(block_shape), np.asarray(host(paddings)).tolist()
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // b, b, w // d, d).transpose(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * b * d, c, h // b, w // d)


def _batch_to_space_onnx(o: Any, x: Any, *, block_shape: Any, crops: Any) -> Any:
    (b, d), cut = as_ints(block_shape), np.asarray(host(crops)).tolist()
    n, c, h, w = (size(o, x, i) for i in range(4))
    blocks = o.Reshape(x, sizes(o, [b, d, divided(o, n, b * d), c, h, w]), allowzero=1)
    spread = o.Transpose(blocks, perm=[2, 3, 4, 0, 5, 1])
    images = sizes(o, [divided(o, n, b * d), c, times(o, h, b), times(o, w, d)])
    whole = o.Reshape(spread, images, allowzero=1)
    ends = [-after if after else np.iinfo(np.int32).max for _, after in cut]
    return o.Slice(whole, o.ints([before for before, _ in cut]), o.ints(ends), o.ints([2, 3]))


def _spread(x: Any, blocks: Any, crops: Any, permute: Any) -> Any:
    (b, d), ((top, bottom), (left, right)) = as_ints(blocks), np.asarray(host(crops)).tolist()
    n, c, h, w = x.shape
    parts = permute(x.reshape(b, d, n // (b * d), c, h, w), (2, 3, 4, 0, 5, 1))
    whole = parts.reshape(n // (b * d), c, h * b, w * d)
    return whole[:, :, top : h * b - bottom, left : w * d - right]


@op(
    samples=[
        {"x": normal(12, 3, 2, 3), "block_shape": [2, 3], "crops": [[1, 0], [0, 2]]},
    ],
    onnx=_batch_to_space_onnx,
    torch=lambda t, x, *, block_shape, crops: _spread(x, block_shape, crops, t.permute),
)
def batch_to_space(x: Array, *, block_shape: Ints, crops: Any) -> Array:
    """Batch entries become pixels, less ``crops``: the inverse of ``space_to_batch``."""
    return np.asarray(_spread(x, block_shape, crops, np.transpose))
