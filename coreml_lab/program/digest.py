"""A digest of the work that an operation does: equal digests, equal times on one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Graph, Node, Value
from coreml_lab.program.parts import fixed

# Parameters up to this many numbers count by their values (axes, strides, paddings).
FEW = 16


def digests(graph: Graph, ops: Sequence[Node]) -> dict[str, str]:
    """Per operation, a digest of its types and parameters; "" where a size is flexible.

    Values of weights do not count, their types do. What is computed from constants alone counts
    for who reads it: it comes along wherever that runs.
    """
    still, carried = fixed(graph, ops), dict[Node, str]()
    found: dict[str, str] = {}
    for node in ops:
        told = _told(node, carried)
        found[node.name] = hashlib.sha256(told.encode()).hexdigest()[:16] if told else ""
        if node in still:
            carried[node] = found[node.name]
    return found


def _told(node: Node, carried: Mapping[Node, str], *, looped: bool = False) -> str:
    """All that its time depends on, in words; "" where a size is flexible."""
    looped = looped or bool(node.blocks)
    operands = tuple(node.operands())
    inner = [_told(n, carried, looped=True) for block in node.blocks for n in block.nodes]
    if "" in inner or not all(t.static for t in (*node.types, *(v.type for v in operands))):
        return ""
    read = [_read(v, carried, looped=looped) for v in operands]
    given = sorted((k, _given(v)) for k, v in node.attrs.items())
    types = [str(t) for t in node.types]
    return f"{node.op} {sorted(node.inputs)} {read} {given} {types} {inner}"


def _read(value: Value, carried: Mapping[Node, str], *, looped: bool) -> str:
    const = value.const
    if const is None:
        return f"{value.type} {carried.get(value.node, '')}"
    # How often a loop runs hangs on single numbers, of whatever type.
    return f"{value.type} {const.tolist() if looped and const.size == 1 else _given(const)}"


def _given(value: Any) -> str:
    """A parameter: arrays of weights by their types, all else by its values."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.size > FEW or (value.dtype.kind == "f" and value.ndim):
        return f"{value.dtype}{value.shape}"
    return repr(value.tolist())
