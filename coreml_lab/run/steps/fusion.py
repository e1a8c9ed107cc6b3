"""Operations in a row that PyTorch has one kernel for: attention, and convolutions cut at zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import CONTROL_FLOW, LEAVES, Graph, Node, Value
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.windows import Window, torch_pad

RANKS = frozenset({3, 4})
# Fewer keys than this are looked at. What loses NaN are those that fill no vector of the processor:
# up to 7 on AVX2 (PyTorch 2.13; all sizes up to 69, and around 128, 256, 512 and 1024, were tried,
# the first, a middle and the last key), and no processor's vectors hold more than 64. To look takes
# 4 % of a ViT's time.
FEW = 64


@dataclass(frozen=True)
class Attention:
    """``softmax(scale query key^T) value``, of which nothing in between is read by others.

    Attributes:
        turned: whether ``key`` comes transposed.
        scale: the product of the numbers that query, key or their product are multiplied by.
        turns: the order of dimensions that query and key are still to be brought into, if any.
        absorbed: the operations that the last one stands for, too.
    """

    query: Value
    key: Value
    value: Value
    turned: bool
    scale: float
    turns: tuple[tuple[int, ...], tuple[int, ...]]
    absorbed: tuple[Node, ...]


@dataclass(frozen=True)
class Rectified:
    """``relu(conv(…) + more)``, of which nothing in between is read by others.

    Attributes:
        more: what is added before the cut, if anything.
        absorbed: the operations that the relu stands for, too.
    """

    conv: Node
    more: Value | None
    absorbed: tuple[Node, ...]


@dataclass(frozen=True)
class Chosen:
    """A choice of elements by indices that may count from the end.

    Core ML's gather does not take those, so converters write ``i if i >= 0 else i + size``, which
    PyTorch's engine does with every index anyway.

    Attributes:
        indices: what they were before that.
        absorbed: the operations that the choice stands for, too.
    """

    indices: Value
    absorbed: tuple[Node, ...]


@dataclass(frozen=True)
class Siblings:
    """Linear layers of one value, as one product: attention's query, key and value, mostly.

    Attributes:
        nodes: they, in the program's order; the first stands for all.
    """

    nodes: tuple[Node, ...]

    @property
    def absorbed(self) -> tuple[Node, ...]:
        """The operations that the first one stands for, too."""
        return self.nodes[1:]


def readers_of(graph: Graph) -> Counter[Value]:
    """How often each value is read, by outputs and states, too."""
    readers = Counter(v for node in graph for v in node.operands())
    readers.update((*graph.outputs.values(), *graph.updates.values()))
    return readers


def rectified(graph: Graph) -> dict[Node, Rectified]:
    """Every convolution of images that a relu follows, by that relu."""
    readers = readers_of(graph)
    found: dict[Node, Rectified] = {}
    taken: set[Node] = set()
    for node in graph.ops:
        whole = _rectified(node, readers) if node.op == "relu" else None
        if whole is not None and not taken & set(whole.absorbed):
            found[node] = whole
            taken.update(whole.absorbed)
    return found


def _rectified(node: Node, readers: Mapping[Value, int]) -> Rectified | None:
    before = node.inputs.get("x")
    if not isinstance(before, Value) or readers[before] != 1:
        return None
    if _images(before.node):
        return Rectified(before.node, None, (before.node,))
    if before.node.op != "add":
        return None
    sides = [v for v in before.node.inputs.values() if isinstance(v, Value)]
    for one, other in (sides, sides[::-1]) if len(sides) == 2 else ():  # noqa: PLR2004 - x and y
        if _images(one.node) and readers[one] == 1 and one.type == other.type:
            return Rectified(one.node, other, (one.node, before.node))
    return None


def _images(node: Node) -> bool:
    weight = node.inputs.get("weight")
    return node.op == "conv" and isinstance(weight, Value) and weight.type.rank == 4  # noqa: PLR2004


def rectified_torch(
    t: Any, x: Any, weight: Any, bias: Any, more: Any, *, groups: int, **how: Any
) -> Any:
    """A convolution, what is added to it, and the cut at zero as one kernel of cuDNN's."""
    window = Window.of(weight.shape[2:], **how)
    pads = window.pads(tuple(x.shape[2:]))
    if any(low != high for low, high in pads):
        x, pads = torch_pad(t, x, pads), [(0, 0)] * len(pads)
    rest = (window.strides, [low for low, _ in pads], window.dilations, groups)
    if more is None:
        return t.cudnn_convolution_relu(x, weight, bias, *rest)
    return t.cudnn_convolution_add_relu(x, weight, more, 1.0, bias, *rest)


def patched(node: Node) -> bool:
    """Whether it is a convolution of images whose windows lie side by side, as a ViT's first."""
    x, weight = node.inputs.get("x"), node.inputs.get("weight")
    if not _images(node) or not isinstance(x, Value) or not isinstance(weight, Value):
        return False
    sizes, kernel = (v.type.shape[2:] for v in (x, weight))
    known = [n for n in (*sizes, *kernel) if isinstance(n, int)]
    if len(known) < 4 or int(_given(node, "groups", default=1)) != 1:  # noqa: PLR2004 - two of each
        return False
    several = {k: _several(node, k) for k in ("strides", "pad", "dilations")}
    pad_type = str(_given(node, "pad_type", default="valid"))
    window = Window.of(known[2:], pad_type=pad_type, **several)
    apart = window.strides == window.extent == window.kernel != (1, 1)
    return apart and not any(map(any, window.pads(known[:2])))


def _several(node: Node, name: str) -> Any:
    """A constant parameter of several numbers, or None where it is not given."""
    operand = node.given(name)
    return operand.const if isinstance(operand, Value) else operand


def patched_torch(t: Any, x: Any, weight: Any, bias: Any, **_: Any) -> Any:
    """Such a convolution as one product: a row per window, with channels innermost behind it."""
    (images, channels, *sizes), (filters, _, *kernel) = x.shape, weight.shape
    (down, high), (across, wide) = ((n // k, k) for n, k in zip(sizes, kernel, strict=True))
    whole = x[:, :, : down * high, : across * wide]
    windows = whole.reshape(images, channels, down, high, across, wide).permute(0, 2, 4, 1, 3, 5)
    rows = windows.reshape(images * down * across, channels * high * wide)
    made = t.nn.functional.linear(rows, weight.reshape(filters, -1), bias)
    return made.reshape(images, down, across, filters).permute(0, 3, 1, 2)


def attention(t: Any, query: Any, key: Any, value: Any, mask: Any = None, **how: Any) -> Any:
    """Attention by PyTorch's own kernel.

    The one for processors gives zeros for a row of NaN where keys are few: such rows go another
    way. Graphics processors are not asked whether there are any: a captured graph cannot be.
    """
    if mask is None and t.device.type == "cpu" and key.shape[-2] < FEW:
        return t.looking(_few_keys, query, key, value, space=t, **how)
    return t.nn.functional.scaled_dot_product_attention(query, key, value, mask, **how)


def _few_keys(query: Any, key: Any, value: Any, *, space: Any, **how: Any) -> Any:
    if not space.isfinite(query.sum() + key.sum()):
        return attention_torch(space, query, key, value, **how)
    return space.nn.functional.scaled_dot_product_attention(query, key, value, **how)


def attention_torch(
    t: Any, query: Any, key: Any, value: Any, _mask: None = None, *, scale: float | None = None
) -> Any:
    """Attention as two products and a softmax; the scale costs no kernel of its own."""
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (query, key, value)]
    nothing = query.new_empty(())  # added 0 times, which reads nothing
    factor = max(query.shape[-1], 1) ** -0.5 if scale is None else scale
    scores = t.baddbmm(nothing, flat[0], flat[1].mT, beta=0, alpha=factor)
    found = t.bmm(t.softmax(scores, -1), flat[2])
    return found.reshape(*query.shape[:-1], value.shape[-1])


def summed_torch(t: Any, x: Any, *, weight: Any, bias: Any) -> Any:
    """A linear layer whose sum is a kernel of its own."""
    return t.nn.functional.linear(x, t.as_tensor(weight)).add_(t.as_tensor(bias))


def chosen(graph: Graph) -> dict[Node, Chosen]:
    """Every gather whose indices were made positive for it, which nobody else reads."""
    readers = readers_of(graph)
    found = {n: _chosen(n, readers) for n in graph.ops if n.op in {"gather", "gather_along_axis"}}
    return {node: whole for node, whole in found.items() if whole is not None}


def _chosen(node: Node, readers: Mapping[Value, int]) -> Chosen | None:
    picked, absorbed = node.inputs.get("indices"), list[Node]()
    data, axis = node.inputs.get("x"), int(_given(node, "axis", default=0))
    while isinstance(picked, Value) and readers[picked] == 1 and _same(picked.node):
        absorbed.append(picked.node)
        picked = picked.node.inputs["x"]
    if not isinstance(picked, Value) or not isinstance(data, Value) or readers[picked] != 1:
        return None
    sides = [picked.node.inputs.get(k) for k in ("cond", "a", "b")]
    if picked.node.op != "select" or not all(isinstance(v, Value) for v in sides):
        return None
    sure, plain, moved = (v for v in sides if isinstance(v, Value))
    tests = (sure, "greater_equal", 0), (moved, "add", data.type.shape[axis])
    if not all(readers[v] == 1 and _of(v.node, op, plain, n) for v, op, n in tests):
        return None
    return Chosen(plain, (*absorbed, picked.node, sure.node, moved.node))


def _same(node: Node) -> bool:
    """Whether a node changes nothing: a cast to the type that it is held in already."""
    operand = node.inputs.get("x")
    return node.op == "cast" and isinstance(operand, Value) and operand.type == node.types[0]


def _of(node: Node, op: str, operand: Value, number: Any) -> bool:
    """Whether a node is ``op(operand, number)``."""
    other = node.inputs.get("y")
    known = other.const if isinstance(other, Value) else node.attrs.get("y")
    if node.op != op or node.inputs.get("x") != operand or known is None:
        return False
    return np.size(known) == 1 and bool(np.asarray(known).item() == number)


def siblings(graph: Graph) -> dict[Node, Siblings]:
    """Linear layers in floating point that read one value, by the first of each group.

    Not those whose result is one of the program's: it would be a part of something larger.
    """
    handed_out = {v.node for v in (*graph.outputs.values(), *graph.updates.values())}
    groups: dict[tuple[Value, Any], list[Node]] = {}
    for node in graph.ops:
        x, kind = node.inputs.get("x"), node.types[0].dtype
        layer = node.op == "linear" and kind.kind == "f" and node not in handed_out
        given = [node.inputs.get(k) for k in ("weight", "bias")]
        if layer and isinstance(x, Value) and all(v is None or _constant(v) for v in given):
            groups.setdefault((x, kind), []).append(node)
    return {nodes[0]: Siblings(tuple(nodes)) for nodes in groups.values() if len(nodes) > 1}


def _constant(operand: Any) -> bool:
    """Whether a value is a constant, or follows from constants alone: compressed weights do."""
    if not isinstance(operand, Value) or operand.const is not None:
        return isinstance(operand, Value)
    node = operand.node
    if node.op in LEAVES | CONTROL_FLOW or node.op not in OPS or OPS[node.op].law is not None:
        return False
    return all(_constant(v) for v in node.operands())


def attentions(graph: Graph) -> dict[Node, Attention]:
    """Every attention of a program, by the node that ends it."""
    readers = readers_of(graph)
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
    raw, scale, scaling = _unscaled(scores, readers)
    product = raw.node
    query, key = product.inputs.get("x"), product.inputs.get("y")
    if product.op != "matmul" or not isinstance(query, Value) or not isinstance(key, Value):
        return None
    turns = ((node, "transpose_x"), (node, "transpose_y"), (product, "transpose_x"))
    plain = not any(_flag(n, k) for n, k in turns)
    last = int(_given(softmax, "axis", default=-1)) % rank == rank - 1
    alone = all(readers[v] == 1 for v in (weights, scores, raw))
    alike = all(
        v.type.rank == rank and v.type.shape[: rank - 2] == value.type.shape[: rank - 2]
        for v in (query, key)
    )
    if not (plain and last and alone and alike):
        return None
    query, of_query, before, query_turn = _unturned(query, readers)
    key, of_key, beside, key_turn = _unturned(key, readers)
    absorbed = (*before, *beside, product, *scaling, softmax)
    turned, whole = not _flag(product, "transpose_y"), scale * of_query * of_key
    return Attention(query, key, value, turned, whole, (query_turn, key_turn), absorbed)


def _unturned(
    value: Value, readers: Mapping[Value, int]
) -> tuple[Value, float, tuple[Node, ...], tuple[int, ...]]:
    """``_unscaled``, also where a transpose stands in between: Core ML's passes put it there."""
    node = value.node
    if node.op == "transpose" and readers[value] == 1 and isinstance(node.inputs["x"], Value):
        inner, scale, scaling = _unscaled(node.inputs["x"], readers)
        operand = node.inputs.get("perm")
        perm = operand.const if isinstance(operand, Value) else node.attrs.get("perm")
        if scaling and perm is not None:
            return inner, scale, (*scaling, node), tuple(int(i) for i in perm)
    return *_unscaled(value, readers), ()


def _unscaled(value: Value, readers: Mapping[Value, int]) -> tuple[Value, float, tuple[Node, ...]]:
    """What is multiplied by one number before it becomes ``value``, the number, and by whom."""
    node = value.node
    if node.op == "mul" and readers[value] == 1:
        sides = [v for v in node.inputs.values() if isinstance(v, Value)]
        for one, other in (sides, sides[::-1]) if len(sides) == 2 else ():  # noqa: PLR2004 - x and y
            if other.const is not None and np.size(other.const) == 1 and one.type == value.type:
                return one, float(np.asarray(other.const).item()), (node,)
    return value, 1.0, ()


def _flag(node: Node, name: str) -> bool:
    return bool(_given(node, name, default=False))


def _given(node: Node, name: str, *, default: Any) -> Any:
    """A constant parameter: MIL computes none of these."""
    operand = node.inputs.get(name)
    if isinstance(operand, Value):
        return default if operand.const is None else np.asarray(operand.const).item()
    return node.attrs.get(name, default)
