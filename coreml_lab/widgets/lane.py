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
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, job: Job) -> None:
        """Do it after what was asked before."""
        with self._lock:
            if self._thread is None:
                # ipykernel 7.0 finds no parent header in a bare thread: it inherits a context.
                context = contextvars.copy_context()
                self._thread = threading.Thread(
                    target=context.run, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
        self._jobs.put(job)

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
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - a dead thread would be silent; this is told
                self._failed(error)
