"""Attention written out in several operations, which PyTorch has one kernel for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Graph, Node, Value

RANKS = frozenset({3, 4})


@dataclass(frozen=True)
class Attention:
    """``softmax(query key^T) value``, of which nothing in between is read by others.

    Attributes:
        turned: whether ``key`` comes transposed.
        absorbed: the operations that the last one stands for, too.
    """

    query: Value
    key: Value
    value: Value
    turned: bool
    absorbed: tuple[Node, Node]


def attentions(graph: Graph) -> dict[Node, Attention]:
    """Every attention of a program, by the node that ends it."""
    readers = Counter(v for node in graph for v in node.operands())
    readers.update((*graph.outputs.values(), *graph.updates.values()))
    found = {node: _attention(node, readers) for node in graph.ops if node.op == "matmul"}
    return {node: whole for node, whole in found.items() if whole is not None}


def _attention(node: Node, readers: Mapping[Value, int]) -> Attention | None:
    weights, value = node.inputs.get("x"), node.inputs.get("y")
    if not isinstance(weights, Value) or not isinstance(value, Value):
        return None
    softmax, rank = weights.node, value.type.rank
    scores = softmax.inputs.get("x")
    if softmax.op != "softmax" or not isinstance(scores, Value) or rank not in RANKS:
        return None
    product = scores.node
    query, key = product.inputs.get("x"), product.inputs.get("y")
    if product.op != "matmul" or not isinstance(query, Value) or not isinstance(key, Value):
        return None
    turns = ((node, "transpose_x"), (node, "transpose_y"), (product, "transpose_x"))
    plain = not any(_flag(n, k) for n, k in turns)
    last = int(_given(softmax, "axis", default=-1)) % rank == rank - 1
    alone = all(readers[v] == 1 for v in (weights, scores))
    alike = all(v.type.shape[: rank - 2] == value.type.shape[: rank - 2] for v in (query, key))
    if not (plain and last and alone and alike):
        return None
    return Attention(query, key, value, not _flag(product, "transpose_y"), (product, softmax))


def _flag(node: Node, name: str) -> bool:
    return bool(_given(node, name, default=False))


def _given(node: Node, name: str, *, default: Any) -> Any:
    """A constant parameter: MIL computes none of these."""
    operand = node.inputs.get(name)
    if isinstance(operand, Value):
        return default if operand.const is None else np.asarray(operand.const).item()
    return node.attrs.get(name, default)
