"""Requests end once, whatever they are of, in forked children, too, and keep nothing alive."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, LabError, Timeout
from coreml_lab.program.graph import Array
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, held, one
from tests.support import classical
from tests.support.forks import in_child

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def holds_in_child(check: Callable[[], bool]) -> bool:
    return in_child(lambda: 0 if check() else 2) == 0


def left_behind(future: Any) -> bool:
    error = future.exception(20)
    return isinstance(error, LabError) and "forked" in error.message


def test_inputs_that_are_no_arrays_are_taken(tmp_path: Path) -> None:
    part = {"weights": [{"value": [2.0]}], "offset": [1.0]}
    made = classical.model("glmRegressor", part, {"x": "double"}, {"y": "double"}, predicted="y")
    file = tmp_path / "line.mlmodel"
    file.write_bytes(made.SerializeToString())
    model = cl.load(file)
    with Scheduler() as scheduler:
        futures = [scheduler.submit(model, {"x": float(i)}) for i in range(3)]
        assert [f.result(30) for f in futures] == [model.predict({"x": float(i)}) for i in range(3)]


class Falling(Fake):
    """Fails batches; the request of 7 waits until it is opened."""

    def run(self, feeds: Any, *_: Any) -> dict[str, Any]:
        x = feeds["x"]
        if len(x) > 1:
            raise EngineError("no batches today")
        if (x == 7).any():
            self.begun.set()
            assert self.open.wait(30)
        return {"y": x + 1}


@forks
@pytest.mark.filterwarnings("ignore:This process")
def test_one_that_had_its_end_keeps_none_of_the_others_from_theirs_in_a_child() -> None:
    with Scheduler() as scheduler:
        gate: Any = Fake("gate")
        held(scheduler, gate)
        model: Any = Falling()
        model.open.clear()
        first, running = scheduler.submit(model, one(1)), scheduler.submit(model, one(7))
        gate.open.set()
        assert model.begun.wait(30)
        assert first.result(30)["y"].item() == 2
        waiting, taken = scheduler.submit(model, one(2)), scheduler.submit(model, one(3))
        assert taken.cancel()
        assert holds_in_child(lambda: left_behind(running) and left_behind(waiting))
        model.open.set()
        assert (running.result(30)["y"].item(), waiting.result(30)["y"].item()) == (8, 3)


@forks
@pytest.mark.filterwarnings("ignore:This process")
def test_what_a_closing_scheduler_still_does_ends_in_a_child() -> None:
    scheduler, fake = Scheduler(), Fake()
    model: Any = fake
    running = held(scheduler, model)
    waiting = scheduler.submit(model, one(1))
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    while not scheduler._closed:
        pass
    assert holds_in_child(lambda: left_behind(running) and left_behind(waiting))
    fake.open.set()
    closer.join(30)
    assert waiting.result(30)["y"].item() == 2


@forks
@pytest.mark.filterwarnings("ignore:This process")
def test_late_ones_whose_turn_to_be_told_has_not_come_end_in_a_child() -> None:
    with Scheduler() as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        futures = [scheduler.submit(fake, one(i), deadline=0.2) for i in range(3)]
        told, go_on, here = threading.Event(), threading.Event(), os.getpid()

        def hold(_: Any) -> None:
            told.set()
            assert os.getpid() != here or go_on.wait(30)

        for future in futures:
            future.add_done_callback(hold)
        assert told.wait(30)
        others = [f for f in futures if not f.done()]
        assert len(others) == 2
        assert holds_in_child(lambda: all(map(left_behind, others)))
        go_on.set()
        assert all(isinstance(f.exception(30), Timeout) for f in futures)
        fake.open.set()


@pytest.mark.parametrize("deadline", [1e10, 1e300])
def test_a_deadline_of_centuries_leaves_those_of_others_as_they_are(deadline: float) -> None:
    with Scheduler() as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        long = scheduler.submit(fake, one(1), deadline=deadline)
        short = scheduler.submit(fake, one(2), deadline=0.1)
        assert isinstance(short.exception(20), Timeout)
        fake.open.set()
        assert long.result(30)["y"].item() == 2


def test_requests_with_other_settings_do_not_share_a_run() -> None:
    with Scheduler() as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        usual = [scheduler.submit(fake, one(i)) for i in range(2)]
        with cl.configure(recover=not cl.config.current().recover):
            other = [scheduler.submit(fake, one(i)) for i in range(3)]
        with cl.configure(deadline=20.0):
            timed = scheduler.submit(fake, one(9))
        fake.open.set()
        for future in (*usual, *other, timed):
            future.result(30)
        assert sorted(fake.sizes) == [1, 1, 2, 3]


@pytest.mark.parametrize("asked", ["batched", "largest_batch"])
def test_a_model_that_cannot_be_asked_harms_no_other(asked: str) -> None:
    def panic(_: Any) -> Any:
        raise SystemExit("panic")

    broken: Any = type("Broken", (Fake,), {asked: property(panic, lambda *_: None)})()
    with Scheduler() as scheduler:
        gate: Any = Fake("gate")
        held(scheduler, gate)
        futures = [scheduler.submit(m, one(1)) for m in (broken, broken, Fake("sound"))]  # type: ignore[arg-type]
        gate.open.set()
        assert [f.result(30)["y"].item() for f in futures] == [2, 2, 2]
        assert scheduler.submit(gate, one(2)).result(30)["y"].item() == 3


@pytest.mark.parametrize("moment", range(12))
def test_a_finalizer_that_takes_one_back_in_the_middle_of_the_queue_ends_no_other(
    moment: int,
) -> None:
    class Finalizing(Fake):
        left, asked = -1, None

        def __hash__(self) -> int:
            if threading.current_thread().name == "scheduler":
                self.left -= 1
                if self.left == 0 and self.asked is not None:
                    self.asked.cancel()
            return id(self)

    slow, model = Fake("slow", batched=False), Finalizing("finalizing", batched=False)
    with Scheduler() as scheduler:
        held(scheduler, slow)
        futures = [scheduler.submit(model, one(i), priority=-i) for i in range(6)]  # type: ignore[arg-type]
        model.asked, model.left = futures[3], moment + 1
        slow.open.set()
        assert not wait(futures, 30).not_done
        model.left = -1
        ended = [None if f.cancelled() else f.result()["y"].item() for f in futures]
        assert [e for i, e in enumerate(ended) if i != 3] == [1, 2, 3, 5, 6]
        told = scheduler.statistics()
    assert told.submitted == told.finished + told.cancelled == 7


def test_an_error_that_takes_no_note_is_told_once() -> None:
    class Closed(Exception):
        __notes__ = ()

    class Raising(Fake):
        def run(self, *_: Any) -> dict[str, Array]:
            raise Closed

    with Scheduler() as scheduler:
        future = scheduler.submit(Raising(batched=False), one(1))  # type: ignore[arg-type]
        assert isinstance(future.exception(30), Closed)
        told = scheduler.statistics()
    assert (told.submitted, told.failed) == (1, 1)


def test_the_inputs_of_a_failed_request_go_with_its_future() -> None:
    class Failing(Fake):
        """Fails, and makes inputs that can be watched."""

        def run(self, feeds: Any, *_: Any) -> dict[str, Any]:
            raise EngineError("no")

        def feeds(self, inputs: Any) -> dict[str, Any]:
            array = np.array(inputs["x"])
            watched.append(weakref.ref(array))
            return {"x": array}

    watched: list[weakref.ref[Any]] = []
    model: Any = Failing()
    gc.collect()
    gc.disable()
    try:
        with Scheduler() as scheduler:
            future = scheduler.submit(model, one(1))
            assert isinstance(future.exception(30), EngineError)
            del future
            scheduler.submit(model, one(2)).exception(30)  # it has forgotten the first by now
        assert watched[0]() is None
    finally:
        gc.enable()
