"""How long an inference takes, for a gate: looked at again while noise leaves a limit open.

A gate must neither fail at random nor pass whatever comes. So a limit on time is decided by an
interval, never by the estimate alone; where it is open after ``rounds`` rounds, the double and then
four times as many are measured. Three looks would make a false alarm three times as likely: each
interval is made for a third of the error, so that all of them hold together with 95 %.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from coreml_lab.clock import Clock
from coreml_lab.improve.limits import Decision, Limits, decide
from coreml_lab.measure.blocks import in_turns, sized
from coreml_lab.measure.intervals import CONFIDENCE
from coreml_lab.measure.paired import Work, median_interval
from coreml_lab.metrics import Provenance, Quantity

LOOKS = (1, 2, 4)
EACH = 1 - (1 - CONFIDENCE) / len(LOOKS)


@dataclass(frozen=True)
class Timed:
    """A median with its interval, and what it says about its limit."""

    value: Quantity
    decision: Decision


@dataclass(frozen=True)
class Times:
    """Time per inference, and its ratio to the reference's where that was timed too."""

    latency: Timed
    ratio: Timed | None = None

    @property
    def settled(self) -> bool:
        """Whether more rounds could change nothing that is asked."""
        found = [t.decision for t in (self.latency, self.ratio) if t is not None]
        return not {Decision.OPEN, Decision.UNCHECKED} & set(found)


def measure(
    work: Work,
    reference: Work | None,
    asked: Limits,
    *,
    rounds: int,
    seconds: float,
    clock: Clock,
) -> Times:
    """Time ``work``, in turns with ``reference`` where there is one, until the limits are decided.

    Args:
        work: one inference.
        reference: one inference of what it is compared with.
        asked: the limits.
        rounds: how many blocks of each before the first look.
        seconds: no round is begun after so long.
        clock: what tells the time.
    """
    end = clock.now_ns() + seconds * 1e9
    order = random.Random(0)  # noqa: S311 - which of two goes first, not a secret
    works = [w for w in (work, reference) if w is not None]
    block = sized(works, clock)
    found: list[tuple[int, ...]] = []
    for look in LOOKS:
        fresh = rounds * look - len(found)
        found += in_turns(works, block, fresh, order=order, end_ns=end, clock=clock)
        times = _times(found, asked)
        if times.settled or clock.now_ns() > end:
            break
    return times


def _times(found: Sequence[tuple[int, ...]], asked: Limits) -> Times:
    latency = _timed([row[0] / 1e9 for row in found], "s", asked.max_latency)
    if len(found[0]) == 1:
        return Times(latency)
    # A run of no measurable time counts as the shortest that is.
    ratios = [max(1, mine) / max(1, other) for mine, other in found]
    return Times(latency, _timed(ratios, "{ratio}", asked.max_latency_ratio))


def _timed(values: Sequence[float], unit: str, limit: float | None) -> Timed:
    ends = median_interval(values, EACH)
    # Too few for an interval: what all of them say stands in for it.
    low, high = ends or (min(values), max(values))
    note = f"{len(values)} blocks" + ("" if ends else ": too few for an interval, all are shown")
    found = Quantity(median(values), unit, Provenance.MEASURED, low, high, note)
    return Timed(found, Decision.NONE if limit is None else decide(low, high, limit))
