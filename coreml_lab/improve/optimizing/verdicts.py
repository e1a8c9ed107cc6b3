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
# Sizes and memory are known well, but a gain below this is not worth a change.
WORTH = 0.98

Verdict = tuple[str, str]


def judge(goal: str, before: Evidence, found: Evidence, tolerance: float) -> Verdict:
    """The verdict on a candidate, and the reason, against what held before it."""
    if not found.loss <= tolerance:
        return REJECTED, f"its loss of {_digits(found.loss)} is beyond {tolerance:g}"
    if "+" in goal:
        return _product(goal.split("+"), before, found)
    if goal == "latency":
        return _time(found)
    if goal == "energy":
        return _energy(before.energy, found.energy)
    after, was = (found.size, before.size) if goal == "size" else (found.memory, before.memory)
    if after is None or was is None:
        return OPEN, "memory is not known: " + (found.unknown or before.unknown)
    return _smaller("file" if goal == "size" else goal, after, was, found)


def _product(goals: Sequence[str], before: Evidence, found: Evidence) -> Verdict:
    """Several goals: the product of their ratios, as sure as each of them is."""
    low = high = 1.0
    told = []
    for goal in goals:
        ends = _ratio(goal, before, found)
        if isinstance(ends, str):
            return OPEN, ends
        low, high = low * ends[0], high * ends[1]
        told.append(f"{goal} × {math.sqrt(ends[0] * ends[1]):.2f}")
    said = ", ".join(told)
    if high < 1:
        return ACCEPTED, said
    return (REJECTED, said) if low > WORTH else (OPEN, f"{said}: no difference is shown")


def _ratio(goal: str, before: Evidence, found: Evidence) -> tuple[float, float] | str:
    """After by before, least and most; or why that is not known."""
    if goal == "latency":
        if found.low is None or found.high is None:
            return "too few pairs of runs for an interval"
        return found.low, found.high
    if goal == "energy":
        if not _known(before.energy) or not _known(found.energy):
            return "energy is not known"
        now, then = found.energy, before.energy
        return now.low / then.high, now.high / then.low  # type: ignore[union-attr,operator]
    after, was = (found.size, before.size) if goal == "size" else (found.memory, before.memory)
    if after is None or not was:
        return "memory is not known: " + (found.unknown or before.unknown)
    return after / was, after / was


def _known(energy: Quantity | None) -> bool:
    return energy is not None and energy.low is not None and energy.high is not None


def _energy(before: Quantity | None, found: Quantity | None) -> Verdict:
    """Two energies, each known within a range: overlapping ones are not ranked."""
    if before is None or found is None or not _known(before) or not _known(found):
        note = (found or before or Quantity.unavailable("J", "it was not asked for")).note
        return OPEN, f"energy is not known within a range: {note}"
    said = f"{show(found)}, {show(before)} before it"
    if found.high < before.low:  # type: ignore[operator]
        return ACCEPTED, f"it takes less energy: {said}"
    if found.low > before.high:  # type: ignore[operator]
        return REJECTED, f"it takes more energy: {said}"
    return OPEN, f"the ranges of energy overlap: {said}"


def _time(found: Evidence) -> Verdict:
    if found.low is None or found.high is None:
        return OPEN, "too few pairs of runs for an interval"
    if found.high < 1:
        return ACCEPTED, f"it takes {1 - found.ratio:.0%} less time"
    if found.low > 1:
        return REJECTED, f"it takes {found.ratio - 1:.0%} more time"
    return OPEN, "no difference in time is shown"


def _smaller(what: str, after: int, before: int, found: Evidence) -> Verdict:
    if after > WORTH * before:
        return REJECTED, f"its {what} is not smaller"
    if found.low is not None and found.low > MARGIN:
        return REJECTED, f"it takes {found.ratio - 1:.0%} more time"
    return ACCEPTED, f"its {what} is {1 - after / before:.0%} smaller"


def _digits(loss: float) -> str:
    return f"{loss:.3g}" if math.isfinite(loss) else "not a number"
