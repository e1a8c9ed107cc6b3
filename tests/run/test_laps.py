"""Where an inference's time goes: the parts that engines tell add up to all of it."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.run import laps, stages
from coreml_lab.run.stages import collecting, step
from tests.program.test_state import accumulator, packaged
from tests.run.test_coreml import X as HALF
from tests.run.test_coreml import compiled
from tests.support.stateful import state, tensor

X = {"x": np.ones((4, 16), "float32")}


def network(x):
    return {"y": cl.ops.relu(x @ np.ones((16, 8), "float32"))}


def model(engine: str, device: str):
    return cl.compile(network, x=cl.spec(4, 16), engine=engine, device=device, name="net")


@pytest.mark.parametrize(
    ("engine", "device", "parts"),
    [
        ("portable", "coreml", {"convert", "framework", "binding"}),
        ("openvino", "coreml", {"convert", "framework", "binding"}),
        ("pytorch", "cpu", {"convert", "framework", "copy", "binding"}),
        ("reference", "cpu", {"convert", "framework", "binding"}),
    ],
)
def test_every_engine_tells_its_parts_and_they_add_up_to_the_whole(engine, device, parts):
    library = {"openvino": "openvino", "pytorch": "torch"}.get(engine, "numpy")
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    found = model(engine, device).split(X, runs=3)
    assert len(found) == 3
    for each in found:
        assert set(each.parts) == parts
        assert sum(each.parts.values()) == each.wall_ns
        assert all(spent >= 0 for spent in each.parts.values())


def test_core_ml_tells_its_own_time_that_of_its_binding_and_of_the_way_to_its_process(mac):
    found = compiled().split({"x": HALF}, runs=2)[-1]
    named = {"convert", "copy", "framework", "native", "process", "binding"}
    assert set(found.parts) == named
    assert found.parts["native"] > 0
    assert sum(found.parts.values()) == found.wall_ns


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_states_begin_as_zeros_in_each_inference_and_are_no_part_of_their_own(tmp_path):
    import torch

    package = packaged(
        accumulator(),
        (torch.zeros(3, dtype=torch.float16),),
        tmp_path,
        inputs=[tensor("x", 3, dtype=np.float16)],
        states=[state("total", 3), state("bias", 3)],
    )
    found = cl.load(package, engine="portable").split({"x": np.ones(3, np.float16)}, runs=2)
    assert [set(each.parts) for each in found] == [{"convert", "framework", "binding"}] * 2


def test_nobody_is_told_outside_of_a_split():
    assert laps.on == 0
    laps.lap("convert")
    laps.told({"native": 5}, rest="process")
    with laps.engine():
        pass
    with laps.watching() as watch:
        thread = threading.Thread(target=laps.lap, args=("elsewhere",))
        thread.start()
        thread.join()
    assert set(watch.parts) == {laps.OURS}
    assert laps.on == 0


def test_an_engine_that_says_nothing_is_one_part():
    with laps.watching() as watch:
        with laps.engine():
            pass
        with laps.engine():
            laps.lap("framework")
    assert set(watch.parts) == {"binding", "engine", "framework"}


def test_parts_told_from_elsewhere_never_exceed_what_passed():
    with laps.watching() as watch:
        laps.told({"native": 10**15, "copy": 10**15}, rest="process")
    assert sum(watch.parts.values()) == watch.split.wall_ns
    assert watch.parts["copy"] == watch.parts["process"] == 0


def test_a_watch_that_fails_is_over():
    def fails():
        with laps.watching():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fails()
    assert laps.on == 0


def test_a_model_knows_how_long_the_steps_of_its_loading_took(tmp_path):
    with cl.configure(cache_dir=str(tmp_path)):
        fresh = model("portable", "coreml")
        assert [s.name for s in fresh.stages] == ["passes", "session", "lowering"]
        fresh.predict(X)
        fresh.predict(X)
        assert [s.name for s in fresh.stages[3:]] == ["first run"]
        again = fresh.again()
    assert [s.name for s in again.stages] == ["session"]
    assert all(s.duration_ns > 0 for s in (*fresh.stages, *again.stages))
    assert fresh.predict(X)["y"].tolist() == again.predict(X)["y"].tolist()


def test_the_time_of_a_step_is_its_own_without_that_of_steps_inside():
    @collecting
    def load() -> tuple:
        with step("outer"), step("inner"):
            sum(range(200_000))
        return stages.current()

    outer, inner = load()
    assert (outer.name, inner.name) == ("outer", "inner")
    assert outer.duration_ns < inner.duration_ns
    assert outer.start_ns <= inner.start_ns
    assert stages.current() == ()


def test_steps_outside_of_a_loading_are_not_kept():
    with step("alone"):
        assert stages.current() == ()
