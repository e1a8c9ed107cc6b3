"""Lists of ONNX nodes: what they read, which of them matter, and whose operators they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

import onnx


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its nested graphs included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from reads(inner)


def live(nodes: list[onnx.NodeProto], needed: set[str]) -> list[onnx.NodeProto]:
    """Without dead nodes: a dangling one keeps ONNX Runtime from fusing around it."""
    kept = []
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(reads(node))
    return kept[::-1]


def scaled_last(
    nodes: list[onnx.NodeProto], numbers: AbstractSet[str], kept: AbstractSet[str]
) -> None:
    """Exchange a product with one number and the transposition that alone reads it, before MatMul.

    Numbers that are multiplied with right before a MatMul become part of ONNX Runtime's kernel.

    Args:
        nodes: changed in place.
        numbers: constants without dimensions.
        kept: values that others read: the graph's outputs.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    for node in nodes:
        if node.op_type != "Mul" or node.output[0] in kept:
            continue
        tensors = [name for name in node.input if name not in numbers]
        after = readers.get(node.output[0], [])
        if len(tensors) != 1 or len(after) != 1 or after[0].op_type != "Transpose":
            continue
        turned, last = after[0], readers.get(after[0].output[0], [])
        if turned.output[0] not in kept and [n.op_type for n in last] == ["MatMul"]:
            _exchange(node, turned, tensors[0])


def _exchange(product: onnx.NodeProto, turned: onnx.NodeProto, tensor: str) -> None:
    """The nodes change places, and each keeps its name."""
    middle, end = product.output[0], turned.output[0]
    number = next(name for name in product.input if name != tensor)
    moved = type(turned)()
    moved.CopyFrom(turned)
    moved.input[0], moved.output[0] = tensor, middle
    turned.CopyFrom(product)
    del turned.input[:]
    turned.input.extend([middle, number])
    turned.output[0] = end
    product.CopyFrom(moved)


def domains(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The operator sets that nodes are from, their nested graphs included."""
    found = set()
    for node in nodes:
        found.add(node.domain)
        for attribute in node.attribute:
            found |= domains(attribute.g.node)
    return found


def rename(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> bool:
    """Call a value ``new`` where it is made and read; False where no node makes it."""
    found = list(nodes)
    if not any(old in node.output for node in found):
        return False
    for node in found:
        _replace(node, old, new)
    return True


def _replace(node: onnx.NodeProto, old: str, new: str) -> None:
    for names in (node.input, node.output):
        for i, name in enumerate(names):
            if name == old:
                names[i] = new
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _replace(inner, old, new)
