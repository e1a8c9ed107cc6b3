"""Time, as something that can be handed in: monotonic, comparable across processes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """What code that waits or stamps needs to know about time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since an unspecified point."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        time.sleep(max(0.0, seconds))


@dataclass
class FakeClock:
    """A clock that moves only when told: sleeping *is* the passing of time."""

    t_ns: int = 0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        """The time it was set to."""
        return self.t_ns

    def sleep(self, seconds: float) -> None:
        """Move the time forward."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time forward without a sleeper."""
        self.t_ns += round(seconds * 1e9)


SYSTEM = SystemClock()
