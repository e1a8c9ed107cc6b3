"""The scheduler: order, batches, budgets, cancellation, faults; nothing that was asked is lost."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import EngineError, InputError, LabError, QueueFull, Timeout
from coreml_lab.program.graph import Array, Dim
from coreml_lab.run.engine import Availability
from coreml_lab.run.reference import ReferenceEngine
from coreml_lab.run.scheduler import Scheduler
from tests.support.forks import in_child
from tests.support.loops import finished

W = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


class Fake:
    """A model that adds one; it can be held, and remembers the sizes of its batches."""

    states: Mapping[str, Any] = {}

    def __init__(
        self, name: str = "fake", *, batched: bool = True, largest: int | None = None
    ) -> None:
        self.name, self.batched, self.largest_batch = name, batched, largest
        self.batched_known = True
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.sizes: list[int] = []
        self.seen: list[float] = []

    def check_state(self, state: Any) -> None:
        assert state is None

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        return {"x": np.asarray(inputs["x"], np.float32)}

    def padded(self, rows: int) -> int:
        return rows

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.empty(shape, dtype)

    def run(self, feeds: Mapping[str, Array], *_: Any) -> dict[str, Array]:
        self.begun.set()
        assert self.open.wait(30)
        x = feeds["x"]
        self.sizes.append(len(x))
        self.seen += [float(v) for v in x.ravel()]
        if (x == 13).any():
            raise EngineError("13 is refused")
        return {"y": x + 1}


def one(value: float) -> dict[str, Array]:
    return {"x": np.full((1, 1), value, np.float32)}


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler(budget=0.05) as made:
        yield made


def held(scheduler: Scheduler, fake: Any) -> Future[dict[str, Any]]:
    """A request that runs until ``fake.open`` is set; what is submitted meanwhile waits."""
    fake.open.clear()
    future = scheduler.submit(fake, one(0))
    assert fake.begun.wait(30)
    return future


def test_results_of_many_threads_are_those_of_predict() -> None:
    model = cl.compile(lambda x: ops.relu(x @ W.T), x=cl.spec(Dim("n", 1, 64), 8))
    data = [np.random.default_rng(i).standard_normal((1, 8)).astype(np.float32) for i in range(40)]
    want = [model.predict({"x": x}) for x in data]
    got: list[Any] = [None] * len(data)
    with Scheduler(budget=0.02, max_batch=8) as scheduler:

        def caller(first: int) -> None:
            for i in range(first, len(data), 8):
                got[i] = scheduler.submit(model, {"x": data[i]}).result(30)

        threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = scheduler.statistics()
    for a, b in zip(got, want, strict=True):
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6)
    assert told.finished == len(data)
    assert told.failed == told.cancelled == told.refused == 0
    assert 1 <= told.largest_batch <= 8


def test_a_model_of_fixed_size_gives_the_same_bits_as_predict(scheduler: Scheduler) -> None:
    model = cl.compile(lambda x: ops.softmax(x @ W.T), x=cl.spec(1, 8))
    x = np.random.default_rng(3).standard_normal((1, 8)).astype(np.float32)
    futures = [scheduler.submit(model, {"x": x * i}) for i in range(5)]
    for i, future in enumerate(futures):
        for name, array in model.predict({"x": x * i}).items():
            np.testing.assert_array_equal(future.result(30)[name], array)


def test_requests_that_wait_for_one_model_run_together(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    first = held(scheduler, fake)
    others = [scheduler.submit(fake, one(i)) for i in range(1, 6)]
    fake.open.set()
    assert [f.result(30)["y"].item() for f in (first, *others)] == [1, 2, 3, 4, 5, 6]
    assert fake.sizes == [1, 5]


class Prepared:
    """An engine whose programs prepare themselves for each shape; it runs them with NumPy."""

    name, devices = "prepared", ("cpu",)

    def title(self, device: str) -> str:
        return f"Core ML program, prepared for each shape ({device})"

    def available(self) -> Availability:
        return Availability(True, version="1")

    def supports(self, _: Any) -> bool:
        return True

    def load(self, program: Any, device: str, options: Any) -> Any:
        loaded: Any = ReferenceEngine().load(program, device, options)
        whole, self.sizes = loaded.run, []

        def run(inputs: Mapping[str, Array], state: Any = None) -> dict[str, Array]:
            self.sizes.append(len(inputs["x"]))
            outputs: dict[str, Array] = whole(inputs, state)
            return outputs

        loaded.run, loaded.per_shape = run, True
        return loaded


def test_batches_have_few_sizes_where_an_engine_prepares_itself_for_each() -> None:
    engine = Prepared()
    spec = cl.spec(Dim("n", 1, 20), 8)
    model = cl.compile(lambda x: ops.relu(x @ W.T), x=spec, engine=engine)
    data = [np.random.default_rng(i).standard_normal((1, 8)).astype(np.float32) for i in range(20)]
    want = [model.predict({"x": x}) for x in data]
    assert model.batched
    engine.sizes.clear()
    with Scheduler(budget=0) as scheduler:
        for count in (3, 5, 11, 17, 20, 1):
            fake: Any = Fake()
            held(scheduler, fake)
            futures = [scheduler.submit(model, {"x": x}) for x in data[:count]]
            fake.open.set()
            for future, wanted in zip(futures, want, strict=False):
                for name, array in future.result(30).items():
                    np.testing.assert_allclose(array, wanted[name], atol=1e-6)
    # Eleven would be 16: they run as 8 and 3, which is 4.
    assert engine.sizes == [4, 8, 8, 4, 20, 20, 1]


def test_a_batch_stays_within_what_the_model_takes() -> None:
    fake: Any = Fake(largest=2)
    with Scheduler() as scheduler:
        held(scheduler, fake)
        others = [scheduler.submit(fake, one(i)) for i in range(5)]
        fake.open.set()
        for future in others:
            future.result(30)
    assert max(fake.sizes) == 2


def test_a_model_that_cannot_batch_runs_request_by_request(scheduler: Scheduler) -> None:
    fake: Any = Fake(batched=False)
    held(scheduler, fake)
    others = [scheduler.submit(fake, one(i)) for i in range(3)]
    fake.open.set()
    for future in others:
        future.result(30)
    assert fake.sizes == [1, 1, 1, 1]


def test_higher_priority_runs_first_and_equals_run_in_order(scheduler: Scheduler) -> None:
    fake: Any = Fake(batched=False)
    held(scheduler, fake)
    futures = [
        scheduler.submit(fake, one(value), priority=priority)
        for value, priority in ((1, 0), (2, 5), (3, 0), (4, 5))
    ]
    fake.open.set()
    for future in futures:
        future.result(30)
    assert fake.seen == [0, 2, 4, 1, 3]


def test_a_busy_model_does_not_starve_another(scheduler: Scheduler) -> None:
    busy: Any = Fake("busy", batched=False)
    quiet: Any = Fake("quiet", batched=False)
    held(scheduler, busy)
    many = [scheduler.submit(busy, one(i)) for i in range(1, 9)]
    late = scheduler.submit(quiet, one(1))
    done: list[int] = []
    late.add_done_callback(lambda _: done.append(len(busy.seen)))
    busy.open.set()
    for future in (*many, late):
        future.result(30)
    assert done[0] <= 2, "the quiet model waited for the whole queue of the busy one"


def test_a_full_queue_refuses_with_a_clear_error() -> None:
    fake: Any = Fake()
    with Scheduler(limit=2) as scheduler:
        held(scheduler, fake)
        waiting = [scheduler.submit(fake, one(1)), scheduler.submit(fake, one(2))]
        with pytest.raises(QueueFull, match="2 requests wait already"):
            scheduler.submit(fake, one(3))
        assert waiting[0].cancel()
        waiting[0] = scheduler.submit(fake, one(3))  # a cancelled one makes room
        fake.open.set()
        assert {f.result(30)["y"].item() for f in waiting} == {4, 3}
        assert scheduler.statistics().refused == 1


def test_a_cancelled_request_is_not_run(scheduler: Scheduler) -> None:
    fake: Any = Fake(batched=False)
    held(scheduler, fake)
    future = scheduler.submit(fake, one(7))
    last = scheduler.submit(fake, one(8))
    assert future.cancel()
    fake.open.set()
    last.result(30)
    assert 7 not in fake.seen
    with pytest.raises(CancelledError):
        future.result()


def test_a_request_that_cannot_begin_in_time_fails_by_name(scheduler: Scheduler) -> None:
    fake: Any = Fake("slow", batched=False)
    held(scheduler, fake)
    future = scheduler.submit(fake, one(1), deadline=1e-6)
    fake.open.set()
    with pytest.raises(Timeout, match="slow: it could not begin in time"):
        future.result(30)
    assert 1 not in fake.seen


def test_an_error_in_a_batch_belongs_to_who_caused_it(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    held(scheduler, fake)
    good, bad, fine = (scheduler.submit(fake, one(v)) for v in (1, 13, 2))
    fake.open.set()
    assert good.result(30)["y"].item() == 2
    assert fine.result(30)["y"].item() == 3
    with pytest.raises(EngineError, match="13 is refused"):
        bad.result(30)


def test_bad_inputs_are_refused_at_once(scheduler: Scheduler) -> None:
    model = cl.compile(ops.exp, x=cl.spec(2))
    with pytest.raises(InputError):
        scheduler.submit(model, {"y": np.zeros(2, np.float32)})
    assert scheduler.statistics().submitted == 0


def test_closing_finishes_what_waits() -> None:
    fake: Any = Fake(batched=False)
    scheduler = Scheduler()
    held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(3)]
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    fake.open.set()
    closing.join(30)
    assert all(f.result(1) for f in futures)
    with pytest.raises(LabError, match="closed"):
        scheduler.submit(fake, one(1))


def test_closing_without_draining_fails_what_waits_by_name() -> None:
    fake: Any = Fake("left", batched=False)
    scheduler = Scheduler()
    running = held(scheduler, fake)
    waiting = scheduler.submit(fake, one(1))
    closing = threading.Thread(target=lambda: scheduler.close(drain=False))
    closing.start()
    with pytest.raises(LabError, match="left: the scheduler was closed"):
        waiting.result(30)
    fake.open.set()
    closing.join(30)
    assert running.result(1)["y"].item() == 1


def test_coroutines_wait_without_blocking_one_another(scheduler: Scheduler) -> None:
    fake: Any = Fake()

    async def many() -> list[float]:
        asked = (scheduler.predict(fake, one(i)) for i in range(12))
        return [r["y"].item() for r in await asyncio.gather(*asked)]

    assert finished(many()) == [i + 1 for i in range(12)]


def test_statistics_tell_latency_with_percentiles(scheduler: Scheduler) -> None:
    assert scheduler.statistics().took is None
    fake: Any = Fake()
    for i in range(3):
        scheduler.submit(fake, one(i)).result(30)
    told = scheduler.statistics()
    assert told.took is not None
    assert told.waited is not None
    assert told.took["p50"] >= told.waited["p50"] >= 0
    assert "p95" in str(told)


def test_states_keep_their_order_and_are_never_batched(scheduler: Scheduler, tmp_path: Any) -> None:
    from tests.support.seam_models import counter

    package = tmp_path / "counter.mlpackage"
    counter().save(str(package))
    model = cl.load(package)
    state, x = model.make_state(), np.ones((1, 4), np.float16)
    futures = [scheduler.submit(model, {"x": x}, state=state) for _ in range(5)]
    got = [next(iter(f.result(30).values()))[0, 0] for f in futures]
    assert got == [1, 2, 3, 4, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_has_a_working_scheduler_of_its_own(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    scheduler.submit(fake, one(1)).result(30)
    assert in_child(lambda: int(scheduler.submit(fake, one(2)).result(10)["y"].item())) == 3


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(LabError, match="limit=0"):
        Scheduler(limit=0)


def test_inputs_that_were_joined_are_not_mixed_with_those_of_the_next_batch() -> None:
    model = cl.compile(ops.relu, x=cl.spec(Dim("n", 1, 64), 8), engine="portable")
    with Scheduler(budget=0) as scheduler:
        kept = []
        for start in (0, 40, 80):
            fake: Any = Fake()
            held(scheduler, fake)
            size = 6 - start // 20  # the next batch is smaller than the memory that is there
            kept += [
                (i, scheduler.submit(model, {"x": np.full((1, 8), i, np.float32)}))
                for i in range(start, start + size)
            ]
            fake.open.set()
            for _, future in kept:
                future.result(30)
    for i, future in kept:
        assert all((array == i).all() for array in future.result().values())


def test_a_profile_keeps_inputs_that_do_not_change() -> None:
    model = cl.compile(ops.relu, x=cl.spec(Dim("n", 1, 64), 8), engine="portable")
    with cl.profile(spans=False) as profile, Scheduler(budget=0) as scheduler:
        for value in (1, 2):
            fake: Any = Fake()
            held(scheduler, fake)
            x = {"x": np.full((1, 8), value, np.float32)}
            futures = [scheduler.submit(model, x) for _ in range(4)]
            fake.open.set()
            for future in futures:
                future.result(30)
    _, inputs = profile.recording.live
    assert inputs["x"].shape == (4, 8)
    assert (inputs["x"] == 1).all()
