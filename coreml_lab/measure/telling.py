"""Telling how far a profile is, between the runs that are timed and seldom: never within one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coreml_lab.measure.effort import LEAST_NS, Effort

# What is being done, and the share that is done, 0 to 1.
Progress = Callable[[str, float], None]
# From which share of all on each stage stands; warming up begins it.
RUNS, STARTS, OPERATIONS = 0.1, 0.7, 0.85
SELDOM_NS = 500_000_000


def silent(what: str, share: float) -> None:
    """Tell nobody."""
    del what, share


@dataclass
class Teller:
    """Hears of each run's end, and tells of it twice a second at most.

    Attributes:
        effort: how many runs, or how long, were asked for.
        progress: who is told.
        begun_ns: when the runs began.
        count: runs so far.
        told_ns: when it was told last.
    """

    effort: Effort
    progress: Progress
    begun_ns: int
    count: int = 0
    told_ns: int = 0

    def ran(self, now_ns: int) -> None:
        """A run has ended."""
        self.count += 1
        if now_ns - max(self.told_ns, self.begun_ns) >= SELDOM_NS:
            self.told_ns = now_ns
            done = min(1.0, self._done(now_ns - self.begun_ns))
            self.progress(f"run {self.count}", RUNS + done * (STARTS - RUNS))

    def _done(self, passed_ns: int) -> float:
        """By their number where that was asked for, else by the time there is."""
        if self.effort.runs is not None:
            return self.count / self.effort.runs
        return passed_ns / max(1e9 * self.effort.seconds, LEAST_NS)
