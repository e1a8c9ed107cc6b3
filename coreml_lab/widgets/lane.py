"""A thread that does one job after the other, and lives as long as the process if it must."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]


class Lane:
    """Jobs in the order in which they came; the thread begins with the first."""

    def __init__(self, name: str, failed: Callable[[Exception], None]) -> None:
        self._name, self._failed = name, failed
        self._jobs: queue.SimpleQueue[tuple[contextvars.Context, Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, job: Job) -> None:
        """Do it after what was asked before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
        # ipykernel 7.0 finds no parent header in a bare thread; and settings of the block that a
        # job was asked for in are those of that job, not of all that follow.
        self._jobs.put((contextvars.copy_context(), job))

    def drain(self, timeout: float) -> bool:
        """Wait until everything asked so far is done; False where that takes longer."""
        done = threading.Event()
        self.put(done.set)
        return done.wait(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """End after what was asked so far, and wait for that a little."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._jobs.put(None)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def _loop(self) -> None:
        while (asked := self._jobs.get()) is not None:
            context, job = asked
            context.run(self._attempt, job)
            del asked, context, job  # what it holds is not kept until the next one comes

    def _attempt(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - a dead thread would be silent; this is told
            self._failed(error)
