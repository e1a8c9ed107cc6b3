"""What measuring itself costs, measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from coreml_lab.clock import Clock

BATCHES, SIZE = 5, 200


def per_call(work: Callable[[], object], clock: Clock) -> int:
    """Nanoseconds that one call takes: the median of batches, so that one stall says nothing."""
    costs = []
    for _ in range(BATCHES):
        begin = clock.now_ns()
        for _ in range(SIZE):
            work()
        costs.append((clock.now_ns() - begin) / SIZE)
    return round(median(costs))
