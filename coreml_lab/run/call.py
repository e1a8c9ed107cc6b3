"""What one call asks of a program, and how long it may take: recovery and all parts together."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, Protocol

from coreml_lab.errors import InputError, Timeout
from coreml_lab.program.graph import Array
from coreml_lab.run.engine import Bounded, Loaded, stopped
from coreml_lab.run.state import State


class Lock(Protocol):
    """A lock, whoever may take it again."""

    def acquire(self, *, timeout: float = -1) -> bool:
        """Take it, or give up after ``timeout`` seconds."""
        ...

    def release(self) -> None:
        """Let it go."""
        ...


@dataclass(frozen=True)
class Limit:
    """How long a call may take, and when (monotonic seconds) that is over; infinite for no limit.

    Attributes:
        what: what is called, for the error.
    """

    what: str = ""
    seconds: float = math.inf
    end: float = math.inf

    @classmethod
    def of(cls, seconds: float, what: str) -> Limit:
        """A limit that begins now."""
        return cls(what, seconds, time.monotonic() + seconds)

    @property
    def over(self) -> bool:
        """Whether nothing can be begun any more."""
        return time.monotonic() >= self.end

    @property
    def left(self) -> float:
        """Seconds until it is over: 0 where it is, infinite for no limit."""
        return max(self.end - time.monotonic(), 0.0)

    def stopped(self) -> Timeout:
        """The error of a call whose time is over."""
        return stopped(self.seconds, self.what)

    @contextlib.contextmanager
    def holding(self, lock: Lock) -> Iterator[None]:
        """Hold a lock, for which no longer is waited than there is time.

        Raises:
            Timeout: where another thread held it for so long.
        """
        if not lock.acquire(timeout=min(self.left, threading.TIMEOUT_MAX)):
            raise self.stopped()
        try:
            yield
        finally:
            lock.release()

    def run(
        self, loaded: Loaded, feeds: Mapping[str, Array], state: State | None
    ) -> dict[str, Array]:
        """One run in the time that is left; one that cannot be stopped may end late.

        Raises:
            Timeout: where the time is over, or was when the run was stopped.
        """
        state = state if state is not None and state.types else None
        if self.end < math.inf:
            left = self.end - time.monotonic()
            if left <= 0:
                raise self.stopped()
            if isinstance(loaded, Bounded):
                return loaded.run_within(left, feeds, state)
        return loaded.run(feeds) if state is None else loaded.run(feeds, state)


NO_LIMIT = Limit()


def seconds(deadline: float) -> float:
    """A deadline as it is meant: 0 for no limit.

    Raises:
        InputError: for what is no number of seconds.
    """
    if deadline == 0.0:  # the usual case, in which nothing else is looked at
        return 0.0
    if not isinstance(deadline, Real) or not deadline >= 0:
        raise InputError(
            f"the deadline {deadline!r} is no number of seconds",
            hint="deadline=0.5; 0 means no limit",
        )
    return float(deadline)


class Call(NamedTuple):
    """What is asked of a program: recovery, where it may, repeats it, elsewhere or in parts."""

    inputs: Mapping[str, Array]
    state: State | None
    limit: Limit
    recover: bool = True
