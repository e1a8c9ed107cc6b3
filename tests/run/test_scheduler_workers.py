"""A scheduler with several workers: runs at a time, states in order, models tried once."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import LabError, QueueFull, Timeout
from coreml_lab.program.graph import Array
from coreml_lab.run.activity import Activity
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, W, held, one
from tests.support.forks import in_child
from tests.support.sampling import until


class Crowd(Fake):
    """Counts how many of its runs there are at a time; each waits until ``size`` of them are."""

    def __init__(self, size: int, **how: Any) -> None:
        super().__init__("crowd", **{"batched": False, **how})
        self.door, self.lock = threading.Barrier(size), threading.Lock()
        self.inside = self.most = 0

    def run(self, feeds: Mapping[str, Array], *rest: Any) -> dict[str, Array]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.door.wait(30)
        found = super().run(feeds, *rest)
        with self.lock:
            self.inside -= 1
        return found


class Stepping(Fake):
    """A model whose states are lists of what they were given."""

    def check_state(self, state: Any) -> None:
        assert state is None or isinstance(state, Tape)

    def run(self, feeds: Mapping[str, Array], state: Any = None, *_: Any) -> dict[str, Array]:
        if state is not None:
            state.take(float(feeds["x"].ravel()[0]))
        return super().run(feeds)


class Tape:
    """What it was given, in order; it fails where two write to it at a time."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.alone = threading.Lock()

    def take(self, value: float) -> None:
        assert self.alone.acquire(blocking=False), "two steps at a time"
        threading.Event().wait(0.001)
        self.seen.append(value)
        self.alone.release()


def waiters(scheduler: Scheduler) -> Any:
    """The workers that have nothing to do now."""
    return scheduler._changed._waiters  # type: ignore[attr-defined]


@pytest.fixture
def workers() -> Iterator[Scheduler]:
    with Scheduler(budget=0.05, workers=2) as made:
        yield made


@pytest.mark.parametrize("number", [1, 2, 3])
def test_so_many_runs_there_are_at_a_time(number: int) -> None:
    fake: Any = Crowd(number)
    with Scheduler(workers=number) as scheduler:
        futures = [scheduler.submit(fake, one(i)) for i in range(6)]
        assert [f.result(30)["y"].item() for f in futures] == [1, 2, 3, 4, 5, 6]
    assert fake.most == number


def test_results_are_the_bits_of_predict() -> None:
    with cl.configure(threads=1):
        model = cl.compile(lambda x: ops.softmax(x @ W.T), x=cl.spec(1, 8))
    data = [np.random.default_rng(i).standard_normal((1, 8)).astype(np.float32) for i in range(64)]
    with Scheduler(workers=4) as scheduler:
        futures = [scheduler.submit(model, {"x": x}) for x in data]
        for x, future in zip(data, futures, strict=True):
            for name, array in model.predict({"x": x}).items():
                np.testing.assert_array_equal(future.result(30)[name], array)


def test_another_model_is_served_while_one_runs(workers: Scheduler) -> None:
    slow: Any = Fake("slow")
    first = held(workers, slow)
    quick: Any = Fake("quick", batched=False)
    futures = [workers.submit(quick, one(i)) for i in range(20)]
    assert not wait(futures, 30).not_done
    assert not first.done()
    slow.open.set()


def test_steps_of_a_state_are_never_at_the_same_time_and_keep_their_order(
    workers: Scheduler,
) -> None:
    model: Any = Stepping("steps", batched=False)
    tapes: list[Any] = [Tape() for _ in range(3)]
    futures = [
        workers.submit(model, one(i), state=tape, priority=i % 3)
        for i in range(12)
        for tape in tapes
    ]
    assert not wait(futures, 30).not_done
    assert [f.exception() for f in futures] == [None] * len(futures)
    assert [tape.seen for tape in tapes] == [list(map(float, range(12)))] * 3


def test_a_step_that_was_taken_back_keeps_none_of_the_others_waiting(workers: Scheduler) -> None:
    model: Any = Stepping("steps", batched=False)
    tape: Any = Tape()
    model.open.clear()
    futures = [workers.submit(model, one(i), state=tape) for i in range(5)]
    assert model.begun.wait(30)
    assert futures[1].cancel()
    model.open.set()
    assert not wait(futures, 30).not_done
    assert tape.seen == [0, 2, 3, 4]


def test_one_of_them_tries_a_model_and_the_other_serves_meanwhile(workers: Scheduler) -> None:
    class Tried(Fake):
        asked, tried = 0, threading.Event()

        @property
        def batched(self) -> bool:
            self.asked += 1
            assert self.tried.wait(30)
            return True

        @batched.setter
        def batched(self, value: bool) -> None: ...

    slow: Any = Tried("tried")
    futures = [workers.submit(slow, one(i)) for i in range(8)]
    quick: Any = Fake("quick", batched=False)
    others = [workers.submit(quick, one(i)) for i in range(8)]
    assert not wait(others, 30).not_done
    slow.tried.set()
    assert [f.result(30)["y"].item() for f in futures] == [i + 1 for i in range(8)]
    assert slow.asked == 1


def test_a_request_that_ends_the_waiting_of_another_model_does_not_wait_for_it() -> None:
    fake: Any = Fake("gathers")
    quick: Any = Fake("quick", batched=False)
    with Scheduler(budget=20.0, workers=2) as scheduler:
        scheduler._queue.tried(fake, joins=True)
        slow: list[Any] = [Fake("a"), Fake("b")]
        blocked = [held(scheduler, each) for each in slow]
        eight = [scheduler.submit(fake, one(i)) for i in range(8)]
        for each in slow:
            each.open.set()
        assert not wait([*blocked, *eight], 30).not_done
        fake.open.clear()
        until(lambda: len(waiters(scheduler)) == 2)
        first = scheduler.submit(fake, one(1))
        until(lambda: scheduler._gathering.waits == 1 and len(waiters(scheduler)) == 2)
        assert scheduler.submit(quick, one(2)).result(10)["y"].item() == 3
        fake.open.set()
        assert first.result(10)["y"].item() == 2


def test_callbacks_that_close_it_do_not_wait_for_each_other() -> None:
    fake: Any = Crowd(2)
    scheduler = Scheduler(workers=2)
    futures = [Future[None]() for _ in range(2)]

    def close(done: Future[Any], told: Future[None]) -> None:
        done.result()
        fake.door.wait(30)
        scheduler.close()
        told.set_result(None)

    for told in futures:
        scheduler.submit(fake, one(1)).add_done_callback(lambda f, t=told: close(f, t))  # type: ignore[misc]
    assert not wait(futures, 30).not_done
    scheduler.close()
    assert not any(thread.is_alive() for thread in scheduler._threads)


@pytest.mark.parametrize("drain", [True, False])
def test_closing_ends_all_of_them_and_every_request(drain: bool) -> None:
    fake: Any = Fake("closing", batched=False)
    scheduler = Scheduler(workers=3)
    first = held(scheduler, fake)
    futures = [first, *(scheduler.submit(fake, one(i)) for i in range(1, 9))]
    threading.Timer(0.1, fake.open.set).start()
    scheduler.close(drain=drain)
    assert all(f.done() for f in futures)
    assert not any(thread.is_alive() for thread in scheduler._threads)
    failed = [f for f in futures if f.exception()]
    assert not failed if drain else len(failed) >= 6  # three may have run already
    assert all("the scheduler was closed" in str(f.exception()) for f in failed)


def test_nothing_is_lost_in_a_throng() -> None:
    activity = Activity()
    models: list[Any] = [Fake("joined"), Fake("alone", batched=False), Stepping("steps")]
    tapes: list[Any] = [Tape() for _ in range(2)]
    order: dict[int, list[float]] = {id(t): [] for t in tapes}
    with Scheduler(workers=3, limit=200, activity=activity) as scheduler:

        def caller(seed: int) -> Counter[str]:
            found, dice = Counter[str](), random.Random(seed)
            for i in range(150):
                state = tapes[seed] if seed < len(tapes) and dice.random() < 0.5 else None
                model = models[2] if state is not None else dice.choice(models)
                value, late = float(i % 12), 0.0 if state is not None else dice.choice([0, 0, 1e-4])
                try:
                    future = scheduler.submit(
                        model, one(value), state=state, priority=dice.randrange(3), deadline=late
                    )
                except QueueFull:
                    found["refused"] += 1
                    continue
                if state is not None:
                    order[id(state)].append(value)
                elif dice.random() < 0.1:
                    future.cancel()
                if dice.random() < 0.5:
                    found[ended(future, value)] += 1
                else:
                    future.add_done_callback(lambda f, v=value: kept.append((f, v)))  # type: ignore[misc]
            return found

        kept: list[tuple[Future[Any], float]] = []
        with ThreadPoolExecutor(6) as pool:
            found = sum(pool.map(caller, range(6)), Counter[str]())
    found.update(ended(future, value) for future, value in kept)
    told = scheduler.statistics()
    assert found.total() == 900
    assert (told.finished, told.cancelled, told.failed, told.refused) == tuple(
        found[k] for k in ("served", "cancelled", "late", "refused")
    )
    assert activity.serving.counts.total() == activity.serving.total == 900
    assert [tape.seen for tape in tapes] == list(order.values())


def ended(future: Future[Any], value: float) -> str:
    """How a request ended; a wrong result fails."""
    try:
        assert future.result(30)["y"].item() == value + 1
    except CancelledError:
        return "cancelled"
    except Timeout:
        return "late"
    return "served"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_has_as_many(workers: Scheduler) -> None:
    assert workers.submit(Fake(), one(1)).result(30)["y"].item() == 2  # type: ignore[arg-type]

    def child() -> int:
        fake: Any = Crowd(2)
        futures = [workers.submit(fake, one(i)) for i in range(2)]
        return int([f.result(30)["y"].item() for f in futures] != [1, 2])

    assert in_child(child) == 0


@pytest.mark.parametrize("number", [0, -1, 1.5])
@pytest.mark.parametrize("what", ["workers", "limit", "max_batch"])
def test_there_are_whole_numbers_of_them(what: str, number: Any) -> None:
    with pytest.raises(LabError, match=f"{what}={number}"):
        Scheduler(**{what: number})


def test_those_that_began_end_where_the_system_has_no_room_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    activity = Activity()
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="new thread"):
        Scheduler(workers=3, activity=activity)
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()
    assert not activity.serving.queues
