"""Results that overflow in fp16 are computed in fp32 once more, and an incident tells of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import EngineError, NumericalError
from tests.run.test_faults import ONES, Script, executor

X = np.array([[300.0, 2.0, 0.5, -400.0]], np.float32)


@pytest.fixture(autouse=True)
def recovering() -> Iterator[None]:
    with cl.configure(recover=True):
        yield


def overflowing(x: Any) -> Any:
    """The length of each pair: squares beyond 65504, which is fp16's largest number."""
    return ops.sqrt(x * x)


def compiled(**where: Any) -> cl.Model:
    return cl.compile(overflowing, x=cl.spec(1, 4), precision="faithful", **where)


ENGINES = [
    pytest.param("portable", "coreml:0"),
    pytest.param("pytorch", "cpu", marks=pytest.mark.torch),
    pytest.param("reference", "cpu"),
    pytest.param("hybrid", "cpu"),
]


@pytest.mark.parametrize(("engine", "device"), ENGINES)
def test_a_network_that_overflows_is_run_again_in_fp32(engine: str, device: str) -> None:
    if engine == "pytorch":
        pytest.importorskip("torch", reason="torch is not installed")
    model = compiled(engine=engine, device=device)
    small = np.ones((1, 4), np.float32)
    assert model.predict({"x": small})
    assert model.incidents == ()
    for _ in range(2):
        (y,) = model.predict({"x": X}).values()
        np.testing.assert_allclose(y, np.abs(X), rtol=2e-3)
    (incident,) = model.incidents
    # NumPy's engine always rounds: another one has to.
    where, on = (" to portable", " on portable") if engine == "reference" else ("", "")
    assert (incident.error, incident.action) == ("NumericalError", "Promote" + where)
    assert incident.outcome == "recovered"
    assert f"promoted to fp32{on}; 1 incident" in repr(model)


def test_without_recovery_overflow_is_shown() -> None:
    with cl.configure(recover=False):
        model = compiled(engine="portable")
        (y,) = model.predict({"x": X}).values()
    assert np.isinf(y).tolist() == [[True, False, False, True]]
    assert model.incidents == ()
    # As well where it is turned off later, and on again.
    model = compiled(engine="portable")
    with cl.configure(recover=False):
        (y,) = model.predict({"x": X}).values()
    assert np.isinf(y).tolist() == [[True, False, False, True]]
    (y,) = model.predict({"x": X}).values()
    assert np.isfinite(y).all()


def test_what_overflows_in_fp32_too_stays_where_it_was_and_is_tried_once() -> None:
    model = cl.compile(
        lambda x: ops.exp(x * x), x=cl.spec(1, 4), precision="faithful", engine="portable"
    )
    for _ in range(3):
        (y,) = model.predict({"x": X}).values()
        assert np.isinf(y[0, 0])
    (incident,) = model.incidents
    assert "not finite in fp32 either" in incident.outcome
    assert "promoted" not in repr(model)


def test_a_debugged_model_stops_instead() -> None:
    model = compiled(engine="portable")
    with pytest.raises(NumericalError, match=r"mul|square"):
        model.debug({"x": X})


def test_a_gate_for_fp16_sees_what_a_device_would_do(tmp_path: Any) -> None:
    model = compiled(engine="portable")
    path = model.program.package
    gate = cl.check(path, {"x": X}, reference=path, min_snr=40, precision="faithful")
    assert not gate.passed


def test_a_difference_names_the_operation_that_overflows() -> None:
    single = cl.compile(overflowing, x=cl.spec(1, 4), precision="fp32", engine="portable")
    found = cl.diff(compiled(engine="portable"), single, {"x": X})
    assert found.first is not None
    assert found.first.op in {"mul", "square"}


def in_threads(count: int, work: Any) -> None:
    gate = threading.Barrier(count)

    def run() -> None:
        gate.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("factor", [70000, np.inf])
def test_threads_that_overflow_together_are_promoted_once(factor: float) -> None:
    made, results = [], []
    slow = threading.Event()

    def load() -> Any:
        made.append(Script(factor=factor))
        slow.wait(0.2)  # the others arrive meanwhile
        return made[-1]

    runner, _, _ = executor(Script(factor=np.inf), promote=load)
    in_threads(8, lambda: results.append(runner.run(ONES)["y"].max()))
    assert results == [factor] * 8
    assert len(made) == 1


def test_threads_that_fail_together_do_not_use_up_the_alternatives() -> None:
    broken = Script([EngineError("bad") for _ in range(100)])
    made, results = [], []
    slow = threading.Event()

    def load() -> Any:
        made.append(Script())
        slow.wait(0.2)
        return made[-1]

    runner, _, _ = executor(broken, alternatives=[("other", load), ("third", load)])
    in_threads(8, lambda: results.append(runner.run(ONES)["y"].max()))
    assert results == [2] * 8
    assert (len(made), runner.fallen_back_to) == (1, "other")
