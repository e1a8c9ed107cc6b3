"""A batch waits for company: for how long, who wakes it, and what is joined."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.clock import FakeClock
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.run import joining
from coreml_lab.run.gathering import Gathering
from coreml_lab.run.joining import Joiner
from coreml_lab.run.queue import Queue, Request
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, held, one

BUDGET = 20.0


@pytest.fixture
def waiting() -> Iterator[tuple[Scheduler, Any]]:
    """A scheduler whose next batch waits 20 s for as many as its last one had: eight."""
    with Scheduler(budget=BUDGET) as made:
        fake: Any = Fake()
        first = held(made, fake)
        futures = [made.submit(fake, one(i)) for i in range(8)]
        fake.open.set()
        wait([first, *futures], 30)
        assert fake.sizes == [1, 8]
        yield made, fake


def test_a_request_taken_back_while_company_was_waited_for_ends_nothing(
    waiting: tuple[Scheduler, Any],
) -> None:
    scheduler, fake = waiting
    assert scheduler.submit(fake, one(1)).cancel()
    futures = [scheduler.submit(fake, one(i)) for i in range(8)]
    assert [f.result(10)["y"].item() for f in futures] == [i + 1 for i in range(8)]
    assert fake.sizes == [1, 8, 8]


def test_it_begins_as_soon_as_all_are_back(waiting: tuple[Scheduler, Any]) -> None:
    scheduler, fake = waiting
    futures = [scheduler.submit(fake, one(i)) for i in range(8)]
    assert not wait(futures, BUDGET / 2).not_done


def test_a_deadline_is_not_waited_over(waiting: tuple[Scheduler, Any]) -> None:
    scheduler, fake = waiting
    first, second = scheduler.submit(fake, one(1)), scheduler.submit(fake, one(2), deadline=0.5)
    assert (first.result(10)["y"].item(), second.result(10)["y"].item()) == (2, 3)


def test_another_model_is_not_kept_waiting(waiting: tuple[Scheduler, Any]) -> None:
    scheduler, fake = waiting
    other: Any = Fake("other")
    first, second = scheduler.submit(fake, one(1)), scheduler.submit(other, one(2))
    assert (first.result(10)["y"].item(), second.result(10)["y"].item()) == (2, 3)


def test_a_request_that_fills_a_run_waits_for_nobody(waiting: tuple[Scheduler, Any]) -> None:
    scheduler, fake = waiting
    fake.largest_batch = 4
    rows = {"x": np.arange(4, dtype=np.float32).reshape(4, 1)}
    assert scheduler.submit(fake, rows).result(10)["y"].ravel().tolist() == [1, 2, 3, 4]


def test_a_model_that_cannot_say_any_more_how_many_it_takes_waits_for_nobody(
    waiting: tuple[Scheduler, Any],
) -> None:
    scheduler, fake = waiting

    def panic(_: Any) -> Any:
        raise SystemExit("panic")

    fake.__class__ = type("Broken", (Fake,), {"largest_batch": property(panic)})
    assert scheduler.submit(fake, one(1)).result(10)["y"].item() == 2
    assert scheduler.submit(Fake("other"), one(2)).result(10)["y"].item() == 3  # type: ignore[arg-type]


def test_the_budget_is_that_of_the_first_that_is_still_there() -> None:
    queue, bell, clock, fake = Queue(100), Bell(), FakeClock(), Fake()
    gathering = Gathering(queue, bell, clock, 100, 32)  # type: ignore[arg-type]

    def request() -> Request:
        made = Request(fake, one(1), None, 0, clock.now_ns(), None)  # type: ignore[arg-type]
        queue.put(made)
        return made

    batch = [request() for _ in range(8)]
    queue.tried(batch[0].model, joins=True)
    batch = queue.take(32)
    first = request()
    clock.t_ns += 60
    queue.returned(batch, clock.now_ns())

    def late() -> None:
        clock.t_ns += 30
        queue.remove(first)
        request()
        clock.t_ns += 20

    bell.meanwhile = late
    assert not gathering.wait()  # the budget of the one that was taken back is over

    def over() -> None:
        clock.t_ns += 50

    bell.meanwhile = over
    assert not gathering.wait()
    assert gathering.wait()


def test_who_has_not_come_back_for_long_is_not_waited_for() -> None:
    queue, clock, fake = Queue(100), FakeClock(), Fake()
    gathering = Gathering(queue, Bell(), clock, 100, 32)  # type: ignore[arg-type]

    def request() -> Request:
        made = Request(fake, one(1), None, 0, clock.now_ns(), None)  # type: ignore[arg-type]
        queue.put(made)
        return made

    for _ in range(8):
        request()
    queue.tried(request().model, joins=True)
    queue.returned(queue.take(32), clock.now_ns())
    clock.t_ns += 99
    request()
    assert not gathering.wait()  # for the rest of the time
    clock.t_ns += 1
    assert gathering.wait()
    queue.take(32)
    clock.t_ns += 1000
    request()
    assert gathering.wait()  # a lone one, long after


def test_a_budget_of_centuries_is_one() -> None:
    with Scheduler(budget=1e10) as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        futures = [scheduler.submit(fake, one(i)) for i in range(2)]
        fake.open.set()
        wait(futures, 30)
        first = scheduler.submit(fake, one(1))
        assert scheduler.submit(fake, one(2)).result(10)["y"].item() == 3
        assert first.result(10)["y"].item() == 2


def test_closing_does_not_wait_for_company(waiting: tuple[Scheduler, Any]) -> None:
    scheduler, fake = waiting
    future = scheduler.submit(fake, one(1))
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    assert future.result(10)["y"].item() == 2
    closer.join(10)
    assert not closer.is_alive()


class Bell:
    """A condition that counts how often it was rung, and runs something while it is waited for."""

    def __init__(self) -> None:
        self.rung = 0
        self.meanwhile: Any = lambda: None

    def notify(self) -> None:
        self.rung += 1

    def wait(self, timeout: float) -> bool:
        assert timeout > 0
        self.meanwhile()
        return self.rung > 0


def test_only_requests_that_end_the_waiting_wake_the_thread() -> None:
    queue, bell, clock, fake = Queue(100), Bell(), FakeClock(), Fake()
    gathering = Gathering(queue, bell, clock, 1e6, 32)  # type: ignore[arg-type]

    def request(end_ns: int | None = None) -> Request:
        made = Request(fake, one(1), None, 0, clock.now_ns(), end_ns)  # type: ignore[arg-type]
        queue.put(made)
        gathering.came(made)
        return made

    batch = [request() for _ in range(8)]
    assert bell.rung == 8  # nobody waited for company
    queue.tried(batch[0].model, joins=True)
    assert queue.take(32) == batch
    queue.returned(batch, clock.now_ns())

    def seven() -> None:
        bell.rung = 0
        for _ in range(6):
            request()
        assert bell.rung == 0
        request()

    request()
    bell.meanwhile = seven
    assert not gathering.wait()
    assert bell.rung == 1
    assert gathering.wait()  # all are back
    queue.take(32)
    request()
    bell.rung, bell.meanwhile = 0, lambda: request(clock.now_ns() + 10**9)
    assert not gathering.wait()
    assert bell.rung == 1


@pytest.mark.parametrize("small", [0, joining.SMALL_BYTES])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_joined_inputs_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, small: int, dtype: str, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(joining, "SMALL_BYTES", small)
    rng, given = np.random.default_rng(0), list[Array]()
    for rows in (1, 3, 1, 2):
        made = (rng.standard_normal((rows, *shape)) * 3).astype(dtype)
        given.append(made[::-1] if rows == 3 else made)
    seen: list[Array] = []

    def run(feeds: Any, *_: Any) -> dict[str, Array]:
        seen.append(feeds["x"].copy())
        return {"y": feeds["x"]}

    model = FakeModel(run)
    batch = [SimpleNamespace(model=model, feeds={"x": x}, rows=len(x)) for x in given]
    parts = Joiner().together(batch)  # type: ignore[arg-type]
    np.testing.assert_array_equal(seen[0], np.concatenate([*given, given[-1][-1:]]))
    for part, x in zip(parts, given, strict=True):
        np.testing.assert_array_equal(part["y"], x)


@pytest.mark.parametrize(
    ("sizes", "how", "rooms"),
    [
        ([3, 2, 3], {}, 1),
        ([2, 3, 2], {}, 2),
        ([2, 2], {"anew": True}, 0),
        ([2000, 2000], {}, 0),
    ],
    ids=["enough", "not enough", "somebody keeps it", "too large to lie idle"],
)
def test_batches_are_joined_where_their_engine_wants_them(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], how: dict[str, bool], rooms: int
) -> None:
    monkeypatch.setattr(joining, "KEPT_BYTES", 4000)
    places: list[Array] = []

    def run(feeds: Any, *_: Any) -> dict[str, Array]:
        places.append(feeds["x"])
        return {"y": feeds["x"]}

    model, joiner = FakeModel(run), Joiner()
    for size in sizes:
        x = np.full((1, 1), size, np.float32)
        batch = [SimpleNamespace(model=model, feeds={"x": x}, rows=1)] * size
        for part in joiner.together(batch, **how):  # type: ignore[arg-type]
            np.testing.assert_array_equal(part["y"], x)
    assert len(model.rooms) == rooms
    for place in places if rooms else ():
        assert any(np.shares_memory(place, room) for room in model.rooms)


def test_memory_for_inputs_is_the_engines_where_it_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cl.compile(cl.ops.relu, x=TensorType((2, 3), np.dtype(np.float32)))
    given: list[Array | None] = [None, np.zeros((4, 3), np.float32)]
    room = staticmethod(lambda *_: given[-1])
    monkeypatch.setattr(type(model._executor.loaded), "room", room, raising=False)
    assert model.room((4, 3), np.dtype(np.float32)) is given.pop()
    found = model.room((4, 3), np.dtype(np.float32))
    assert (found.shape, found.dtype) == ((4, 3), np.float32)


class FakeModel:
    """Runs one row more than it is asked for."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.rooms: list[Array] = []

    def padded(self, rows: int) -> int:
        return rows + 1

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        self.rooms.append(np.empty(shape, dtype))
        return self.rooms[-1]
