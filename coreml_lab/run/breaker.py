"""The circuit breaker of a device: one that keeps failing is left alone for a while."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from coreml_lab.run import forking

# So many failures in a row open the circuit; after the rest, one run may try the device again.
FAILURES = 3
REST_S = 30.0


@dataclass
class Breaker:
    """Counts failures in a row; ``open`` while the device should be left alone.

    ``open`` is a plain attribute: the executor reads it before every run.
    """

    open: bool = False
    failures: int = 0
    _since_ns: int = 0
    _lock: threading.Lock = field(default_factory=forking.lock, repr=False)

    def failed(self, now_ns: int) -> None:
        """Count a failure of the device."""
        with self._lock:
            self.failures += 1
            self.open = self.failures >= FAILURES
            self._since_ns = now_ns

    def succeeded(self) -> None:
        """The device works."""
        with self._lock:
            self.failures, self.open = 0, False

    def rests(self, now_ns: int) -> bool:
        """Whether it is still to be left alone; after its rest, whoever asks first may try it."""
        with self._lock:
            if self.open and now_ns - self._since_ns >= REST_S * 1e9:
                self._since_ns = now_ns
                return False
            return self.open


_BREAKERS: dict[tuple[str, str], Breaker] = {}


def breaker(engine: str, device: str) -> Breaker:
    """The breaker of an engine's device: all programs on it share one."""
    return _BREAKERS.setdefault((engine, device), Breaker())


def forget() -> None:
    """Every device counts as sound again."""
    _BREAKERS.clear()
