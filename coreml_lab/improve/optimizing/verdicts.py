"""Whether a candidate is kept: improved by the goal, within the tolerance, not slower. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coreml_lab.explain.units import show
from coreml_lab.improve.optimizing.ledger import Evidence
from coreml_lab.metrics import Quantity

ACCEPTED, REJECTED, OPEN = "accepted", "rejected", "not resolved"
# A change that is not about time may make runs this much longer, no more.
MARGIN = 1.05
# A gain in size or memory below this is not worth a change.
WORTH = 0.98
# Goals that say nothing of time: what is kept for them must not cost much of it.
TIMELESS = {"size", "memory"}
FEW = "too few pairs of runs for an interval"
PERCENT = 10

Verdict = tuple[str, str]
Ends = tuple[float, float]


def judge(goal: str, before: Evidence, found: Evidence, tolerance: float) -> Verdict:
    """The verdict on a candidate, and the reason, against what held before it."""
    if not found.loss <= tolerance:
        return REJECTED, f"its loss of {_digits(found.loss)} is beyond {tolerance:g}"
    goals = goal.split("+")
    if len(goals) > 1:
        verdict = _product(goals, before, found)
    elif goal == "latency":
        verdict = _time(found)
    elif goal == "energy":
        verdict = _energy(before, found)
    else:
        verdict = _smaller(goal, before, found)
    return _not_slower(verdict, found) if set(goals) <= TIMELESS else verdict


def _not_slower(verdict: Verdict, found: Evidence) -> Verdict:
    """What is smaller, unless it takes longer, or may take longer for all that is known."""
    if verdict[0] != ACCEPTED:
        return verdict
    if found.low is None or found.high is None:
        return OPEN, f"{verdict[1]}, but {FEW} of its time"
    if found.low > MARGIN:
        return REJECTED, f"{verdict[1]}, but it takes {_percent(found.ratio - 1)} more time"
    if found.high > MARGIN:
        return OPEN, f"{verdict[1]}, but it may take {_percent(found.high - 1)} more time"
    return verdict


def _product(goals: Sequence[str], before: Evidence, found: Evidence) -> Verdict:
    """Several goals: the product of their ratios, as sure as each of them is."""
    low = high = 1.0
    told = []
    for goal in goals:
        ends = _ratio(goal, before, found)
        if isinstance(ends, str):
            return OPEN, ends
        low, high = low * ends[0], high * ends[1]
        told.append(f"{goal} × {_middle(ends)}")
    said = ", ".join(told)
    if high < 1:
        return ACCEPTED, said
    return (REJECTED, said) if low > WORTH else (OPEN, f"{said}: no difference is shown")


def _middle(ends: Ends) -> str:
    """The middle of a ratio's range, as ratios have it; a bound where only that is known."""
    low, high = ends
    if 0 < low <= high < math.inf:
        return f"{math.sqrt(low * high):.2f}"
    return f"{high:.2f} or less" if high < math.inf else f"{low:.2f} or more"


def _ratio(goal: str, before: Evidence, found: Evidence) -> Ends | str:
    """After by before, least and most; or why that is not known."""
    if goal == "latency":
        return FEW if found.low is None or found.high is None else (found.low, found.high)
    if goal == "energy":
        both = _alike(before, found)
        return both if isinstance(both, str) else _quotient(*map(_ends, both[:2]))
    if goal == "size":
        return found.size / before.size, found.size / before.size
    if found.held is None or not before.memory or before.held is None:
        return "memory is not known: " + (found.unknown or before.unknown)
    return _quotient(before.held, found.held)


def _quotient(before: Ends, found: Ends) -> Ends | str:
    """The range of a quotient, from those of both parts, which are not below 0."""
    if not before[1] > 0:
        return "there was nothing before it to compare with"
    return found[0] / before[1], found[1] / before[0] if before[0] > 0 else math.inf


def _alike(before: Evidence, found: Evidence) -> tuple[Quantity, Quantity, str] | str:
    """Energy before and after of one kind, with its name: above idle, else gross; or why not."""
    for one, other, kind in (
        (before.energy, found.energy, ""),
        (before.gross, found.gross, ", idle power included"),
    ):
        if one is not None and other is not None and _known(one) and _known(other):
            return one, other, kind
    unknown = [q for q in (found.energy, before.energy) if q is not None and not _known(q)]
    note = unknown[0].note if unknown else "it was not asked for"
    return f"energy is not known within a range: {note}"


def _known(energy: Quantity) -> bool:
    """Whether it lies within a range; one that is all below 0 says only that there was noise."""
    return energy.low is not None and energy.high is not None and energy.high > 0


def _ends(energy: Quantity) -> Ends:
    """Its range; no inference gives energy back, so what reaches below 0 begins there."""
    return max(0.0, energy.low or 0.0), energy.high or 0.0


def _energy(before: Evidence, found: Evidence) -> Verdict:
    """Two energies, each known within a range: overlapping ones are not ranked."""
    both = _alike(before, found)
    if isinstance(both, str):
        return OPEN, both
    was, now, kind = both
    (least, most), (low, high) = _ends(was), _ends(now)
    said = f"{show(now)}, {show(was)} before it{kind}"
    if high < least:
        return ACCEPTED, f"it takes less energy: {said}"
    if low > most:
        return REJECTED, f"it takes more energy: {said}"
    return OPEN, f"the ranges of energy overlap: {said}"


def _time(found: Evidence) -> Verdict:
    if found.low is None or found.high is None:
        return OPEN, FEW
    if found.high < 1:
        return ACCEPTED, f"it takes {_percent(1 - found.ratio)} less time"
    if found.low > 1:
        return REJECTED, f"it takes {_percent(found.ratio - 1)} more time"
    return OPEN, "no difference in time is shown"


def _smaller(goal: str, before: Evidence, found: Evidence) -> Verdict:
    """A file has one size; memory was measured several times, and all of them must agree."""
    what = "file" if goal == "size" else goal
    ends = _ratio(goal, before, found)
    if isinstance(ends, str):
        return OPEN, ends
    if ends[0] > WORTH:
        return REJECTED, f"its {what} is not smaller"
    after, was = (found.size, before.size) if goal == "size" else (found.memory, before.memory)
    share = (after or 0) / (was or 1)
    if ends[1] > WORTH:
        return OPEN, f"its {what} is × {ends[0]:.3g} to {ends[1]:.3g}: no difference is shown"
    return ACCEPTED, f"its {what} is {_percent(1 - share)} smaller"


def _percent(share: float) -> str:
    """Two digits, however small: what was told apart is not 0 %."""
    return f"{share:.0%}" if abs(share) * 100 >= PERCENT or not share else f"{share * 100:.2g}%"


def _digits(loss: float) -> str:
    return f"{loss:.3g}" if math.isfinite(loss) else "not a number"
