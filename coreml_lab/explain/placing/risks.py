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
from coreml_lab.explain.placing.tables import operations
from coreml_lab.program.graph import Node

# Values smaller than this are padded without anyone noticing.
LAYOUT_BYTES = 1 << 16
PADDED_AXIS = 32
# Last dimensions up to this are padded to at least eight times their size.
SHORT = 4


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


RISKS: tuple[Rule, ...] = (_conflict, _pad, _lose_shape, _lose_state, _gather)
