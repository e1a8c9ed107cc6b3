"""The graph: order, identity, names."""

from __future__ import annotations

import numpy as np
import pytest

from coreml_lab.program.graph import Dim, Graph, Node, TensorType, Value, listing, signature

FLOAT = TensorType((2, 3), np.dtype(np.float32))


def node(op: str, *operands: Node, **attrs: object) -> Node:
    inputs = dict(zip("xy", (Value(o) for o in operands), strict=False))
    return Node(op, (FLOAT,), inputs, attrs)


def entry(name: str = "x") -> Node:
    return Node("input", (FLOAT,), name=name)


def test_iterating_gives_execution_order_each_node_once() -> None:
    x = entry()
    a = node("relu", x)
    b = node("add", a, a)
    assert list(Graph({"out": Value(b)})) == [x, a, b]


def test_a_very_deep_graph_is_no_problem() -> None:
    last = entry()
    for _ in range(20_000):
        last = node("relu", last)
    graph = Graph({"out": Value(last)})
    assert len(graph.ops) == 20_000
    assert len(graph.key()) == 32


def test_equal_programs_have_equal_keys_and_different_ones_do_not() -> None:
    def program(op: str, alpha: float) -> str:
        return Graph({"out": Value(node(op, entry(), alpha=alpha))}).key()

    assert program("elu", 1.0) == program("elu", 1.0)
    assert len({program("elu", 1.0), program("elu", 2.0), program("leaky_relu", 1.0)}) == 3


def test_the_key_tells_operand_order_and_constants_apart() -> None:
    x, y = entry("x"), entry("y")
    swapped = {Graph({"o": Value(node("sub", *p))}).key() for p in ((x, y), (y, x))}
    assert len(swapped) == 2

    def const(values: list[float]) -> Node:
        return Node("const", (FLOAT,), attrs={"val": np.array(values, np.float32)})

    keys = {Graph({"o": Value(node("add", x, const(v)))}).key() for v in ([1, 2], [2, 1])}
    assert len(keys) == 2


def test_the_interface_keeps_inputs_that_nothing_reads() -> None:
    x, unused = entry("x"), entry("unused")
    graph = Graph({"o": Value(node("relu", x))}, {"unused": unused, "x": x})
    assert list(graph.inputs) == ["unused", "x"]


def test_messages_and_listings_use_mils_names() -> None:
    relu = Node("relu", (FLOAT,), {"x": Value(entry())}, name="r")
    assert signature(relu) == "relu(x: fp32[2,3])"
    text = listing(Graph({"out": Value(relu)}))
    assert "r = relu(x: fp32[2,3]) -> fp32[2,3]" in text
    assert text.startswith("input x: fp32[2,3]")


def test_repr_of_a_deep_shared_graph_is_one_short_line() -> None:
    last = entry()
    for _ in range(64):
        last = node("add", last, last)
    assert len(repr(last)) < 200
    assert len(repr(Graph({"o": Value(last)}))) < 200


def test_flexible_types_refuse_to_give_sizes() -> None:
    flexible = TensorType((Dim("n", 1, 8), 3), np.dtype(np.float16))
    assert not flexible.static
    assert str(flexible) == "fp16[n,3]"
    with pytest.raises(ValueError, match="flexible"):
        _ = flexible.sizes


def test_key_depends_on_the_bounds_of_a_flexible_input() -> None:
    def key(high: int) -> str:
        kind = TensorType((Dim("n", 1, high), 8), np.dtype(np.float32))
        x = Value(Node("input", (kind,), name="x"))
        return Graph({"o": Value(Node("relu", (kind,), {"x": x}))}).key()

    assert key(20) == key(20) != key(64)
