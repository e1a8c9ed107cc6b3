"""Loading in the time that is left: what takes longer goes on by itself, for the next call."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from coreml_lab.run.call import Limit
from coreml_lab.run.engine import Loaded

T = TypeVar("T")


class Begun(Generic[T]):
    """Work in a thread of its own, with the settings of who began it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._begin()

    def _begin(self) -> None:
        self._made: Future[T] = Future()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._do, self._made), daemon=True)
        self._thread.start()

    def _do(self, made: Future[T]) -> None:
        try:
            made.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is wanted
            made.set_exception(error)
        finally:
            del self, made  # else an error keeps itself: it has this frame, which has it

    @property
    def done(self) -> bool:
        """Whether it has made something, or failed."""
        return self._made.done()

    def within(self, limit: Limit) -> T:
        """What it made.

        Raises:
            Timeout: where it is not ready in time; it goes on.
        """
        if not (self._thread.is_alive() or self.done):
            self._begin()  # a forked child does not have the thread
        try:
            return self._made.result(min(limit.left, threading.TIMEOUT_MAX))
        except TimeoutError:
            if self.done:  # just now, or the error is its own
                return self._made.result()
            raise limit.stopped() from None
        finally:
            del self  # as above


class Loading:
    """The loads of one program that calls left before they were over."""

    def __init__(self) -> None:
        self._begun: dict[Callable[[], Loaded], Begun[Loaded]] = {}

    def within(self, limit: Limit, load: Callable[[], Loaded]) -> Loaded:
        """What ``load`` makes, which an earlier call may have begun.

        Raises:
            Timeout: where it is not ready in time; the next call finds it.
        """
        begun = self._begun.get(load)
        if begun is None:
            if limit.end == math.inf:
                return load()
            begun = self._begun[load] = Begun(load)
        try:
            return begun.within(limit)
        finally:
            del begun  # as above

    def forget(self, load: Callable[[], Loaded] | None = None) -> None:
        """Let go of what one load made, or of all."""
        if load is None:
            self._begun.clear()
        else:
            self._begun.pop(load, None)
