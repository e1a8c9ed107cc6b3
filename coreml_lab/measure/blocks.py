"""Runs timed in blocks, one thing alone or two in turns.

A run may be shorter than a clock can tell, and the threads of one session go on spinning for
milliseconds after it: what follows is slowed down. So a block is some runs that are not timed,
then as many as make a time worth reading; its result is the mean of those.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from coreml_lab.clock import Clock
from coreml_lab.measure.paired import Work

SETTLE_NS = 20_000_000
BLOCK_NS = 10_000_000
# Runs that take longer than this are timed one by one; whatever spins has long stopped.
LONG_NS = 100_000_000


@dataclass(frozen=True)
class Block:
    """How often work is repeated before it is timed, and while."""

    settle: int
    repeats: int

    def time(self, work: Work, clock: Clock) -> int:
        """Nanoseconds per run."""
        for _ in range(self.settle):
            work()
        start = clock.now_ns()
        for _ in range(self.repeats):
            work()
        return (clock.now_ns() - start) // self.repeats


def sized(works: Sequence[Work], clock: Clock, warmup: int = 5) -> Block:
    """One block for all of them, which have then run a few times.

    It is the same for all, since the length of a block itself has an influence: long enough for
    the fastest, unless that would make the slowest wait.
    """
    times = [_fastest(work, clock, warmup) for work in works]
    slowest = max(times)
    if slowest > LONG_NS:
        return Block(0, 1)
    repeats = max(1, min(-(-BLOCK_NS // min(times)), LONG_NS // slowest))
    return Block(-(-SETTLE_NS // slowest), repeats)


def _fastest(work: Work, clock: Clock, runs: int) -> int:
    """Nanoseconds of the fastest of some runs: the others were disturbed."""
    found = []
    for _ in range(runs):
        start = clock.now_ns()
        work()
        found.append(max(1, clock.now_ns() - start))
        if found[-1] > LONG_NS:
            break
    return min(found)


def in_turns(
    works: Sequence[Work],
    block: Block,
    rounds: int,
    *,
    order: random.Random,
    end_ns: float,
    clock: Clock,
) -> list[tuple[int, ...]]:
    """Nanoseconds per run of each work, per round; in random order within a round.

    No round is begun after ``end_ns``; the first is always measured.
    """
    found = []
    for _ in range(rounds):
        times = dict.fromkeys(range(len(works)), 0)
        for place in order.sample(range(len(works)), len(works)):
            times[place] = block.time(works[place], clock)
        found.append(tuple(times.values()))
        if clock.now_ns() > end_ns:
            break
    return found
