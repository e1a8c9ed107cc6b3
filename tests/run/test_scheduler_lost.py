"""Nothing that was asked of a scheduler is lost, late, out of order or kept for too long."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, InputError, LabError, QueueFull, Timeout
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, held, one
from tests.support.forks import in_child


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler(budget=0.05) as made:
        yield made


@pytest.mark.parametrize("priority", ["high", None, 1.5])
def test_a_priority_that_is_no_number_is_refused_at_once(
    scheduler: Scheduler, priority: Any
) -> None:
    fake: Any = Fake()
    with pytest.raises(InputError, match="the priority"):
        scheduler.submit(fake, one(1), priority=priority)
    assert scheduler.submit(fake, one(1), priority=np.int64(2)).result(30)["y"].item() == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("deadline", [float("nan"), -1.0, "1"])
def test_a_deadline_that_is_no_number_of_seconds_is_refused_at_once(
    scheduler: Scheduler, deadline: Any
) -> None:
    with pytest.raises(InputError, match="no number of seconds"):
        scheduler.submit(Fake(), one(1), deadline=deadline)  # type: ignore[arg-type]


@pytest.mark.parametrize("deadline", [0, float("inf"), None])
def test_without_a_limit_a_request_waits(scheduler: Scheduler, deadline: Any) -> None:
    fake: Any = Fake()
    held(scheduler, fake)
    future = scheduler.submit(fake, one(1), deadline=deadline)
    fake.open.set()
    assert future.result(30)["y"].item() == 2


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), -1])
def test_a_budget_is_a_number_of_seconds(budget: float) -> None:
    with pytest.raises(LabError, match="budget"):
        Scheduler(budget=budget)


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
def test_what_a_callback_raises_is_nothing_to_the_others(
    scheduler: Scheduler, raised: type[BaseException]
) -> None:
    fake: Any = Fake()
    held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(4)]

    def fail(_: Any) -> None:
        raise raised

    futures[0].add_done_callback(fail)
    fake.open.set()
    assert [f.result(30)["y"].item() for f in futures] == [1, 2, 3, 4]
    assert scheduler.submit(fake, one(9)).result(30)["y"].item() == 10


def test_who_waits_for_a_cancelled_request_is_told() -> None:
    fake: Any = Fake()
    with Scheduler(limit=2) as scheduler:
        held(scheduler, fake)
        a, b = scheduler.submit(fake, one(1)), scheduler.submit(fake, one(2))
        assert a.cancel()
        told = concurrent.futures.wait([a], timeout=30)
        assert told.done == {a}
        c = scheduler.submit(fake, one(3))
        fake.open.set()
        assert set(concurrent.futures.as_completed([a, b, c], timeout=30)) == {a, b, c}
        counts = scheduler.statistics()
    assert (counts.submitted, counts.cancelled, counts.waiting) == (4, 1, 0)


def test_every_request_is_counted_once() -> None:
    fake: Any = Fake()
    with Scheduler(budget=0, limit=50) as scheduler, ThreadPoolExecutor(2) as pool:
        futures: list[Future[Any]] = []

        def submit() -> None:
            for i in range(1500):
                try:
                    futures.append(scheduler.submit(fake, one(i % 12)))
                except QueueFull:
                    time.sleep(0)

        def cancel() -> None:
            for _ in range(20000):
                if futures:
                    futures[-1].cancel()

        for done in [pool.submit(submit), pool.submit(cancel)]:
            done.result(60)
    told = scheduler.statistics()
    assert told.submitted == len(futures) == told.finished + told.cancelled + told.failed
    assert told.cancelled == sum(f.cancelled() for f in futures)


def test_a_cancelled_request_lets_go_of_its_inputs_at_once(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    held(scheduler, fake)
    x = np.ones((1, 1), np.float32)
    gone = weakref.ref(x)
    future = scheduler.submit(fake, {"x": x})
    del x
    assert future.cancel()
    gc.collect()
    assert gone() is None
    assert scheduler.statistics().waiting == 0
    fake.open.set()


def test_a_deadline_ends_a_request_while_another_runs(scheduler: Scheduler) -> None:
    fake: Any = Fake("slow", batched=False)
    first = held(scheduler, fake)
    waiting = [scheduler.submit(fake, one(i), deadline=0.05) for i in (1, 2)]
    for future in waiting:
        with pytest.raises(Timeout, match="slow: it could not begin in time"):
            future.result(30)
    assert not first.done()
    fake.open.set()
    first.result(30)
    assert fake.seen == [0]


def test_requests_that_are_too_late_make_room() -> None:
    fake: Any = Fake()
    with Scheduler(limit=2) as scheduler:
        held(scheduler, fake)
        late = [scheduler.submit(fake, one(i), deadline=0.01) for i in (1, 2)]
        concurrent.futures.wait(late, timeout=30)
        kept = scheduler.submit(fake, one(3))
        fake.open.set()
        assert kept.result(30)["y"].item() == 4


def returned(scheduler: Scheduler, fake: Any, count: int) -> None:
    """A batch of so many: the scheduler hopes that they come again."""
    first = held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(count)]
    fake.open.set()
    for future in (first, *futures):
        future.result(30)
    assert scheduler.statistics().largest_batch == count


def test_waiting_for_company_makes_no_request_late() -> None:
    fake: Any = Fake()
    with Scheduler(budget=60) as scheduler:
        returned(scheduler, fake, 8)
        assert scheduler.submit(fake, one(1), deadline=10).result(30)["y"].item() == 2


def test_waiting_for_company_keeps_no_other_model_waiting() -> None:
    fake: Any = Fake()
    other: Any = Fake("other", batched=False)
    with Scheduler(budget=60) as scheduler:
        returned(scheduler, fake, 8)
        lone = scheduler.submit(fake, one(1))
        assert scheduler.submit(other, one(2)).result(30)["y"].item() == 3
        assert lone.result(30)["y"].item() == 2


class Trying(Fake):
    """A model that is tried when somebody asks whether its requests may run together."""

    def __init__(self) -> None:
        super().__init__()
        self.tried, self.go = threading.Event(), threading.Event()

    @property
    def batched(self) -> bool:
        self.tried.set()
        assert self.go.wait(30)
        raise IndexError("noise is refused")

    @batched.setter
    def batched(self, _: bool) -> None: ...


def test_trying_a_model_keeps_no_caller_waiting_and_loses_none(scheduler: Scheduler) -> None:
    fake: Any = Trying()
    held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(3)]
    fake.open.set()
    assert fake.tried.wait(30)
    futures.append(scheduler.submit(fake, one(3)))  # comes back while it is tried
    fake.go.set()
    assert [f.result(30)["y"].item() for f in futures] == [1, 2, 3, 4]
    assert fake.sizes == [1] * 5


def test_new_models_do_not_keep_an_old_one_waiting(scheduler: Scheduler) -> None:
    old: Any = Fake("old", batched=False)
    gate: Any = Fake("gate", batched=False)
    scheduler.submit(old, one(0)).result(30)
    held(scheduler, gate)
    newer: list[Any] = [Fake(f"new {i}", batched=False) for i in range(20)]
    served: list[str] = []
    first = scheduler.submit(newer[0], one(0))
    waiting = scheduler.submit(old, one(1))
    rest = [scheduler.submit(fake, one(0)) for fake in newer[1:]]
    waiting.add_done_callback(lambda _: served.append("old"))
    for future in (first, *rest):
        future.add_done_callback(lambda _: served.append("new"))
    gate.open.set()
    for future in (waiting, first, *rest):
        future.result(30)
    assert "old" in served[:2]


class Stateful(Fake):
    """A model with a state: it notes the order of its steps there."""

    def __init__(self, name: str) -> None:
        super().__init__(name, batched=False)

    def check_state(self, state: Any) -> None: ...

    def run(self, feeds: Any, state: Any = None, *_: Any) -> Any:
        found = super().run(feeds)
        if state is not None:
            state.steps.append((self.name, float(feeds["x"].item())))
        return found


class Steps:
    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []


def test_steps_of_one_state_keep_their_order_over_models_and_priorities(
    scheduler: Scheduler,
) -> None:
    state: Any = Steps()
    prefill, decode = Stateful("prefill"), Stateful("decode")
    held(scheduler, prefill)
    futures = [
        scheduler.submit(model, one(i), state=state, priority=priority)  # type: ignore[arg-type]
        for i, (model, priority) in enumerate(
            [(prefill, 0), (decode, 5), (prefill, 9), (decode, 0), (prefill, 0)]
        )
    ]
    prefill.open.set()
    for future in futures:
        future.result(30)
    assert [value for _, value in state.steps] == [0, 1, 2, 3, 4]
    assert scheduler.submit(prefill, one(7)).result(30)["y"].item() == 8  # type: ignore[arg-type]


def test_an_idle_scheduler_keeps_nothing_alive(scheduler: Scheduler) -> None:
    model: Any = Fake("gone")
    gone = [weakref.ref(model)]
    x = one(1)
    gone.append(weakref.ref(x["x"]))
    held(scheduler, model)
    futures = [scheduler.submit(model, x, deadline=30) for _ in range(3)]
    model.open.set()
    gone += [weakref.ref(f) for f in futures]
    for future in futures:
        future.result(30)
    del model, x, futures, future
    for _ in range(100):
        gc.collect()
        if not any(r() for r in gone):
            return
        time.sleep(0.05)
    raise AssertionError([r() for r in gone])


def test_errors_of_a_batch_hold_nothing_of_one_another(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    held(scheduler, fake)
    futures = [scheduler.submit(fake, one(v)) for v in (13, 1, 13)]
    fake.open.set()
    first, last = futures[0].exception(30), futures[2].exception(30)
    assert first is not last
    assert first is not None
    assert first.__context__ is None


def test_stop_iteration_of_an_engine_reaches_a_coroutine(scheduler: Scheduler) -> None:
    class Ending(Fake):
        def run(self, feeds: Any, *_: Any) -> Any:
            raise StopIteration("empty")

    async def main() -> None:
        fake: Any = Ending("ending", batched=False)
        with pytest.raises(EngineError, match="StopIteration"):
            await asyncio.wait_for(scheduler.predict(fake, one(1)), 30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main()).result()


def test_many_requests_in_one_run_have_the_time_of_many() -> None:
    given: list[Any] = []

    class Timed(Fake):
        def run(self, feeds: Any, *rest: Any) -> Any:
            given.append(rest[2] if len(rest) > 2 else None)
            return super().run(feeds)

    fake: Any = Timed()
    with Scheduler(budget=0) as scheduler, cl.configure(deadline=2.0):
        returned(scheduler, fake, 4)
    assert given[-1] == 8.0


def test_a_closed_scheduler_tells_no_length(scheduler: Scheduler) -> None:
    serving = scheduler._activity.serving
    fake: Any = Fake()
    future = scheduler.submit(fake, one(1))
    future.add_done_callback(lambda _: scheduler.close())
    future.result(30)
    for thread in scheduler._threads:
        thread.join(30)
    assert id(scheduler) not in serving.queues


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_what_a_parent_was_asked_for_ends_in_a_forked_child(scheduler: Scheduler) -> None:
    fake: Any = Fake("parents")
    running = held(scheduler, fake)
    waiting = scheduler.submit(fake, one(1))

    def work() -> int:
        for future in (running, waiting):
            error = future.exception(20)
            if not isinstance(error, LabError) or "forked" not in error.message:
                return 2
        return 0

    assert in_child(work) == 0
    fake.open.set()
    assert waiting.result(30)["y"].item() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child() -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(2), engine="portable")
    executor = model._executor
    locks = [executor._lock, executor._asking, executor._breaker._lock, executor._account._lock]
    held_, go = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        held_.set()
        go.wait(30)
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held_.wait(30)
    assert in_child(lambda: 0 if all(k.acquire(timeout=5) for k in locks) else 2) == 0
    go.set()
    thread.join(30)
