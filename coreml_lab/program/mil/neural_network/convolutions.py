"""Convolutions and their transposes, in two and three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError, layer, pair
from coreml_lab.program.mil.neural_network.values import batched
from coreml_lab.program.mil.tools import is_symbolic, mb

# Below the kernel's own axes.
OUTER = 2
SAME = ("same", "same_lower")


def borders(amounts: Any) -> list[tuple[int, int]]:
    """``BorderAmounts`` as pairs of before and after, for height and width."""
    given = amounts.borderAmounts
    if not given:
        return [(0, 0), (0, 0)]
    if len(given) != len("HW"):
        raise LayerError(f"its border has {len(given)} amounts, for height and width")
    return [(int(b.startEdgeSize), int(b.endEdgeSize)) for b in given]


def halves(total: int, *, lower: bool) -> tuple[int, int]:
    """A total of padding as before and after; the odd one comes after, or before if ``lower``."""
    total = max(total, 0)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def padding(p: Any) -> dict[str, Any]:
    """``valid`` and ``same`` of convolutions and pooling in MIL's words."""
    if p.HasField("same"):
        return {"pad_type": SAME[p.same.asymmetryMode]}
    pad = borders(p.valid.paddingAmounts)
    if not any(n for side in pad for n in side):
        return {"pad_type": "valid"}
    return {"pad_type": "custom", "pad": [n for side in pad for n in side]}


@layer("convolution", inputs=(1, 2), images=True)
def convolution(p: Any, x: Any, kernel: Any = None) -> Any:
    """Convolution or deconvolution over height and width; a second input is the kernel."""
    groups = max(int(p.nGroups), 1)
    size = pair(p.kernelSize, 3)
    outputs, inputs = int(p.outputChannels), int(p.kernelChannels)
    if kernel is None:
        outer = (inputs, outputs // groups) if p.isDeconvolution else (outputs, inputs)
        kernel = weights.array(p.weights, (*outer, *size), axis=int(p.isDeconvolution))
    given: dict[str, Any] = {
        "weight": kernel,
        "strides": pair(p.stride),
        "groups": groups,
    }
    if p.hasBias:
        given["bias"] = weights.array(p.bias, [outputs])
    if p.isDeconvolution:
        return batched(x, OUTER + 2, lambda v: _deconvolution(p, v, given, size))
    given |= {"dilations": pair(p.dilationFactor)}
    return batched(x, OUTER + 2, lambda v: mb.conv(x=v, **given, **padding(p)))


def _deconvolution(p: Any, x: Any, given: dict[str, Any], size: list[int]) -> Any:
    if p.outputShape:
        wanted: list[int | None] = [int(n) for n in p.outputShape]
        if len(wanted) != len(size):
            raise LayerError(f"its outputShape has {len(wanted)} numbers, for height and width")
    elif p.HasField("same"):
        wanted = [
            None if is_symbolic(n) else int(n) * s
            for n, s in zip(x.shape[OUTER:], given["strides"], strict=True)
        ]
    else:
        pad = [n for side in borders(p.valid.paddingAmounts) for n in side]
        return mb.conv_transpose(x=x, **given, pad_type="custom", pad=pad)
    return transposed(x, given, size, wanted, lower=p.same.asymmetryMode == 1)


def transposed(
    x: Any, given: dict[str, Any], size: list[int], wanted: list[int | None], *, lower: bool
) -> Any:
    """A deconvolution whose result has the ``wanted`` sizes; None means size times stride.

    What is too much is cut off at both sides; what is missing is zeros, after the end.
    """
    pad: list[int] = []
    more = []
    for n, k, s, out in zip(x.shape[OUTER:], size, given["strides"], wanted, strict=True):
        surplus = k - s if out is None else (int(n) - 1) * s + k - out
        pad += halves(surplus, lower=lower)
        more.append(max(-surplus, 0))
    bias = given.pop("bias", None) if any(more) else given.get("bias")
    result = mb.conv_transpose(x=x, **given, pad_type="custom", pad=pad)
    if not any(more):
        return result
    result = mb.pad(x=result, pad=[n for m in more for n in (0, m)], constant_val=np.float32(0))
    return result if bias is None else mb.add(x=result, y=bias.reshape(-1, *[1] * len(size)))


@layer("convolution3d")
def convolution_3d(p: Any, x: Any) -> Any:
    """Convolution or deconvolution over depth, height and width."""
    size = triple(p, "kernel", 3)
    groups = max(int(p.nGroups), 1)
    inputs, outputs = int(p.inputChannels), int(p.outputChannels)
    shape = (outputs // groups, inputs) if p.isDeconvolution else (outputs, inputs // groups)
    kernel = weights.array(p.weights, (*shape, *size))
    given: dict[str, Any] = {"strides": triple(p, "stride", 1), "groups": groups}
    given["weight"] = kernel.swapaxes(0, 1).copy() if p.isDeconvolution else kernel
    if p.hasBias:
        given["bias"] = weights.array(p.bias, [outputs])
    pad = paddings_3d(p)
    if p.isDeconvolution:
        return batched(x, OUTER + 3, lambda v: _deconvolution_3d(p, v, given, size))
    given["dilations"] = triple(p, "dilation", 1)
    return batched(x, OUTER + 3, lambda v: mb.conv(x=v, **given, **pad))


def _deconvolution_3d(p: Any, x: Any, given: dict[str, Any], size: list[int]) -> Any:
    pad = paddings_3d(p)
    if p.outputShape:
        return transposed(x, given, size, [int(n) for n in p.outputShape], lower=False)
    if pad["pad_type"] == "same":
        return transposed(x, given, size, [None] * len(size), lower=False)
    return mb.conv_transpose(x=x, **given, **pad)


def triple(p: Any, name: str, default: int) -> list[int]:
    """A parameter for depth, height and width."""
    return [int(getattr(p, name + axis)) or default for axis in ("Depth", "Height", "Width")]


def paddings_3d(p: Any) -> dict[str, Any]:
    """Paddings of layers over depth, height and width, in MIL's words."""
    kind = ("custom", "valid", "same")[p.paddingType]
    if kind != "custom":
        return {"pad_type": kind}
    sides = ("Front", "Back", "Top", "Bottom", "Left", "Right")
    return {"pad_type": kind, "pad": [int(getattr(p, "customPadding" + s)) for s in sides]}
