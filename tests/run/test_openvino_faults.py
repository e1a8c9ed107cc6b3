"""OpenVINO's deadlines hold, interrupts leave it usable, and the cache may go meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import Timeout
from coreml_lab.program.graph import Dim
from coreml_lab.run.executor import Interrupted
from tests.support.caches import cleared_when_found

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")

SMALL = {"x": np.ones((1, 256), np.float32)}
LAYERS = 300
BIG = {"x": np.ones((8192, 256), np.float32)}


@pytest.fixture(scope="module")
def model() -> cl.Model:
    """Seconds for many rows, no time for one."""
    w = np.eye(256, dtype=np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        for _ in range(LAYERS):
            x = ops.tanh(ops.matmul(x, w))
        return x

    found = cl.compile(net, x=cl.spec(Dim("n", 1, 8192), 256), engine="openvino")
    found.predict(SMALL)
    return found


def works(model: cl.Model) -> None:
    """It gives the shapes and values of its inputs, with and without a deadline."""
    for inputs in (SMALL, {"x": np.full((3, 256), 0.5, np.float32)}, SMALL):
        for deadline in (60, 0):
            (y,) = model.predict(inputs, deadline=deadline).values()
            want = inputs["x"]
            for _ in range(LAYERS):
                want = np.tanh(want)
            np.testing.assert_allclose(y, want, rtol=1e-3)


def test_a_deadline_holds_while_another_thread_runs(model: cl.Model) -> None:
    started = threading.Event()

    def long() -> None:
        started.set()
        with contextlib.suppress(Timeout):
            model.predict(BIG, deadline=2.0)

    thread = threading.Thread(target=long)
    thread.start()
    started.wait(30)
    time.sleep(0.05)
    begin = time.monotonic()
    with pytest.raises(Timeout, match="busy with another run"):
        model.predict(SMALL, deadline=0.1)
    assert time.monotonic() - begin < 2
    thread.join(60)
    works(model)


def test_a_run_with_a_deadline_leaves_the_inputs_of_the_last_one_alone() -> None:
    model = cl.compile(ops.exp, x=cl.spec(3), engine="openvino")
    first = np.zeros(3, np.float32)
    model.predict({"x": first})
    model.predict({"x": np.ones(3, np.float32)}, deadline=60)
    assert first.tolist() == [0, 0, 0]


def test_a_program_of_fixed_shapes_is_stopped_and_stays_usable() -> None:
    w = np.eye(256, dtype=np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        for _ in range(LAYERS):
            x = ops.tanh(ops.matmul(x, w))
        return x

    fixed = cl.compile(net, x=cl.spec(4096, 256), engine="openvino")
    x = {"x": np.ones((4096, 256), np.float32)}
    (want,) = fixed.predict(x).values()
    with pytest.raises(Timeout, match="was stopped"):
        fixed.predict(x, deadline=0.05)
    (y,) = fixed.predict({"x": x["x"] * 1}, deadline=120).values()
    np.testing.assert_array_equal(y, want)
    assert not fixed._executor._loaded._flexible  # type: ignore[attr-defined]


def test_a_deadline_stops_it_and_it_stays_usable(model: cl.Model) -> None:
    with pytest.raises(Timeout, match="was stopped"):
        model.predict(BIG, deadline=0.1)
    works(model)


@pytest.fixture
def interrupt() -> Iterator[Any]:
    """Ctrl-C after so many seconds."""

    def rings(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, rings)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_is_heard_at_once_and_leaves_it_usable(model: cl.Model, interrupt: Any) -> None:
    begin = time.monotonic()
    interrupt(0.2)
    with pytest.raises(Interrupted):
        model.predict(BIG, deadline=60.0)
    assert time.monotonic() - begin < 20
    works(model)


SCRIPT = """
import numpy as np
import coreml_lab as cl
from coreml_lab.program.graph import Dim
weight = np.zeros((256, 256, 3, 3), np.float32)

def network(x):
    for _ in range(6):
        x = cl.ops.relu(cl.ops.conv(x=x, weight=weight, bias=None, pad_type="same"))
    return x

model = cl.compile(network, x=cl.spec(Dim("n", 1, 9), 256, 32, 32), engine="openvino")
try:
    model.predict({"x": np.ones((9, 256, 32, 32), np.float32)}, deadline=0.02)
except cl.errors.Timeout:
    print("stopped")
"""


def test_an_interpreter_that_ends_right_after_a_deadline_ends_well() -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout) == (0, "stopped\n"), ran.stderr


def test_a_verdict_that_is_cleared_meanwhile_is_found_again(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = cl.compile(ops.exp, x=cl.spec(3), engine="openvino").program.package
    kept = package.parent.rename(cache_dir.parent / "kept") / package.name
    cl.load(kept, engine="openvino")
    cleared_when_found(monkeypatch, "-openvino")
    assert cl.load(kept, engine="openvino").plan.engine == "openvino"
    assert list(cache_dir.glob("*-openvino"))
