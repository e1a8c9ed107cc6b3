"""Operations that are one kernel of PyTorch's: attention, and convolutions cut at zero."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.engine import Options
from coreml_lab.run.reference import ReferenceProgram
from coreml_lab.run.steps.fusion import FEW, attentions, rectified
from coreml_lab.run.steps.graphs import agree
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.ways import Way
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
    from coreml_lab.run.steps.program import PyTorchProgram

    graph = Graph({"y": Value(attention(transpose_y=transpose_y)[-1])})
    program, data = PyTorchProgram(graph, "cpu", Options(), torch), feeds(graph)
    wanted = ReferenceProgram(graph, "cpu").run(data)["y"]
    np.testing.assert_allclose(program.run(data)["y"], wanted, rtol=1e-5, atol=1e-6)
    (span,) = program.trace(data, 1)[0].spans
    assert (span.node, span.op, span.fused) == ("mixed", "matmul", ("scores", "weights"))


@pytest.mark.parametrize("place", ["query", "key", "scores"])
def test_a_number_that_attention_is_scaled_by_is_part_of_the_kernel(place: str) -> None:
    from coreml_lab.run.steps.program import PyTorchProgram

    third = Value(Node("const", (TensorType((), F32),), attrs={"val": np.float32(1 / 3)}))

    def scaled(value: Value) -> Value:
        return Value(Node("mul", (value.type,), {"x": value, "y": third}, name="scaled"))

    scores, weights, mixed = attention()
    at = {"query": "x", "key": "y"}.get(place)
    if at is not None:
        scores = replace(scores, inputs={**scores.inputs, at: scaled(scores.inputs[at])})
    raw = Value(scores)
    weights = replace(weights, inputs={"x": raw if at else scaled(raw)})
    graph = Graph({"y": Value(replace(mixed, inputs={**mixed.inputs, "x": Value(weights)}))})
    program, data = PyTorchProgram(graph, "cpu", Options(), torch), feeds(graph)
    wanted = ReferenceProgram(graph, "cpu").run(data)["y"]
    np.testing.assert_allclose(program.run(data)["y"], wanted, rtol=1e-5, atol=1e-6)
    assert [s.node.name for s in program._plan.steps] == ["mixed"]
    (span,) = program.trace(data, 1)[0].spans
    assert set(span.fused) == {"scaled", "scores", "weights"}


def test_core_mls_own_order_of_scaling_and_turning_is_one_kernel() -> None:
    w = np.eye(8, dtype=np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        parts = [cl.ops.linear(x, weight=w * i, bias=None) for i in (1, 2, 3)]
        turned = [
            cl.ops.transpose(cl.ops.reshape(p, shape=[1, 5, 2, 4]), perm=[0, 2, 1, 3])
            for p in parts
        ]
        scores = cl.ops.matmul(turned[0] * np.float32(0.5), turned[1], transpose_y=True)
        mixed = cl.ops.matmul(cl.ops.softmax(scores), turned[2])
        return cl.ops.reshape(cl.ops.transpose(mixed, perm=[0, 2, 1, 3]), shape=[1, 5, 8])

    model = cl.compile(net, x=cl.spec(1, 5, 8), engine="pytorch", device="cpu")
    data = np.random.default_rng(2).standard_normal((1, 5, 8)).astype(np.float32)
    (whole,) = attentions(model.program.graph).values()
    assert whole.scale == 0.5
    wanted = cl.load(model.program.package, engine="reference").predict({"x": data})
    for name, array in model.predict({"x": data}).items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-6)


def test_attention_stays_in_parts_where_a_part_is_read_by_others() -> None:
    scores, weights, mixed = attention()
    for shown in (scores, weights):
        assert not attentions(Graph({"y": Value(mixed), "shown": Value(shown)}))
    assert attentions(Graph({"y": Value(mixed)}))


def test_a_softmax_over_queries_is_no_attention() -> None:
    assert not attentions(Graph({"y": Value(attention(axis=2)[-1])}))


@pytest.mark.parametrize("axis", [2, -2])
def test_a_softmax_over_queries_is_none_where_values_have_fewer_dimensions(axis: int) -> None:
    query, key = given("q", HEADS, HEADS, QUERIES, WIDTH), given("k", HEADS, HEADS, KEYS, WIDTH)
    value = given("v", HEADS, KEYS, WIDTH)
    kind = (TensorType((HEADS, HEADS, QUERIES, KEYS), F32),)
    operands = {"x": Value(query), "y": Value(key)}
    scores = Node("matmul", kind, operands, {"transpose_y": True}, name="scores")
    weights = Node("softmax", kind, {"x": Value(scores)}, {"axis": axis}, name="weights")
    mixed = Node("matmul", query.types, {"x": Value(weights), "y": Value(value)}, name="mixed")
    assert not attentions(Graph({"y": Value(mixed)}))


@pytest.mark.parametrize("keys", [1, KEYS, FEW - 1, FEW, 197, 513])
@pytest.mark.parametrize("place", ["q", "k", "v"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("written_out", [False, True])
def test_nan_comes_out_of_attention(keys: int, place: str, wrong: float, written_out: bool) -> None:
    def network(q: cl.Tensor, k: cl.Tensor, v: cl.Tensor) -> Any:
        if not written_out:
            return cl.ops.scaled_dot_product_attention(query=q, key=k, value=v)
        scores = cl.ops.matmul(q, k, transpose_y=True) * np.float32(0.5)
        return cl.ops.matmul(cl.ops.softmax(scores, axis=-1), v)

    shapes = {"q": (2, QUERIES, WIDTH), "k": (2, keys, WIDTH), "v": (2, keys, WIDTH)}
    random = np.random.default_rng(0)
    data = {k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    data[place][0, 0, 0] = data[place][1, -1, 0] = wrong
    specs = {k: cl.spec(*s) for k, s in shapes.items()}
    ours, wanted = (
        next(iter(cl.compile(network, **specs, engine=e, device="cpu").predict(data).values()))
        for e in ("pytorch", "reference")
    )
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_every_result_is_rounded_where_it_is_asked_for_so_nothing_is_fused() -> None:
    from coreml_lab.run.steps.program import PyTorchProgram

    graph = Graph({"y": Value(attention()[-1])})
    program = PyTorchProgram(graph, "cpu", Options(faithful=True), torch)
    assert [s.node.name for s in program._plan.steps] == ["scores", "weights", "mixed"]


def convolution(*, added: bool, uneven: bool = False, other: bool = False) -> tuple[Node, Node]:
    """relu(conv(x) [+ more]): the convolution and the relu."""
    random = np.random.default_rng(1)
    weight, bias = (random.standard_normal(s).astype(np.float32) for s in ((4, 2, 3, 3), (4,)))

    def const(array: Any) -> Value:
        return Value(Node("const", (TensorType(array.shape, F32),), attrs={"val": array}))

    pad = [1, 0, 0, 1] if uneven else [1, 1, 1, 1]
    sizes = (1, 4, 5, 5) if uneven else (1, 4, 6, 6)
    kind = (TensorType(sizes, F32),)
    operands = {"x": Value(given("x", 1, 2, 6, 6)), "weight": const(weight), "bias": const(bias)}
    how = {"pad_type": "custom", "pad": pad, "strides": [1, 1], "dilations": [1, 1], "groups": 1}
    conv = Node("conv", kind, operands, how, name="conv")
    more = given("more", *sizes)
    total = Node("add", kind, {"x": Value(more), "y": Value(conv)}, name="total")
    return conv, Node("relu", kind, {"x": Value(total if added else conv)}, name="cut")


class CudnnSpace(Space):
    """cuDNN's fused kernels, played by three operations each."""

    def cudnn_convolution_relu(self, x: Any, w: Any, b: Any, *how: Any) -> Any:
        return torch.relu(torch.nn.functional.conv2d(x, w, b, *how))

    def cudnn_convolution_add_relu(self, x: Any, w: Any, z: Any, alpha: Any, b: Any, *how: Any):
        return torch.relu(torch.nn.functional.conv2d(x, w, b, *how) + alpha * z)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
def test_a_convolution_and_the_relu_behind_it_are_one_kernel(added: bool, uneven: bool) -> None:
    graph = Graph({"y": Value(convolution(added=added, uneven=uneven)[1])})
    data, program = feeds(graph), plan(graph, CudnnSpace(torch), Way(rectify=True))
    slots = program.run({program.inputs[k]: torch.from_numpy(v) for k, v in data.items()})
    wanted = ReferenceProgram(graph, "cpu").run(data)["y"]
    np.testing.assert_allclose(slots[program.outputs["y"]], wanted, rtol=1e-4, atol=1e-5)
    (step,) = program.steps
    assert step.fused == (("conv", "total") if added else ("conv",))


def test_a_convolution_that_others_read_keeps_its_relu_apart() -> None:
    conv, cut = convolution(added=False)
    assert not rectified(Graph({"y": Value(cut), "shown": Value(conv)}))
    assert set(rectified(Graph({"y": Value(cut)}))) == {cut}


def test_ways_to_run_a_program_must_agree() -> None:
    def way(value: float) -> Any:
        found = {"y": np.full(3, value, np.float32), "i": np.arange(2)}
        space = SimpleNamespace(native=False)
        return SimpleNamespace(plan=SimpleNamespace(space=space), run=lambda *_: dict(found))

    assert agree(way(1.0), way(1.00001), {})
    assert not agree(way(1.0), way(1.01), {})
    assert not agree(way(1.0), way(float("nan")), {})
    assert agree(way(float("nan")), way(float("nan")), {})
