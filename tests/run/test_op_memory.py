"""Memory per operation: by ONNX Runtime's arena, by PyTorch's events and counters, or a reason."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError
from coreml_lab.program.liveness import Manner, liveness
from coreml_lab.run.op_memory import Mark, MemoryTrace, OpMemory, levels, mark
from coreml_lab.run.steps import account as steps
from coreml_lab.run.steps.step import Step

KB = 1024


def chain(**options):
    """softmax cannot be fused or folded: three values of 64 kB in a row, two alive at a time."""

    def net(x):
        for axis in (0, 1, 0):
            x = cl.ops.softmax(x=x, axis=axis)
        return x

    return cl.compile(net, x=cl.spec(128, 128), name="chain", **options)


X = {"x": np.ones((128, 128), np.float32)}


def test_onnx_runtimes_arena_tells_what_is_alive_at_each_operation():
    found = chain().account(X)
    assert [op.op for op in found.ops] == ["softmax"] * 3
    assert "arena" in found.source
    assert found.peak == 128 * KB
    assert found.at in {op.node for op in found.ops}


def test_the_estimate_by_liveness_is_what_the_arena_says():
    model = chain()
    assert liveness(model.program.graph).peak == model.account(X).peak


def test_pytorchs_events_tell_it_on_the_cpu():
    pytest.importorskip("torch")
    found = chain(engine="pytorch", device="cpu").account(X)
    assert [op.op for op in found.ops] == ["softmax"] * 3
    assert 128 * KB <= found.peak < 256 * KB
    assert liveness(chain().program.graph, manner=Manner(in_place=False)).peak <= found.peak


def test_an_engine_that_does_not_tell_gives_a_reason_and_a_way_out():
    with pytest.raises(EngineError, match="reference does not tell") as refused:
        chain(engine="reference", device="cpu").account(X)
    assert "cl.footprint" in refused.value.hint


@pytest.mark.parametrize(("engine", "device"), [("portable", "coreml"), ("pytorch", "cpu")])
def test_spans_carry_the_memory_of_their_operation(engine, device):
    pytest.importorskip("torch")
    model = chain(engine=engine, device=device)
    told = {op.node: op.live for op in model.account(X).ops}
    for run in model.trace(X, runs=2):
        assert {span.node: span.memory for span in run.spans} == told


def test_an_engine_that_does_not_tell_leaves_it_out():
    (run,) = chain(engine="reference", device="cpu").trace(X, runs=1)
    assert {span.memory for span in run.spans} == {None}


# -- from what allocators say to rows --------------------------------------------------------------


def test_levels_are_above_what_was_held_before_the_first_kernel():
    marks = [Mark(0, 10, 1500, 500), Mark(20, 10, 1200, -300)]
    assert levels(marks, marks) == ([(500, 500), (200, -300)], 1000)


def test_what_runs_inside_a_loop_counts_as_the_loops():
    loop, inner = Mark(0, 100, 1500, 500), Mark(50, 10, 4000, 3000)
    assert levels([loop], [loop, inner])[0] == [(3000, 500)]
    assert levels([], []) == ([], 0)


def test_an_older_onnx_runtime_is_named():
    event = {"ts": 1, "dur": 2, "args": {"op_name": "Conv"}}
    with pytest.raises(EngineError, match="does not record what its arena holds"):
        mark(event)


def test_an_empty_trace_has_no_peak():
    assert MemoryTrace((), 0, "").peak == 0
    assert MemoryTrace((), 0, "").at == ""
    assert MemoryTrace((OpMemory("a", "x", (), 5, 5),), 0, "").at == "a"


def step(name):
    node = SimpleNamespace(name=name, op="relu")
    return Step(node, lambda slots: None, (), ())


def test_memory_events_are_credited_to_the_step_in_whose_time_they_lie():
    events = [
        ("[memory]", 5, 0, 999),  # before the first step: not its
        (f"{steps.LABEL}0", 10, 10, 0),
        ("[memory]", 12, 0, 100),
        ("[memory]", 14, 0, 300),
        ("[memory]", 18, 0, -300),
        ("[memory]", 25, 0, -40),  # between the two: the first is let go
        (f"{steps.LABEL}1", 30, 10, 0),
        ("[memory]", 32, 0, 50),
    ]
    found = steps._counted([step("a"), step("b")], events)
    assert [(op.node, op.live, op.made) for op in found.ops] == [("a", 400, 100), ("b", 110, 50)]


def test_a_gpus_allocator_is_asked_before_and_after_each_step(monkeypatch):
    class Cuda:
        now = most = 1000

        def memory_allocated(self, device):
            return self.now

        def max_memory_allocated(self, device):
            return self.most

        def reset_peak_memory_stats(self, device):
            self.most = self.now

        def use(self, size):
            self.now += size
            self.most = max(self.most, self.now)

    cuda = Cuda()
    space = SimpleNamespace(
        device=SimpleNamespace(type="cuda"), torch=SimpleNamespace(cuda=cuda), node=None
    )
    sizes = iter((300, -100))

    def run(slots):
        cuda.use(500)
        cuda.use(next(sizes) - 500)

    made = [Step(SimpleNamespace(name=n, op="relu"), run, (), ()) for n in "ab"]

    def inference(plan, types, inputs, each):
        for one in made:
            each(one, [])

    monkeypatch.setattr(steps, "_inference", inference)
    found = steps.account(SimpleNamespace(space=space), None, {})
    assert [(op.live, op.made) for op in found.ops] == [(500, 300), (800, -100)]
    assert found.held == 1000


def test_metal_keeps_no_record():
    space = SimpleNamespace(device=SimpleNamespace(type="mps"))
    with pytest.raises(EngineError, match="no record of what it holds on mps"):
        steps.account(SimpleNamespace(space=space), None, {})


def test_a_pytorch_without_events_is_named(monkeypatch):
    @contextlib.contextmanager
    def profile(**_):
        yield SimpleNamespace()

    profiler = SimpleNamespace(ProfilerActivity=SimpleNamespace(CPU=0), profile=profile)
    torch = SimpleNamespace(profiler=profiler, __version__="9.9")
    space = SimpleNamespace(device=SimpleNamespace(type="cpu"), torch=torch)
    monkeypatch.setattr(steps, "_inference", lambda *_: None)
    with pytest.raises(EngineError, match=r"PyTorch \(9\.9\) gives no memory events"):
        steps.account(SimpleNamespace(space=space), None, {})
