"""How long the next batch of a scheduler waits for company, and who wakes a thread that waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from coreml_lab.clock import Clock
from coreml_lab.run.queue import Queue, Request


@dataclass
class Gathering:
    """Used with the lock of ``changed`` held.

    Attributes:
        queue: what waits.
        changed: what threads that run requests wait for.
        clock: tells the time.
        budget_ns: nanoseconds that the first request of a batch may wait for others.
        most: how many requests run together at most.
        waits: how many of those threads wait for others now.
    """

    queue: Queue
    changed: threading.Condition
    clock: Clock
    budget_ns: float
    most: int
    waits: int = 0

    def wait(self) -> bool:
        """Wait, where that is worth it; False: it was for a while, so ask again."""
        left = (self._end() - self.clock.now_ns()) / 1e9
        if left <= 0:
            return True
        self.waits += 1
        self.changed.wait(min(left, threading.TIMEOUT_MAX))
        self.waits -= 1
        return False

    def came(self, request: Request) -> None:
        """Wake a thread, unless it would go on waiting: that takes longer than to ask."""
        if self.waits and request.end_ns is None and self._end() > request.at_ns:
            return
        self.changed.notify()

    def _end(self) -> float:
        return self.queue.waits_until(self.budget_ns, self.most)
