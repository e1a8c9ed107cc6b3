"""The process that runs Core ML: one at a time, and another one where it is gone."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import math
import threading
import weakref
from collections import deque
from collections.abc import Iterator

from coreml_lab.errors import EngineError, EngineUnavailable, Timeout
from coreml_lab.probes.protocol import NAN
from coreml_lab.run import forking
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.native import ENTRY
from coreml_lab.run.native.link import LIMITS, Link, Watch
from coreml_lab.run.native.messages import DropState, Forget, Unload

FORGETTING = Watch("forgetting", 60.0, lasting=True)
# What is in no process.
NOWHERE = 0
_EVERY: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker:
    """A worker process at a time; where it is gone, a new one takes its place.

    A forked child begins without one: its first session starts its own.
    """

    def __init__(self, entry: str) -> None:
        self._entry = entry
        self._lock = forking.rlock()
        self._link: Link | None = None
        self._generations = itertools.count(NOWHERE + 1)
        # Why Core ML cannot be had here, once a worker has said so.
        self._refusal = ""
        # What was dropped since the last session, and when made: objects die in any thread.
        self._later: deque[tuple[int, Unload | DropState]] = deque()
        _EVERY.add(self)

    @contextlib.contextmanager
    def session(self, limit: Limit = NO_LIMIT) -> Iterator[Link]:
        """The line to a living worker, for one thread at a time.

        Raises:
            EngineUnavailable: where Core ML cannot be had on this machine.
            EngineCrashed: where the worker does not start.
            Timeout: where it is not to be had in the caller's time.
        """
        with self._turn(limit):
            link = self._willing(limit)
            if self._later:
                link = self._swept(link, limit)
            yield link

    @contextlib.contextmanager
    def _turn(self, limit: Limit) -> Iterator[None]:
        if limit.end == math.inf:
            with self._lock:
                yield
            return
        if not self._lock.acquire(timeout=min(limit.left, threading.TIMEOUT_MAX)):
            told = f"Core ML was busy with other runs for the {limit.seconds:.3g} s allowed"
            raise Timeout(told, hint=LIMITS)
        try:
            yield
        finally:
            self._lock.release()

    def _willing(self, limit: Limit) -> Link:
        if not self._refusal:
            link = self._current(limit)
            if not link.ready.refusal:
                return link
            # It would sit there, with coremltools loaded, only to refuse again.
            self._refusal = link.ready.refusal
            self._end()
        raise EngineUnavailable(
            f"Core ML cannot be used: {self._refusal}",
            reason=self._refusal,
            hint="cl.doctor() tells what works here",
        )

    def _current(self, limit: Limit) -> Link:
        """A line at which nothing is waited for; one that fails at what was left is replaced."""
        if self._link is not None and self._link.alive:
            try:
                self._link.settle(limit)
            except EngineError:
                if limit.over:
                    raise
            else:
                return self._link
        self._end()
        self._link = Link(self._entry, next(self._generations))
        self._link.settle(limit)
        return self._link

    def _swept(self, link: Link, limit: Limit) -> Link:
        """Let the worker forget what was dropped; one that dies of it is replaced."""
        waiting = [self._later.popleft() for _ in range(len(self._later))]
        dropped = tuple(what for generation, what in waiting if generation == link.generation)
        try:
            if dropped:
                link.ask(Forget(dropped), FORGETTING, limit)
        except EngineError:
            if limit.over:
                raise
            return self._current(limit)
        return link

    def later(self, generation: int, dropped: Unload | DropState) -> None:
        """Let the worker of that generation forget something before the next request."""
        self._later.append((generation, dropped))

    @property
    def generation(self) -> int:
        """Which worker is there now; ``NOWHERE`` where none is."""
        link = self._link
        return link.generation if link is not None and link.alive else NOWHERE

    @property
    def pid(self) -> int | None:
        """The process that is there now, if any."""
        link = self._link
        return link.process.pid if link is not None and link.alive else None

    def memory(self) -> tuple[float, float]:
        """The bytes its process holds, now and at most; NaN where there is none."""
        link = self._link
        return link.memory() if link is not None and link.alive else (NAN, NAN)

    def stop(self) -> None:
        """End the process; the next session starts another."""
        with self._lock:
            self._refusal = ""
            self._end()

    def kill(self) -> None:
        """End the process whoever waits for it: that one's run fails."""
        link = self._link
        if link is not None:
            link.kill()

    def _end(self) -> None:
        if self._link is not None:
            self._link.end()
        self._link = None


_WORKERS: dict[str, Worker] = {}


def worker(entry: str = ENTRY) -> Worker:
    """The worker that this process shares."""
    return _WORKERS.setdefault(entry, Worker(entry))


@atexit.register
def _kill_all() -> None:
    """A daemon thread may hold a lock for as long as Core ML computes: nothing waits for it."""
    for each in list(_EVERY):
        each.kill()
