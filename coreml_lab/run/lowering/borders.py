"""The borders of an ONNX model: what is handed in and out, and the states.

Inside, fp16 is fp32. A state need not be converted at each step: it is kept as fp32, and what it
holds is still fp16's numbers, since the results that reach it are rounded where they are made. An
operation that only moves numbers (a slice update) makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from coreml_lab.program.graph import LEAVES, Graph, Node, TensorType, Value
from coreml_lab.run.lowering.nodes import rename

if TYPE_CHECKING:
    from coreml_lab.run.lowering.graph import OnnxBuilder, Ref

# Operations that move numbers and make none: the operands whose numbers they move.
MOVES: Mapping[str, tuple[str, ...]] = {
    "read_state": ("input",),
    "coreml_update_state": ("value",),
    "slice_update": ("x", "update"),
    "select": ("a", "b"),
    "concat": ("values",),
    "stack": ("values",),
    **dict.fromkeys(
        (
            "identity",
            "reshape",
            "transpose",
            "expand_dims",
            "squeeze",
            "slice_by_index",
            "slice_by_size",
            "split",
            "tile",
            "reverse",
            "gather",
        ),
        ("x",),
    ),
}


@dataclass(frozen=True)
class States:
    """The states of a graph: what they are called when they leave, and how they are kept.

    ``new`` maps a state to the output that holds its new contents, "" where nothing changes them;
    ``rounded`` holds the results to round, so that fp16 states get nothing but fp16's numbers.
    """

    updates: Mapping[str, Value]
    new: Mapping[str, str]
    wide: bool
    rounded: frozenset[Value]

    @staticmethod
    def of(graph: Graph, *, wide: bool) -> States:
        """The states of ``graph``; ``wide`` ones are kept as fp32 from run to run."""
        kept = {k for k, v in graph.updates.items() if v.node is graph.states[k]}
        new = {k: "" if k in kept else f"{k}_out" for k in graph.updates}
        return States(graph.updates, new, wide, _reaching(graph) if wide else frozenset())

    def held(self, kind: TensorType) -> TensorType:
        """The type in which a state is kept."""
        wide = self.wide and kind.dtype == np.float16
        return TensorType(kind.shape, np.dtype(np.float32)) if wide else kind

    def settle(self, o: OnnxBuilder, node: Node) -> None:
        """Round those results of ``node`` that must be."""
        for value in (Value(node, i) for i in range(len(node.types))):
            ref = o.refs[value]
            if value in self.rounded and ref.kept is None:
                exact = o.cast(o.cast(ref, np.float16), np.float32)
                o.refs[value] = type(ref).of(str(exact), ref.type)

    def leave(self, o: OnnxBuilder) -> dict[str, TensorType]:
        """Name the new contents; returns the types of these outputs."""
        found = {}
        for name, new in self.new.items():
            if new:
                value = self.updates[name]
                kind = found[new] = self.held(value.type)
                ref = o.refs[value]
                # A renamed result is the output itself: an Identity would copy a whole state.
                if ref.dtype != kind.dtype or not rename(o.nodes, str(ref), new):
                    leave(o, new, value, kind)
        return found


def enter(o: OnnxBuilder, name: str, kind: TensorType) -> Ref:
    """What is handed in, as it is inside."""
    ref = o.typed(name, kind)
    return ref if ref.dtype == kind.dtype else type(ref).of(str(o.cast(name, ref.dtype)), ref.type)


def leave(o: OnnxBuilder, name: str, value: Value, kind: TensorType) -> None:
    """Hand out a value as ``name``, in the type that it has outside."""
    ref, label = o.refs[value], f"output {name}"
    same = ref.dtype == kind.dtype
    o.origin[label] = value.node.name or value.node.op
    node = helper.make_node("Identity" if same else "Cast", [str(ref)], [name], name=label)
    if not same:
        target = helper.np_dtype_to_tensor_dtype(kind.dtype)
        node.attribute.append(helper.make_attribute("to", target))
    o.nodes.append(node)


def _reaching(graph: Graph) -> frozenset[Value]:
    """The fp16 results from which the states get their numbers."""
    found: set[Value] = set()
    seen: set[Value] = set()
    reached = [v for v in graph.updates.values() if v.type.dtype == np.float16]
    while reached:
        value = reached.pop()
        if value in seen or value.node.op in LEAVES:
            continue
        seen.add(value)
        if value.node.op not in MOVES:
            found.add(value)
            continue
        for name in MOVES[value.node.op]:
            operand = value.node.inputs.get(name, ())
            reached.extend(operand if isinstance(operand, tuple) else (operand,))
    return frozenset(found)
