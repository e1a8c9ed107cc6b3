"""What runs on a GPU only, through doubles: spans, captured graphs, states, pinned memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.engine import Options
from coreml_lab.run.steps import pinned
from coreml_lab.run.steps import program as steps
from coreml_lab.run.steps.border import Types, queued
from coreml_lab.run.steps.graphs import Captured, capture, quickest
from coreml_lab.run.steps.pinned import Border
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.space import Space, exact
from coreml_lab.run.steps.state import TorchState
from coreml_lab.run.steps.trace import FROM_DEVICE, TO_DEVICE, _OnCuda
from tests.support.small_graphs import X, given

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


def test_single_precision_is_exact_while_kernels_are_queued_and_as_before_afterwards() -> None:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, conv.allow_tf32, conv.benchmark)
    with exact(torch):
        assert matmul.allow_tf32 is False
        assert conv.conv.fp32_precision == "ieee"
        assert conv.benchmark
    assert (matmul.allow_tf32, conv.allow_tf32, conv.benchmark) == before


class FakeCuda:
    """Events that happen a millisecond apart, and streams without work."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0
        self.told: list[str] = []

    @contextmanager
    def graph(self, *_: Any, **__: Any) -> Iterator[None]:
        self.told.append("capture begins")
        yield
        self.told.append("capture ends")

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's name
        assert enable_timing
        event = SimpleNamespace(at=None)

        def record() -> None:
            self.now += 1.0
            event.at = self.now

        event.record = record
        event.elapsed_time = lambda other: other.at - event.at
        return event

    def _sleep(self, cycles: int) -> None:
        self.slept += cycles

    def synchronize(self, _: Any) -> None:
        pass

    def current_stream(self, _: Any = None) -> Any:
        return SimpleNamespace(synchronize=lambda: None, wait_stream=lambda _: None)

    Stream = current_stream
    CUDAGraph = SimpleNamespace
    stream = staticmethod(lambda *_, **__: nullcontext())
    get_sync_debug_mode = staticmethod(int)
    set_sync_debug_mode = staticmethod(lambda _: None)


class CudaTorch:
    """PyTorch on the CPU whose ``cuda`` is a double."""

    def __init__(self) -> None:
        self.cuda = FakeCuda()
        clear = partial(self.cuda.told.append, "workspaces cleared")
        self._C = SimpleNamespace(_cuda_clearCublasWorkspaces=clear)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *shape: Any, pin_memory: bool = False, **how: Any) -> Any:
        """Memory that is not pinned, which takes a driver."""
        assert pin_memory in {True, False}
        return torch.empty(*shape, **how)


def summing() -> tuple[Graph, Types]:
    x = given("x", 3)
    total = Node("state", x.types, name="total")
    new = Node("add", x.types, {"x": Value(total), "y": Value(x)}, name="new")
    graph = Graph({"y": Value(new)}, states={"total": total}, updates={"total": Value(new)})
    kinds = {"x": x.type}
    return graph, Types(kinds, {"total": x.type}, {"y": x.type})


def test_spans_on_cuda_are_the_devices_time_and_copies_are_spans() -> None:
    graph, types = summing()
    program = plan(graph, Space(CudaTorch()))
    program.space.device = SimpleNamespace(type="cuda")
    program.space.moved = torch.from_numpy  # type: ignore[method-assign]
    program.space.zeros = lambda shape, _: torch.zeros(shape)  # type: ignore[method-assign]
    run = _OnCuda(program, types, "cuda:0").run({"x": X[0]}, 0)
    assert [s.op for s in run.spans] == [TO_DEVICE, "add", FROM_DEVICE]
    assert [s.duration_ns for s in run.spans] == [1_000_000] * 3
    assert [s.bytes for s in run.spans] == [12, 36, 12]
    assert run.spans[0].start_ns == run.start_ns
    # Six marks a millisecond apart and one after the sleep, which counts for nothing.
    assert [s.start_ns - run.start_ns for s in run.spans] == [0, 2_000_000, 4_000_000]
    assert run.duration_ns == 5_000_000
    assert program.space.torch.cuda.slept > 0


def captured(*, beside: bool = False) -> Captured:
    """A graph whose replay runs the plan on its own tensors, as a captured one does."""
    graph, types = summing()
    program = plan(graph, Space(CudaTorch()))
    inside, total, y = torch.zeros(3), torch.zeros(3), torch.zeros(3)

    x, result = (Border.between(torch, t, torch.zeros(3)) for t in (inside, y))

    def replay() -> None:
        if not beside:
            x.fill()
        made = queued(program, {"x": inside}, {"total": total}, types)
        y.copy_(made.outputs["y"])
        if not beside:
            result.fetch()

    return Captured(
        graph=SimpleNamespace(replay=replay),
        plan=program,
        types=types,
        inputs={"x": x},
        states={"total": total},
        outputs={"y": result},
        updates={"total": y},
        bounds=None,
        suspects=(),
        asked=(),
        beside=beside,
    )


def test_copies_beside_a_graph_of_kernels_only_give_what_those_within_it_give() -> None:
    within, beside = captured(), captured(beside=True)
    assert within.small
    assert beside.small
    for array in (X[0] + 1, X[0] * 3):
        wanted = within.run({"x": array}, None)["y"]
        np.testing.assert_array_equal(beside.run({"x": array}, None)["y"], wanted)
    low_and_high = torch.tensor([0, 3])
    beside.bounds = Border.between(torch, low_and_high, torch.zeros(2, dtype=torch.long))
    beside.suspects = ((Node("gather", (), name="picked"), 3),)
    with pytest.raises(IndexError, match="gather picked"):
        beside.run({"x": X[0]}, None)


@pytest.mark.parametrize("slow", ["first", "second"])
def test_the_quickest_of_some_graphs_is_kept_and_a_state_sees_nothing_of_the_trial(
    slow: str,
) -> None:
    clock = FakeClock()
    ways = {"first": captured(beside=True), "second": captured()}
    plain = ways[slow].graph.replay

    def slowly() -> None:
        clock.sleep(0.1)
        plain()

    ways[slow].graph.replay = slowly
    kept = quickest(tuple(ways.values()), {"x": X[0] + 1}, clock)
    assert kept is not ways[slow]
    assert len(clock.slept) == 5  # the trial's time was up after two
    fresh = TorchState(kept.types.states, kept.plan.space)
    np.testing.assert_array_equal(kept.run({"x": X[0] + 1}, fresh)["y"], [1, 2, 3])


def test_a_large_input_may_come_through_other_memory_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pinned, "LARGE", 8)
    found = []
    for which in (0, 1):
        program = captured(beside=True)
        program.inputs = {k: b.cut() for k, b in program.inputs.items()}
        way = program.ways[which]
        assert way.through is bool(which)
        found.append([way.run({"x": x}, None)["y"].tolist() for x in (X[0] + 1, X[0] * 3)])
    assert found[0] == found[1]
    assert quickest(program.ways[:1], {}) is program


@pytest.mark.parametrize(("beside", "copies"), [(False, ["fill", "fill", "fetch"]), (True, [])])
def test_a_graph_has_copies_of_small_arrays_unless_they_are_beside_it(
    monkeypatch: pytest.MonkeyPatch, beside: bool, copies: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Border, "fill", lambda _: seen.append("fill"))
    monkeypatch.setattr(Border, "fetch", lambda _: seen.append("fetch"))
    graph, types = picking("input")
    program = plan(graph, Space(CudaTorch()))
    made = capture(program, {"x": (4,), "i": (2,)}, types, beside=beside)
    assert (made.beside, seen) == (beside, copies)


def test_what_cublas_computes_in_belongs_to_the_graph_that_is_captured() -> None:
    graph, types = summing()
    program = plan(graph, Space(CudaTorch()))
    capture(program, {"x": (3,)}, types, beside=True)
    cleared, told = "workspaces cleared", program.space.torch.cuda.told
    assert told == [cleared, "capture begins", "capture ends", cleared]


def test_a_pytorch_that_has_no_such_workspaces_captures_too() -> None:
    graph, types = summing()
    newer = CudaTorch()
    del newer._C._cuda_clearCublasWorkspaces
    capture(plan(graph, Space(newer)), {"x": (3,)}, types, beside=True)
    assert newer.cuda.told == ["capture begins", "capture ends"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_program_is_captured_both_ways_and_the_quicker_one_stays(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    def capturing(*_: Any, beside: bool) -> Captured:
        if refused and not beside:
            raise RuntimeError("out of memory")
        return captured(beside=beside)

    monkeypatch.setattr(steps, "capture", capturing)
    monkeypatch.setattr(steps, "quickest", lambda ways, _: ways[-1])
    program = steps.PyTorchProgram(summing()[0], "cpu", Options(), torch)
    kept = program._captured({"x": (3,)}, {"x": X[0]})
    assert kept is not None
    assert kept.beside is refused


def test_copies_are_counted_while_the_device_works(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    program = captured(beside=True)
    replay, program.meanwhile = program.graph.replay, lambda: order.append("counted")
    program.graph.replay = lambda: (order.append("queued"), replay())
    monkeypatch.setattr(Border, "fetch", lambda *_, wait=False: order.append("waited"))
    program.run({"x": X[0]}, None)
    assert order == ["queued", "counted", "waited"]


def test_runs_of_a_graph_count_the_copies_that_eager_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[str, dict[str, int]]] = []
    monkeypatch.setattr(steps.memory, "copied", lambda at, **how: counted.append((at, how)))
    program = steps.PyTorchProgram(summing()[0], "cpu", Options(), torch)
    monkeypatch.setattr(program, "_captured", lambda *_: captured())
    program.eager_because = ""
    for _ in range(3):  # eager, captured, replayed
        program._on_device({"x": X[0]}, program.make_state())
    assert any(program._graphs.values())
    assert counted == [("cpu", {"sent": 12, "received": 12, "arrays": 2})] * 3


def test_a_captured_program_keeps_states_apart_and_hands_out_its_own_arrays() -> None:
    program = captured()
    types = program.types.states
    first, second = (TorchState(types, program.plan.space) for _ in range(2))
    one = program.run({"x": X[0] + 1}, first)["y"]
    np.testing.assert_array_equal(one, [1, 2, 3])
    np.testing.assert_array_equal(program.run({"x": X[0] + 1}, second)["y"], [1, 2, 3])
    np.testing.assert_array_equal(program.run({"x": X[0] + 1}, first)["y"], [2, 4, 6])
    np.testing.assert_array_equal(one, [1, 2, 3])
    first.write("total", np.zeros(3, np.float32))
    np.testing.assert_array_equal(program.run({"x": X[0] + 1}, first)["y"], [1, 2, 3])
    np.testing.assert_array_equal(first.read("total"), [1, 2, 3])
    np.testing.assert_array_equal(second.read("total"), [1, 2, 3])


def test_a_captured_program_does_not_keep_a_state_alive() -> None:
    program = captured()
    state = TorchState(program.types.states, program.plan.space)
    program.run({"x": X[0]}, state)
    gone = weakref.ref(state)
    del state
    gc.collect()
    assert gone() is None
    fresh = TorchState(program.types.states, program.plan.space)
    np.testing.assert_array_equal(program.run({"x": X[0] + 1}, fresh)["y"], [1, 2, 3])


def test_an_index_out_of_range_on_a_device_is_an_error_after_the_run_and_keeps_the_state() -> None:
    program = captured()
    state = TorchState(program.types.states, program.plan.space)
    program.run({"x": X[0] + 1}, state)
    low_and_high = torch.tensor([0, 3])
    program.bounds = Border.between(torch, low_and_high, low_and_high.clone())
    program.suspects = ((Node("gather", (), name="picked"), 3),)
    with pytest.raises(IndexError, match="gather picked"):
        program.run({"x": X[0] + 1}, state)
    np.testing.assert_array_equal(state.read("total"), [1, 2, 3])


def test_indices_that_are_an_input_are_looked_at_on_the_host() -> None:
    program = captured()
    state = TorchState(program.types.states, program.plan.space)
    program.asked = ((Node("gather", (), name="picked"), "x", 3),)
    np.testing.assert_array_equal(program.run({"x": X[0] - 2}, state)["y"], [-2, -1, 0])
    for bad in (X[0] - 4, X[0] + 1):
        with pytest.raises(IndexError, match="gather picked"):
            program.run({"x": bad}, state)
    np.testing.assert_array_equal(state.read("total"), [-2, -1, 0])


def picking(kind: str) -> tuple[Graph, Types]:
    """Elements chosen by indices: an input, as converters write them, or computed ones."""
    x, at = given("x", 4), Node("input", (TensorType((2,), np.dtype(np.int32)),), name="i")

    def made(op: str, **inputs: Value) -> Value:
        dtype = np.dtype(bool) if op == "greater_equal" else at.type.dtype
        return Value(Node(op, (TensorType((2,), dtype),), inputs, name=op))

    def number(n: int) -> Value:
        return Value(Node("const", (TensorType((), at.type.dtype),), attrs={"val": np.int32(n)}))

    indices = Value(at)
    if kind == "written":
        moved = made("add", x=indices, y=number(4))
        sure = made("greater_equal", x=indices, y=number(0))
        indices = made("select", cond=sure, a=indices, b=moved)
    if kind == "computed":
        indices = made("mul", x=indices, y=number(2))
    y = Node("gather", (TensorType((2,), x.type.dtype),), {"x": Value(x), "indices": indices})
    types = Types({"x": x.type, "i": at.type}, {}, {"y": y.type})
    return Graph({"y": Value(y)}), types


@pytest.mark.parametrize(
    ("kind", "steps", "asked", "bounds"),
    [("input", 1, 1, 0), ("written", 1, 1, 0), ("computed", 2, 0, 2)],
)
def test_a_device_only_looks_at_indices_that_the_host_does_not_know(
    kind: str, steps: int, asked: int, bounds: int
) -> None:
    graph, types = picking(kind)
    space = Space(torch)
    program = plan(graph, space)
    assert len(program.steps) == steps
    inputs = {"x": torch.arange(4.0), "i": torch.tensor([-1, 1], dtype=torch.int32)}
    here = queued(program, inputs, {}, types)
    space.device = SimpleNamespace(type="cuda")
    made = queued(program, inputs, {}, types)
    assert made.outputs["y"].tolist() == here.outputs["y"].tolist()
    assert (len(made.asked), 0 if made.bounds is None else len(made.bounds)) == (asked, bounds)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("piece", [40, 4000])
def test_a_large_input_goes_to_the_device_in_pieces_or_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, piece: int, through: bool
) -> None:
    monkeypatch.setattr(pinned, "PIECE", piece)
    monkeypatch.setattr(pinned, "SEVERAL", piece)
    inside = torch.zeros(5, 7)
    border = Border.between(torch, inside, torch.zeros(5, 7)).cut()
    assert len(border.pieces) == (4 if piece == 40 else 1)
    rows = np.arange(35, dtype=np.float32).reshape(5, 7)
    fixed = rows + 3
    fixed.setflags(write=False)  # PyTorch would warn of it
    for array in (rows, rows.reshape(7, 5).T, fixed, rows[:, ::-1] * np.float64(2)):
        border.enter(array, through=through)
        np.testing.assert_array_equal(inside.numpy(), array)


def test_a_state_that_becomes_what_another_was_is_not_overwritten_first() -> None:
    x = given("x", 3, dtype=np.float16)
    a, b = (Node("state", x.types, name=name) for name in ("a", "b"))
    y = Node("add", x.types, {"x": Value(b), "y": Value(x)}, name="y")
    news = {"a": Value(x), "b": Value(a)}  # a delay of two steps
    graph = Graph({"y": Value(y)}, states={"a": a, "b": b}, updates=news)
    types = Types({"x": x.type}, {"a": x.type, "b": x.type}, {"y": x.type})
    space = Space(CudaTorch(), native=True)
    steps = plan(graph, space)
    made = capture(steps, {"x": (3,)}, types, beside=True)
    own = {t.data_ptr() for t in made.states.values()}

    def replay() -> None:
        again = queued(steps, {"x": made.inputs["x"].inside}, made.states, types)
        made.outputs["y"].inside.copy_(again.outputs["y"])
        for name, new in made.updates.items():
            if new.data_ptr() not in own:  # a kernel writes it
                new.copy_(again.updates[name])

    made.graph = SimpleNamespace(replay=replay)
    state = TorchState(types.states, space)
    found = [made.run({"x": np.full(3, i, np.float16)}, state)["y"][0] for i in range(1, 6)]
    assert found == [1, 2, 4, 6, 8]
