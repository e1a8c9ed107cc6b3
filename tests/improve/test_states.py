"""A cache handed in and out becomes states: step by step the results are those of before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError, LabError, UnknownParameter
from coreml_lab.program.graph import Dim
from tests.improve.nets import weights

LENGTH, WIDTH, STEPS = 8, 16, 20
PAIRS = {"past_k": "present_k", "past_v": "present_v"}
EMPTY = np.zeros((1, LENGTH, WIDTH), np.float32)


def attention(x: Any, past_k: Any, past_v: Any) -> Any:
    """One token attends to the last eight: the oldest falls out of the cache."""

    def projected(scale: float) -> Any:
        return cl.ops.linear(x, weight=weights(WIDTH, WIDTH) * np.float32(scale))

    def pushed(past: Any, new: Any) -> Any:
        whole = cl.ops.concat([past, new], axis=1)
        return cl.ops.slice_by_index(whole, begin=[0, 1, 0], end=[1, LENGTH + 1, WIDTH])

    k, v = pushed(past_k, projected(0.7)), pushed(past_v, projected(0.5))
    scores = cl.ops.softmax(cl.ops.matmul(projected(1.0), k, transpose_y=True), axis=-1)
    return {"y": cl.ops.matmul(scores, v), "present_k": k, "present_v": v}


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def explicit(request: pytest.FixtureRequest) -> Any:
    cache = cl.spec(1, LENGTH, WIDTH)
    how = {"precision": request.param, "name": f"attention_{request.param}"}
    return cl.compile(attention, x=cl.spec(1, 1, WIDTH), past_k=cache, past_v=cache, **how)


def test_twenty_steps_with_states_are_those_with_an_explicit_cache(explicit: Any) -> None:
    model = cl.edit(explicit).apply("states", pairs=PAIRS).model
    assert [port.name for port in model.info.inputs] == ["x"]
    assert [port.name for port in model.info.outputs] == ["y"]
    assert {name: kind.shape for name, kind in model.states.items()} == dict.fromkeys(
        PAIRS, (1, LENGTH, WIDTH)
    )
    state, cache = model.make_state(), dict.fromkeys(PAIRS, EMPTY)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        x = rng.standard_normal((1, 1, WIDTH)).astype(np.float32)
        want = explicit.predict({"x": x, **cache})
        cache = {past: want[present] for past, present in PAIRS.items()}
        got = model.predict({"x": x}, state)
        # States are fp16: values below 4 are rounded by 2⁻¹⁰ at most.
        np.testing.assert_allclose(got["y"], want["y"], atol=2e-3)
        for past, held in cache.items():
            np.testing.assert_allclose(state.read(past), held, atol=4e-3)
    assert np.abs(want["y"]).max() > 0.1


def test_a_state_begins_anew_and_two_are_apart(explicit: Any) -> None:
    model = cl.edit(explicit).apply("states", pairs=PAIRS).model
    x = {"x": np.ones((1, 1, WIDTH), np.float32)}
    one, other = model.make_state(), model.make_state()
    first = model.predict(x, one)["y"]
    second = model.predict(x, one)["y"]
    assert not np.array_equal(first, second)
    assert np.array_equal(model.predict(x, other)["y"], first)


def test_one_of_two_may_stay_as_it_is_and_other_actions_follow(
    explicit: Any, tmp_path: Path
) -> None:
    edit = cl.edit(explicit).apply("states", pairs={"past_k": "present_k"})
    edit.apply("int8_weights", weight_threshold=64)
    model = cl.load(edit.save(tmp_path / "net.mlpackage"))
    assert [port.name for port in model.info.inputs] == ["x", "past_v"]
    assert list(model.states) == ["past_k"]
    x = {"x": np.ones((1, 1, WIDTH), np.float32), "past_v": EMPTY}
    assert set(model.predict(x, model.make_state())) == {"y", "present_v"}


def grown(x: Any, past: Any) -> Any:
    return {"y": cl.ops.relu(x), "present": cl.ops.concat([past, x], axis=1), "z": x * 2.0}


@pytest.mark.parametrize(
    ("pairs", "error", "said"),
    [
        ({}, UnknownParameter, "needs pairs"),
        ({"past": "nothing"}, UnknownParameter, "no 'nothing'"),
        ({"nothing": "present"}, UnknownParameter, "no 'nothing'"),
        ({"past": "y", "x": "y"}, UnknownParameter, "an output of its own"),
        ({"past": "present"}, CompileError, "not the same"),
    ],
)
def test_what_cannot_be_a_state_is_one_clear_error(
    pairs: dict[str, str], error: type[LabError], said: str
) -> None:
    model = cl.compile(grown, x=cl.spec(1, 1, 4), past=cl.spec(1, 3, 4), name="grown")
    with pytest.raises(error, match=said):
        cl.edit(model).apply("states", pairs=pairs)


def test_a_flexible_cache_and_a_model_of_nothing_else_are_refused() -> None:
    def kept(past: Any) -> Any:
        return {"present": past + 1.0}

    model = cl.compile(kept, past=cl.spec(1, 4), name="kept")
    with pytest.raises(CompileError, match="nothing would be left"):
        cl.edit(model).apply("states", pairs={"past": "present"})

    def both(past: Any) -> Any:
        return {"present": past + 1.0, "y": past * 2.0}

    model = cl.compile(both, past=cl.spec(Dim("n", 1, 8), 4), name="both")
    with pytest.raises(CompileError, match="no fixed shape"):
        cl.edit(model).apply("states", pairs={"past": "present"})
