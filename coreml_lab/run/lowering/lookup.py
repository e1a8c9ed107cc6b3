"""Tables of quantized rows: only the rows that a gather takes become numbers of fp32.

The embeddings of a language model are most of it, and a sentence needs few of their rows. They are
computed as the whole table would be, ``(numbers - zero) * scale``, and rounded to fp16 where the
program is of that type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Node
from coreml_lab.run.lowering.stored import Weight

# Smaller tables are expanded: that costs little, and spares each run some nodes.
LEAST = 1 << 18


def fits(node: Node, weight: Weight) -> bool:
    """Whether a gather reads whole rows of a table, each of which has one scale."""
    axis, batch = (int(node.attrs.get(k, 0)) for k in ("axis", "batch_dims"))
    whole = axis in {0, -2} and batch == 0 and weight.scale.shape[1] == 1
    return whole and weight.numbers.size >= LEAST


def lower(o: Any, weight: Weight, indices: Any, *, half: bool) -> Any:
    """The nodes of a gather from a table; ``half``: of an fp16 program."""
    rows = o.cast(o.Gather(o.const(weight.numbers, raw=True), indices, axis=0), np.float32)
    if weight.zero.any():
        zero = o.const(weight.zero.astype(np.float32))
        rows = o.Sub(rows, o.Gather(zero, indices, axis=0))
    rows = o.Mul(rows, o.Gather(o.const(weight.scale), indices, axis=0))
    return o.cast(o.cast(rows, np.float16), np.float32) if half else rows
