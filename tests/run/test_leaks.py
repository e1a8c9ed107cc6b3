"""Nothing grows: neither over predictions nor over loading and letting go, on any engine."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.run import compiler, eager
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.tinygrad_onnx import TinygradEngine, opencl_devices
from tests.support import growing
from tests.support.growing import ALL_KB, PREDICTIONS, WINDOWS, X, assert_bounded, model_on
from tests.support.native import Double

# Far below a hundred bytes a prediction; a page that the allocator takes is 4 kB.
PREDICTIONS_KB = 256
LOADS_KB = 1024
NO_TORCH = not PyTorchEngine().available().available
NO_OPENVINO = not OpenVINOEngine().available().available


def where(engine: str, device: str, missing: bool = False) -> Any:
    marks = pytest.mark.skipif(missing, reason=f"{engine} is not here")
    return pytest.param(engine, device, id=engine, marks=marks)


QUICK = (
    where("portable", "coreml"),
    where("reference", "cpu"),
    where("pytorch", "cpu", NO_TORCH),
    where("openvino", "coreml", NO_OPENVINO),
    where("hybrid", "coreml"),
)
OPENCL = where("tinygrad", "opencl", not opencl_devices() or not TinygradEngine().devices)


@pytest.fixture(autouse=True)
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of finished runs does not count."""
    monkeypatch.setattr(ACTIVITY, "finished", growing.few_kept())


@pytest.mark.parametrize(("engine", "device"), QUICK)
def test_nothing_grows_over_thousands_of_predictions(engine: str, device: str) -> None:
    model = model_on(engine, device)
    assert_bounded(lambda: model.predict(X), PREDICTIONS // WINDOWS, PREDICTIONS_KB)


@pytest.mark.parametrize(("engine", "device"), [*QUICK, OPENCL])
def test_nothing_grows_over_loading_and_letting_go(engine: str, device: str) -> None:
    package = model_on(engine, device).program.package
    held = cl.memory()[cl.device(device).name].live.value

    def cycle() -> None:
        cl.load(package, engine=engine, device=device).predict(X)

    assert_bounded(cycle, 12, LOADS_KB)
    assert cl.memory()[cl.device(device).name].live.value <= held


@pytest.mark.parametrize(("engine", "device"), [*QUICK, OPENCL])
def test_a_model_goes_with_its_last_reference(engine: str, device: str) -> None:
    model = model_on(engine, device)
    for _ in range(4):  # tinygrad captures in the second run, and replays from the third
        model.predict(X)
    gc.collect()
    gc.disable()
    try:
        parts = [weakref.ref(p) for p in (model, model._executor, model._executor._loaded)]
        del model
        assert [part() for part in parts] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize(("engine", "device"), [OPENCL])
def test_nothing_grows_over_replays_on_opencl(engine: str, device: str) -> None:
    model = model_on(engine, device)
    assert_bounded(lambda: model.predict(X), 150, PREDICTIONS_KB)


def test_nothing_grows_over_predictions_in_a_worker(mac: Double) -> None:
    model = model_on("coreml", "coreml")
    model.predict(X)
    pid = mac.worker.pid
    assert pid
    # It keeps inputs for ten seconds: few predictions show only what is large.
    assert_bounded(lambda: model.predict(X), 50, LOADS_KB, pid, windows=4)
    assert_bounded(lambda: model.predict(X), 50, PREDICTIONS_KB)


def test_nothing_grows_over_loading_into_a_worker(mac: Double) -> None:
    package = model_on("coreml", "coreml").program.package

    def cycle() -> None:
        cl.load(package, engine="coreml").predict(X)

    cycle()
    pid = mac.worker.pid
    assert pid
    assert_bounded(cycle, 8, LOADS_KB, pid)


def test_nothing_grows_over_tensors_of_equal_code() -> None:
    def work() -> None:
        (cl.tensor(X["x"]) * 2.0 + 1.0).numpy()

    assert_bounded(work, 300, PREDICTIONS_KB)
    account = cl.memory()["cpu"]
    assert account.live.value < 2**20


def test_tensors_of_ever_new_code_keep_a_bounded_number_of_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eager, "KEPT", 3)
    for size in range(1, 8):
        (cl.tensor(np.ones(size, np.float32)) + 1.0).numpy()
    assert len(compiler.EAGER.models) == 3


def test_nothing_grows_over_failed_predictions_and_loads() -> None:
    model = model_on("portable", "coreml")

    def fail() -> None:
        with pytest.raises(cl.errors.InputError):
            model.predict({"x": np.ones((1, 1), np.float32)})
        with pytest.raises(cl.errors.ModelError):
            cl.load("there-is-no-such.mlpackage")

    assert_bounded(fail, 300, PREDICTIONS_KB)


def test_nothing_grows_over_schedulers() -> None:
    model = model_on("portable", "coreml")

    def serve() -> None:
        with cl.Scheduler(budget=0.0) as scheduler:
            for future in [scheduler.submit(model, X) for _ in range(8)]:
                future.result(timeout=30)

    assert_bounded(serve, 40, PREDICTIONS_KB)


# -- the whole lengths -----------------------------------------------------------------------------


@pytest.mark.sweep
@pytest.mark.parametrize(("engine", "device"), [*QUICK, OPENCL])
def test_ten_thousand_predictions_and_a_thousand_loads_stay_below_two_megabytes(
    engine: str, device: str
) -> None:
    # In a process of its own: one in which thousands of tests ran takes up pages that the allocator
    # had given back, tens of megabytes, whatever runs.
    command = [sys.executable, "-m", "tests.support.growing", engine, device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.sweep
def test_thousands_of_predictions_in_a_worker_stay_below_two_megabytes(mac: Double) -> None:
    model = model_on("coreml", "coreml")
    model.predict(X)
    pid = mac.worker.pid
    assert pid

    def paced() -> None:
        """At most a hundred in a second: what it keeps for ten seconds goes with the pace."""
        end = time.monotonic() + 0.01
        model.predict(X)
        time.sleep(max(0.0, end - time.monotonic()))

    assert_bounded(paced, 1_500, ALL_KB, pid, windows=5)
