"""Whether a candidate is kept: improved by the goal, within the tolerance, not slower. Pure."""

from __future__ import annotations

import math

from coreml_lab.improve.optimizing.ledger import Evidence

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
    if goal in {"latency", "energy"}:
        return _time(found)
    if goal == "size":
        return _smaller("file", found.size, before.size, found)
    if found.memory is None or before.memory is None:
        return OPEN, "memory is not known: " + (found.unknown or before.unknown)
    return _smaller("memory", found.memory, before.memory, found)


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
