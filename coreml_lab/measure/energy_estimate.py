"""Joules per inference from idle and active blocks in turns: the arithmetic, without a clock.

Within a block only the energy between the first and the last publication counts: P = dE / dt. With
``t`` the mean time of a call in the active block, pair k gives e_k = (P_active - P_idle) t. The
estimate is the mean of the e_k with Student's 95 % interval (the method of energy measurements
since Lang and Rünger, Euro-Par 2013; blocks in turns as in MLPerf Power's ranging runs).

Half of the pairs begin with the idle block, half with the active one. What drifts steadily then
adds to the first and takes away from the second: the means of the two halves are averaged, and
that difference costs one degree of freedom instead of widening the interval. With fewer than two
pairs of either order it is the plain mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from coreml_lab.measure.energy_watch import Point, current
from coreml_lab.measure.intervals import student
from coreml_lab.probes.counters import Domain

LEAST_PAIRS = 3
NAN = math.nan
STUCK = "this counter is not kept up to date here: it stood still while there was work"


@dataclass(frozen=True)
class Block:
    """A stretch of time in which work was done back to back, or nothing was.

    Attributes:
        calls: how many were finished; 0 where it was idle.
    """

    start_ns: int
    end_ns: int
    calls: int

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.end_ns - self.start_ns) * 1e-9


@dataclass(frozen=True)
class Pair:
    """An idle and an active block; ``idle_first`` tells their order."""

    idle: Block
    active: Block
    idle_first: bool


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval; ``degrees`` of freedom are behind it."""

    mean: float
    half: float
    degrees: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Estimate:
    """What one group of counters says, per inference.

    Attributes:
        marginal: joules above idle.
        gross: joules, idle power included.
        active, idle: watts.
        floor: joules below which the counter cannot tell: its steps and its uncertain times.
        pairs: how many could be used.
        low, high: edges of ``gross`` where the source is an estimate: then there is no mean.
        reason: why there is nothing; empty where there is.
    """

    marginal: Interval | None
    gross: Interval | None
    active: Interval | None = None
    idle: Interval | None = None
    floor: float = 0.0
    pairs: int = 0
    low: float = NAN
    high: float = NAN
    reason: str = ""

    @property
    def resolved(self) -> bool:
        """Whether the energy above idle stands out from the resolution and the noise."""
        found = self.marginal
        return found is not None and found.mean >= max(self.floor, found.half)

    @property
    def below(self) -> float:
        """What it is less than, where it is not resolved; noise may have made the mean negative."""
        found = self.marginal
        return NAN if found is None else max(self.floor, abs(found.mean) + found.half)


@dataclass(frozen=True)
class Power:
    """Mean power in a block, its upper edge for estimates, and how uncertain its times are."""

    watts: float
    most: float
    error_s: float


def mean_of(values: Sequence[float]) -> Interval:
    """Mean with its 95 % interval; an infinite one for a single value."""
    middle = fmean(values)
    if len(values) == 1:
        return Interval(middle, math.inf)
    spread = math.sqrt(sum((v - middle) ** 2 for v in values) / (len(values) - 1))
    degrees = len(values) - 1
    return Interval(middle, student(degrees) * spread / math.sqrt(len(values)), degrees)


def mean_of_both(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The middle of two means, whose difference is of no interest; plain where there are few."""
    if min(len(first), len(second)) < 2:  # noqa: PLR2004 - a spread needs two
        return mean_of((*first, *second))
    means = fmean(first), fmean(second)
    squares = sum((v - means[0]) ** 2 for v in first) + sum((v - means[1]) ** 2 for v in second)
    degrees = len(first) + len(second) - 2
    error = math.sqrt(squares / degrees * (1 / len(first) + 1 / len(second))) / 2
    return Interval(sum(means) / 2, student(degrees) * error, degrees)


def power(points: Sequence[Point], block: Block, domain: Domain) -> Power | None:
    """Mean power between the first and the last publication in a block; None with fewer than two.

    A counter that was reset in between has no power, either.
    """
    if current(domain):  # read at both ends, the last after it had settled
        inside = [p for p in points if block.start_ns <= p.t_ns <= block.end_ns]
    else:
        inside = [
            p
            for p in points
            if block.start_ns <= p.t_ns - p.error_ns / 2 and p.t_ns + p.error_ns / 2 <= block.end_ns
        ]
    if len(inside) < 2 or any(math.isnan(p.joules) for p in inside):  # noqa: PLR2004 - two ends
        return None
    first, last = inside[0], inside[-1]
    seconds = (last.t_ns - first.t_ns) * 1e-9
    if seconds <= 0:
        return None
    error = max(min(p.error_ns * 1e-9, domain.period or math.inf) for p in (first, last))
    return Power((last.joules - first.joules) / seconds, (last.most - first.most) / seconds, error)


def estimate(
    pairs: Sequence[Pair], timelines: Mapping[str, Sequence[Point]], domains: Sequence[Domain]
) -> Estimate:
    """Joules per inference of a group of counters, added up."""
    stuck = _stuck(timelines, domains)
    if stuck:
        return Estimate(None, None, reason=stuck)
    found = [f for pair in pairs if (f := _pair(pair, timelines, domains)) is not None]
    if not found:
        return Estimate(None, None, reason=_why(pairs, timelines, domains))
    if any(f.most > f.gross for f in found):
        edges = fmean(f.gross for f in found), fmean(f.most for f in found)
        return Estimate(None, None, pairs=len(found), low=edges[0], high=edges[1])
    gross, active = mean_of([f.gross for f in found]), mean_of([f.active for f in found])
    floor = max(f.floor for f in found)
    if len(found) < LEAST_PAIRS:
        reason = (
            f"{len(found)} of {len(pairs)} pairs of blocks can be used: {LEAST_PAIRS} are needed"
        )
        return Estimate(None, gross, active, None, floor, len(found), reason=reason)
    halves = [[f.marginal for f in found if f.idle_first is first] for first in (True, False)]
    marginal = mean_of_both(*halves)
    idle = mean_of([f.idle for f in found])
    return Estimate(marginal, gross, active, idle, floor, len(found))


def single(
    block: Block, timelines: Mapping[str, Sequence[Point]], domains: Sequence[Domain]
) -> Estimate:
    """Joules per inference of one active block: gross only, and without an interval."""
    stuck = _stuck(timelines, domains)
    if stuck:
        return Estimate(None, None, reason=stuck)
    found = [power(timelines[d.name], block, d) for d in domains]
    there = [p for p in found if p is not None]
    if len(there) < len(domains) or not block.calls:
        pair = Pair(Block(0, 0, 0), block, idle_first=True)
        return Estimate(None, None, reason=_why([pair], timelines, domains))
    each = block.seconds / block.calls
    watts, most = sum(p.watts for p in there), sum(p.most for p in there)
    if most > watts:
        return Estimate(None, None, pairs=1, low=watts * each, high=most * each)
    gross, active = Interval(watts * each, math.inf), Interval(watts, math.inf)
    return Estimate(None, gross, active, pairs=1, reason="single window: idle was not measured")


@dataclass(frozen=True)
class _Found:
    """One pair: joules per inference and watts."""

    idle_first: bool
    marginal: float
    gross: float
    most: float
    active: float
    idle: float
    floor: float


def _pair(
    pair: Pair, timelines: Mapping[str, Sequence[Point]], domains: Sequence[Domain]
) -> _Found | None:
    """One pair's energies; None where a counter of the group published too little."""
    active = [power(timelines[d.name], pair.active, d) for d in domains]
    idle = [_idle(timelines[d.name], pair, d) for d in domains]
    there = [a for a in active if a is not None]
    resting = [i for i in idle if i is not None]
    if len(there) < len(domains) or len(resting) < len(domains):
        return None
    watts, base = sum(a.watts for a in there), sum(i.watts for i in resting)
    each = pair.active.seconds / pair.active.calls
    error = max(p.error_s for p in (*there, *resting))
    quantum = sum(d.quantum for d in domains)
    return _Found(
        pair.idle_first,
        (watts - base) * each,
        watts * each,
        sum(a.most for a in there) * each,
        watts,
        base,
        2 * (quantum + watts * error) / pair.active.calls,
    )


def _idle(points: Sequence[Point], pair: Pair, domain: Domain) -> Power | None:
    """Power of an idle block.

    A counter that moved while there was work, and not once while there was none, drew less than
    its smallest step: that is nothing above it, and the floor contains the step.
    """
    found = power(points, pair.idle, domain)
    if found is not None or _reset(points, pair.idle):
        return found
    moved = power(points, pair.active, domain)
    still = not any(pair.idle.start_ns <= p.t_ns <= pair.idle.end_ns for p in points)
    if moved is None or not still or domain.period * 2 > pair.idle.seconds:
        return None
    return Power(0.0, 0.0, 0.0)


def _stuck(timelines: Mapping[str, Sequence[Point]], domains: Sequence[Domain]) -> str:
    """Which counter that cannot stand still did; empty where none."""
    for domain in domains:
        points = timelines[domain.name]
        if domain.always_draws and len(points) > 1 and len({p.joules for p in points}) == 1:
            return f"{domain.source}: {STUCK}"
    return ""


def _reset(points: Sequence[Point], block: Block) -> bool:
    return any(math.isnan(p.joules) and block.start_ns <= p.t_ns <= block.end_ns for p in points)


def _why(
    pairs: Sequence[Pair], timelines: Mapping[str, Sequence[Point]], domains: Sequence[Domain]
) -> str:
    """Why no pair can be used."""
    if not pairs:
        return "no pair of blocks was finished"
    if any(
        _reset(timelines[d.name], b) for d in domains for p in pairs for b in (p.idle, p.active)
    ):
        return "the counter was reset, or the machine slept, in every pair of blocks"
    longest = max(pair.active.seconds for pair in pairs)
    return f"not resolvable: fewer than two publications in blocks of {longest:.1f} s"
