"""A plan as a tape of PyTorch's calls: the same to the bit, for other inputs, or none at all."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Array, Dim, Graph, Node, Value
from coreml_lab.program.tensors import const
from coreml_lab.run.engine import Options
from coreml_lab.run.steps import trial
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.program import PyTorchProgram
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.step import Plan
from coreml_lab.run.steps.tape import Recording, taped
from tests.support.op_cases import CASES, Case, program
from tests.support.small_graphs import X, given

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch
FAMILIES = sorted({c.op.family for c in CASES} - {"random"})


def on_cpu(case: Case) -> tuple[PyTorchProgram, dict[str, Array]] | None:
    graph, feeds = program([case])
    made = PyTorchProgram(graph, "cpu", Options(), torch)
    return (made, feeds) if made._plan.static and made._plan.fixed else None


def outputs(found: Any, made: Plan) -> list[Array]:
    return [found[slot].numpy() for slot in made.outputs.values()]


def changed(array: Array) -> Array:
    """Other values of the same kind; of integers those that the array has, elsewhere."""
    other = np.flip(array).copy() if array.ndim else array.copy()
    return (other * np.float32(0.75)).astype(array.dtype) if array.dtype.kind == "f" else other


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tape_gives_what_the_steps_give_to_the_bit_for_other_inputs_too(family: str) -> None:
    cases = [c for c in CASES if c.op.family == family and not c.limit("pytorch")]
    tapes = 0
    for case in cases:
        ready = on_cpu(case)
        if ready is None:
            continue
        made, feeds = ready
        with torch.inference_mode():
            tape = taped(made._plan, made._entered(made._plan, feeds, made.make_state()))
            if tape is None:
                continue
            tapes += 1
            other = {k: changed(v) for k, v in feeds.items()}
            try:
                wanted = made._plan.run(made._entered(made._plan, other, made.make_state()))
            except Exception:  # noqa: BLE001 - such numbers are none that this operation takes
                continue
            found = tape.run(made._entered(made._plan, other, made.make_state()))
        for a, b in zip(outputs(found, made._plan), outputs(wanted, made._plan), strict=True):
            np.testing.assert_array_equal(a, b, case.id)
    unable = {"stored", "detection"}
    assert tapes or family in unable, f"none of {len(cases)} is on a tape"


def settled(function: Callable[..., Any], *, runs: int = 2, **inputs: Any) -> Any:
    """A model and its program on the CPU, which has seen so many runs on zeros."""
    model = cl.compile(function, engine="pytorch", device="cpu", **inputs)
    zeros = {k: np.zeros(v.sizes, v.dtype) for k, v in inputs.items()}
    for _ in range(runs):
        model.predict(zeros)
    return model, model._executor._loaded


def test_the_second_run_makes_a_tape_and_later_ones_go_by_it() -> None:
    model, loaded = settled(lambda x: cl.ops.relu(x=x) * 2.0, runs=1, x=cl.spec(2, 3))
    assert loaded._plan.short is None
    model.predict({"x": X})
    tape = loaded._plan.short.__self__
    calls = []
    loaded._plan.short = lambda own: calls.append(own) or tape.run(own)
    np.testing.assert_array_equal(model.predict({"x": X - 2})["output"], np.maximum(X - 2, 0) * 2)
    assert len(calls) == 1
    assert len(tape.calls) == 2


def test_an_index_out_of_range_is_told_by_the_steps_and_the_tape_goes_on() -> None:
    model, loaded = settled(
        lambda x, at: cl.ops.gather(x=x, indices=at), x=cl.spec(2, 3), at=cl.spec(2, dtype="int32")
    )
    assert loaded._plan.short is not None
    with pytest.raises(EngineError, match="gather"):
        model.predict({"x": X, "at": np.array([0, 5], np.int32)})
    found = model.predict({"x": X, "at": np.array([-1, 0], np.int32)})["output"]
    np.testing.assert_array_equal(found, X[[-1, 0]])


def test_inputs_that_fail_in_the_second_run_do_not_keep_the_third_from_a_tape() -> None:
    model, loaded = settled(
        lambda x, at: cl.ops.gather(x=x, indices=at),
        runs=1,
        x=cl.spec(2, 3),
        at=cl.spec(2, dtype="int32"),
    )
    with pytest.raises(EngineError, match="gather"):
        model.predict({"x": X, "at": np.array([0, 5], np.int32)})
    assert loaded._plan.short is None
    model.predict({"x": X, "at": np.array([0, 1], np.int32)})
    assert loaded._plan.short is not None


def test_results_of_a_tape_are_their_callers_own() -> None:
    model, loaded = settled(lambda x: {"a": x + 1.0, "b": cl.ops.identity(x=x)}, x=cl.spec(2, 3))
    assert loaded._plan.short is not None
    first = model.predict({"x": X})
    for array in first.values():
        array[...] = 9
    np.testing.assert_array_equal(model.predict({"x": X})["a"], X + 1)
    np.testing.assert_array_equal(model.predict({"x": X})["b"], X)


def test_several_threads_go_by_one_tape() -> None:
    model, loaded = settled(lambda x: cl.ops.softmax(x=x * 3.0, axis=1) + x, x=cl.spec(2, 3))
    assert loaded._plan.short is not None
    wrong: list[int] = []

    def asks(number: int) -> None:
        x = X * number
        wanted = model.predict({"x": x})["output"]
        if any((model.predict({"x": x})["output"] != wanted).any() for _ in range(50)):
            wrong.append(number)

    threads = [threading.Thread(target=asks, args=(n,)) for n in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_takes_long_has_no_tape_and_neither_has_what_is_flexible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def net(x: Any) -> Any:
        return x * 2.0

    model = cl.compile(net, x=cl.spec(Dim("n", 1, 4), 3), engine="pytorch", device="cpu")
    for _ in range(3):
        model.predict({"x": X})
    assert model._executor._loaded._plan.short is None
    monkeypatch.setattr(trial, "LONG_NS", 0)
    assert settled(net, x=cl.spec(2, 3))[1]._plan.short is None


def refused(rule: Callable[[Any], Any], x: Array = X) -> str:
    """Why a plan with one step, which is ``rule`` of a tensor, cannot be taped."""
    node = given("x", *x.shape, dtype=x.dtype)
    made = plan(Graph({"y": Value(Node("relu", node.types, {"x": Value(node)}))}), Space(torch))
    (step,) = made.steps

    def run(slots: Any) -> None:
        slots[step.writes[0]] = rule(slots[step.reads[0]])

    step.run = run
    recording = Recording(torch)
    with torch.inference_mode():
        found = recording.of(made, {step.reads[0]: torch.from_numpy(x.copy())})
    assert (found is None) == bool(recording.refused)
    return recording.refused


KEPT = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (lambda x: x * float(x.max()), "item|__float__"),
        (lambda x: x if bool((x > 0).any()) else -x, "__bool__"),
        (lambda x: torch.from_numpy(np.sqrt(x.numpy())), "numpy"),
        (lambda x: torch.tensor(x.tolist()), "tolist"),
        (lambda x: x[x > 0], "mask"),
        (lambda x: torch.where(x > 0)[0], "where"),
        (lambda x: x.nonzero(), "nonzero"),
        (torch.unique, "unique"),
        (lambda x: x.add_(1), "add_ changes"),
        (lambda x: x.view(-1).zero_(), "zero_ changes"),
        (lambda x: x + torch.from_numpy(KEPT).mul_(2), "mul_ changes"),
        (lambda x: torch.add(x, 1, out=torch.empty(2, 3)), "memory that is there"),
        (lambda x: x[: torch.tensor(1)], "ends are tensors"),
        (lambda x: torch.nn.functional.relu(x, inplace=True), "memory that is there"),
    ],
)
def test_what_looks_at_elements_or_writes_to_what_is_there_is_not_taped(
    rule: Callable[[Any], Any], why: str
) -> None:
    assert re.search(why, refused(rule))


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: torch.cat([x, x * 2, torch.ones(1, 3)]),
        lambda x: torch.stack((x.mT, x.mT), dim=-1)[..., 0].mT.contiguous(),
        lambda x: x.max(dim=1).values + x.split([1, 2], 1)[0].squeeze(),
        lambda x: torch.addmm(torch.zeros(2, 2), x, x.mT, beta=0.5, alpha=2),
        lambda x: x.clone().add_(1).mul_(x),
        lambda x: torch.nn.functional.pad(x, (1, 1)).to(torch.float32),
        lambda x: torch.where(x > 0, x, torch.zeros(())),
        lambda x: x.reshape(x.shape[0] * x.shape[1]) if x.is_floating_point() else x,
        lambda x: torch.einsum("ij,kj->ik", [x, x]),
    ],
)
def test_what_is_only_computed_is_taped(rule: Callable[[Any], Any]) -> None:
    assert refused(rule) == ""


def test_what_is_written_into_a_copy_is_on_the_tape() -> None:
    def rule(x: Any) -> Any:
        made = x.clone()
        made[:, 1:] = x[:, :2] * 10
        made += 1
        return made

    assert refused(rule) == ""


def test_a_state_goes_on_by_a_tape() -> None:
    x = given("x", 2, 3)
    total = Node("state", x.types, name="total")
    made = Node("add", x.types, {"x": Value(x), "y": Value(total)}, name="made")
    graph = Graph({"y": Value(made)}, states={"total": total}, updates={"total": Value(made)})
    loaded = PyTorchProgram(graph, "cpu", Options(), torch)
    state = loaded.make_state()
    for turn in range(1, 6):
        np.testing.assert_array_equal(loaded.run({"x": X}, state)["y"], X * turn)
    assert loaded._plan.short is not None
    np.testing.assert_array_equal(state.read("total"), X * 5)


def test_attention_with_few_keys_finds_nan_on_a_tape_too() -> None:
    shape = (1, 2, 5, 8)

    def net(q: Any, k: Any, v: Any) -> Any:
        return cl.ops.scaled_dot_product_attention(query=q, key=k, value=v)

    model, loaded = settled(net, **{name: cl.spec(*shape) for name in "qkv"})
    assert loaded._plan.short is not None
    data = {name: np.ones(shape, np.float32) for name in "qkv"}
    data["q"][0, 1, 2, 3] = np.nan
    found = model.predict(data)["output"]
    assert np.isnan(found[0, 1, 2]).all()
    assert np.isfinite(found[0, 0]).all()


def test_a_trial_goes_on_from_the_callers_state_and_changes_nothing_of_it() -> None:
    x, at = given("x", 4, 3), given("at", 1, dtype=np.int32)
    base = Node("state", at.types, name="base")
    moved = Node("sub", at.types, {"x": Value(at), "y": Value(base)}, name="moved")
    row = given("row", 1, 3).types
    picked = Node("gather", row, {"x": Value(x), "indices": Value(moved)}, name="picked")
    one = const(np.array([1], np.int32))
    more = Node("add", at.types, {"x": Value(base), "y": one}, name="more")
    graph = Graph({"y": Value(picked)}, states={"base": base}, updates={"base": Value(more)})
    loaded = PyTorchProgram(graph, "cpu", Options(), torch)
    state, rows = loaded.make_state(), np.arange(12, dtype=np.float32).reshape(4, 3)
    state.write("base", np.array([10], np.int32))
    for turn in range(4):  # with a state of zeros, each of these would be out of range
        place = 1 - turn % 2
        data, wanted = {"x": rows, "at": state.read("base") + np.int32(place)}, rows[[place]]
        np.testing.assert_array_equal(loaded.run(data, state)["y"], wanted)
        assert state.read("base").item() == 11 + turn
    assert loaded._plan.short is not None


def test_weights_go_with_a_program_that_had_a_tape_without_the_garbage_collector() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    x = given("x", 2, 3)
    made = Node(
        "linear", given("y", 2, 8).types, {"x": Value(x), "weight": const(weight)}, name="made"
    )
    loaded = PyTorchProgram(Graph({"y": Value(made)}), "cpu", Options(), torch)
    seen = [weakref.ref(loaded)]
    for _ in range(3):
        loaded.run({"x": X})
    assert loaded._plan.short is not None
    tape = loaded._plan.short.__self__
    seen += [weakref.ref(t) for t in tape.template if isinstance(t, torch.Tensor)]
    assert len(seen) > 1
    gc.collect()
    gc.disable()
    try:
        del loaded, tape
        assert not [ref for ref in seen if ref() is not None]
    finally:
        gc.enable()


def test_a_result_that_never_changes_is_a_copy_for_each_caller() -> None:
    def net(x: Any) -> Any:
        return {"a": x * 2.0, "b": cl.ops.fill(shape=cl.ops.shape(x=x), value=3.0)}

    model, loaded = settled(net, x=cl.spec(2, 3))
    assert loaded._plan.short is not None
    model.predict({"x": X})["b"][...] = 9
    np.testing.assert_array_equal(model.predict({"x": X})["b"], np.full((2, 3), 3, np.float32))


def test_a_callers_autocast_and_listeners_change_nothing() -> None:
    class Named(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            assert function.__name__
            return function(*args, **(kwargs or {}))

    shape = (1, 2, 5, 8)

    def net(q: Any, k: Any, v: Any) -> Any:
        return cl.ops.scaled_dot_product_attention(query=q, key=k, value=v)

    data = {name: np.random.default_rng(1).random(shape).astype(np.float32) for name in "qkv"}
    model, _ = settled(net, **{name: cl.spec(*shape) for name in "qkv"})
    wanted = model.predict(data)["output"]
    for around in (Named(), torch.autocast("cpu", dtype=torch.bfloat16)):
        fresh, _ = settled(net, runs=0, **{name: cl.spec(*shape) for name in "qkv"})
        with around:
            for asked in (model, fresh, fresh, fresh):
                np.testing.assert_array_equal(asked.predict(data)["output"], wanted)
