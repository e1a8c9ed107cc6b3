"""Scheduler: many requests for few models, from threads and coroutines, in an order that is fair.

A request waits in a bounded queue. The next one to run has the highest priority; among equals, the
model that was served longest ago, and within a model the oldest request. Requests of a model whose
first dimension is flexible run together: as many as are there and, while fewer wait than came back
from the last batch and nothing else does, as arrive within the latency budget. A batch that fails
is run again request by request, so that an error belongs to the request that caused it.

Results equal those of ``model.predict`` bit for bit where requests run alone; in a batch, kernels
may add in another order, which differs in the last places.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from numbers import Integral
from types import TracebackType
from typing import Any, Self

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import EngineError, InputError, LabError, QueueFull, Timeout
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.call import seconds
from coreml_lab.run.gathering import Gathering
from coreml_lab.run.joining import Joiner, alone
from coreml_lab.run.model import Model
from coreml_lab.run.queue import Queue, Request
from coreml_lab.run.serving import CANCELLED, FAILED, REFUSED, SERVED, Outcome
from coreml_lab.run.state import State
from coreml_lab.run.tally import Counts, Statistics

LOG = logging.getLogger(__name__)
_ALL: weakref.WeakSet[Scheduler] = weakref.WeakSet()


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
        if not 0 <= budget < math.inf or limit < 1 or max_batch < 1:
            raise LabError(
                f"budget={budget}, limit={limit}, max_batch={max_batch}: a budget is a number of "
                "seconds, the others are at least 1",
                hint="Scheduler(budget=0.005, limit=1024, max_batch=32)",
            )
        self._budget_ns = budget * 1e9
        self._limit = limit
        self._max_batch = max_batch
        self._clock = clock
        self._activity = activity
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        self._counts = Counts()
        self._queue = Queue(self._limit)
        self._joiner = Joiner()
        self._running: list[Request] = []
        self._tell_length()
        self._closed = self._over = False
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for the thread that runs requests
        wait = (self._budget_ns, self._max_batch)
        self._gathering = Gathering(self._queue, self._changed, self._clock, *wait)
        self._due = threading.Condition(lock)  # for the one that ends those that are too late
        self._timekeeper: threading.Thread | None = None
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
        end = now + int(within * 1e9) if 0 < within < math.inf else None
        with self._changed:
            if self._closed:
                raise LabError("the scheduler is closed", hint="make another one")
            number = self._counts.submitted + 1
            request = Request(model, feeds, state, int(priority), now, end, number)
            self._put(request)
        request.future.add_done_callback(partial(_ended, self, weakref.ref(request)))
        return request.future

    def _put(self, request: Request) -> None:
        if not self._queue.put(request):
            self._counts.refused += 1
            self._tell(request, REFUSED)
            raise QueueFull(
                f"{self._limit} requests wait already: {request.model.name} is refused",
                hint="submit fewer at a time, or Scheduler(limit=…)",
            )
        self._counts.submitted += 1
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
            return self._counts.told(len(self._queue))

    def close(self, *, drain: bool = True) -> None:
        """Stop. What waits is finished first or, without ``drain``, fails with an error."""
        with self._changed:
            self._closed = True
            left = [] if drain else self._queue.clear()
            self._changed.notify()
        self._fail_closed(left)
        if threading.current_thread() is not self._thread:
            self._thread.join()

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
        try:
            while batch := self._next():
                try:
                    self._answer(batch)
                except BaseException as error:  # noqa: BLE001 - a fault of ours loses no request
                    self._fail_all([r for r in self._running if not r.future.done()], error)
                # Nothing of what was run is kept while nothing runs.
                self._running = batch = []
        finally:
            with self._changed:
                self._closed = self._over = True
                left = self._queue.clear()
                self._due.notify()
            self._fail_closed(left)
            self._activity.serving.queues.pop(id(self), None)

    def _fail_all(self, requests: Sequence[Request], error: BaseException) -> None:
        for request in requests:
            self._fail(request, error)

    def _fail_closed(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._fail(request, LabError(f"{request.model.name}: the scheduler was closed"))

    def _next(self) -> list[Request]:
        """The requests to run now; none when closed and empty."""
        while True:
            with self._changed:
                while not len(self._queue):
                    if self._closed:
                        return []
                    self._changed.wait()
                while not self._closed and not self._gathering.wait():
                    pass
                first = self._queue.untried()
                if first is None:
                    self._running = self._queue.take(self._max_batch)
                    self._tell_length()
                    if self._running:  # what was gathered may have been taken back meanwhile
                        return list(self._running)
                    continue
            # Without the lock: the first time, the model is tried for that.
            self._queue.tried(first.model, joins=first.context.run(_joins, first.model))
            del first

    def _tell_length(self) -> None:
        self._activity.serving.queues[id(self)] = len(self._queue)

    def _tell(self, request: Request, kind: str) -> None:
        now, serving = self._clock.now_ns(), self._activity.serving
        serving.ended(Outcome(now, kind, now - request.at_ns, 0, serving.waiting))

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
            self._fail_late(late)

    def _fail_late(self, requests: list[Request]) -> None:
        """They are forgotten, too."""
        while requests:
            request = requests.pop()
            late = request.late(self._clock.now_ns())
            error = Timeout(
                f"{request.model.name}: it could not begin in time, {late * 1e3:.3g} ms too late",
                hint="a longer deadline=, a higher priority=, or fewer requests",
            )
            self._fail(request, error)

    def _cancelled(self, request: Request) -> None:
        """It was taken back; who took it out of the queue tells those who wait for it."""
        with self._changed:
            if not self._queue.remove(request):
                return
            self._tell_length()
        request.future.set_running_or_notify_cancel()
        self._count_cancelled(request)

    def _count_cancelled(self, request: Request) -> None:
        with self._changed:
            self._counts.cancelled += 1
        self._tell(request, CANCELLED)

    def _begins(self, request: Request) -> bool:
        if not request.future.set_running_or_notify_cancel():
            self._count_cancelled(request)
            return False
        if request.late(self._clock.now_ns()) > 0:
            self._fail_late([request])
            return False
        return True

    def _answer(self, batch: list[Request]) -> None:
        """Run them together, or else one by one; nothing of one is held by another's error."""
        begun = [r for r in batch if self._begins(r)]
        batch.clear()
        if len(begun) > 1 and self._together(begun):
            return
        while begun:
            self._alone(begun.pop(0))

    def _together(self, batch: list[Request]) -> bool:
        """Whether they could be answered in one run."""
        start, watchers = self._clock.now_ns(), self._activity.watchers
        try:
            run = partial(self._joiner.together, batch, anew=bool(watchers))
            results = batch[0].context.run(run)
        except BaseException:  # noqa: BLE001 - whose fault it was is seen when they run alone
            return False
        if watchers:  # somebody may have begun to watch meanwhile, and keeps the inputs
            self._joiner.forget(batch[0].model)
        self._finish(batch, results, start)
        return True

    def _alone(self, request: Request) -> None:
        start = self._clock.now_ns()
        try:
            results = [request.context.run(alone, request)]
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
            self._fail(request, error)
            return
        self._finish([request], results, start)

    def _finish(self, batch: list[Request], results: list[dict[str, Any]], start: int) -> None:
        end = self._clock.now_ns()
        waited = [start - r.at_ns for r in batch]
        with self._changed:
            self._counts.finish([w / 1e9 for w in waited], [(end - r.at_ns) / 1e9 for r in batch])
            self._queue.returned(batch)
        serving, waiting = self._activity.serving, self._activity.serving.waiting
        for each in waited:
            serving.ended(Outcome(end, SERVED, each, len(batch), waiting))
        for request, result in zip(batch, results, strict=True):
            _hand_over(request.future.set_result, result)

    def _fail(self, request: Request, error: BaseException) -> None:
        if not request.future.running() and not request.future.set_running_or_notify_cancel():
            self._count_cancelled(request)
            return
        if isinstance(error, StopIteration):  # which ends coroutines in place of reaching them
            raised = EngineError(f"{request.model.name}: it raised {error!r}")
            raised.__cause__, error = error, raised
        with self._changed:
            self._counts.failed += 1
        self._tell(request, FAILED)
        error.add_note(f"in a scheduler: request {request.number}, for {request.model.name}")
        _hand_over(request.future.set_exception, error)

    def _restart(self) -> None:
        """In a forked child: begin anew; what the parent was asked for stays with it."""
        if self._closed:
            return
        inherited = [*self._running, *self._queue.clear()]
        self._start()
        # In a thread: the lock of a future may be held by one that the child has not.
        threading.Thread(target=_left_behind, args=(inherited,), daemon=True).start()


def _joins(model: Model) -> bool:
    """Whether a model's requests may run together; not where trying it fails."""
    try:
        return model.batched
    except Exception:  # noqa: BLE001 - who asks for a result is told what is wrong with it
        return False


def _ended(scheduler: Scheduler, request: weakref.ref[Request], future: Future[Any]) -> None:
    """Called for each future that is done. A future holds it: so it does not hold the request."""
    found = request()
    if found is not None and future.cancelled():
        scheduler._cancelled(found)  # noqa: SLF001 - of this module


def _hand_over(give: Callable[[Any], None], what: Any) -> None:
    """Give a request its end. What its callbacks raise is nothing to the others."""
    try:
        give(what)
    except BaseException:
        LOG.exception("a callback of a request failed")


def _left_behind(requests: Sequence[Request]) -> None:
    for request in requests:
        error = LabError(
            f"{request.model.name}: request {request.number} was asked for before the process "
            "was forked: its parent runs it",
            hint="submit it again here",
        )
        if request.future.running() or request.future.set_running_or_notify_cancel():
            _hand_over(request.future.set_exception, error)


def _restart_all() -> None:
    for scheduler in list(_ALL):
        scheduler._restart()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_restart_all)
