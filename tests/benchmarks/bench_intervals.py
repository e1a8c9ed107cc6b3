"""Statistical honesty by simulation: how often 95 % intervals cover the truth. Target: 92 to 98 %.

Rows of made-up times whose true quantiles are known. For each kind of noise and number of runs: the
share of rows whose interval covers the truth; beside it, what the usual intervals would have done
(order statistics that take runs for independent; the percentile bootstrap, by single runs and by
blocks of ten). Rows marked "beyond" are harder than what is promised: shown, and not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from coreml_lab.measure.intervals import needed, quantile_interval
from coreml_lab.measure.paired import Pairs, median_interval, ratio
from coreml_lab.measure.stopping import LOOKS, precise
from tests.support.noise import Noise, bursts, drift, heavy_tailed, lognormal, process

ROWS, LOW, HIGH = 1000, 92.0, 98.0
RESAMPLES = 200
# Rows in which measuring stops early are at most so long.
MOST = 2000
TRUTH = 0.8
Ends = tuple[float, float] | None
Array = np.ndarray[Any, np.dtype[np.float64]]


def covered(ends: Sequence[Ends], truths: float) -> float:
    """Per cent of the intervals that were given and cover the truth."""
    given = [e for e in ends if e is not None]
    return 100 * sum(low <= truths <= high for low, high in given) / max(1, len(given))


def bootstrap(row: Array, share: float, block: int, rng: np.random.Generator) -> Ends:
    """Percentile bootstrap of a quantile, by circular blocks."""
    pieces = -(-len(row) // block)
    starts = rng.integers(0, len(row), (RESAMPLES, pieces, 1))
    places = (starts + np.arange(block)).reshape(RESAMPLES, -1)[:, : len(row)] % len(row)
    found = np.quantile(row[places], share, axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def judged(title: str, per_cent: float, told: str, *, beyond: bool = False) -> bool:
    """Print a line; whether the target is met."""
    met = LOW <= per_cent <= HIGH
    verdict = "beyond" if beyond else "met" if met else "MISSED"
    print(f"{title:<52} {per_cent:5.1f} %  {verdict:<7} {told}", flush=True)
    return met or beyond


def of_quantile(noise: Noise, share: float, count: int, *, beyond: bool = False) -> bool:
    """Coverage of one quantile's interval under one noise."""
    rng = np.random.default_rng(count)
    rows = noise.draw(rng, (ROWS, count))
    truth = noise.quantile(share, count)
    ends = [quantile_interval(row, share) for row in rows]
    ours = covered(ends, truth)
    few = rows[: ROWS // 2]
    single = covered([bootstrap(row, share, 1, rng) for row in few], truth)
    blocks = covered([bootstrap(row, share, 10, rng) for row in few], truth)
    told = f"bootstrap {single:.1f}, by blocks {blocks:.1f}"
    if None in ends:
        told += f"; {100 * ends.count(None) / ROWS:.0f} % got no interval"
    if share == 0.5:
        told = f"sign test {covered([median_interval(r) for r in rows], truth):.1f}, " + told
    return judged(f"p{100 * share:g} of {count:>4} runs, {noise.name}", ours, told, beyond=beyond)


def of_ratio(name: str, shared: Callable[[np.random.Generator, int], Array], count: int) -> bool:
    """Coverage of a ratio's interval: what the two of a pair share cancels out."""
    rng, found = np.random.default_rng(count), []
    for row in shared(rng, count):
        common = 1e6 * np.exp(row)
        stalls = np.where(rng.random((2, count)) < 0.05, 3.0, 1.0)
        own = np.exp(0.1 * rng.standard_normal((2, count))) * stalls
        arms = [tuple(map(round, common * own[0] * TRUTH)), tuple(map(round, common * own[1]))]
        ends = ratio(Pairs(arms[0], arms[1]))
        if ends.low is not None and ends.high is not None:
            found.append((ends.low, ends.high))
    return judged(f"ratio of {count:>3} pairs, {name}", covered(found, TRUTH), "")


def after_stopping(noise: Noise, precision: float) -> bool:
    """Coverage where measuring stops as soon as the interval of the median is narrow enough."""
    rng, found, counts = np.random.default_rng(7), [], []
    looks = [n for n in LOOKS if n < MOST]
    for row in noise.draw(rng, (ROWS, looks[-1])):
        count = next((n for n in looks if precise(row[:n], precision)), looks[-1])
        counts.append(count)
        found.append(quantile_interval(row[:count], 0.5))
    truth = noise.quantile(0.5, looks[-1])
    title = f"median once within {100 * precision:g} %, {noise.name}"
    return judged(title, covered(found, truth), f"{int(np.median(counts))} runs (median)")


def results() -> Iterator[bool]:
    """Everything, line by line."""
    steady = [lognormal(), heavy_tailed()]
    drifting = [drift(1), drift(2), drift(4)]
    for count in (20, 50, 100, 300):
        for noise in (*steady, *drifting[: 2 if count < 50 else 3]):
            yield of_quantile(noise, 0.5, count)
        for first in (0.3, 0.6, 0.8):
            hard = count < {0.3: 20, 0.6: 50, 0.8: 100}[first]
            yield of_quantile(lognormal(first), 0.5, count, beyond=hard)
        yield of_quantile(bursts(), 0.5, count, beyond=count < 50)
    for share, count in (
        (0.9, 50),
        (0.9, 300),
        (0.95, 100),
        (0.95, 300),
        (0.99, 500),
        (0.99, 1500),
    ):
        for noise in (*steady, drift(1), lognormal(0.6)):
            short = "neighbours" in noise.name and count < 2 * needed(share)
            yield of_quantile(noise, share, count, beyond=short)
    for count in (8, 12, 20, 60):
        yield of_ratio("quiet", lambda rng, n: np.zeros((ROWS, n)), count)
        yield of_ratio("shared noise 0.8", lambda rng, n: 0.5 * process(rng, (ROWS, n), 0.8), count)
        yield of_ratio(
            "shared drift of 50 %", lambda _, n: np.tile(np.linspace(0, 0.4, n), (ROWS, 1)), count
        )
    for noise in (*steady, lognormal(0.3), lognormal(0.6)):
        yield after_stopping(noise, 0.02)


if __name__ == "__main__":
    sys.exit(0 if all(list(results())) else 1)
