from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.engine import Options
from coreml_lab.run.reference import ReferenceProgram
from coreml_lab.run.torch_fusion import attentions
from tests.support.small_graphs import F32, given

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch
HEADS, QUERIES, KEYS, WIDTH = 2, 3, 5, 4


def attention(*, transpose_y: bool = True, axis: int = -1) -> tuple[Node, Node, Node]:
    """The three operations, as a program holds them."""
    query, value = given("q", 1, HEADS, QUERIES, WIDTH), given("v", 1, HEADS, KEYS, WIDTH)
    key = given("k", 1, HEADS, *((KEYS, WIDTH) if transpose_y else (WIDTH, KEYS)))
    kind = (TensorType((1, HEADS, QUERIES, KEYS), F32),)
    operands = {"x": Value(query), "y": Value(key)}
    scores = Node("matmul", kind, operands, {"transpose_y": transpose_y}, name="scores")
    weights = Node("softmax", kind, {"x": Value(scores)}, {"axis": axis}, name="weights")
    mixed = Node("matmul", query.types, {"x": Value(weights), "y": Value(value)}, name="mixed")
    return scores, weights, mixed


def feeds(graph: Graph) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        k: random.standard_normal(n.type.sizes).astype(np.float32) for k, n in graph.inputs.items()
    }


@pytest.mark.parametrize("transpose_y", [True, False])
def test_attention_is_one_kernel_and_the_span_names_what_it_stands_for(transpose_y: bool) -> None:
    from coreml_lab.run.torch_program import PyTorchProgram

    graph = Graph({"y": Value(attention(transpose_y=transpose_y)[-1])})
    program, data = PyTorchProgram(graph, "cpu", Options(), torch), feeds(graph)
    wanted = ReferenceProgram(graph, "cpu").run(data)["y"]
    np.testing.assert_allclose(program.run(data)["y"], wanted, rtol=1e-5, atol=1e-6)
    (span,) = program.trace(data, 1)[0].spans
    assert (span.node, span.op, span.fused) == ("mixed", "matmul", ("scores", "weights"))


def test_attention_stays_in_parts_where_a_part_is_read_by_others() -> None:
    scores, weights, mixed = attention()
    for shown in (scores, weights):
        assert not attentions(Graph({"y": Value(mixed), "shown": Value(shown)}))
    assert attentions(Graph({"y": Value(mixed)}))


def test_a_softmax_over_queries_is_no_attention() -> None:
    assert not attentions(Graph({"y": Value(attention(axis=2)[-1])}))


def test_every_result_is_rounded_where_it_is_asked_for_so_nothing_is_fused() -> None:
    from coreml_lab.run.torch_program import PyTorchProgram

    graph = Graph({"y": Value(attention()[-1])})
    program = PyTorchProgram(graph, "cpu", Options(faithful=True), torch)
    assert [s.node.name for s in program._plan.steps] == ["scores", "weights", "mixed"]
