"""What inputs, outputs and operations of a program that is written here are called in MIL. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from coreml_lab.program.graph import Graph, Node, TensorType

# Element types a Core ML function may have at its border; others cross it as int32.
BORDER = frozenset({"float32", "float16", "int32"})
INT32 = np.dtype(np.int32)
# What coremltools appends to the name of an operation that it converts to fp16.
HALF = "_cast_fp16"
# PyTorch's converter calls a result var_16 and its operation op_16; what a pass makes is named
# after the operation.
NUMBERED = re.compile(r"^op_(?=\d)")


def common(name: str) -> str:
    """What an operation is called in another precision of its program, too."""
    return NUMBERED.sub("var_", name.removesuffix(HALF))


def border(kind: TensorType) -> TensorType:
    """The type under which a value of ``kind`` enters or leaves a Core ML function."""
    return kind if kind.dtype.name in BORDER else TensorType(kind.shape, INT32)


def names(graph: Graph) -> dict[Node, str]:
    """A unique name per op; one that makes a result bears the result's name."""
    taken = {*graph.inputs, *graph.outputs}
    found: dict[Node, str] = {}
    for name, value in graph.outputs.items():
        whole = len(value.node.types) == 1 and border(value.type) == value.type
        if whole and value.node.op not in {"input", "const"}:
            found.setdefault(value.node, name)
    for i, node in enumerate(graph.ops):
        if node not in found:
            name = node.name or f"{node.op}_{i}"
            found[node] = name if name not in taken else f"{name}_{i}_"
            taken.add(found[node])
    return found


def places(graph: Graph) -> Mapping[str, str]:
    """Where each named operation was written; what the passes make of several has none."""
    return {name: node.where for node, name in names(graph).items() if node.where}


def place(places: Mapping[str, str], name: str) -> str:
    """Where the operation that is called ``name`` after the passes was written."""
    return places.get(name) or places.get(name.removesuffix(HALF), "")
