"""Other ways to run a program give the same; those that are surely faster are kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Dim, Graph, Node, TensorType, Value
from coreml_lab.run.engine import Options
from coreml_lab.run.reference import ReferenceProgram
from coreml_lab.run.steps import program as steps
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.step import Plan
from coreml_lab.run.steps.ways import Way, on_gpu
from tests.run.test_torch_fusion import HEADS, KEYS, QUERIES, WIDTH, attention, feeds
from tests.support.small_graphs import F32, given

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


def whole_attention(*, masked: bool, queries: Any = QUERIES) -> tuple[Graph, dict[str, Value]]:
    """Attention as one operation."""
    shapes = {"query": (queries, WIDTH), "key": (KEYS, WIDTH), "value": (KEYS, WIDTH)}
    shapes |= {"attn_mask": (queries, KEYS)} if masked else {}
    operands = {k: Value(given(k, 1, HEADS, *shape)) for k, shape in shapes.items()}
    kind = operands["query"].type
    mixed = Node("scaled_dot_product_attention", (kind,), operands, name="mixed")
    return Graph({"y": Value(mixed)}), operands


def ran(made: Any, data: dict[str, Any]) -> Any:
    """The only result of a plan."""
    given = {slot: torch.from_numpy(data[name]) for name, slot in made.inputs.items()}
    (place,) = made.outputs.values()
    return made.run(given)[place].numpy()


@pytest.mark.parametrize("transpose_y", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_attention_as_two_products_gives_the_same(transpose_y: bool, scale: float) -> None:
    scores, weights, mixed = attention(transpose_y=transpose_y)
    number = Value(Node("const", (TensorType((), F32),), attrs={"val": np.float32(scale)}))
    operands = {"x": Value(scores), "y": number}
    weights = replace(weights, inputs={"x": Value(Node("mul", scores.types, operands))})
    graph = Graph({"y": Value(replace(mixed, inputs={**mixed.inputs, "x": Value(weights)}))})
    data, made = feeds(graph), plan(graph, Space(torch), Way(products=True))
    assert on_gpu(graph, native=False, weights=0) == [{"products": True}]
    np.testing.assert_allclose(
        ran(made, data), ReferenceProgram(graph, "cpu").run(data)["y"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("masked", [False, True])
def test_attention_that_is_one_operation_may_be_products_without_a_mask(masked: bool) -> None:
    graph, operands = whole_attention(masked=masked)
    assert bool(on_gpu(graph, native=False, weights=0)) is not masked
    data, made = feeds(graph), plan(graph, Space(torch), Way(products=True))
    wanted = ReferenceProgram(graph, "cpu").run(data)["y"]
    np.testing.assert_allclose(ran(made, data), wanted, rtol=1e-5, atol=1e-6)
    assert set(operands) >= {"query", "key", "value"}


def test_attention_with_many_scores_or_an_unknown_number_stays_one_kernel() -> None:
    many, _ = whole_attention(masked=False, queries=1 << 20)
    unknown, _ = whole_attention(masked=False, queries=Dim("n"))
    for graph in (many, unknown):
        assert on_gpu(graph, native=False, weights=0) == []


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_may_add_by_a_kernel_of_its_own(bias: bool) -> None:
    w = np.random.default_rng(3).standard_normal((4, 8)).astype(np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        return cl.ops.linear(x, weight=w, bias=w[:, 0] if bias else None)

    model = cl.compile(net, x=cl.spec(3, 8), engine="reference")
    graph, data = model.program.graph, {"x": np.ones((3, 8), np.float32)}
    made = plan(graph, Space(torch), Way(sums=True))
    (wanted,) = model.predict(data).values()
    np.testing.assert_allclose(ran(made, data), wanted, rtol=1e-5, atol=1e-6)
    assert on_gpu(graph, native=False, weights=0) == [{"sums": True}]
    assert on_gpu(graph, native=True, weights=0) == []
    assert on_gpu(graph, native=False, weights=1 << 40) == []


@pytest.mark.parametrize(
    ("how", "product"),
    [
        ({"strides": [2, 3]}, True),
        ({"strides": [2, 3], "pad_type": "custom", "pad": [0, 0, 0, 0]}, True),
        ({"strides": [2, 3], "pad_type": "custom", "pad": [0, 0, 1, 0]}, False),
        ({"strides": [2, 3], "pad_type": "same"}, False),
        ({"strides": [2, 2]}, False),
        ({"strides": [2, 3], "dilations": [2, 1]}, False),
        ({"strides": [2, 3], "groups": 3}, False),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_whose_windows_lie_side_by_side_is_a_product(
    how: dict[str, Any], product: bool, bias: bool
) -> None:
    random = np.random.default_rng(5)
    w = random.standard_normal((6, 3 // how.get("groups", 1), 2, 3)).astype(np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        return cl.ops.conv(x=x, weight=w, bias=w[:, 0, 0, 0] if bias else None, **how)

    model = cl.compile(net, x=cl.spec(2, 3, 7, 11), engine="reference")
    graph, data = model.program.graph, {"x": random.standard_normal((2, 3, 7, 11), np.float32)}
    assert ({"patches": True} in on_gpu(graph, native=True, weights=0)) is product
    (wanted,) = model.predict(data).values()
    for innermost in (False, True):
        made = plan(graph, Space(torch), Way(patches=True, channels_last=innermost))
        np.testing.assert_allclose(ran(made, data), wanted, rtol=1e-4, atol=1e-5)


def layers(sizes: tuple[int, ...]) -> cl.Model:
    """Linear layers of one value, added up over what they have in common, and one of another."""
    random = np.random.default_rng(4)
    held = [random.standard_normal((size, 8)).astype(np.float32) for size in sizes]

    def net(x: cl.Tensor) -> cl.Tensor:
        same = cl.ops.relu(x)
        found = [
            cl.ops.linear(same, weight=w, bias=w[:, 0] if i % 2 else None)
            for i, w in enumerate(held)
        ]
        last = cl.ops.linear(x, weight=held[0])
        added = (cl.ops.reduce_sum(cl.ops.tanh(y), axes=[-1], keep_dims=True) for y in found)
        return sum(added, last)

    return cl.compile(net, x=cl.spec(3, 8), engine="reference")


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (4, 1, 2)])
def test_layers_of_one_value_are_one_product(sizes: tuple[int, ...], sums: bool) -> None:
    model, data = layers(sizes), {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)}
    graph, way = model.program.graph, Way(merged=True, sums=sums)
    assert {"merged": True} in on_gpu(graph, native=True, weights=0)
    assert on_gpu(graph, native=True, weights=1 << 40) == []
    made = plan(graph, Space(torch), way)
    (wanted,) = model.predict(data).values()
    np.testing.assert_allclose(ran(made, data), wanted, rtol=1e-5, atol=1e-6)
    linear = [s for s in made.steps if s.node.op == "linear"]
    assert sorted(len(s.fused) for s in linear) == [0, len(sizes) - 1]
    assert sorted(len(s.writes) for s in linear) == [1, len(sizes)]


def test_layers_with_compressed_weights_are_merged_wherever_those_stand() -> None:
    edit = cl.edit(layers((16, 16, 16)))
    packed = edit.apply("palettize_weights", nbits=2, mode="uniform", weight_threshold=0).model
    graph, data = packed.program.graph, {"x": np.ones((3, 8), np.float32)}
    made = plan(graph, Space(torch), Way(merged=True))
    assert any(n.op.startswith("constexpr") for n in graph.ops)
    assert max(len(s.fused) for s in made.steps) == 2
    (wanted,) = packed.predict(data).values()
    np.testing.assert_allclose(ran(made, data), wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_whose_result_is_handed_out_stays_alone() -> None:
    w = np.ones((4, 8), np.float32)

    def net(x: cl.Tensor) -> tuple[cl.Tensor, ...]:
        return cl.ops.linear(x, weight=w), cl.ops.linear(x, weight=2 * w)

    graph = cl.compile(net, x=cl.spec(3, 8), engine="reference").program.graph
    assert {"merged": True} not in on_gpu(graph, native=False, weights=0)


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ({"": 100, "products": 80, "products sums": 70, "sums": 1}, Way(products=True, sums=True)),
        ({"": 100, "products": 99.5, "sums": 90}, Way(sums=True)),  # half a percent may be chance
        ({"": 100, "products": 120, "sums": 110}, Way()),
        ({"": 100, "products": None, "sums": 90}, Way(sums=True)),  # it cannot be captured
    ],
)
def test_each_way_that_is_surely_faster_is_kept_and_the_next_is_tried_on_top_of_it(
    monkeypatch: pytest.MonkeyPatch, times: dict[str, float | None], wanted: Way
) -> None:
    def recorded(plan: Plan, *_: Any, beside: bool) -> Any:
        took = times[" ".join(k for k, on in vars(plan.way).items() if on)]
        if took is None:
            raise RuntimeError("no memory left")
        found = SimpleNamespace(plan=plan, time=lambda: took, small=False, beside=beside)
        found.ways = (found,)
        return found

    monkeypatch.setattr(steps, "capture", recorded)
    monkeypatch.setattr(steps, "agree", lambda *_: True)
    program = steps.PyTorchProgram(Graph({"y": Value(given("x", 3))}), "cpu", Options(), torch)
    program._variants = [{"products": True}, {"sums": True}]
    found = program._captured({"x": (3,)}, {"x": np.zeros(3, np.float32)})
    assert found is not None
    assert found.plan.way == program._plan.way == wanted
    assert program._variants == []
