"""How sure a quantile of measured times is. Pure: takes numbers in the order they were measured.

The interval lies between two order statistics (Hutson, Calculating nonparametric confidence
intervals for quantiles using fractional order statistics, J. Appl. Statist. 26 (1999) 343): it
assumes nothing about the shape of the noise. Three things are done so that it keeps its word on a
real machine:

* Runs that resemble their neighbours count as fewer: their number is divided by the integrated
  autocorrelation time of "below the quantile" (Sokal's window, Monte Carlo methods in statistical
  mechanics, section 3; or that of a first-order process with the same rank correlation, whichever
  is longer), and by what is not known about that time (Student's t).
* A drift from the first run to the last is found by ranks. The interval is then that of these
  runs, along their trend: not of another hour's.
* Too few values for a confidence have no interval, and none is made up.

``tests/benchmarks/bench_intervals.py`` counts how often the intervals cover the truth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
# Fewer values say nothing about how they depend on one another.
LEAST = 20
# A trend as steep as this comes by chance in one of a hundred steady rows.
DRIFT_Z = 2.576
# Lags up to this many autocorrelation times are added up (Sokal's c).
WINDOW = 5
# From so many values on, order statistics are as good as normal.
MANY = 5000
STRONGEST = 0.97
EXACT, TINY = 1e-12, 1e-300

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Course:
    """How a row of measured times went, from the first to the last.

    Attributes:
        count: how many there are.
        independent: how many independent ones would tell as much about the median.
        drift: the change from the first third to the last (of medians, in parts of the first).
        drifts: whether a trend is there that chance does not explain.
    """

    count: int
    independent: float
    drift: float
    drifts: bool


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie, interpolated between neighbours."""
    return float(np.quantile(np.asarray(values, float), share))


def quantile_interval(
    values: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Where the quantile lies with that confidence; None where the values are too few to say."""
    row = np.asarray(values, float)
    if not len(row):
        return None
    tau = _time(row, share, drifts(row)) if len(row) >= LEAST else 1.0
    ends = _levels(_rounded(len(row) / tau), share, confidence)
    ranks = [end * (len(row) + 1) for end in ends]
    if ranks[0] < 1 or ranks[1] > len(row):
        return None
    low, high = np.interp(ranks, np.arange(1, len(row) + 1), np.sort(row))
    return float(low), float(high)


def needed(share: float, confidence: float = CONFIDENCE) -> int:
    """How many independent values a quantile's interval needs: the extremes must be beyond it."""
    tail = math.log((1 - confidence) / 2)
    return math.ceil(tail / math.log(max(share, 1 - share)))


@functools.lru_cache(maxsize=512)
def student(degrees: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors reach from a mean to the ends of its interval (Student's t)."""
    share = _solved(lambda x: 1 - _incomplete_beta(degrees / 2, 0.5, x), confidence, 1.0)
    return math.sqrt(degrees * (1 - share) / share)


def course(values: Sequence[float]) -> Course:
    """How the row went."""
    row = np.asarray(values, float)
    count, third = len(row), max(1, len(row) // 3)
    if count < LEAST:
        return Course(count, count, 0.0, drifts=False)
    drifting = drifts(row)
    first, last = np.median(row[:third]), np.median(row[-third:])
    change = float(last / first - 1) if first else 0.0
    tau = max(1.0, _time(row, 0.5, drifting))
    return Course(count, count / tau, change, drifts=drifting)


def drifts(values: Sequence[float] | Array) -> bool:
    """Whether the ranks of the values have a trend that their own correlation does not explain."""
    row = np.asarray(values, float)
    if len(row) < LEAST:
        return False
    ranks = _ranks(row)
    slope, rest = _along(ranks)
    first = _first_order(rest, lost=4)
    tau = max(_integrated(rest), (1 + first) / (1 - first))
    tau *= _uncertain(len(row), tau)
    spread = math.sqrt(tau * float(rest @ rest) / (len(row) - 2) / _square(len(row)))
    return (spread == 0 and slope != 0) or (spread > 0 and abs(slope) / spread > DRIFT_Z)


def _time(row: Array, share: float, drifting: bool) -> float:
    """Values that tell as much as one independent value would about a quantile."""
    below = (row <= np.quantile(row, share)).astype(float)
    rest = _along(below)[1] if drifting else below - below.mean()
    ranks = _along(_ranks(row))[1] if drifting else _ranks(row)
    first = _first_order(ranks, lost=4 if drifting else 3)
    # From the correlation of ranks to that of a normal process with the same ranks.
    tau = max(_integrated(rest), _of_normal(2 * math.sin(math.pi / 6 * first), share), 1.0)
    tau *= _uncertain(len(row), tau)
    if drifting:  # what the trend explains is no noise
        tau *= float(rest @ rest) / (len(row) - 2) / (share * (1 - share))
    return max(tau, 1e-3)


def _ranks(row: Array) -> Array:
    """Ranks around zero; equal values share theirs."""
    _, places, counts = np.unique(row, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Array = (ends - (counts - 1) / 2)[places] - (len(row) + 1) / 2
    return found


def _square(count: int) -> float:
    return count * (count**2 - 1) / 12


def _along(row: Array) -> tuple[float, Array]:
    """The slope of a line through the row, and what is left beside it."""
    place = np.arange(len(row)) - (len(row) - 1) / 2
    rest = row - row.mean()
    slope = float(rest @ place) / _square(len(row))
    return slope, rest - slope * place


def _first_order(rest: Array, *, lost: int) -> float:
    """Correlation of neighbours, without the bias of short rows (Kendall, Biometrika 41, 403)."""
    whole = float(rest @ rest)
    if not whole:
        return 0.0
    found = float(rest[1:] @ rest[:-1]) / whole
    return min(max(found + (1 + lost * found) / len(rest), 0.0), STRONGEST)


def _integrated(rest: Array) -> float:
    """1 + twice the sum of autocorrelations, up to ``WINDOW`` times itself (Sokal)."""
    count, whole = len(rest), float(rest @ rest)
    if not whole:
        return 1.0
    # Every lag at once: the spectrum's square is the autocovariance of the padded row.
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(rest, size)
    products = np.fft.irfft((spectrum * spectrum.conj()).real, size)[1 : count // 2]
    taus = 1 + 2 * np.cumsum(products) / whole
    enough = np.flatnonzero(np.arange(1, len(taus) + 1) >= WINDOW * taus)
    place = int(enough[0]) if len(enough) else len(taus) - 1
    return float(taus[place]) * (1 + (2 * (place + 1) + 1) / count)


def _of_normal(first: float, share: float) -> float:
    """The same time of "below a quantile" of a normal first-order process (tetrachoric series)."""
    z = NormalDist().inv_cdf(share)
    height = NormalDist().pdf(z) ** 2 / (share * (1 - share))
    total, before, now, factorial = 0.0, 0.0, 1.0, 1.0
    for order in range(1, 25):
        factorial *= order
        total += now**2 / factorial * first**order / (1 - first**order)
        before, now = now, z * now - (order - 1) * before
    return 1 + 2 * height * total


def _uncertain(count: int, tau: float) -> float:
    """How much longer the time must be taken: it is itself known only as well as Student's t."""
    freedom = max(count / tau - 1, 2.0)
    z = NormalDist().inv_cdf(0.975)
    # Cornish-Fisher expansion of the quantile of Student's t.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return 1 + ((t / z) ** 2 - 1) * (1 - 1 / tau)


def _rounded(count: float) -> float:
    """Three digits: intervals look no different, and are found again in the cache."""
    return float(f"{max(count, 1.0):.3g}")


@functools.lru_cache(maxsize=512)
def _levels(count: float, share: float, confidence: float) -> tuple[float, float]:
    """Which quantiles of ``count`` independent values enclose one, as ranks over count + 1."""
    tail = (1 - confidence) / 2
    if count > MANY:
        half = NormalDist().inv_cdf(1 - tail) * math.sqrt(share * (1 - share) / count)
        return share - half, share + half

    def below(rank: float) -> float:
        return _incomplete_beta(rank, count - rank + 1, share)

    ends = (_solved(below, 1 - tail, count + 1), _solved(below, tail, count + 1))
    return ends[0] / (count + 1), ends[1] / (count + 1)


def _solved(falling: Callable[[float], float], wanted: float, end: float) -> float:
    low, high = 1e-9, end - 1e-9
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > wanted else (low, middle)
    return low


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logs + a * math.log(x) + b * math.log1p(-x)) / a
    upper, lower, found = 1.0, 0.0, 1.0
    for step in range(2000):
        term = _coefficient(step, a, b) * x if step else 1.0
        lower = 1 / _away(1 + term * lower)
        upper = _away(1 + term / upper)
        found *= upper * lower
        if abs(upper * lower - 1) < EXACT:
            break
    return front * (found - 1)


def _coefficient(step: int, a: float, b: float) -> float:
    m = step // 2
    if step % 2:
        return -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))


def _away(value: float) -> float:
    """``value``, or nearly it where it is zero: a fraction is to be made of it."""
    return value if abs(value) > TINY else TINY
