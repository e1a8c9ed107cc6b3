"""Lists of ONNX nodes: what they read, which of them matter, and whose operators they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
