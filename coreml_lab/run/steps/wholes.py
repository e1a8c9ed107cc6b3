"""Several nodes as one step: attention, layers with what follows, layers beside one another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array, Node, Value
from coreml_lab.program.ops import OPS
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.builder import Builder, Whole
from coreml_lab.run.steps.fusion import (
    Attention,
    Chosen,
    Rectified,
    Siblings,
    attention,
    attention_torch,
    rectified_torch,
    summed_torch,
)
from coreml_lab.run.steps.step import Slots, Step
from coreml_lab.run.steps.ways import few_scores


def as_one(builder: Builder, node: Node, found: Whole) -> Step:
    """The step for a node and those that it stands for."""
    if isinstance(found, Attention):
        return _attention(builder, node, found)
    if isinstance(found, Chosen):
        return _chosen(builder, node, found)
    if isinstance(found, onednn.Layer):
        return _layer(builder, node, found)
    if isinstance(found, Siblings):
        return _siblings(builder, found)
    return _rectified(builder, node, found)


def _chosen(builder: Builder, node: Node, found: Chosen) -> Step:
    plain = dataclasses.replace(node, inputs={**node.inputs, "indices": found.indices})
    builder.rename(Value(plain), Value(node))
    step = builder.torch_step(plain, OPS[node.op])
    step.node, step.fused = node, tuple(n.name for n in found.absorbed)
    return step


def _attention(builder: Builder, node: Node, found: Attention) -> Step:
    reads = tuple(builder.read(v) for v in (found.query, found.key, found.value))
    products, finish = builder.way.products and few_scores(node), builder.finish(node)
    kernel = partial(attention_torch if products else attention, builder.space)
    scale, (query_turn, key_turn) = found.scale, found.turns

    def run(slots: Slots) -> None:
        query, key, value = (slots[i] for i in reads)
        query = query.permute(query_turn) if query_turn else query
        key = key.permute(key_turn) if key_turn else key
        finish(slots, kernel(query, key.mT if found.turned else key, value, scale=scale))

    names = tuple(n.name for n in found.absorbed)
    return Step(node, run, reads, builder.writes(node), fused=names)


def _rectified(builder: Builder, node: Node, found: Rectified) -> Step:
    conv, declared = found.conv, OPS[found.conv.op]
    operands = [builder.operand(conv, k) for k in ("x", "weight", "bias")]
    more = (lambda _: None) if found.more is None else builder.fetched(found.more)
    given = {**declared.defaults, **builder.settled(conv, declared)}
    values = (*conv.operands(), *(() if found.more is None else (found.more,)))
    space, finish = builder.space, builder.finish(node)

    def run(slots: Slots) -> None:
        tensors = (get(slots) for get in (*operands, more))
        finish(slots, rectified_torch(space, *tensors, **given))

    names = tuple(n.name for n in found.absorbed)
    reads = tuple(builder.read(v) for v in values)
    return Step(node, run, reads, builder.writes(node), fused=names)


def _layer(builder: Builder, node: Node, found: onednn.Layer) -> Step:
    core, torch = found.core, builder.space.torch
    held = {k: onednn.constant(core, k) for k in ("weight", "bias")}
    weight, bias = (None if a is None else builder.kept(a) for a in held.values())
    if core.op == "linear":
        kernel = onednn.linear(torch, weight, bias, found)
    else:
        how = {**OPS[core.op].defaults, **builder.settled(core, OPS[core.op])}
        kernel = onednn.convolution(torch, weight, bias, found, **how)
    values = [core.inputs["x"], *(() if found.more is None else (found.more,))]
    reads, finish = tuple(builder.read(v) for v in values), builder.finish(node)
    x, more = reads[0], reads[-1] if found.more is not None else None

    def run(slots: Slots) -> None:
        finish(slots, kernel(slots[x], None if more is None else slots[more]))

    return Step(node, run, reads, builder.writes(node), fused=tuple(n.name for n in found.absorbed))


def _siblings(builder: Builder, found: Siblings) -> Step:
    """One product with all their weights; each gets its part of it, a view."""
    weights, biases = (
        [_known(builder, node, name) for node in found.nodes] for name in ("weight", "bias")
    )
    held = [w for w in weights if w is not None]
    weight, bias = builder.kept(np.concatenate(held)), _joined(builder, biases, held)
    rule: Any = OPS["linear"].torch if bias is None or not builder.way.sums else summed_torch
    parts, finishes = [len(w) for w in held], [builder.finish(node) for node in found.nodes]
    (x,) = {builder.read(v) for n in found.nodes for v in [n.inputs["x"]] if isinstance(v, Value)}
    space = builder.space

    def run(slots: Slots) -> None:
        whole = rule(space, slots[x], weight=weight, bias=bias)
        for finish, part in zip(finishes, whole.split(parts, -1), strict=True):
            finish(slots, part)

    writes = tuple(slot for node in found.nodes for slot in builder.writes(node))
    names = tuple(n.name for n in found.absorbed)
    return Step(found.nodes[0], run, (x,), writes, fused=names)


def _known(builder: Builder, node: Node, name: str) -> Array | None:
    operand = node.given(name)
    return builder.known(operand) if isinstance(operand, Value) else operand


def _joined(builder: Builder, biases: Sequence[Array | None], weights: Sequence[Array]) -> Any:
    """What they add, as one; None where none adds anything."""
    if all(b is None for b in biases):
        return None
    pairs = zip(biases, weights, strict=True)
    return builder.kept(
        np.concatenate(
            [np.broadcast_to(w.dtype.type(0) if b is None else b, len(w)) for b, w in pairs]
        )
    )
