"""What a scheduler has done: counts, and how long requests waited and took."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coreml_lab.program.graph import Array

# Requests whose times are kept.
KEPT = 65536


@dataclass(frozen=True)
class Statistics:
    """What a scheduler has done; times in seconds, ``None`` where nothing has finished yet.

    ``waited`` counts from submission to the start of the run, ``took`` to its result.
    """

    submitted: int
    finished: int
    failed: int
    cancelled: int
    refused: int
    waiting: int
    batches: int
    largest_batch: int
    waited: Mapping[str, float] | None
    took: Mapping[str, float] | None

    def __str__(self) -> str:
        counts = ", ".join(
            (
                f"{self.finished} finished in {self.batches} runs",
                f"up to {self.largest_batch} at once",
                f"{self.waiting} waiting",
                f"{self.failed} failed",
                f"{self.cancelled} cancelled",
                f"{self.refused} refused",
            )
        )
        if self.took is None or self.waited is None:
            return counts
        took = ", ".join(f"{k} {v * 1e3:.3g} ms" for k, v in self.took.items())
        waited = ", ".join(f"{k} {v * 1e3:.3g} ms" for k, v in self.waited.items())
        return f"{counts}\nlatency {took}\nof it waiting {waited} (measured)"


@dataclass
class Counts:
    """The same while it is counted, by who holds the scheduler's lock."""

    submitted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    batches: int = 0
    largest: int = 0
    # (seconds waited, seconds taken) of each finished request.
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def finish(self, waited: Sequence[float], took: Sequence[float]) -> None:
        """Requests that one run has answered, with the seconds of each."""
        self.finished += len(waited)
        self.batches += 1
        self.largest = max(self.largest, len(waited))
        self.times.extend(zip(waited, took, strict=True))

    def copy(self) -> Counts:
        """The same as it is now: percentiles take a while, and need no lock."""
        return replace(self, times=self.times.copy())

    def told(self, waiting: int) -> Statistics:
        """What is shown, while that many wait."""
        times = np.array(self.times).reshape(-1, 2)
        return Statistics(
            self.submitted,
            self.finished,
            self.failed,
            self.cancelled,
            self.refused,
            waiting,
            self.batches,
            self.largest,
            _percentiles(times[:, 0]),
            _percentiles(times[:, 1]),
        )


def _percentiles(seconds: Array) -> Mapping[str, float] | None:
    if not seconds.size:
        return None
    return {f"p{p}": float(np.percentile(seconds, p)) for p in (50, 95, 99)}
