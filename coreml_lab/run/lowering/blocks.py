"""Control flow in ONNX: ``cond`` becomes If, ``while_loop`` becomes Loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_lab.program.graph import Block, Node, TensorType, Value

if TYPE_CHECKING:
    from coreml_lab.run.lowering.graph import OnnxBuilder, Ref

    Made = dict[Value, Ref]
    LowerNode = Callable[[OnnxBuilder, Node, Made], None]


def lower(o: OnnxBuilder, node: Node, made: Made, lower_node: LowerNode) -> None:
    """Add an operation with blocks; ``lower_node`` adds what is inside them."""
    outer, o.node = o.owner, node
    o.owner = outer or node.name

    def run(block: Block, given: list[Ref]) -> list[Ref]:
        made.update({Value(n): ref for n, ref in zip(block.inputs, given, strict=True)})
        for inner in block.nodes:
            lower_node(o, inner, made)
        o.node = node
        return [made[v] for v in block.outputs]

    results = _cond(o, node, made, run) if node.op == "cond" else _loop(o, node, made, run)
    for i, (name, kind) in enumerate(zip(results, node.types, strict=True)):
        made[Value(node, i)] = o.typed(name, kind)
    o.owner = outer


Run = Callable[[Block, "list[Ref]"], "list[Ref]"]


def _cond(o: OnnxBuilder, node: Node, made: Made, run: Run) -> tuple[str, ...]:
    dtypes = [kind.dtype for kind in node.types]
    then, other = (o.graph([], lambda b=b: run(b, []), dtypes) for b in node.blocks)  # type: ignore[misc]
    pred = node.inputs["pred"]
    assert isinstance(pred, Value)  # noqa: S101 - MIL's own type rule
    return _several(
        o.add(
            "If",
            (_flag(o, made[pred]),),
            len(node.types),
            {"then_branch": then, "else_branch": other},
        )
    )


def _loop(o: OnnxBuilder, node: Node, made: Made, run: Run) -> tuple[str, ...]:
    """ONNX decides at the end of a round, so the deciding block stands before and inside."""
    going_on, body = node.blocks
    values = node.inputs["loop_vars"]
    assert isinstance(values, tuple)  # noqa: S101 - MIL's own type rule
    first = [made[v] for v in values]
    start = _flag(o, run(going_on, first)[0])
    count = o.unique(TensorType((), np.dtype(np.int64)))
    flag = o.unique(TensorType((), np.dtype(np.bool_)))
    carried = [o.unique(n.type) for n in body.inputs]

    def once() -> list[Ref]:
        o.rounds.append(count)
        after = run(body, carried)
        further = _flag(o, run(going_on, after)[0])
        o.rounds.pop()
        return [further, *after]

    dtypes = [np.dtype(np.bool_), *(kind.dtype for kind in node.types)]
    inner = o.graph([count, flag, *carried], once, dtypes)
    return _several(o.add("Loop", (None, start, *first), len(first), {"body": inner}))


def _flag(o: OnnxBuilder, ref: Ref) -> Any:
    """ONNX wants a truth value without dimensions; MIL's may have one."""
    return o.Reshape(ref, o.ints(np.zeros(0, np.int64)))


def _several(result: Any) -> tuple[str, ...]:
    return result if isinstance(result, tuple) else (result,)
