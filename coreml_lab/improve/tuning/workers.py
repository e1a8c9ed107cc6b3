"""Trials that run beside each other and may crash or hang: what becomes of each, as it is known."""

from __future__ import annotations

import contextvars
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Self

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import (
    EngineCrashed,
    EngineUnavailable,
    LabError,
    Timeout,
    UnknownParameter,
)

Work = Callable[[Any], Any]
# How much longer than a trial may take is waited for a pool that should have ended it.
LATER = 60.0


@dataclass(frozen=True)
class Ended:
    """A task that ended: with a result, or the reason why there is none."""

    tag: Any
    result: Any = None
    failure: str = ""


class Workers:
    """Gives tasks to an executor and says which ended; one that takes too long is given up."""

    def __init__(
        self,
        executor: Executor | None,
        parallel: int,
        timeout: float,
        clock: Clock = SYSTEM,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        if parallel < 1:
            raise UnknownParameter(f"parallel={parallel}", hint="1 or more trials at a time")
        self.parallel = parallel
        self._timeout, self._clock = timeout, clock
        # Processes of ours start at once, and prepare themselves while the caller does the same.
        self._own: Any = _processes(parallel, prepare) if executor is None else None
        self._submit = self._schedule if executor is None else _submit(executor)
        self._running: dict[Future[Any], tuple[Any, int]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, tag: Any, work: Work, task: Any) -> None:
        """Begin a task."""
        self._running[self._submit(work, task)] = (tag, self._clock.now_ns())

    def _schedule(self, work: Work, task: Any) -> Future[Any]:
        try:
            future: Future[Any] = self._own.schedule(work, args=(task,), timeout=self._timeout)
        except RuntimeError as error:  # pebble's own, for a pool whose processes are gone
            raise EngineCrashed(
                f"the processes that run trials cannot be kept: {error}",
                hint="a script calls tune below if __name__ == '__main__': they import it",
            ) from error
        return future

    def ended(self) -> Iterator[Ended]:
        """Wait until one has ended, or is given up; those that have."""
        oldest = min(since for _, since in self._running.values())
        # Our own processes are stopped by their pool, which counts from when they began.
        left = oldest / 1e9 + self._timeout + LATER * (self._own is not None)
        left -= self._clock.now_ns() / 1e9
        queued = [future for future in self._running if not future.running()]
        done, _ = wait(self._running, timeout=max(left, 0.0), return_when=FIRST_COMPLETED)
        late = () if done else [f for f, (_, since) in self._running.items() if since == oldest]
        gone = [(future, self._running.pop(future)[0]) for future in (*done, *late)]
        # What waited for its turn, in an executor with fewer places, may have it from now on.
        now = self._clock.now_ns()
        for future in self._running.keys() & set(queued):
            self._running[future] = self._running[future][0], now
        for future, tag in gone:
            yield _late(tag, future, self._timeout) if future in late else _outcome(tag, future)

    def close(self) -> None:
        """End the processes that are ours, and whatever runs in them."""
        for future in self._running:
            future.cancel()
        if self._own is not None:
            self._own.stop()
            self._own.join()


def _submit(executor: Executor) -> Callable[[Work, Any], Future[Any]]:
    """How tasks are given to an executor; threads get the settings of the blocks around here."""
    if not isinstance(executor, ThreadPoolExecutor):
        return executor.submit
    return lambda work, task: executor.submit(contextvars.copy_context().run, work, task)


def _processes(parallel: int, prepare: Callable[[], None] | None) -> Any:
    try:
        from pebble import ProcessPool  # noqa: PLC0415 - of the extra `tune`
    except ImportError as error:
        raise EngineUnavailable(
            "tune needs pebble, which runs trials in processes",
            hint='pip install "coreml-lab[tune]"',
        ) from error
    # A new interpreter each: engines do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=parallel, initializer=prepare, context=spawn)
    pool.schedule(_begin)  # it starts processes with the first task
    return pool


def _begin() -> None:
    """The first task, of no use but that."""


def _outcome(tag: Any, future: Future[Any]) -> Ended:
    try:
        return Ended(tag, future.result())
    except TimeoutError:
        return Ended(tag, failure=f"{Timeout.__name__}: it was stopped")
    except LabError as error:
        if isinstance(error, KeyboardInterrupt):  # a run that was interrupted is both
            raise
        return Ended(tag, failure=f"{type(error).__name__}: {error.message}")
    except Exception as error:  # noqa: BLE001 - a crash of a worker comes as anything
        return Ended(tag, failure=f"{type(error).__name__}: {error}")


def _late(tag: Any, future: Future[Any], timeout: float) -> Ended:
    future.cancel()
    return Ended(tag, failure=f"{Timeout.__name__}: no result in {timeout:g} s; it was given up")
