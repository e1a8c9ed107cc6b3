"""What the worker does with a request, in this process: no coremltools, and no Mac."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coreml_lab.run import worker
from coreml_lab.run.native.arena import Writer
from coreml_lab.run.native.messages import Failed, Load, LoadedModel, Predict, StateSlot
from coreml_lab.run.worker import Held, Server

LOAD = Load(1, "net.mlmodelc", "moved.mlpackage", "ALL", "", {}, (), (), ())
SECOND = 1_000_000_000


class Clock:
    """Time that passes when it is told to."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now

    perf_counter_ns = monotonic_ns


class Slow:
    """A model whose predictions take a given time; it knows which inputs are still held."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._proxy = SimpleNamespace(
            get_last_predict_duration_in_nano_seconds=lambda: None,
            get_load_duration_in_nano_seconds=lambda: None,
        )
        self.seconds = 0
        self.given: list[weakref.ref[Any]] = []

    def predict(self, inputs: dict[str, Any], _: Any) -> dict[str, Any]:
        self.given += map(weakref.ref, inputs.values())
        self._clock.now += self.seconds * SECOND
        return {}

    @property
    def held(self) -> list[bool]:
        gc.collect()
        return [each() is not None for each in self.given]


def test_inputs_are_kept_from_the_end_of_a_prediction_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    (tmp_path / "kernel").mkdir()
    server = Server(None, tmp_path)  # type: ignore[arg-type]  # nobody asks
    model = Slow(clock)
    port = SimpleNamespace(name="x", kind="tensor")
    held = Held(SimpleNamespace(inputs=(port,), outputs=()), model)  # type: ignore[arg-type]
    server._models[1] = held
    inputs = Writer(tmp_path / "kernel", "inputs")

    def predict(seconds: int) -> None:
        model.seconds = seconds
        server.predict(Predict(1, inputs.put([{"x": np.ones(3, np.float32)}])))

    predict(11)
    predict(0)
    assert model.held == [True, True]
    clock.now += 11 * SECOND
    predict(0)
    assert model.held == [False, False, True]


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """coremltools, as far as a load looks at it."""
    made = SimpleNamespace(CompiledMLModel=lambda *_: Slow(Clock()))
    found = SimpleNamespace(models=made, ComputeUnit={"ALL": 0}, ReshapeFrequency={})
    found.SpecializationStrategy = {}
    monkeypatch.setattr(worker, "_ct", lambda: found)


@pytest.mark.usefixtures("framework")
def test_states_that_are_known_are_not_read_from_a_package_that_may_be_gone(tmp_path: Path) -> None:
    from dataclasses import replace

    server = Server(None, tmp_path)  # type: ignore[arg-type]  # nobody asks
    slots = (StateSlot("total", "float16", (1, 4)),)
    assert server.answer(replace(LOAD, states=slots)) == LoadedModel(slots)


@pytest.mark.usefixtures("framework")
def test_a_load_that_fails_leaves_no_model(tmp_path: Path) -> None:
    server = Server(None, tmp_path)  # type: ignore[arg-type]  # nobody asks
    assert isinstance(server.answer(LOAD), Failed)
    assert server._models == {}


@pytest.mark.parametrize("error", [OSError("the disk is full"), MemoryError("no room")])
def test_a_failure_after_a_prediction_says_that_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    server = Server(None, tmp_path)  # type: ignore[arg-type]  # nobody asks
    model = Slow(Clock())
    held = Held(SimpleNamespace(inputs=(), outputs=()), model)  # type: ignore[arg-type]
    server._models[1] = held
    inputs = Writer(tmp_path, "inputs").put([{}])

    def fails(*_: Any) -> Any:
        raise error

    kind = "memory" if isinstance(error, MemoryError) else "engine"
    with monkeypatch.context() as patch:
        patch.setattr(server._outputs, "put", fails)
        assert server.answer(Predict(1, inputs)) == Failed(kind, str(error), after=True)
    monkeypatch.setattr(model, "predict", fails)
    assert server.answer(Predict(1, inputs)) == Failed(kind, str(error))
