"""Several things in turns: rounds in random order, each turn a block of runs timed one by one.

The ratio of two arms is made of the medians or means of their blocks, paired within a round (see
``paired``); what single runs took gives the percentiles of each arm.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.measure.blocks import Block
from coreml_lab.measure.intervals import CONFIDENCE
from coreml_lab.measure.paired import Pairs, Ratio, Work, ratio

CpuTime = Callable[[], int]


@dataclass(frozen=True)
class Turn:
    """One block of one arm.

    Attributes:
        each: nanoseconds of each run.
        mean: nanoseconds per run, from the block's beginning to its end.
        cpu: nanoseconds of this process's CPU time per run, all threads together.
    """

    each: tuple[int, ...]
    mean: int
    cpu: int


Round = tuple[Turn, ...]


def middle(turn: Turn) -> int:
    """The median of a turn's runs, in nanoseconds."""
    return round(median(turn.each))


def rounds(
    works: Sequence[Work],
    block: Block,
    *,
    seed: int = 0,
    clock: Clock = SYSTEM,
    cpu: CpuTime = time.process_time_ns,
) -> Iterator[Round]:
    """Rounds without end; in each, every work has a turn, in an order drawn anew.

    Whoever iterates decides when it is enough, and keeps the whole rounds when interrupted.
    """
    order = random.Random(seed)  # noqa: S311 - which goes first, not a secret
    while True:
        turns: dict[int, Turn] = {}
        for place in order.sample(range(len(works)), len(works)):
            turns[place] = turn(works[place], block, clock, cpu)
        yield tuple(turns[place] for place in range(len(works)))


def turn(work: Work, block: Block, clock: Clock, cpu: CpuTime) -> Turn:
    """One block: some runs that are not timed, then those that are."""
    for _ in range(block.settle):
        work()
    each = []
    used, begin = cpu(), clock.now_ns()
    before = begin
    for _ in range(block.repeats):
        work()
        now = clock.now_ns()
        each.append(now - before)
        before = now
    return Turn(
        tuple(each), (before - begin) // block.repeats, max(0, cpu() - used) // block.repeats
    )


def against(
    found: Sequence[Round],
    arm: int,
    baseline: int,
    of: Callable[[Turn], int] = lambda turn: turn.mean,
    confidence: float = CONFIDENCE,
) -> Ratio:
    """The ratio of two arms' turns, round by round.

    Raises:
        LabError: where a turn took none of what is compared, so that there is no ratio.
    """
    pairs = Pairs(tuple(of(r[arm]) for r in found), tuple(of(r[baseline]) for r in found))
    return ratio(pairs, confidence)


def shared_confidence(statements: int, confidence: float = CONFIDENCE) -> float:
    """What each of several intervals must hold with, so that all hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, statements)
