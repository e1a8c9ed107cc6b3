"""Programs on PyTorch's CPU: results, states, memory, errors, and the ways to run them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.config import configure
from coreml_lab.errors import (
    DeviceLost,
    EngineError,
    EngineUnavailable,
    OutOfMemory,
    UnsupportedOp,
)
from coreml_lab.program.graph import Dim, Graph, Node, TensorType, Value
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.engine import Availability, Options
from coreml_lab.run.pytorch import PyTorchEngine, torch_module
from coreml_lab.run.steps import devices as torch_devices
from coreml_lab.run.steps import trial
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.program import PyTorchProgram
from coreml_lab.run.steps.space import Space
from tests.support.small_graphs import F32, X, given

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


def on_torch(function: Any, **specs: Any) -> Any:
    return cl.compile(function, device="cpu", engine="pytorch", **specs)


def loaded(model: Any) -> PyTorchProgram:
    found = model._executor._loaded
    assert isinstance(found, PyTorchProgram)
    return found


# -- results ---------------------------------------------------------------------------------------


def test_results_share_no_memory_with_inputs_constants_or_one_another() -> None:
    x = given("x", 2, 3)
    kept = Value(Node("const", (TensorType((2,), F32),), attrs={"val": np.ones(2, np.float32)}))
    flat = Node("reshape", (TensorType((6,), F32),), {"x": Value(x)}, {"shape": [6]}, name="flat")
    graph = Graph({"same": Value(x), "flat": Value(flat), "again": Value(flat), "const": kept})
    program = PyTorchProgram(graph, "cpu", Options(), torch)
    data = X.copy()
    first = program.run({"x": data})
    for array in first.values():
        array[...] = -1
    np.testing.assert_array_equal(data, X)
    second = program.run({"x": data})
    np.testing.assert_array_equal(second["flat"], X.reshape(6))
    np.testing.assert_array_equal(second["again"], X.reshape(6))
    np.testing.assert_array_equal(second["const"], [1, 1])


def test_inputs_may_be_read_only_reversed_or_of_no_elements() -> None:
    n = Dim("n", 0, 8)
    model = on_torch(lambda x: {"y": x * 2.0}, x=cl.spec(n, 3))
    fixed = np.broadcast_to(np.float32(3), (4, 3))
    np.testing.assert_array_equal(model.predict({"x": fixed})["y"], np.full((4, 3), 6))
    np.testing.assert_array_equal(model.predict({"x": X[::-1, ::-1]})["y"], X[::-1, ::-1] * 2)
    assert model.predict({"x": np.zeros((0, 3), np.float32)})["y"].shape == (0, 3)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "int32", "int16", "uint16", "int8", "bool"]
)
def test_the_border_keeps_the_declared_types(dtype: str) -> None:
    x = given("x", 3, dtype=dtype)
    same = Node("identity", x.types, {"x": Value(x)}, name="same")
    data = np.array([0, 1, 1], dtype)
    found = PyTorchProgram(Graph({"y": Value(same)}), "cpu", Options(), torch).run({"x": data})
    assert found["y"].dtype == dtype
    np.testing.assert_array_equal(found["y"], data)


def test_faithful_overflows_where_fp16_does_and_widened_does_not() -> None:
    def f(x: Any) -> Any:
        return {"y": x * 60000.0 * 0.5}

    for precision, wanted in (("fp16", 60000.0), ("faithful", np.inf)):
        model = cl.compile(f, x=cl.spec(1), precision=precision, engine="pytorch", device="cpu")
        assert model.predict({"x": np.array([2], np.float32)})["y"][0] == pytest.approx(wanted)


def test_arithmetic_on_shapes_stays_with_numpy() -> None:
    n, ints = Dim("n", 1, 16), np.dtype(np.int32)
    x = Node("input", (TensorType((n, 3), F32),), name="x")

    def one(name: str, **inputs: Any) -> Node:
        return Node(name, (TensorType((2,), ints),), inputs, name=name)

    by = Value(Node("const", (TensorType((2,), ints),), attrs={"val": np.int32([1, 3])}))
    split = one("floor_div", x=Value(one("mul", x=Value(one("shape", x=Value(x))), y=by)), y=by)
    turned = one("reverse", x=Value(split))
    kind = (TensorType((3, n), F32),)
    y = Node("reshape", kind, {"x": Value(x), "shape": Value(turned)}, name="y")
    program = PyTorchProgram(Graph({"y": Value(y)}), "cpu", Options(), torch)
    for size in (2, 5):
        data = np.arange(3 * size, dtype=np.float32).reshape(size, 3)
        assert program.run({"x": data})["y"].tolist() == data.reshape(3, size).tolist()
    hosted = [s.node.op for s in program._plan.steps if "host" in s.run.__qualname__]
    assert hosted == ["shape", "mul", "floor_div", "reverse"]


def test_a_value_leaves_memory_after_its_last_reader() -> None:
    x = given("x", 4)
    kind = x.types
    nodes = [Node("relu", kind, {"x": Value(x)}, name="n0")]
    for i in range(1, 6):
        nodes.append(Node("square", kind, {"x": Value(nodes[-1])}, name=f"n{i}"))
    program = plan(Graph({"y": Value(nodes[-1])}), Space(torch))
    alive: list[Any] = []

    def each(step: Any, slots: Any) -> None:
        step.run(slots)
        alive.append(sum(s is not None for s in slots))

    program.run({program.inputs["x"]: torch.ones(4)}, each)
    assert max(alive) <= 2


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_an_error_that_names_the_op(index: int) -> None:
    operands = {"x": Value(given("x", 3)), "indices": Value(given("i", 1, dtype=np.int32))}
    f = Graph({"y": Value(Node("gather", (TensorType((1,), F32),), operands, name="picked"))})
    program = PyTorchProgram(f, "cpu", Options(), torch)
    at = np.array([index], np.int32)
    with pytest.raises(EngineError, match=r"gather.*at picked.*outside of 3"):
        program.run({"x": X[0], "i": at})
    at[0] = -3
    assert program.run({"x": X[0], "i": at})["y"][0] == X[0, 0]


def test_memory_that_runs_out_is_told_apart_for_real() -> None:
    n, m = Dim("n", 1, 1 << 25), Dim("m", 1, 1 << 25)
    model = on_torch(lambda x, y: {"z": x + y}, x=cl.spec(n, 1), y=cl.spec(1, m))
    column = np.broadcast_to(np.float32(0), (10_000_000, 1))
    with pytest.raises(OutOfMemory, match="PyTorch ran out of memory"):
        model.predict({"x": column, "y": column.T})


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    n = Dim("n", 1, 64)
    configure(recover=True)
    model = on_torch(lambda x: {"y": x * 2.0}, x=cl.spec(n, 2))
    program = loaded(model)
    whole = program._plan.run

    def small(given: Any, each: Any = None) -> Any:
        if max(t.shape[0] for t in given.values()) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")
        return whole(given, each)

    monkeypatch.setattr(program._plan, "run", small)
    data = np.arange(32, dtype=np.float32).reshape(16, 2)
    before = ACTIVITY.incident_total
    np.testing.assert_array_equal(model.predict({"x": data})["y"], data * 2)
    assert ACTIVITY.incident_total == before + 1
    assert ACTIVITY.incidents[-1].action == "SplitBatch"


def test_a_fault_of_the_device_says_that_the_kernel_must_be_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = on_torch(lambda x: {"y": x * 2.0}, x=cl.spec(2, 3))

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(loaded(model)._plan, "run", broken)
    with pytest.raises(DeviceLost, match="illegal memory access") as caught:
        model.predict({"x": X})
    assert "restart the kernel" in caught.value.hint


def test_an_op_without_a_torch_lowering_is_refused_by_name() -> None:
    x = given("x", 2)
    odd = Node("no_such_op", x.types, {"x": Value(x)}, name="odd")
    with pytest.raises(UnsupportedOp, match=r"no_such_op.*at odd"):
        plan(Graph({"y": Value(odd)}), Space(torch))


def test_without_pytorch_the_reason_and_the_command_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineUnavailable) as caught:
        torch_module()
    assert "coreml-lab[torch]" in caught.value.hint


def test_the_cpu_falls_to_numpy_where_pytorch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Any) -> Availability:
        return Availability(False, "PyTorch is not installed")

    monkeypatch.setattr(PyTorchEngine, "available", missing)
    model = cl.compile(lambda x: {"y": x * 2.0}, x=cl.spec(2, 3), device="cpu")
    assert model.plan.engine == "reference"
    assert torch_devices.cuda()[0].reason == "PyTorch is not installed"
    assert next(d for d in cl.devices() if d.name == "cpu").engines == ("reference",)


def test_a_run_that_fails_leaves_the_state_as_it_was() -> None:
    x, total, at = given("x", 3), given("total", 3), given("at", 1, dtype=np.int32)
    total = Node("state", total.types, name="total")
    new = Node("add", x.types, {"x": Value(total), "y": Value(x)}, name="new")
    one = (TensorType((1,), F32),)
    picked = Node("gather", one, {"x": Value(new), "indices": Value(at)}, name="picked")
    graph = Graph({"y": Value(picked)}, states={"total": total}, updates={"total": Value(new)})
    program = PyTorchProgram(graph, "cpu", Options(), torch)
    state = program.make_state()
    data = {"x": X[0], "at": np.array([1], np.int32)}
    program.run(data, state)
    with pytest.raises(EngineError, match="gather"):
        program.run({**data, "at": np.array([9], np.int32)}, state)
    np.testing.assert_array_equal(state.read("total"), X[0])


def test_a_state_does_not_follow_the_array_it_was_made_of() -> None:
    x = given("x", 3)
    total = Node("state", x.types, name="total")
    graph = Graph({"y": Value(x)}, states={"total": total}, updates={"total": Value(x)})
    program = PyTorchProgram(graph, "cpu", Options(), torch)
    state, data = program.make_state(), X[0].copy()
    result = program.run({"x": data}, state)["y"]
    data[...] = 7
    result[...] = 8
    np.testing.assert_array_equal(state.read("total"), X[0])


def test_recovery_from_a_device_that_keeps_failing_ends_in_the_reference_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = on_torch(lambda x: {"y": x * 2.0}, x=cl.spec(2, 3))

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(loaded(model)._plan, "run", broken)
    with pytest.raises(DeviceLost, match="launch failure"):
        model.predict({"x": X})  # asked for by name: there is no other engine
    configure(recover=True)
    auto = cl.compile(lambda x: {"y": x * 2.0}, x=cl.spec(2, 3), device="cpu")
    monkeypatch.setattr(loaded(auto)._plan, "run", broken)
    np.testing.assert_array_equal(auto.predict({"x": X})["y"], X * 2)


@pytest.mark.parametrize(("clearly", "innermost"), [(np.inf, True), (0.0, False)])
def test_the_second_run_on_the_cpu_tries_channels_innermost_and_keeps_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, clearly: float, innermost: bool
) -> None:
    monkeypatch.setattr(trial, "CLEARLY", clearly)
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)

    def net(x: Any) -> Any:
        return cl.ops.conv(x=cl.ops.conv(x=x, weight=w), weight=w[:, :1], groups=4)

    model, spec = on_torch(net, x=cl.spec(2, 3, 8, 8)), cl.spec(2, 3, 8, 8)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = [model.predict({"x": x})["output"] for _ in range(3)]
    wanted = cl.compile(net, x=spec, engine="reference").predict({"x": x})["output"]
    for result in found:
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)
        assert result.flags.c_contiguous
    assert loaded(model).space.channels_last is innermost
