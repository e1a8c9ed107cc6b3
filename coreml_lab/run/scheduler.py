"""Scheduler: many requests for few models, from threads and coroutines, in an order that is fair.

A request waits in a bounded queue. The next one to run has the highest priority; among equals, the
model that was served longest ago, and within a model the oldest request. Requests of a model whose
first dimension is flexible run together: as many as are there and, while fewer wait than came back
from the last batch, as arrive within the latency budget. A batch that fails is run again request by
request, so that an error belongs to the request that caused it.

Results equal those of ``model.predict`` bit for bit where requests run alone; in a batch, kernels
may add in another order, which differs in the last places.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import LabError, QueueFull, Timeout
from coreml_lab.program.graph import Array
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.joining import Joiner, alone
from coreml_lab.run.model import Model
from coreml_lab.run.queue import Queue, Request
from coreml_lab.run.serving import CANCELLED, FAILED, REFUSED, SERVED, Outcome
from coreml_lab.run.state import State

KEPT = 65536


@dataclass(frozen=True)
class Statistics:
    """What a scheduler has done; times in seconds, ``None`` where nothing has finished yet.

    ``waited`` counts from submission to the start of the run, ``took`` to its result.
    """

    submitted: int
    finished: int
    failed: int
    cancelled: int
    refused: int
    waiting: int
    batches: int
    largest_batch: int
    waited: Mapping[str, float] | None
    took: Mapping[str, float] | None

    def __str__(self) -> str:
        counts = ", ".join(
            (
                f"{self.finished} finished in {self.batches} runs",
                f"up to {self.largest_batch} at once",
                f"{self.waiting} waiting",
                f"{self.failed} failed",
                f"{self.cancelled} cancelled",
                f"{self.refused} refused",
            )
        )
        if self.took is None or self.waited is None:
            return counts
        took = ", ".join(f"{k} {v * 1e3:.3g} ms" for k, v in self.took.items())
        waited = ", ".join(f"{k} {v * 1e3:.3g} ms" for k, v in self.waited.items())
        return f"{counts}\nlatency {took}\nof it waiting {waited} (measured)"


@dataclass
class _Counts:
    submitted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    batches: int = 0
    largest: int = 0
    # (seconds waited, seconds taken) of each finished request.
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))


class Scheduler:
    """Runs requests in a thread of its own; close it, or use it in a with-block.

    Args:
        budget: seconds the first request of a batch may wait for others.
        limit: how many requests may wait; more are refused with ``QueueFull``.
        max_batch: the most requests that run together.
    """

    def __init__(
        self,
        *,
        budget: float = 0.005,
        limit: int = 1024,
        max_batch: int = 32,
        clock: Clock = SYSTEM,
        activity: Activity = ACTIVITY,
    ) -> None:
        if budget < 0 or limit < 1 or max_batch < 1:
            raise LabError(
                f"budget={budget}, limit={limit}, max_batch={max_batch}: none may be negative or 0",
                hint="Scheduler(budget=0.005, limit=1024, max_batch=32)",
            )
        self._budget = budget
        self._limit = limit
        self._max_batch = max_batch
        self._clock = clock
        self._activity = activity
        self._start()
        # A child of fork has no thread of ours: it begins with an empty queue and one of its own.
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _restart(reference))

    def _start(self) -> None:
        self._counts = _Counts()
        self._queue = Queue(self._limit)
        self._joiner = Joiner()
        self._tell_length()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)
        self._thread.start()

    def submit(
        self,
        model: Model,
        inputs: Mapping[str, Any],
        *,
        state: State | None = None,
        priority: int = 0,
        deadline: float | None = None,
    ) -> Future[dict[str, Any]]:
        """Queue one inference; the future gives its result, and ``cancel()`` takes it back.

        Args:
            model: what to run.
            inputs: as ``model.predict`` takes them; they must not change until the result is there.
            state: of a model with states: its requests run one by one, in order.
            priority: higher runs earlier.
            deadline: seconds within which it must have begun.

        Raises:
            InputError: at once, for inputs that do not fit the model.
            QueueFull: when ``limit`` requests wait already.
        """
        model.check_state(state)
        feeds = model.feeds(inputs)
        joins = state is None and model.batched  # the first time, the model is tried for that
        now = self._clock.now_ns()
        end = None if deadline is None else now + int(deadline * 1e9)
        with self._changed:
            number = self._counts.submitted + 1
            request = Request(model, feeds, state, priority, now, end, number, joins)
            if self._closed:
                raise LabError("the scheduler is closed", hint="make another one")
            put = self._queue.put(request)
            self._taken_back(self._queue.dropped())
            if not put:
                self._counts.refused += 1
                self._ended(request, REFUSED)
                raise QueueFull(
                    f"{self._limit} requests wait already: {model.name} is refused",
                    hint="submit fewer at a time, or Scheduler(limit=…)",
                )
            self._counts.submitted += 1
            self._tell_length()
            self._changed.notify()
        return request.future

    async def predict(
        self,
        model: Model,
        inputs: Mapping[str, Any],
        *,
        state: State | None = None,
        priority: int = 0,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """``submit`` for coroutines; cancelling the task cancels the request."""
        future = self.submit(model, inputs, state=state, priority=priority, deadline=deadline)
        return await asyncio.wrap_future(future)

    def statistics(self) -> Statistics:
        """Counts and percentiles up to now, over the last 65,536 requests."""
        with self._changed:
            counts, waiting = self._counts, len(self._queue)
            times = np.array(counts.times).reshape(-1, 2)
            return Statistics(
                counts.submitted,
                counts.finished,
                counts.failed,
                counts.cancelled,
                counts.refused,
                waiting,
                counts.batches,
                counts.largest,
                _percentiles(times[:, 0]),
                _percentiles(times[:, 1]),
            )

    def close(self, *, drain: bool = True) -> None:
        """Stop. What waits is finished first or, without ``drain``, fails with an error."""
        with self._changed:
            self._closed = True
            left = [] if drain else self._queue.clear()
            self._changed.notify()
        for request in left:
            self._fail(request, LabError(f"{request.model.name}: the scheduler was closed"))
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._activity.serving.queues.pop(id(self), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain=error is None)

    def _serve(self) -> None:
        while batch := self._next():
            begun = [r for r in batch if self._begins(r)]
            if begun:
                self._run(begun)

    def _next(self) -> list[Request]:
        """The requests to run now; none when closed and empty."""
        with self._changed:
            while not len(self._queue) and not self._closed:
                self._changed.wait()
            self._gather()
            batch = self._queue.take(self._max_batch)
            self._tell_length()
            return batch

    def _tell_length(self) -> None:
        self._activity.serving.queues[id(self)] = len(self._queue)

    def _ended(self, request: Request, kind: str) -> None:
        now, serving = self._clock.now_ns(), self._activity.serving
        serving.ended(Outcome(now, kind, now - request.at_ns, 0, serving.waiting))

    def _taken_back(self, requests: Sequence[Request]) -> None:
        """Count what was cancelled before it ran."""
        self._counts.cancelled += len(requests)
        for request in requests:
            self._ended(request, CANCELLED)

    def _gather(self) -> None:
        """Wait for company while it is worth it: within the budget of the oldest request."""
        end = self._queue.oldest() + self._budget * 1e9
        while not self._closed and self._queue.hopes_for_more(self._max_batch):
            left = (end - self._clock.now_ns()) / 1e9
            if left <= 0 or not self._changed.wait(left):
                return

    def _begins(self, request: Request) -> bool:
        if not request.future.set_running_or_notify_cancel():
            self._taken_back([request])
            return False
        late = request.late(self._clock.now_ns())
        if late > 0:
            error = Timeout(
                f"{request.model.name}: it could not begin in time, {late * 1e3:.3g} ms too late",
                hint="a longer deadline=, a higher priority=, or fewer requests",
            )
            self._fail(request, error)
        return late <= 0

    def _run(self, batch: list[Request]) -> None:
        start = self._clock.now_ns()
        try:
            if len(batch) > 1:
                results = self._joiner.together(batch, anew=bool(self._activity.watchers))
            else:
                results = [alone(batch[0])]
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
            if len(batch) == 1:
                self._fail(batch[0], error)
            else:
                for request in batch:
                    self._run([request])
            return
        self._finish(batch, results, start)

    def _finish(self, batch: list[Request], results: list[dict[str, Any]], start: int) -> None:
        end = self._clock.now_ns()
        with self._changed:
            self._counts.finished += len(batch)
            self._counts.batches += 1
            self._counts.largest = max(self._counts.largest, len(batch))
            for request in batch:
                at = request.at_ns
                self._counts.times.append(((start - at) / 1e9, (end - at) / 1e9))
            self._queue.returned(batch)
        serving, waiting = self._activity.serving, self._activity.serving.waiting
        for request in batch:
            waited = start - request.at_ns
            serving.ended(Outcome(end, SERVED, waited, len(batch), waiting))
        for request, result in zip(batch, results, strict=True):
            request.future.set_result(result)

    def _fail(self, request: Request, error: BaseException) -> None:
        if not request.future.running() and not request.future.set_running_or_notify_cancel():
            self._taken_back([request])
            return
        with self._changed:
            self._counts.failed += 1
        self._ended(request, FAILED)
        error.add_note(f"in a scheduler: request {request.number}, for {request.model.name}")
        request.future.set_exception(error)


def _percentiles(seconds: Array) -> Mapping[str, float] | None:
    if not seconds.size:
        return None
    return {f"p{p}": float(np.percentile(seconds, p)) for p in (50, 95, 99)}


def _restart(reference: weakref.ref[Scheduler]) -> None:
    scheduler = reference()
    if scheduler is not None and not scheduler._closed:  # noqa: SLF001 - of this module
        scheduler._start()  # noqa: SLF001
