"""Nothing grows: neither over predictions nor over loading and letting go, on any engine.

A leak shows in every window; what a library keeps once, or what another test left behind to be
freed, does not. So of several windows of the same length one must have grown little.
"""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.probes.process import memory as memory_of
from coreml_lab.probes.protocol import Target
from coreml_lab.program import heap
from coreml_lab.run import compiler, eager
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.tinygrad_onnx import TinygradEngine, opencl_devices
from tests.support.native import Double

X = {"x": np.ones((4, 8), np.float32)}
WINDOWS = 3
# Far below a hundred bytes a prediction; a page that the allocator takes is 4 kB.
PREDICTIONS_KB = 256
LOADS_KB = 1024
ALL_KB = 2048
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
    """The ring of finished runs is full at once: it grows to some 8 MB, and no further."""
    monkeypatch.setattr(ACTIVITY, "finished", deque(ACTIVITY.finished, maxlen=64))


def network(x: Any) -> Any:
    return cl.ops.relu(cl.ops.linear(x, weight=np.ones((16, 8), np.float32)))


def model_on(engine: str, device: str) -> Any:
    return cl.compile(network, x=cl.spec(4, 8), name="net", engine=engine, device=device)


def resident(pid: int = 0) -> float:
    """Bytes of a process in memory, after the garbage is gone."""
    gc.collect()
    return memory_of(Target(pid or os.getpid()))()[0]


def opened() -> tuple[int, int]:
    """Threads and open files of this process."""
    files = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112
    return threading.active_count(), len(os.listdir(files))  # noqa: PTH208


def assert_bounded(
    work: Callable[[], object], times: int, limit_kb: float, pid: int = 0, windows: int = WINDOWS
) -> None:
    """In one of the windows at least a process grew by less, and nothing stayed open."""
    for _ in range(times // 4 + 1):
        work()
    gc.collect()
    before, grown = opened(), []
    with heap.apart():
        while not grown or (grown[-1] >= limit_kb and len(grown) < windows):
            start = resident(pid)
            for _ in range(times):
                work()
            grown.append((resident(pid) - start) / 1024)
    now = opened()
    assert now[0] <= before[0], "threads stayed"
    assert now[1] <= before[1], "files stayed open"
    said = f"grew by {', '.join(f'{kb:.0f}' for kb in grown)} kB in {times} times each"
    assert grown[-1] < limit_kb, said + ("" if pid else f": {allocated(work, times)}")


def allocated(work: Callable[[], object], times: int) -> str:
    """Where Python keeps more after another window, and how many more objects of which type."""
    kinds = Counter(type(o).__name__ for o in gc.get_objects())
    tracemalloc.start(8)
    try:
        for _ in range(times // 4):
            work()
        gc.collect()
        first = tracemalloc.take_snapshot()
        for _ in range(times // 4):
            work()
        gc.collect()
        found = tracemalloc.take_snapshot().compare_to(first, "traceback")
    finally:
        tracemalloc.stop()
    lines = [
        f"{d.size_diff} B in {d.count_diff}:\n" + "\n".join(d.traceback.format()) for d in found[:6]
    ]
    more = Counter(type(o).__name__ for o in gc.get_objects()) - kinds
    return f"{more.most_common(8)}\n" + "\n".join(lines)


@pytest.mark.parametrize(("engine", "device"), QUICK)
def test_nothing_grows_over_ten_thousand_predictions(engine: str, device: str) -> None:
    model = model_on(engine, device)
    assert_bounded(lambda: model.predict(X), 10_000 // WINDOWS, PREDICTIONS_KB)


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
    model = model_on(engine, device)
    package = model.program.package

    def cycle() -> None:
        cl.load(package, engine=engine, device=device).predict(X)

    assert_bounded(lambda: model.predict(X), 10_000, ALL_KB)
    assert_bounded(cycle, 1_000, ALL_KB)


@pytest.mark.sweep
def test_thousands_of_predictions_in_a_worker_stay_below_two_megabytes(mac: Double) -> None:
    model = model_on("coreml", "coreml")
    model.predict(X)
    pid = mac.worker.pid
    assert pid
    # What it keeps for ten seconds levels out, at a height that goes with the pace.
    assert_bounded(lambda: model.predict(X), 1_500, ALL_KB, pid, windows=5)
