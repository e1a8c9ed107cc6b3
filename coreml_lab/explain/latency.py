"""How long inferences took: order statistics with their intervals, and how the row of them went.

A percentile is shown from so many runs on that at least one of them lies beyond it, and its 95 %
interval from so many on that there is one (see ``measure.intervals``). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from coreml_lab.measure.intervals import Course, course, needed, quantile, quantile_interval
from coreml_lab.metrics import Provenance, Quantity

# Runs that a percentile needs: fewer, and it is only the slowest run under another name.
NEEDED = {0.9: 10, 0.95: 20, 0.99: 100}
# A run is stalled that takes so many times the median.
STALL = 2.0


@dataclass(frozen=True)
class Latency:
    """How long inferences took, uninstrumented.

    Attributes:
        course: how the row of them went: drift, dependence.
        stalls: share of runs that took more than twice the median.
    """

    p50: Quantity
    p95: Quantity
    p99: Quantity
    fastest: Quantity
    mean: Quantity
    throughput: Quantity
    p90: Quantity
    slowest: Quantity
    stalls: Quantity
    course: Course


def latency(seconds: Sequence[float]) -> Latency:
    """What uninstrumented runs, in the order they were made, say about time per inference."""
    if not seconds:
        none, rate, share = (Quantity.unavailable(u, "no run was timed") for u in ("s", "Hz", "1"))
        return Latency(none, none, none, none, none, rate, none, none, share, course(()))
    whole = sum(seconds)
    middle = _at(seconds, 0.5)
    return Latency(
        p50=middle,
        p95=_at(seconds, 0.95),
        p99=_at(seconds, 0.99),
        fastest=_measured(min(seconds)),
        mean=_measured(fmean(seconds)),
        throughput=_measured(len(seconds) / whole, "Hz")
        if whole > 0
        else Quantity.unavailable("Hz", "the runs took no measurable time"),
        p90=_at(seconds, 0.9),
        slowest=_measured(max(seconds)),
        stalls=_measured(sum(t > STALL * middle.value for t in seconds) / len(seconds), "1"),
        course=course(seconds),
    )


def _measured(value: float, unit: str = "s") -> Quantity:
    return Quantity(value, unit, Provenance.MEASURED)


def _at(seconds: Sequence[float], share: float) -> Quantity:
    """A quantile with its interval, or why there is none."""
    least = NEEDED.get(share, 1)
    if len(seconds) < least:
        return Quantity.unavailable("s", f"needs {least} runs, there are {len(seconds)}")
    value, ends = quantile(seconds, share), quantile_interval(seconds, share)
    if ends is None:
        note = f"its 95 % interval needs {needed(share)} independent runs"
        return Quantity(value, "s", Provenance.MEASURED, note=note)
    return Quantity(value, "s", Provenance.MEASURED, *ends)
