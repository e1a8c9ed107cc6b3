"""How requests of a scheduler end: each is told once, and counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.clock import Clock
from coreml_lab.errors import EngineError, LabError, Timeout
from coreml_lab.run.activity import Activity
from coreml_lab.run.queue import Request
from coreml_lab.run.serving import CANCELLED, FAILED, REFUSED, SERVED, Outcome
from coreml_lab.run.tally import Counts

LOG = logging.getLogger(__name__)


@dataclass
class Endings:
    """Ends requests that nobody else can end: whoever took them out of the queue calls it.

    Attributes:
        lock: the scheduler's; it is not held while futures tell whom they tell.
        clock: tells the time.
        activity: where outcomes are shown.
        counts: what the scheduler has done.
        open: what was asked for and has not ended, wherever it is.
    """

    lock: threading.Condition
    clock: Clock
    activity: Activity
    counts: Counts = field(default_factory=Counts)
    open: set[Request] = field(default_factory=set)

    def begins(self, request: Request) -> bool:
        """Whether it may run now: it was not taken back, and is not too late."""
        if not request.future.set_running_or_notify_cancel():
            self.cancelled(request)
            return False
        if request.late(self.clock.now_ns()) > 0:
            self.late([request])
            return False
        return True

    def served(self, batch: Sequence[Request], results: Sequence[Any], start: int) -> None:
        """One run, which began at ``start``, gave each its result."""
        end = self.clock.now_ns()
        waited = [start - r.at_ns for r in batch]
        with self.lock:
            self.counts.finish([w / 1e9 for w in waited], [(end - r.at_ns) / 1e9 for r in batch])
        serving, waiting = self.activity.serving, self.activity.serving.waiting
        for each in waited:
            serving.ended(Outcome(end, SERVED, each, len(batch), waiting))
        for request, result in zip(batch, results, strict=True):
            _hand_over(request.future.set_result, result)

    def failed(self, request: Request, error: BaseException) -> None:
        """It gets an error; what was taken back meanwhile is told that."""
        if not request.future.running() and not request.future.set_running_or_notify_cancel():
            self.cancelled(request)
            return
        if isinstance(error, StopIteration):  # which ends coroutines in place of reaching them
            raised = EngineError(f"{request.model.name}: it raised {error!r}")
            raised.__cause__, error = error, raised
        with self.lock:
            self.counts.failed += 1
        self._tell(request, FAILED)
        with suppress(Exception):  # somebody's error may take none
            error.add_note(f"in a scheduler: request {request.number}, for {request.model.name}")
        _hand_over(request.future.set_exception, error)

    def late(self, requests: list[Request]) -> None:
        """They could not begin in time; they are forgotten, too."""
        while requests:
            request = requests.pop()
            late = request.late(self.clock.now_ns())
            error = Timeout(
                f"{request.model.name}: it could not begin in time, {late * 1e3:.3g} ms too late",
                hint="a longer deadline=, a higher priority=, or fewer requests",
            )
            self.failed(request, error)

    def closed(self, requests: Sequence[Request]) -> None:
        """Nobody runs them any more."""
        for request in requests:
            self.failed(request, LabError(f"{request.model.name}: the scheduler was closed"))

    def cancelled(self, request: Request) -> None:
        """It was taken back, and whoever waits for it knows."""
        with self.lock:
            self.counts.cancelled += 1
        self._tell(request, CANCELLED)

    def refused(self, request: Request) -> None:
        """Too many wait already; with the lock held."""
        self.counts.refused += 1
        self._tell(request, REFUSED)

    def _tell(self, request: Request, kind: str) -> None:
        now, serving = self.clock.now_ns(), self.activity.serving
        serving.ended(Outcome(now, kind, now - request.at_ns, 0, serving.waiting))


def _hand_over(give: Callable[[Any], None], what: Any) -> None:
    """Give a request its end. What its callbacks raise is nothing to the others."""
    try:
        give(what)
    except BaseException:
        LOG.exception("a callback of a request failed")


def left_behind(requests: Sequence[Request]) -> None:
    """In a forked child: what its parent was asked for, and runs, fails here."""
    for request in requests:
        future = request.future
        error = LabError(
            f"{request.model.name}: request {request.number} was asked for before the process "
            "was forked: its parent runs it",
            hint="submit it again here",
        )
        if future.done() and not future.cancelled():
            continue  # it had its end, and was not forgotten yet
        try:
            runs = future.running() or future.set_running_or_notify_cancel()
        except RuntimeError:  # it was taken back, and whoever waits for it knows
            continue
        if runs:
            _hand_over(future.set_exception, error)
