"""States of the native engine: they live in the worker, and are never silently lost."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, InputError, StateLost, Timeout
from coreml_lab.program.mil.tools import TARGET, mb, types
from coreml_lab.run.native import link
from coreml_lab.run.state import State
from tests.support.native import Double
from tests.support.stateful import save

ONE = {"x": np.ones((1, 4), np.float16)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that adds its input to a state."""
    half = {"shape": (1, 4), "dtype": types.fp16}
    specs = [mb.TensorSpec(**half), mb.StateTensorSpec(**half)]

    @mb.program(input_specs=specs, opset_version=TARGET)
    def program(x: Any, total: Any) -> Any:
        y = mb.add(x=x, y=mb.read_state(input=total), name="y")
        mb.coreml_update_state(state=total, value=y)
        return y

    return save(tmp_path_factory.mktemp("counter"), program)


@pytest.fixture
def model(mac: Double, package: Path) -> Any:
    return cl.load(package, engine="coreml")


def kill(double: Double) -> None:
    """End the worker from outside, as the system does when memory is short."""
    pid = double.worker.pid
    assert pid is not None
    link = double.worker._link
    assert link is not None
    os.kill(pid, signal.SIGKILL)
    link.process.wait(10)


def test_a_state_stays_in_the_worker_from_step_to_step(model: Any, mac: Double) -> None:
    state = model.make_state()
    for step in (1, 2, 3):
        assert model.predict(ONE, state=state)["y"].tolist() == [[step] * 4]
    assert mac.calls("read") == mac.calls("write") == []
    assert {str(t) for t in model.states.values()} == {"fp16[1,4]"}


def test_two_states_of_one_model_are_apart(model: Any) -> None:
    first, second = model.make_state(), model.make_state()
    model.predict(ONE, state=first)
    model.predict(ONE, state=first)
    assert model.predict(ONE, state=second)["y"].tolist() == [[1] * 4]
    assert first.read("total").tolist() == [[2] * 4]


def test_what_a_state_holds_is_read_and_replaced(model: Any, mac: Double) -> None:
    state = model.make_state()
    state.write("total", np.full((1, 4), 7, np.float32))
    assert mac.calls("write") == [["total", "float32"]]
    assert model.predict(ONE, state=state)["y"].tolist() == [[8] * 4]
    found = state.read("total")
    assert (found.dtype, found.tolist()) == (np.float16, [[8] * 4])
    found[:] = 0
    assert state.read("total").tolist() == [[8] * 4]


def test_wrong_uses_of_a_state_are_one_error(model: Any) -> None:
    state = model.make_state()
    for wrong in (
        lambda: state.read("nothing"),
        lambda: state.write("nothing", ONE["x"]),
        lambda: state.write("total", np.ones(3, np.float16)),
        lambda: model.predict(ONE),
    ):
        with pytest.raises(InputError):
            wrong()


def test_another_engines_state_is_taken_and_given_back(model: Any, package: Path) -> None:
    portable = cl.load(package, engine="portable")
    state = portable.make_state()
    portable.predict(ONE, state=state)
    assert model.predict(ONE, state=state)["y"].tolist() == [[2] * 4]
    assert portable.predict(ONE, state=state)["y"].tolist() == [[3] * 4]
    mine = model.make_state()
    model.predict(ONE, state=mine)
    assert portable.predict(ONE, state=mine)["y"].tolist() == [[2] * 4]
    assert mine.read("total").tolist() == [[2] * 4]


def test_a_failed_step_changes_nothing(model: Any, mac: Double) -> None:
    state = model.make_state()
    model.predict(ONE, state=state)
    mac.fail("predict-error")
    with pytest.raises(EngineError):
        model.predict(ONE, state=state)
    assert state.read("total").tolist() == [[1] * 4]
    held = State(state.types)
    mac.fail("predict-error")
    with pytest.raises(EngineError):
        model.predict(ONE, state=held)
    assert held.read("total").tolist() == [[0] * 4]


def test_what_went_with_the_worker_is_told_and_can_be_written_again(
    model: Any, mac: Double
) -> None:
    state = model.make_state()
    model.predict(ONE, state=state)
    kill(mac)
    for use in (
        state.check_held,
        lambda: state.read("total"),
        lambda: model.predict(ONE, state=state),
    ):
        with pytest.raises(StateLost, match="'total' held is not known any more") as caught:
            use()
        assert "make_state" in caught.value.hint
        assert mac.worker.pid is None  # none is started only to find it empty
    state.write("total", np.full((1, 4), 5, np.float16))
    assert model.predict(ONE, state=state)["y"].tolist() == [[6] * 4]
    assert model.predict(ONE, state=model.make_state())["y"].tolist() == [[1] * 4]


def test_states_that_are_gone_are_dropped(model: Any, mac: Double) -> None:
    state = model.make_state()
    number = state._place[2]
    del state
    gc.collect()
    assert number in [getattr(r, "state", None) for _, r in mac.worker._later]
    model.predict(ONE, state=model.make_state())
    assert number not in [getattr(r, "state", None) for _, r in mac.worker._later]


def test_a_state_follows_the_program_that_uses_it(model: Any, mac: Double) -> None:
    again = model.again()
    state = model.make_state()
    model.predict(ONE, state=state)
    assert again.predict(ONE, state=state)["y"].tolist() == [[2] * 4]
    moved = len(mac.calls("write"))
    assert again.predict(ONE, state=state)["y"].tolist() == [[3] * 4]
    assert state.read("total").tolist() == [[3] * 4]
    assert len(mac.calls("write")) == moved == 1  # once there, it stays
    assert model.predict(ONE, state=state)["y"].tolist() == [[4] * 4]


def test_a_move_that_fails_leaves_a_state_as_it_was(model: Any, mac: Double) -> None:
    again, state = model.again(), model.make_state()
    model.predict(ONE, state=state)
    mac.fail("write-error")
    with pytest.raises(EngineError, match="while writing a state"):
        again.predict(ONE, state=state)
    assert state.read("total").tolist() == [[1] * 4]
    assert again.predict(ONE, state=state)["y"].tolist() == [[2] * 4]


def test_a_state_written_again_serves_the_program_that_a_restart_has_loaded(
    model: Any, mac: Double
) -> None:
    old, held = model.make_state(), State(model.states)
    model.predict(ONE, state=old)
    cl.configure(recover=True)
    model = cl.load(model.program.package, engine="coreml")
    mac.fail("predict-segv")
    assert model.predict(ONE, state=held)["y"].tolist() == [[1] * 4]  # after a restart
    loads = len(mac.calls("load"))
    old.write("total", np.full((1, 4), 5, np.float16))
    assert old.read("total").tolist() == [[5] * 4]
    assert model.predict(ONE, state=old)["y"].tolist() == [[6] * 4]
    assert len(mac.calls("load")) == loads  # not once more for the program it came from


def test_an_interrupt_after_the_answer_leaves_no_state_that_is_a_step_ahead(
    model: Any, mac: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = model.make_state()
    model.predict(ONE, state=state)
    link = mac.worker._link
    assert link is not None

    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(link.outputs, "views", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.predict(ONE, state=state)
    with pytest.raises(StateLost, match="was interrupted"):
        model.predict(ONE, state=state)
    state.write("total", np.full((1, 4), 1, np.float16))
    assert model.predict(ONE, state=state)["y"].tolist() == [[2] * 4]


def test_a_state_is_taken_and_given_back_within_a_deadline(model: Any, mac: Double) -> None:
    held = State(model.states)
    assert model.predict(ONE, state=held, deadline=60.0)["y"].tolist() == [[1] * 4]
    mac.fail("write-slow")
    before = mac.worker.pid
    with pytest.raises(Timeout, match="still writing a state"):
        model.predict(ONE, state=held, deadline=0.5)
    assert held.read("total").tolist() == [[1] * 4]
    assert model.predict(ONE, state=held)["y"].tolist() == [[2] * 4]
    assert mac.worker.pid == before


def test_a_step_that_goes_on_after_its_deadline_leaves_a_state_unknown(
    model: Any, mac: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = model.make_state()
    model.predict(ONE, state=state)
    monkeypatch.setattr(link, "FAIR", 2.0)  # as if others had been served before it
    mac.fail("predict-slow")
    with pytest.raises(Timeout, match="still predicting"):
        model.predict(ONE, state=state, deadline=0.5)
    with pytest.raises(StateLost, match="went on after its deadline"):
        model.predict(ONE, state=state)
    assert model.predict(ONE, state=model.make_state())["y"].tolist() == [[1] * 4]


@pytest.mark.parametrize("recover", [False, True])
def test_a_step_whose_results_were_lost_is_not_made_again(
    package: Path, mac: Double, recover: bool
) -> None:
    cl.configure(recover=recover)
    mac.worker.stop()
    model = cl.load(package, engine="coreml")
    state, link = model.make_state(), mac.worker._link
    assert link is not None
    (link.folder / "outputs-1").touch()  # as on a full disk, the results cannot be written
    with pytest.raises(StateLost if recover else EngineError) as caught:
        model.predict(ONE, state=state)
    assert isinstance(caught.value, StateLost) == recover
    with pytest.raises(StateLost, match="results of a prediction that changed it were lost"):
        state.read("total")
    held = State(model.states)  # of another engine: it is given back only when all went well
    mac.worker.stop()
    assert model.predict(ONE, state=held)["y"].tolist() == [[1] * 4]
