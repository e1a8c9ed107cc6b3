"""Made-up times of runs whose true quantiles are known: what a quiet and a loud machine give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

NORMAL = NormalDist()
Array = np.ndarray[Any, np.dtype[np.float64]]
Rng = np.random.Generator
SPREAD = 0.1


@dataclass(frozen=True)
class Noise:
    """A kind of noise: ``draw`` gives rows of times of so many runs, in their order.

    ``share_below(time, count)`` is the share of such runs that take less, on average over a row.
    """

    name: str
    draw: Callable[[Rng, tuple[int, int]], Array]
    share_below: Callable[[float, int], float]

    def quantile(self, share: float, count: int) -> float:
        """The true quantile of the times of a row, by bisection."""
        low, high = 1e-3, 1e6
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.share_below(middle, count) < share else (low, middle)
        return low


def process(rng: Rng, shape: tuple[int, int], first: float) -> Array:
    """Rows of a normal process with that correlation of neighbours, and variance 1."""
    rows = rng.standard_normal(shape)
    fresh = math.sqrt(1 - first**2)
    for place in range(1, shape[1]):
        rows[:, place] = first * rows[:, place - 1] + fresh * rows[:, place]
    return rows


def lognormal(first: float = 0.0) -> Noise:
    """A skewed spread of 10 %; with ``first``, runs resemble the ones before."""
    name = f"lognormal, neighbours {first:g}" if first else "lognormal"
    return Noise(
        name,
        lambda rng, shape: np.exp(SPREAD * process(rng, shape, first)),
        lambda time, _: NORMAL.cdf(math.log(time) / SPREAD),
    )


def heavy_tailed() -> Noise:
    """Stalls without a variance: a Pareto tail of exponent 1.5."""
    return Noise(
        "heavy tail (Pareto 1.5)",
        lambda rng, shape: 1 + 0.05 * rng.pareto(1.5, shape),
        lambda time, _: 1 - (1 + (time - 1) / 0.05) ** -1.5 if time > 1 else 0.0,
    )


def bursts(slow: float = 1.3) -> Noise:
    """Another program that works for 5 runs on average, a fifth of the time, and slows by 30 %."""

    def draw(rng: Rng, shape: tuple[int, int]) -> Array:
        state, rows = rng.random(shape[0]) < 0.2, np.empty(shape)
        for place in range(shape[1]):
            chance = rng.random(shape[0])
            state = np.where(state, chance < 0.8, chance > 0.95)
            rows[:, place] = np.where(state, slow, 1.0)
        return rows * np.exp(0.05 * rng.standard_normal(shape))

    def below(time: float, _: int) -> float:
        quiet, loud = (NORMAL.cdf(math.log(time / base) / 0.05) for base in (1.0, slow))
        return 0.8 * quiet + 0.2 * loud

    return Noise("bursts of another load", draw, below)


def drift(times: float, name: str = "") -> Noise:
    """A steady trend: from the first run to the last it grows by so many spreads (of 10 %)."""

    def trend(count: int) -> Array:
        return np.linspace(-times / 2, times / 2, count)

    return Noise(
        name or f"drift of {times:g} spreads",
        lambda rng, shape: np.exp(SPREAD * (rng.standard_normal(shape) + trend(shape[1]))),
        lambda time, count: float(
            np.mean([NORMAL.cdf(math.log(time) / SPREAD - at) for at in trend(count)])
        ),
    )
