"""Scheduler: many requests for few models, from threads and coroutines, in an order that is fair.

A request waits in a bounded queue. The next one to run has the highest priority; among equals, the
model that was served longest ago, and within a model the oldest request. Requests of a model whose
first dimension is flexible run together: as many as are there and, while fewer wait than came back
from the last batch and nothing else does, as arrive within the latency budget. A batch that fails
is run again request by request, so that an error belongs to the request that caused it.

Several threads may serve, each with a run of its own. A step of a state has its turn when the one
before has ended, and a model is tried by one of them.

Results equal those of ``model.predict`` bit for bit where requests run alone; in a batch, kernels
may add in another order, which differs in the last places.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from numbers import Integral
from types import TracebackType
from typing import Any, Self

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError, LabError, QueueFull
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.call import seconds
from coreml_lab.run.ending import Endings, left_behind
from coreml_lab.run.gathering import Gathering
from coreml_lab.run.model import Model
from coreml_lab.run.queue import Queue, Request
from coreml_lab.run.server import Server
from coreml_lab.run.state import State
from coreml_lab.run.tally import Statistics

_ALL: weakref.WeakSet[Scheduler] = weakref.WeakSet()


class Scheduler:
    """Runs requests in threads of its own; close it, or use it in a with-block.

    Args:
        budget: seconds the first request of a batch may wait for others.
        limit: how many requests may wait; more are refused with ``QueueFull``.
        max_batch: the most requests that run together.
        workers: how many runs, of one request or of several together, there are at a time. More
            than one serve models that were loaded with few ``threads``: one core computes an
            inference alone with less effort than several do together. In engines that take one
            run at a time (OpenVINO, Core ML's worker, GPUs) two join one batch while another one
            runs; each run waits for the one before, and spends its ``Config.deadline`` there.
    """

    def __init__(
        self,
        *,
        budget: float = 0.005,
        limit: int = 1024,
        max_batch: int = 32,
        workers: int = 1,
        clock: Clock = SYSTEM,
        activity: Activity = ACTIVITY,
    ) -> None:
        whole = all(n >= 1 and n % 1 == 0 for n in (limit, max_batch, workers))
        if not 0 <= budget < math.inf or not whole:
            raise LabError(
                f"budget={budget}, limit={limit}, max_batch={max_batch}, workers={workers}: a "
                "budget is a number of seconds, the others are whole numbers from 1",
                hint="Scheduler(budget=0.005, limit=1024, max_batch=32, workers=1)",
            )
        self._budget_ns = budget * 1e9
        self._limit = limit
        self._max_batch = max_batch
        self._workers = int(workers)
        self._clock = clock
        self._activity = activity
        self._start()
        _ALL.add(self)

    def _start(self, *, serves: bool = True) -> None:
        self._closed = self._over = not serves
        self._queue = Queue(self._limit)
        self._tell_length()
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for the threads that run requests
        wait = (self._budget_ns, self._max_batch)
        self._gathering = Gathering(self._queue, self._changed, self._clock, *wait)
        self._endings = Endings(self._changed, self._clock, self._activity)
        self._due = threading.Condition(lock)  # for the one that ends those that are too late
        self._timekeeper: threading.Thread | None = None
        self._threads = [
            threading.Thread(target=self._serve, name="scheduler", daemon=True)
            for _ in range(self._workers * serves)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # the system has no room for so many
            self._end()
            raise
        if not serves:
            self._activity.serving.queues.pop(id(self), None)

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
            state: of a model with states: its requests run one by one, in the order in which they
                were submitted, whatever their models and priorities are.
            priority: higher runs earlier.
            deadline: seconds within which it must have begun (0: no limit); it fails then.

        Raises:
            InputError: at once, for inputs that do not fit the model, or a priority or deadline
                that is no number.
            QueueFull: when ``limit`` requests wait already.
        """
        model.check_state(state)
        feeds = model.feeds(inputs)
        if not isinstance(priority, Integral):
            raise InputError(f"the priority {priority!r} is no whole number", hint="priority=1")
        now, within = self._clock.now_ns(), seconds(deadline or 0.0)
        end = now + int(within * 1e9) if 0 < within < threading.TIMEOUT_MAX else None
        with self._changed:
            if self._closed:
                raise LabError("the scheduler is closed", hint="make another one")
            number = self._endings.counts.submitted + 1
            request = Request(model, feeds, state, int(priority), now, end, number)
            self._put(request)
        request.future.add_done_callback(partial(_ended, self, weakref.ref(request)))
        return request.future

    def _put(self, request: Request) -> None:
        if not self._queue.put(request):
            self._endings.refused(request)
            raise QueueFull(
                f"{self._limit} requests wait already: {request.model.name} is refused",
                hint="submit fewer at a time, or Scheduler(limit=…)",
            )
        self._endings.counts.submitted += 1
        self._endings.open.add(request)
        self._tell_length()
        if request.end_ns is not None:
            self._watch()
        self._gathering.came(request)

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
            counts, waiting = self._endings.counts.copy(), len(self._queue)
        return counts.told(waiting)

    def close(self, *, drain: bool = True) -> None:
        """Stop. What waits is finished first or, without ``drain``, fails with an error."""
        with self._changed:
            self._closed = True
            left = [] if drain else self._queue.clear()
            self._tell_length()
            self._changed.notify_all()
        self._endings.closed(left)
        if threading.current_thread() in self._threads:
            return  # a callback: two of them would wait for each other
        for thread in self._threads:
            thread.join()

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
        server = Server(self._queue, self._changed, self._endings, self._clock, self._activity)
        try:
            while batch := self._next():
                state = batch[0].state
                server.answer(batch)
                if state is not None:
                    with self._changed:
                        self._queue.stepped(state)
                state = None  # nothing is kept while nothing runs
        finally:
            self._end()

    def _end(self) -> None:
        """What waits still is told that nobody runs it; other workers finish what they run."""
        with self._changed:
            self._closed = self._over = True
            left = self._queue.clear()
            self._due.notify()
            self._changed.notify_all()
            self._activity.serving.queues.pop(id(self), None)
        self._endings.closed(left)

    def _next(self) -> list[Request]:
        """The requests to run now; none when closed and empty."""
        while True:
            with self._changed:
                while not self._queue.ready:
                    if self._closed and not len(self._queue):
                        return []
                    self._changed.wait()
                while not self._closed and not self._gathering.wait():
                    pass
                first = self._queue.untried()
                if first is None:
                    batch = self._queue.take(self._max_batch)
                    self._tell_length()
                    if len(self._queue):  # whoever was woken for it may have come too early
                        self._changed.notify()
                    if batch:  # what was gathered may have been taken back meanwhile
                        return batch
                    continue
            # Without the lock: the first time, the model is tried for that.
            joins, sure = first.context.run(_joins, first.model)
            with self._changed:
                self._queue.tried(first.model, joins=joins, sure=sure)
            del first

    def _tell_length(self) -> None:
        if not self._over:
            self._activity.serving.queues[id(self)] = len(self._queue)

    def _watch(self) -> None:
        """Have somebody end requests at their deadlines, also while one runs."""
        if self._timekeeper is None:
            run = threading.Thread(target=self._keep_time, name="scheduler deadlines", daemon=True)
            self._timekeeper = run
            run.start()
        self._due.notify()

    def _keep_time(self) -> None:
        while not self._over:
            with self._changed:
                now, end = self._clock.now_ns(), self._queue.first_end()
                late = self._queue.expired(now)
                self._tell_length()
                if not late and not self._over:
                    self._due.wait(None if end is None else (end - now) / 1e9 + 1e-6)
            self._endings.late(late)

    def _done(self, request: Request, *, cancelled: bool) -> None:
        """It has ended; who takes one that was taken back out of the queue tells who waits.

        One that a finalizer takes back while this thread holds the lock stays in the queue: where
        this thread is in it, nobody knows. It is told when its turn comes.
        """
        self._endings.open.discard(request)
        if not cancelled or self._changed._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            return
        with self._changed:
            if not self._queue.remove(request):
                return
            self._tell_length()
        request.future.set_running_or_notify_cancel()
        self._endings.cancelled(request)

    def _restart(self) -> None:
        """In a forked child: begin anew; what the parent was asked for stays with it."""
        inherited = list(self._endings.open)
        self._start(serves=not self._closed)
        # In a thread: the lock of a future may be held by one that the child has not.
        threading.Thread(target=left_behind, args=(inherited,), daemon=True).start()


def _joins(model: Model) -> tuple[bool, bool]:
    """Whether a model's requests may run together, and whether that is sure."""
    try:
        return model.batched, model.batched_known
    except BaseException:  # noqa: BLE001 - who asks for a result is told what is wrong with it
        return False, False


def _ended(scheduler: Scheduler, request: weakref.ref[Request], future: Future[Any]) -> None:
    """Called for each future that is done. A future holds it: so it does not hold the request."""
    found = request()
    if found is not None:
        scheduler._done(found, cancelled=future.cancelled())  # noqa: SLF001 - of this module


def _restart_all() -> None:
    for scheduler in list(_ALL):
        scheduler._restart()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_restart_all)
