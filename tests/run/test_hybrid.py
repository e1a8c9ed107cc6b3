"""Programs in segments: equal results, refusals, states, spans; on fakes and on real engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, EngineUnavailable, Timeout, UnsupportedOp
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value
from coreml_lab.program.parts import fixed, part
from coreml_lab.program.program import Program, describe
from coreml_lab.run import hybrid
from coreml_lab.run.engine import Options
from coreml_lab.run.hybrid import HybridEngine, Part
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.reference import ReferenceEngine
from coreml_lab.run.split.program import NO_LIMIT, HybridProgram
from coreml_lab.run.state import State
from coreml_lab.run.tinygrad_onnx import TinygradEngine
from tests.support.splits import KIND, SHAPE, Engine, added, chain, load

ops = cl.ops
RNG = np.random.default_rng(3)
X = RNG.standard_normal(SHAPE).astype(np.float32)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def program(graph: Graph) -> Program:
    """A program that is nothing but a graph."""
    info = describe(graph, name="net", key="k" * 32, package=Path(), function="", size=0)
    return Program(info, Path(), graph)


def renamed(graph: Graph, **kinds: str) -> Program:
    """The program, with the kind of some operations told apart: fakes refuse by kind."""
    for node in graph.ops:
        object.__setattr__(node, "op", kinds.get(node.name, node.op))
    return program(graph)


def used(loaded: HybridProgram) -> list[tuple[str, tuple[str, ...]]]:
    return [(s.engine, s.nodes) for s in loaded.plan.segments]


def test_what_one_engine_lacks_runs_on_another_and_the_results_are_the_same() -> None:
    source = renamed(chain(5), op_2="mul", op_4="mul")
    loaded = load(source, Engine("first", lacks=frozenset({"mul"})), Engine("second"))
    assert [name for name, _ in used(loaded)] == ["first", "second", "first", "second"]
    want = ReferenceEngine().load(source, "cpu", Options()).run({"x": X})
    np.testing.assert_array_equal(loaded.run({"x": X})["out_0"], want["out_0"])
    assert "first (cpu) cannot run op_2: it has no 'mul'" in loaded.remark
    assert loaded.title == "Core ML program, hybrid: 3 ops on first (cpu), 2 ops on second (cpu)"


@pytest.mark.parametrize("named", [True, False])
def test_a_refusal_while_loading_moves_only_what_is_refused(named: bool) -> None:
    source = renamed(chain(5), op_2="mul", op_4="mul")
    first = Engine("first", refuses=frozenset({"mul"}), names_it=named)
    loaded = load(source, first, Engine("second"))
    assert [nodes for name, nodes in used(loaded) if name == "second"] == [("op_2",), ("op_4",)]
    assert "first will not run mul" in loaded.plan.segments[1].reason


def test_an_engine_that_cannot_be_had_gets_nothing_and_its_reason_is_told() -> None:
    gone = Engine("gone")
    gone.load = lambda *_: (_ for _ in ()).throw(EngineUnavailable("no driver"))  # type: ignore[assignment, method-assign]
    loaded = load(program(chain(3)), gone, Engine("second"))
    assert used(loaded) == [("second", ("op_0", "op_1", "op_2"))]
    assert "gone (cpu) cannot run 3 operations (op_0 … op_2): no driver" in loaded.remark


def test_nothing_is_split_where_nobody_is_left() -> None:
    source = renamed(chain(2), op_1="mul")
    picky = Engine("first", refuses=frozenset({"mul"}))
    with pytest.raises(UnsupportedOp, match=r"no engine here runs op_1 \(mul\)"):
        load(source, picky)
    with pytest.raises(EngineUnavailable):
        HybridEngine(()).load(source, "cpu", Options())


def test_arrays_pass_between_segments_as_they_are_and_go_after_their_last_reader() -> None:
    source = renamed(chain(3), op_1="mul")
    loaded = load(source, Engine("first", lacks=frozenset({"mul"})), Engine("second"))
    given: list[Array] = []
    second = loaded._pieces[1].loaded
    run = second.run

    def watched(inputs: dict[str, Array], state: State | None = None) -> dict[str, Array]:
        given.extend(inputs.values())
        return run(inputs, state)

    second.run = watched  # type: ignore[method-assign, assignment]
    values = loaded._walk({"x": X}, [None] * 3, NO_LIMIT)
    assert set(values) == {"out_0", "op_2"} - {"out_0"}
    assert loaded.copied_bytes == 0
    assert loaded.crossing_bytes == 2 * X.nbytes
    assert len(given) == 1
    turned = np.asfortranarray(X)
    np.testing.assert_array_equal(
        loaded.run({"x": turned})["out_0"], loaded.run({"x": X.copy()})["out_0"]
    )


def held(*, extra: bool = False) -> Program:
    """y = (x + total) * 2, total := x + total; with ``extra``, a state nobody looks at too."""
    x = Value(Node("input", (KIND,), name="x"))
    state = Node("state", (KIND,), name="total")
    new = added("new", x, Value(state))
    after = Value(Node("mul", (KIND,), {"x": new, "y": new}, name="square"))
    states, updates = {"total": state}, {"total": new}
    if extra:
        idle, copied = (Node("state", (KIND,), name=n) for n in ("idle", "copied"))
        states |= {"idle": idle, "copied": copied}
        updates |= {"idle": Value(idle), "copied": x}
    return program(Graph({"y": after}, states=states, updates=updates))


def test_states_live_with_their_segment_and_carry_from_run_to_run() -> None:
    loaded = load(held(extra=True), Engine("first", lacks=frozenset({"mul"})), Engine("second"))
    assert used(loaded) == [("first", ("new",)), ("second", ("square",))]
    state = loaded.make_state()
    for step in range(1, 4):
        np.testing.assert_allclose(loaded.run({"x": X}, state)["y"], (step * X) ** 2, **CLOSE)
    np.testing.assert_allclose(state.read("total"), 3 * X, **CLOSE)
    np.testing.assert_array_equal(state.read("copied"), X)
    assert not state.read("idle").any()
    foreign = State(loaded.states)
    foreign.write("total", X)
    loaded.run({"x": X}, foreign)
    np.testing.assert_allclose(foreign.read("total"), 2 * X, **CLOSE)


def test_a_run_that_fails_in_a_later_segment_leaves_the_state_as_it_was() -> None:
    second = Engine("second")
    loaded = load(held(), Engine("first", lacks=frozenset({"mul"})), second)
    state = loaded.make_state()
    loaded.run({"x": X}, state)
    second.fails = EngineError("gone")
    with pytest.raises(EngineError, match="gone"):
        loaded.run({"x": X}, state)
    np.testing.assert_array_equal(state.read("total"), X)
    second.fails = None
    np.testing.assert_allclose(loaded.run({"x": X}, state)["y"], (2 * X) ** 2, **CLOSE)


def test_a_deadline_holds_for_all_segments_together() -> None:
    loaded = load(held(), Engine("first", lacks=frozenset({"mul"})), ReferenceEngine())
    state = loaded.make_state()
    np.testing.assert_allclose(loaded.run_within(60.0, {"x": X}, state)["y"], X**2, **CLOSE)
    with pytest.raises(Timeout, match="the hybrid engine was stopped"):
        loaded.run_within(0.0, {"x": X}, state)
    np.testing.assert_array_equal(state.read("total"), X)


def test_what_segments_copy_is_counted_on_their_devices() -> None:
    loaded = load(program(chain(2)), Engine("first"))
    before = LEDGER.account("cpu").total
    loaded.run({"x": np.asfortranarray(X)})
    assert loaded.copied_bytes == X.nbytes
    assert LEDGER.account("cpu").total.sent - before.sent == X.nbytes
    model = cl.compile(clipped, x=SPEC)
    before = LEDGER.account("coreml:0").total
    model.predict({"x": SEQUENCE})
    after = LEDGER.account("coreml:0").total
    assert after.shares > before.shares
    assert after.copies == before.copies


def test_a_state_is_not_torn_apart() -> None:
    x = Value(Node("input", (KIND,), name="x"))
    state = Node("state", (KIND,), name="total")
    read = added("read", x, Value(state))
    graph = Graph({"y": read}, states={"total": state}, updates={"total": added("write", read)})
    with pytest.raises(UnsupportedOp, match="two segments: 'total'"):
        Part(program(graph), ("read",))


def test_what_is_always_the_same_is_copied_into_each_part_and_never_crosses() -> None:
    weight = Value(Node("const", (KIND,), attrs={"val": np.ones(SHAPE, np.float32)}, name="w"))
    doubled = added("doubled", weight)
    x = Value(Node("input", (KIND,), name="x"))
    graph = Graph({"y": added("second", added("first", x, doubled), doubled)})
    assert [n.name for n in fixed(graph)] == ["doubled"]
    cut = part(graph, {"second"}, (), fixed(graph))
    assert list(cut.inputs) == ["first"]
    assert [n.name for n in cut.ops] == ["doubled", "second"]


def test_outputs_may_be_inputs_or_constants() -> None:
    x = Value(Node("input", (KIND,), name="x"))
    one = Value(Node("const", (KIND,), attrs={"val": np.ones(SHAPE, np.float32)}, name="one"))
    loaded = load(program(Graph({"y": added("a", x), "same": x, "one": one})), Engine("first"))
    found = loaded.run({"x": X})
    np.testing.assert_array_equal(found["same"], X)
    np.testing.assert_array_equal(found["one"], np.ones(SHAPE))
    np.testing.assert_array_equal(found["y"], 2 * X)


def test_a_trace_holds_every_operation_in_order_and_the_transfers_between_segments() -> None:
    source = renamed(chain(3), op_1="mul")
    loaded = load(source, Engine("first", lacks=frozenset({"mul"})), Engine("second"))
    runs = loaded.trace({"x": X}, 3)
    assert [r.index for r in runs] == [0, 1, 2]
    for run in runs:
        assert [s.node for s in run.spans] == [
            "op_0", "[first to second]", "op_1", "[second to first]", "op_2",
        ]  # fmt: skip
        starts = [s.start_ns for s in run.spans]
        assert starts == sorted(starts)
        end = run.spans[-1].start_ns + run.spans[-1].duration_ns
        assert run.start_ns <= starts[0]
        assert end <= run.start_ns + run.duration_ns
        moved = [s for s in run.spans if s.op == "[transfer]"]
        assert [s.bytes for s in moved] == [X.nbytes] * 2
        assert {s.provenance for s in run.spans} == {Provenance.MEASURED}


# Real engines.

IH, HH = (RNG.standard_normal((32, n)).astype(np.float32) for n in (16, 8))
H = np.zeros((1, 8), np.float32)
W, V = (RNG.standard_normal((n, n)).astype(np.float32) for n in (16, 8))


def clipped(x: cl.Tensor) -> Any:
    """A network with one operation that only the reference engine has."""
    y = ops.relu(ops.matmul(x, W))
    return ops.tanh(ops.matmul(ops.lstm(y, H, H, weight_ih=IH, weight_hh=HH, clip=0.5)[0], V))


def long(x: cl.Tensor) -> Any:
    """A network with one operation that tinygrad lacks."""
    y = ops.relu(ops.matmul(x, W))
    return ops.tanh(ops.matmul(ops.lstm(y, H, H, weight_ih=IH, weight_hh=HH)[0], V))


SPEC = cl.spec(5, 1, 16)
SEQUENCE = RNG.standard_normal((5, 1, 16)).astype(np.float32)


def test_one_operation_that_the_engine_lacks_does_not_send_the_whole_model_to_numpy() -> None:
    model = cl.compile(clipped, x=SPEC)
    alone = cl.compile(clipped, x=SPEC, device="cpu", engine="reference")
    assert model.plan.engine == hybrid.NAME
    assert "MIL clips the cell gate" in model.plan.reason
    assert "the rest of it stays" in model.plan.reason
    assert "4 ops on portable (coreml:0), 1 ops on reference (cpu)" in model.plan.title
    got, want = (m.predict({"x": SEQUENCE})["output"] for m in (model, alone))
    np.testing.assert_allclose(got, want, **CLOSE)


def test_an_engine_that_was_asked_for_by_name_still_refuses() -> None:
    with pytest.raises(UnsupportedOp, match="clips the cell gate"):
        cl.compile(clipped, x=SPEC, engine="portable")


def test_a_recording_of_a_hybrid_run_has_spans_of_each_engine() -> None:
    model = cl.compile(clipped, x=SPEC)
    recording = cl.profile(model, {"x": SEQUENCE}, runs=3)
    spans = {s.node: s.engine for s in recording.spans}
    assert spans["lstm_2_0"] == "reference"
    assert {v for k, v in spans.items() if k.startswith("matmul")} == {"portable"}
    assert "[portable to reference]" in spans
    assert "hybrid" in str(cl.report(recording))


def test_debug_mode_finds_who_makes_nan_in_a_hybrid_program() -> None:
    model = cl.compile(clipped, x=SPEC)
    bad = SEQUENCE.copy()
    assert np.isfinite(model.debug({"x": SEQUENCE})["output"]).all()
    bad[0, 0, 0] = np.inf
    with pytest.raises(cl.errors.NumericalError):
        model.debug({"x": bad})


def test_diff_compares_a_hybrid_run_with_one_engine() -> None:
    model = cl.compile(clipped, x=SPEC)
    alone = cl.compile(clipped, x=SPEC, device="cpu", engine="reference")
    found = cl.diff(model, alone, {"x": SEQUENCE})
    assert {op.op for op in found.ops} >= {"lstm", "tanh"}
    assert min(op.snr for op in found.ops) > 80


def test_engine_hybrid_gives_the_results_of_one_engine() -> None:
    model = cl.compile(clipped, x=SPEC, engine="hybrid")
    alone = cl.compile(clipped, x=SPEC, device="cpu", engine="reference")
    assert model.plan.engine == hybrid.NAME
    got, want = (m.predict({"x": SEQUENCE})["output"] for m in (model, alone))
    np.testing.assert_allclose(got, want, **CLOSE)


@pytest.mark.skipif(not TinygradEngine().available().available, reason="no OpenCL device here")
def test_what_tinygrad_lacks_runs_on_the_portable_engine_and_the_rest_stays_on_opencl() -> None:
    model = cl.compile(long, x=SPEC, device="opencl")
    assert "on tinygrad (opencl:0)" in model.plan.title
    assert "1 ops on portable (coreml:0)" in model.plan.title
    alone = cl.compile(long, x=SPEC, device="cpu", engine="reference")
    got, want = (m.predict({"x": SEQUENCE})["output"] for m in (model, alone))
    np.testing.assert_allclose(got, want, **CLOSE)


def test_a_part_bears_the_whole_programs_name_and_a_key_of_its_own() -> None:
    whole = program(chain(3))
    first, second = Part(whole, ("op_0",)), Part(whole, ("op_1", "op_2"))
    assert first.info.name == "net"
    assert len({whole.key, first.key, second.key}) == 3
    assert [p.name for p in second.info.inputs] == ["op_0"]
    assert second.graph.inputs["op_0"].type == TensorType(SHAPE, np.dtype(np.float32))
    second.release()
    assert second.graph.ops
