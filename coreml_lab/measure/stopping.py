"""When to begin measuring and when to stop: rules over the times seen so far. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from coreml_lab.measure.intervals import quantile_interval

# Warm-up: the last runs are held against as many before them: at least so many runs, and so many
# nanoseconds, since a processor takes milliseconds to reach its frequency; never more than MOST.
GROUP, SPAN_NS, MOST = 5, 10_000_000, 1000
# They may differ by this, or by what their own spread explains (two standard errors).
ALIKE = 0.02
ERRORS = 2.0
# From the median distance to the median to a standard deviation, and on to a median's error.
DEVIATION, OF_MEDIAN = 1.4826, 1.2533
# Counts at which the interval is looked at: each look is a chance to stop too early, so few.
LOOKS = tuple(dict.fromkeys(min(10_000, math.ceil(30 * 1.5**i)) for i in range(16)))


@dataclass(frozen=True)
class Groups:
    """Medians of the last runs of a warm-up and of those before them, in nanoseconds."""

    size: int
    before: float
    last: float
    allowed: float

    @property
    def alike(self) -> bool:
        """Whether the last ones are not faster any more, beyond what noise explains."""
        return self.before - self.last <= self.allowed


def group_size(times: Sequence[int]) -> int:
    """How many runs make a group, when they take as long as the last few did."""
    each = max(1, round(median(times[-GROUP:])))
    return min(MOST, max(GROUP, -(-SPAN_NS // each)))


def groups(times: Sequence[int]) -> Groups | None:
    """The two groups that end a warm-up; None where there are too few runs yet."""
    size = group_size(times)
    if len(times) < 2 * size:
        return None
    before, last = times[-2 * size : -size], times[-size:]
    middles = median(before), median(last)
    away = [abs(t - m) for row, m in zip((before, last), middles, strict=True) for t in row]
    error = OF_MEDIAN * DEVIATION * median(away) / math.sqrt(size)
    noise = ERRORS * error * math.sqrt(2)
    return Groups(size, *middles, max(ALIKE * middles[1], noise))


def precise(times: Sequence[float], precision: float) -> bool:
    """Whether the interval of the median reaches no further than ``precision`` of it, each way."""
    ends = quantile_interval(times, 0.5)
    if ends is None:
        return False
    return ends[1] - ends[0] <= 2 * precision * median(times)
