"""How many runs are made: a warm-up until runs do not get faster, then until their median is known.

The rules are in ``stopping``; this is their loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from coreml_lab.circumstances import Pace
from coreml_lab.clock import Clock
from coreml_lab.errors import LabError
from coreml_lab.measure.intervals import quantile_interval
from coreml_lab.measure.stopping import GROUP, LOOKS, Groups, group_size, groups, precise

# Where nothing is said: seconds for the runs, and at most so many seconds and runs to warm up.
SECONDS = 10.0
WARM_SECONDS, WARM_RUNS = 5.0, 10_000
LEAST = 3
# The median is not known sooner: less time shows the machine at one moment only.
LEAST_NS = 200_000_000

Work = Callable[[], object]
Keep = Callable[[int, int], None]


@dataclass(frozen=True)
class Warm:
    """A warm-up that is over."""

    durations_ns: tuple[int, ...]
    stable: bool | None
    why: str

    def until(self, ended: str) -> Pace:
        """With the reason why the runs after it ended."""
        return Pace(self.durations_ns, self.stable, self.why, ended)


@dataclass(frozen=True)
class Effort:
    """How much measuring is asked for.

    Attributes:
        runs: exactly so many; None: until the median is known.
        warmup: exactly so many before; None: until they do not get faster.
        precision: half the width of the median's interval, in parts of the median.
        seconds: no run is begun after so long; the first is always made.
    """

    runs: int | None = None
    warmup: int | None = None
    precision: float = 0.02
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        asked = f"runs={self.runs}, warmup={self.warmup}"
        if (self.runs is not None and self.runs < 1) or (self.warmup or 0) < 0:
            raise LabError(f"{asked}: nothing to measure", hint="runs=50")
        if not 0 < self.precision < 1 or not self.seconds > 0:
            raise LabError(
                f"precision={self.precision}, seconds={self.seconds}: no aim to measure by",
                hint="precision=0.02 is 2 % of the median, seconds=10 the time there is",
            )

    def warm_up(self, work: Work, clock: Clock) -> Warm:
        """Run it until it is warm."""
        if self.warmup is not None:
            times = [_timed(work, clock) for _ in range(self.warmup)]
            return Warm(tuple(times), None, f"{self.warmup} runs, as asked")
        end = clock.now_ns() + 1e9 * min(WARM_SECONDS, self.seconds)
        times, due = [], 2 * GROUP
        while len(times) < WARM_RUNS and (len(times) < LEAST or clock.now_ns() <= end):
            times.append(_timed(work, clock))
            if len(times) >= due:
                found, size = groups(times), group_size(times)
                if found is not None and found.alike:
                    break
                due = 2 * size if found is None else len(times) + size
        found = groups(times)
        if found is not None and found.alike:
            return Warm(tuple(times), True, _told(len(times), found))
        why = f"not known to be warm: {len(times)} runs in {sum(times) / 1e9:.3g} s "
        why += "are too few to tell" if found is None else "still became faster"
        return Warm(tuple(times), False, why)

    def measure(self, work: Work, keep: Keep, clock: Clock) -> str:
        """Run it as often as it takes; each run's start and duration are kept. Why it ended."""
        begin = clock.now_ns()
        end = begin + 1e9 * self.seconds
        times: list[int] = []
        looks = frozenset(LOOKS)
        most = LOOKS[-1] if self.runs is None else self.runs
        while len(times) < most:
            start = clock.now_ns()
            work()
            now = clock.now_ns()
            keep(start, now - start)
            times.append(now - start)
            look = self.runs is None and len(times) in looks and now - begin >= LEAST_NS
            if look and precise(times, self.precision):
                return f"the median is known: {_known(times)}"
            if now > end and len(times) < most:
                return f"the time was over ({self.seconds:g} s): {_known(times)}"
        if self.runs is not None:
            return f"{self.runs} runs, as asked: {_known(times)}"
        return f"{most} runs are the most: {_known(times)}"


def _timed(work: Work, clock: Clock) -> int:
    start = clock.now_ns()
    work()
    return clock.now_ns() - start


def _told(count: int, found: Groups) -> str:
    return (
        f"warm after {count} runs: the last {found.size} took {found.last / 1e6:.4g} ms, "
        f"the {found.size} before {found.before / 1e6:.4g} ms"
    )


def _known(times: list[int]) -> str:
    """How far the interval of the median reaches to either side, in per cent of it."""
    ends, middle = quantile_interval(times, 0.5), median(times)
    if ends is None or not middle or not math.isfinite(middle):
        return f"{len(times)} runs are too few for an interval"
    return f"to ±{50 * (ends[1] - ends[0]) / middle:.2g} % after {len(times)} runs"
