"""How else PyTorch may run a program: ways that are tried on a caller's inputs, and one is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from coreml_lab.program.graph import Graph, Node, Value
from coreml_lab.program.ops import OPS
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.fusion import (
    attention,
    attention_torch,
    attentions,
    patched,
    patched_torch,
    siblings,
    summed_torch,
)

# These may be faster with channels innermost.
IMAGE_OPS = frozenset({"conv", "conv_transpose"})
# Up to so many scores, attention in single precision may be faster without its one kernel: that has
# a block of threads for 64 queries of a head, and few of those leave most of a GPU idle. Seen on an
# H100 with 3 heads of 197 tokens: 28 us, and 15 in parts; with 8 times as many 29 and 32. In fp16
# the one kernel took 8, the parts 12.
SCORES = 1 << 22
# Programs with more weights are not tried in ways that differ in small kernels only: for each way
# the weights are put on the device once more.
WEIGHTS = 1 << 30
# What a way changes in the one before.
Change = dict[str, bool]


@dataclass(frozen=True)
class Way:
    """How a program is run.

    Attributes:
        channels_last: images lie with channels innermost.
        rectify: a convolution and the relu behind it are one kernel of cuDNN's.
        layers: convolutions and linear layers with what follows are one kernel of oneDNN's.
        patches: convolutions whose windows lie side by side are products. On an H100 16 by 16
            windows of an image, by 192 filters, took 40 us as a convolution.
        merged: linear layers of one value are one product.
        products: attention is two products and a softmax, where it has few scores.
        sums: what a linear layer adds is added by a kernel of its own. In single precision cuBLAS
            has better ones for a product alone: on an H100 197 rows of 768 by 192 took 24 us with
            the sum in it, 13 apart; 128 of 3072 by 768 took 55 and 27. In fp16 it costs 2 us.
    """

    channels_last: bool = False
    rectify: bool = False
    layers: bool = False
    patches: bool = False
    merged: bool = False
    products: bool = False
    sums: bool = False


def on_cpu(graph: Graph, torch: Any, *, rounded: bool) -> list[Change]:
    """What promises most first; ``rounded``: every result is rounded to fp16."""
    ways, images = list[Change](), _images(graph)
    if not rounded and onednn.usable(torch) and onednn.layers(graph):
        ways.append({"channels_last": images, "layers": True})
    return [*ways, {"channels_last": True}] if images else ways


def on_gpu(graph: Graph, *, native: bool, weights: int) -> list[Change]:
    """What promises most first; ``native``: in fp16, ``weights``: the bytes of its constants."""
    ways = list[Change]()
    if _images(graph):
        ways.append({"channels_last": True})
    if _images(graph) and native:  # cuDNN has such kernels in fp16 and in that layout
        ways.append({"channels_last": True, "rectify": True})
    if weights <= WEIGHTS:
        ways += [{"patches": True}] if any(map(patched, graph.ops)) else []
        ways += [{"merged": True}] if siblings(graph) else []
    if weights <= WEIGHTS and not native:
        ended = (*attentions(graph), *filter(unmasked, graph.ops))
        ways += [{"products": True}] if any(map(few_scores, ended)) else []
        ways += [{"sums": True}] if any(map(summed, graph.ops)) else []
    return ways


def few_scores(node: Node) -> bool:
    """Whether the attention that a node ends, or is, has few scores, and how many is known."""
    first = node.inputs["x" if node.op == "matmul" else "query"]
    assert isinstance(first, Value)  # noqa: S101 - MIL's own type rule
    sizes = list(first.type.shape)
    if node.op != "matmul":  # there it is the scores themselves
        key = node.inputs["key"]
        assert isinstance(key, Value)  # noqa: S101 - MIL's own type rule
        sizes[-1] = key.type.shape[-2]
    known = [s for s in sizes if isinstance(s, int)]
    return len(known) == len(sizes) and math.prod(known) <= SCORES


def unmasked(node: Node) -> bool:
    """Whether a node is attention as one operation, of all keys."""
    return node.op == "scaled_dot_product_attention" and node.given("attn_mask") is None


def summed(node: Node) -> bool:
    """Whether a node is a linear layer that adds something, in floating point."""
    kind = node.types[0].dtype.kind
    return node.op == "linear" and node.given("bias") is not None and kind == "f"


def lowering(node: Node, way: Way) -> Any:
    """An op's torch lowering, or what ``way`` has in its place."""
    if way.sums and summed(node):
        return summed_torch
    if way.patches and patched(node):
        return patched_torch
    if way.products and unmasked(node) and few_scores(node):
        return attention_torch
    if node.op == "scaled_dot_product_attention":
        return attention
    return OPS[node.op].torch


def _images(graph: Graph) -> bool:
    return any(n.op in IMAGE_OPS for n in graph.ops)
