"""What kept operations from the Neural Engine in some cases, or slow on it: no bar. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from coreml_lab.explain.placing.reasons import (
    HIGH,
    LOW,
    MEDIUM,
    Context,
    Reason,
    Rule,
    states,
    values,
)
from coreml_lab.explain.placing.tables import Chip, operations
from coreml_lab.explain.placing.workload import kind, stored, weight_shape
from coreml_lab.program.graph import Node

# Values smaller than this are padded without anyone noticing.
LAYOUT_BYTES = 1 << 16
PADDED_AXIS = 32
# Last dimensions up to this are padded to at least eight times their size.
SHORT = 4
# The engine's parts among which weights are dealt out, and how near whole MiB they come slowly.
PARTS, MIB, NEAR = 16, 1 << 20, 16 << 10
SLOW_KERNEL = 13
# Dimensions of a layer_norm that lost the engine where shapes are enumerated.
NARROW = 3
# Weights of one program for the Neural Engine, and operations in a row, that went wrong for others.
LARGEST = {"phone": 1e9, "mac": 2e9}
DEEPEST = 386


def _conflict(node: Node, _: Context) -> Iterator[Reason]:
    known = operations().get(node.op)
    if known is not None and known.verdict == "likely":
        said = known.note or "it was tried on the engine, but not through Core ML"
        yield Reason("conflict", f"{node.op}: {said}", "", known.confidence, known.sources)


def _pad(node: Node, context: Context) -> Iterator[Reason]:
    shape = context.sizes.shape(node.type)
    wide = len(shape) > 1 and shape[-1] <= SHORT
    if wide and node.type.dtype == np.float16 and 2 * math.prod(shape) >= LAYOUT_BYTES:
        yield Reason(
            "layout",
            f"its last dimension is {shape[-1]}, padded to {PADDED_AXIS} there",
            "move a large dimension to the end",
            HIGH,
            ("APPLE-COREAI",),
        )


def _lose_shape(node: Node, context: Context) -> Iterator[Reason]:
    if context.flexible == "enumerated" and not all(t.static for t in values(node)):
        yield Reason(
            "flexible shape",
            "shapes other than the default one ran off the Neural Engine for others",
            "convert one model or function per size",
            MEDIUM,
            ("CT-2370", "CT-2730"),
        )


def _lose_state(node: Node, context: Context) -> Iterator[Reason]:
    if states(node, context):
        yield Reason(
            "state",
            "states run on the Neural Engine for some shapes and system versions only",
            "hand the cache in and out as inputs and outputs where it fails",
            LOW,
            ("CT-2553", "CT-2325"),
        )


def _gather(node: Node, context: Context) -> Iterator[Reason]:
    if node.op == "gather" and context.chip.generation <= "H13":
        text = "H13 takes gather with constant indices in few shapes only"
        yield Reason(
            "generation", text, "slice and concatenate in its place", MEDIUM, ("ANEFORGE",)
        )


def _norm(node: Node, context: Context) -> Iterator[Reason]:
    if node.op == "layer_norm" and node.type.rank == NARROW and context.flexible == "enumerated":
        yield Reason(
            "flexible shape",
            "with enumerated shapes, layer_norm in three dimensions was nine times slower",
            "normalize in four dimensions, (batch, channels, 1, sequence), or fix the shape",
            MEDIUM,
            ("CT-1909",),
        )


def _stream(node: Node, context: Context) -> Iterator[Reason]:
    sizes = [context.sizes.bytes(t) / 1e6 for t in values(node)]
    inside = context.chip.number("ne_onchip_mb")
    if max(sizes, default=0.0) > inside:
        yield Reason(
            "layout",
            f"a value is larger than the {inside:g} MB that the engine holds, and is streamed",
            "tile it, so that each part fits",
            MEDIUM,
            ("ANE-GUIDE", "751K"),
        )


def _notch(node: Node, context: Context) -> Iterator[Reason]:
    """Weights of an operation are dealt out to sixteen parts of the engine."""
    shape = weight_shape(node)
    if (
        not shape
        or not stored(node)
        or context.chip.generation != "H16"
        or kind(node) not in {"conv", "matmul"}
    ):
        return
    part = math.ceil(shape[0] / PARTS) * math.prod(shape[1:]) * np.float16().itemsize
    away = part % MIB
    if part >= MIB - NEAR and min(away, MIB - away) <= NEAR:
        yield Reason(
            "weights",
            f"a part of its weights is {part / MIB:.3g} MiB: near whole ones they came at 17 to 19 "
            "GB/s for others, in place of 45 to 60",
            "split its inputs or outputs unevenly, or compress its weights",
            MEDIUM,
            ("STABLEHLO-110", "EILN"),
        )


def _compile(node: Node, _: Context) -> Iterator[Reason]:
    height, width = (*weight_shape(node)[2:], 1, 1)[:2]
    if node.op == "conv" and min(height, width) >= SLOW_KERNEL:
        yield Reason(
            "kernel",
            f"a kernel of {height}x{width}: such ones took seconds to minutes to compile",
            "factor it into smaller kernels, one after the other",
            HIGH,
            ("751K",),
        )


def _table(node: Node, _: Context) -> Iterator[Reason]:
    """A scale on top of a table of values: two operations, one after the other."""
    for value in node.operands():
        if value.node.op == "constexpr_blockwise_shift_scale" and any(
            v.node.op.startswith("constexpr_lut") for v in value.node.operands()
        ):
            yield Reason(
                "quantization",
                "weights from a table with scales ran slower than fp16, and crash on macOS 26",
                "leave the scales out, or use scales per channel without a table",
                MEDIUM,
                ("CADAMCAT", "CT-2688"),
            )


RISKS: tuple[Rule, ...] = (
    _conflict, _pad, _lose_shape, _lose_state, _gather, _norm, _stream, _notch, _compile, _table,
)  # fmt: skip


def of_program(weights: float, longest: int, chip: Chip) -> tuple[Reason, ...]:
    """What endangers a program as a whole.

    Args:
        weights: bytes of the weights of what would run on the Neural Engine.
        longest: the most operations that follow one another there.
        chip: what it would run on.
    """
    found = []
    limit = LARGEST[chip.kind]
    if weights > limit:
        found.append(
            Reason(
                "size",
                f"weights of {weights / 1e9:.2g} GB for the Neural Engine: above about "
                f"{limit / 1e9:g} GB such programs ran on the CPU for others",
                "divide the model (coremltools' bisect_model), or compress its weights",
                MEDIUM,
                ("CT-DOCS", "ANEMLL", "SMPANARO"),
            )
        )
    if longest > DEEPEST and chip.generation == "H18":
        found.append(
            Reason(
                "size",
                f"{longest} operations one after the other: from 387 layers on, the compiler for "
                "this engine crashed, and the CPU took over in silence",
                "divide the model",
                MEDIUM,
                ("751K",),
            )
        )
    return tuple(found)
