"""Convolutions: 1-, 2- and 3-dimensional, grouped, dilated, transposed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.quantization import integer_weight
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import integers, normal
from coreml_lab.program.ops.sizes import host, nonempty
from coreml_lab.program.ops.windows import Ints, Pads, Window, extended, onnx_pads, torch_pad


def _onnx_conv(o: Any, x: Any, weight: Any, bias: Any, *, groups: int, **how: Any) -> Any:
    window = Window.of(weight.shape[2:], **how)
    given: dict[str, Any] = {"strides": window.strides, "dilations": window.dilations}
    if not window.flexible(x.shape[2:]):
        given["pads"] = onnx_pads(window.pads(x.shape[2:]))
    elif max(window.dilations) == 1:
        given["auto_pad"] = window.auto_pad
    else:  # ONNX Runtime refuses auto_pad together with dilations
        x = _pad_when_run(o, x, window)
    return o.Conv(x, integer_weight(o, weight), bias, group=groups, **given)


def _pad_when_run(o: Any, x: Any, window: Window) -> Any:
    """``same`` padding for sizes that are only known when the program runs."""
    size, step, one, none = o.Shape(x, start=2), o.ints(window.strides), o.ints([1]), o.ints([0, 0])
    count = o.Div(o.Sub(o.Add(size, step), one), step)
    span = o.Add(o.Mul(o.Sub(count, one), step), o.ints(window.extent))
    total = o.Max(o.Sub(span, size), o.ints([0]))
    half = o.Div(total, o.ints([2]))
    rest = o.Sub(total, half)
    low, high = (half, rest) if window.pad_type == "same" else (rest, half)
    return o.Pad(x, o.Concat(none, low, none, high, axis=0))


def _torch_conv(t: Any, x: Any, weight: Any, bias: Any, *, groups: int, **how: Any) -> Any:
    window = Window.of(weight.shape[2:], **how)
    pads = window.pads(tuple(x.shape[2:]))
    even = all(low == high for low, high in pads)
    run = getattr(t.nn.functional, f"conv{len(pads)}d")
    given = {"stride": window.strides, "dilation": window.dilations, "groups": groups}
    if even:
        return run(x, weight, bias, padding=tuple(low for low, _ in pads), **given)
    return run(torch_pad(t, x, pads), weight, bias, **given)


@op(
    samples=[
        {"x": normal(2, 3, 7, 6), "weight": normal(4, 3, 3, 3, seed=1)},
        {"x": normal(1, 3, 8, 9), "weight": normal(4, 3, 3, 2, seed=1), "bias": normal(4, seed=2),
         "strides": [2, 3], "pad_type": "same"},
        {"x": normal(1, 2, 9), "weight": normal(4, 2, 4, seed=1), "strides": [2],
         "pad_type": "same_lower"},
        {"x": normal(1, 4, 8, 8), "weight": normal(6, 2, 3, 3, seed=1), "groups": 2,
         "dilations": [2, 1], "pad_type": "custom", "pad": [2, 1, 0, 3]},
        {"x": normal(2, 4, 6, 6), "weight": normal(8, 1, 3, 3, seed=1), "groups": 4,
         "pad_type": "custom", "pad": [1, 1, 1, 1]},
        {"x": normal(1, 2, 5, 6, 7), "weight": normal(3, 2, 2, 3, 1, seed=1),
         "bias": normal(3, seed=2), "strides": [1, 2, 2], "dilations": [2, 1, 1],
         "pad_type": "same"},
        {"x": normal(1, 2, 12), "weight": normal(3, 2, 3, seed=1), "strides": [2],
         "dilations": [2], "pad_type": "same"},
        {"x": normal(0, 2, 5, 5), "weight": normal(3, 2, 3, 3, seed=1)},
    ],
    onnx=_onnx_conv,
    torch=_torch_conv,
    baked=("weight", "bias"),
)  # fmt: skip
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    strides: Ints = None,
    pad_type: str = "valid",
    pad: Ints = None,
    dilations: Ints = None,
    groups: int = 1,
) -> Array:
    """Slide filters over ``x``: each result is the dot product of a window and a filter, plus bias.

    ``y[n, o, p] = bias[o] + sum(weight[o, i, k] * x[n, i, p * strides + k * dilations - pad])``
    over ``i`` and ``k``, with ``x`` as [n, channels, *sizes] of one to three sizes and ``weight``
    as [filters, channels / groups, *kernel]. ``pad_type`` is ``valid``, ``custom`` (``pad`` holds
    before and after of each size), ``same`` or ``same_lower`` (``ceil(size / stride)`` windows).
    Group ``g`` of the filters sees group ``g`` of the channels only.
    """
    kernel = weight.shape[2:]
    window = Window.of(kernel, strides=strides, pad_type=pad_type, pad=pad, dilations=dilations)
    view = window.view(x.astype(np.float32))
    batch, rank, places = len(x), len(kernel), view.shape[2 : 2 + len(kernel)]
    inputs, filters = weight.shape[1], weight.shape[0] // groups
    # One matrix product per group: [groups, n * places, inputs * kernel] @ [groups, ..., filters].
    split = view.reshape(batch, groups, inputs, *places, *kernel)
    rows = np.moveaxis(split.swapaxes(0, 1), 2, 2 + rank)
    rows = rows.reshape(groups, batch * math.prod(places), inputs * math.prod(kernel))
    columns = weight.astype(np.float32).reshape(groups, filters, -1).swapaxes(1, 2)
    y = np.moveaxis((rows @ columns).reshape(groups, batch, *places, filters), -1, 1)
    y = np.moveaxis(y, 2, 0).reshape(batch, groups * filters, *places)
    return _biased(y, bias).astype(x.dtype)


def _biased(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + bias.astype(np.float32).reshape(-1, *[1] * (y.ndim - 2))


def _dequantized(weight: Array, *, quantization_type: str, nbits: int, **line: Any) -> Array:
    """The filters as real numbers; ``line`` is ``quant_scale`` and ``quant_bias``."""
    if quantization_type != "linear":
        raise UnsupportedOp(
            f"conv_quantized(quantization_type={quantization_type!r}): MIL gives it no table",
            node="conv_quantized",
            hint="use quantization_type='linear', or palettize the weights of a conv",
        )
    scale, bias = (
        np.asarray(line[k], np.float32).reshape(-1, *[1] * (weight.ndim - 1))
        for k in ("quant_scale", "quant_bias")
    )
    levels = weight.astype(np.float32).clip(0, 2**nbits - 1)
    return np.asarray(levels * scale + bias)


STORAGE = ("quantization_type", "nbits", "quant_scale", "quant_bias")


def _onnx_conv_quantized(o: Any, x: Any, weight: Any, *, bias: Any, **how: Any) -> Any:
    if weight.const is None:
        raise UnsupportedOp(
            "conv_quantized: the weight is computed, not constant",
            node="conv_quantized",
            engine="portable",
            hint="use conv",
        )
    real = o.const(_dequantized(weight.const, **{k: how.pop(k) for k in STORAGE}))
    offset = None if bias is None else o.const(bias, np.float32)
    return _onnx_conv(o, x, real, offset, **how)


def _torch_conv_quantized(t: Any, x: Any, weight: Any, *, bias: Any, **how: Any) -> Any:
    real = _dequantized(host(weight), **{k: host(how.pop(k)) for k in STORAGE})
    offset = None if bias is None else t.as_tensor(bias).to(x)
    return _torch_conv(t, x, t.from_numpy(real).to(x), offset, **how)


@op(
    samples=[
        {"x": normal(1, 3, 7, 6), "quantization_type": "linear",
         "weight": integers(4, 3, 3, 3, low=0, high=255).astype(np.uint8),
         "quant_scale": np.array([0.02, 0.01, 0.03, 0.02], np.float32),
         "quant_bias": np.array([-2, -1, -3, -2.5], np.float32)},
        {"x": normal(1, 4, 9), "quantization_type": "linear", "nbits": 4,
         "weight": integers(4, 2, 3, low=0, high=15).astype(np.uint8),
         "quant_scale": np.array([0.2], np.float32), "quant_bias": np.array([-1.5], np.float32),
         "bias": np.array([1, 2, 3, 4], np.uint8), "strides": [2], "pad_type": "custom",
         "pad": [2, 1], "dilations": [2], "groups": 2},
    ],
    onnx=_onnx_conv_quantized,
    torch=_torch_conv_quantized,
    baked=("weight",),
)  # fmt: skip
def conv_quantized(
    x: Array,
    weight: Array,
    *,
    bias: Array | None = None,
    quantization_type: str,
    nbits: int = 8,
    quant_scale: Array,
    quant_bias: Array,
    strides: Ints = None,
    pad_type: str = "valid",
    pad: Ints = None,
    dilations: Ints = None,
    groups: int = 1,
) -> Array:
    """Convolve with filters stored as integers: ``conv(x, weight * quant_scale + quant_bias)``.

    Scale and bias hold one number, or one per filter; a filter holds integers of ``nbits`` bits.
    Models of the classic kind use it; newer ones hold a plain ``conv`` with compressed weights.
    """
    how = {"strides": strides, "pad_type": pad_type, "pad": pad, "dilations": dilations}
    real = _dequantized(
        weight,
        quantization_type=quantization_type,
        nbits=nbits,
        quant_scale=quant_scale,
        quant_bias=quant_bias,
    )
    offset = None if bias is None else np.asarray(bias)
    return np.asarray(conv.reference(x, real, offset, groups=groups, **how))


def _cuts(window: Window, sizes: Sequence[Any], output_shape: Ints) -> Pads:
    """What is cut (before, after) off the full transposed result; negative: zeros are appended."""
    if output_shape is None and window.pad_type != "same":
        return window.pads(sizes)
    surplus = [e - s for e, s in zip(window.extent, window.strides, strict=True)]
    if output_shape is not None:
        if not all(isinstance(n, int) for n in sizes):
            raise UnsupportedOp(
                "conv_transpose: an output_shape, but the sizes of x are flexible",
                node="conv_transpose",
                hint="leave output_shape out and use pad_type='same'",
            )
        surplus = [f - int(n) for f, n in zip(_full(window, sizes), output_shape[2:], strict=True)]
    if window.pad_type == "same":
        low = [max(0, n) // 2 for n in surplus]
    else:
        low = [before for before, _ in window.pads(sizes)]
    return [(before, n - before) for before, n in zip(low, surplus, strict=True)]


def _full(window: Window, sizes: Sequence[int]) -> list[int]:
    """Sizes of a transposed result before anything is cut off."""
    each = zip(sizes, window.strides, window.extent, strict=True)
    return [(n - 1) * s + e for n, s, e in each]


def _onnx_conv_transpose(
    o: Any, x: Any, weight: Any, bias: Any, *, output_shape: Ints, groups: int, **how: Any
) -> Any:
    window = Window.of(weight.shape[2:], **how)
    cuts = _cuts(window, x.shape[2:], output_shape)
    beyond = [max(0, -high) for _, high in cuts]
    return o.ConvTranspose(
        nonempty(o, x),
        weight,
        bias,
        group=groups,
        strides=window.strides,
        dilations=window.dilations,
        pads=onnx_pads([(low, max(0, high)) for low, high in cuts]),
        output_padding=beyond if any(beyond) else None,
    )


def _torch_conv_transpose(
    t: Any, x: Any, weight: Any, bias: Any, *, output_shape: Ints, groups: int, **how: Any
) -> Any:
    window = Window.of(weight.shape[2:], **how)
    run = getattr(t.nn.functional, f"conv_transpose{len(window.kernel)}d")
    full = run(x, weight, stride=window.strides, dilation=window.dilations, groups=groups)
    cuts = _cuts(window, tuple(x.shape[2:]), output_shape)
    y = torch_pad(t, full, [(-low, -high) for low, high in cuts])
    return y if bias is None else y + bias.reshape(-1, *[1] * (x.ndim - 2))


@op(
    samples=[
        {"x": normal(2, 3, 4, 5), "weight": normal(3, 2, 3, 2, seed=1)},
        {"x": normal(1, 4, 4, 5), "weight": normal(4, 3, 3, 3, seed=1), "bias": normal(6, seed=2),
         "groups": 2, "strides": [2, 3], "pad_type": "custom", "pad": [1, 0, 1, 2]},
        {"x": normal(1, 2, 6), "weight": normal(2, 3, 5, seed=1), "strides": [2],
         "pad_type": "same"},
        {"x": normal(1, 2, 6), "weight": normal(2, 3, 2, seed=1), "bias": normal(3, seed=2),
         "strides": [3], "pad_type": "same"},
        {"x": normal(1, 2, 4, 4), "weight": normal(2, 3, 3, 3, seed=1), "strides": [2, 2],
         "output_shape": [1, 3, 7, 8], "pad_type": "same"},
        {"x": normal(1, 2, 4, 4), "weight": normal(2, 3, 3, 3, seed=1), "dilations": [2, 1],
         "strides": [1, 3], "output_shape": [1, 3, 8, 13]},
        {"x": normal(1, 2, 3, 4, 3), "weight": normal(2, 2, 2, 3, 2, seed=1),
         "bias": normal(2, seed=2), "strides": [2, 1, 2]},
    ],
    onnx=_onnx_conv_transpose,
    torch=_torch_conv_transpose,
    baked=("weight", "bias"),
)  # fmt: skip
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    pad: Ints = None,
    output_shape: Ints = None,
    pad_type: str = "valid",
    strides: Ints = None,
    dilations: Ints = None,
    groups: int = 1,
) -> Array:
    """Spread every element of ``x`` over a window, weighted by a filter: the gradient of ``conv``.

    ``full[n, o, p * strides + k * dilations] += weight[i, o, k] * x[n, i, p]``; then ``pad`` is cut
    off (``custom``), or the result is cut to ``size * stride`` (``same``) or to ``output_shape``,
    with zeros appended where that is larger; the bias comes last. ``weight`` is
    [channels, filters / groups, *kernel].
    """
    window = Window.of(
        weight.shape[2:], strides=strides, pad_type=pad_type, pad=pad, dilations=dilations
    )
    sizes, batch = x.shape[2:], len(x)
    full = _full(window, sizes)
    grouped = x.astype(np.float32).reshape(batch, groups, x.shape[1] // groups, *sizes)
    filters = weight.astype(np.float32).reshape(groups, -1, *weight.shape[1:])
    y = np.zeros((batch, groups, weight.shape[1], *full), np.float32)
    for k in np.ndindex(*window.kernel):
        each = zip(k, window.dilations, window.strides, sizes, strict=True)
        place = tuple(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, s, n in each)
        tap = filters[(slice(None),) * 3 + k]
        y[(slice(None),) * 3 + place] += np.einsum("ngi...,gio->ngo...", grouped, tap)
    cuts = _cuts(window, sizes, output_shape)
    y = extended(y.reshape(batch, -1, *full), [(0, max(0, -high)) for _, high in cuts])
    kept = [slice(low, n - high) for n, (low, high) in zip(full, cuts, strict=True)]
    return _biased(y[(slice(None), slice(None), *kept)], bias).astype(x.dtype)
