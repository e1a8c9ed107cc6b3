"""What a scheduler makes of engines that fail: every request ends in a result or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    DeviceLost,
    EngineCrashed,
    EngineError,
    LabError,
    NumericalError,
    OutOfMemory,
    Timeout,
)
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_coreml_faults import X, compiled
from tests.run.test_scheduler import Fake, held, one
from tests.support.native import Double

COUNT = 12


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler(budget=0) as made:
        yield made


class Failing(Fake):
    """A model that fails for one of its requests, alone or in a batch."""

    def __init__(self, error: LabError, *, batched: bool) -> None:
        super().__init__("failing", batched=batched)
        self.error = error

    def run(self, feeds: Any, *_: Any) -> Any:
        if (feeds["x"] == 7).any():
            self.begun.set()
            raise self.error
        return super().run(feeds)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "kind", [DeviceLost, EngineCrashed, OutOfMemory, Timeout, NumericalError, EngineError]
)
def test_only_the_request_that_cannot_be_run_fails_and_its_error_names_it(
    scheduler: Scheduler, kind: type[LabError], batched: bool
) -> None:
    fake: Any = Failing(kind("gone"), batched=batched)
    first = held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(1, COUNT)]
    fake.open.set()
    for i, future in enumerate([first, *futures]):
        if i != 7:
            assert future.result(30)["y"].item() == i + 1
    with pytest.raises(kind, match="gone") as found:
        futures[6].result(30)
    assert found.value.__notes__ == ["in a scheduler: request 8, for failing"]
    assert (scheduler.statistics().finished, scheduler.statistics().failed) == (COUNT - 1, 1)


def ended(futures: list[Future[Any]]) -> tuple[int, list[BaseException]]:
    """How many have a result, and the errors of the others; each ends within half a minute."""
    errors = [e for f in futures if (e := f.exception(30)) is not None]
    return len(futures) - len(errors), errors


@pytest.mark.slow  # a new worker imports coremltools: seconds
@pytest.mark.parametrize("recover", [True, False])
def test_a_worker_killed_in_the_middle_loses_no_request(
    mac: Double, scheduler: Scheduler, recover: bool
) -> None:
    cl.configure(recover=recover)
    model = compiled()
    (want,) = model.predict(X).values()
    futures = []
    for i in range(COUNT):
        if i == COUNT // 2:
            mac.fail("predict-kill")  # kill -9 by the worker's own hand, in a prediction
        futures.append(scheduler.submit(model, X))
    finished, errors = ended(futures)
    if recover:
        assert (finished, errors) == (COUNT, [])
    else:
        assert finished == COUNT - 1, errors
        (error,) = errors
        assert isinstance(error, EngineCrashed)
        assert model.name in error.__notes__[0]
    for future in futures:
        if future.exception() is None:
            (got,) = future.result().values()
            np.testing.assert_array_equal(got, want)


def test_cancelling_a_task_takes_its_request_back(scheduler: Scheduler) -> None:
    fake: Any = Fake()
    held(scheduler, fake)

    async def main() -> None:
        kept, dropped = (
            asyncio.create_task(scheduler.predict(fake, one(value))) for value in (1, 2)
        )
        await asyncio.sleep(0)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        fake.open.set()
        assert (await kept)["y"].item() == 2

    # In a thread of its own: a browser test may have left a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main()).result()
    assert 2 not in fake.seen
    assert scheduler.statistics().cancelled == 1
