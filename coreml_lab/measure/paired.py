"""Two ways to do the same thing, timed in turns: the ratio of their times, and how sure it is.

The runs of a pair follow each other in random order, so whatever slows the machine down slows both.
The estimate is the median of the pairs' ratios, its interval that of ``intervals``: between order
statistics, and wider where the ratios of neighbours resemble one another. With fewer than six pairs
there is no 95 % interval, and none is given.

``median_interval`` is the plain inverse of the sign test: with the values sorted, it reaches from
the k-th smallest to the k-th largest, k being the largest number with P(Binomial(n, 1/2) < k) <=
2.5 %. It assumes nothing about the shape of the noise (Conover, Practical Nonparametric Statistics,
3rd ed., section 3.2), and covers at least what it says, mostly more: for gates.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import LabError
from coreml_lab.measure.intervals import CONFIDENCE, quantile_interval

Work = Callable[[], object]
# Up to so many values the rank is exact, which takes 0.2 s then.
EXACT = 20_000


@dataclass(frozen=True)
class Pairs:
    """Durations in nanoseconds; the two of a pair stand at the same index."""

    arm: tuple[int, ...]
    baseline: tuple[int, ...]


@dataclass(frozen=True)
class Ratio:
    """Arm ÷ baseline: below 1 the arm takes less. No ``low``, ``high``: too few pairs."""

    value: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 1, so that one may be called less than the other."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def interleave(
    arm: Work,
    baseline: Work,
    *,
    pairs: int = 20,
    warmup: int = 3,
    seconds: float = math.inf,
    clock: Clock = SYSTEM,
    seed: int = 0,
) -> Pairs:
    """Run both in turns, in random order within each pair, after ``warmup`` runs of each.

    No pair is begun once ``seconds`` have passed; the first is always measured.

    Raises:
        LabError: for fewer than one pair.
    """
    if pairs < 1:
        raise LabError(f"pairs={pairs}: there is nothing to measure", hint="give 20 or more")
    end = clock.now_ns() + seconds * 1e9
    for _ in range(warmup):
        arm()
        baseline()
        if clock.now_ns() > end:
            break
    order = random.Random(seed)  # noqa: S311 - which of two runs goes first, not a secret
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(pairs):
        turns = [(arm, times[0]), (baseline, times[1])]
        if order.random() < 0.5:  # noqa: PLR2004 - a fair coin
            turns.reverse()
        for work, kept in turns:
            start = clock.now_ns()
            work()
            kept.append(clock.now_ns() - start)
        if clock.now_ns() > end:
            break
    return Pairs(tuple(times[0]), tuple(times[1]))


def ratio(pairs: Pairs, confidence: float = CONFIDENCE) -> Ratio:
    """The median ratio of the pairs with its interval, 95 % unless ``confidence`` says otherwise.

    Raises:
        LabError: where a run took no time at all, so that there is no ratio.
    """
    if not pairs.arm or min(pairs.arm) <= 0 or min(pairs.baseline) <= 0:
        raise LabError(
            "a run took no measurable time: there is no ratio", hint="give the arms more work"
        )
    ratios = [a / b for a, b in zip(pairs.arm, pairs.baseline, strict=True)]
    ends = quantile_interval(ratios, 0.5, confidence)
    low, high = ends if ends is not None else (None, None)
    return Ratio(median(ratios), low, high, len(ratios))


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """The interval of the median, or None where there are too few values for that confidence."""
    rank = _rank(len(values), confidence)
    ordered = sorted(values)
    return (ordered[rank - 1], ordered[-rank]) if rank else None


@functools.lru_cache(maxsize=512)
def _rank(count: int, confidence: float) -> int:
    """The largest k with P(Binomial(count, 1/2) < k) <= (1 - confidence) / 2."""
    tail = (1 - confidence) / 2
    if count > EXACT:  # by the normal distribution, rounded down: the same rank, or one less
        return max(0, math.floor((count - NormalDist().inv_cdf(1 - tail) * math.sqrt(count)) / 2))
    # In whole numbers: 2**count is no float from 1,024 on.
    part, whole = tail.as_integer_ratio()
    allowed, below, ways = part << count, 0, 1
    for k in range(count // 2 + 1):
        below += ways * whole
        if below > allowed:
            return k
        ways = ways * (count - k) // (k + 1)
    return count // 2
