"""From what was measured of the arms to rows with a ratio and, where it is earned, a verdict. Pure.

All ratios with an interval hold together with 95 %: each interval is made for its part of the
error (Bonferroni), so that looking at many rows does not make one of them a discovery by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import median

from coreml_lab.errors import LabError
from coreml_lab.measure.intervals import quantile, quantile_interval
from coreml_lab.measure.paired import Ratio
from coreml_lab.measure.rounds import Round, Turn, against, middle, shared_confidence
from coreml_lab.metrics import Provenance, Quantity

BASELINE = "it is the baseline"
AWAY = "Core ML works in a process of its own"
TAIL = 0.95
# Numbers that are shown as equal are called so.
ROUNDED = 5e-4


@dataclass(frozen=True)
class Row:
    """One thing that was measured of one arm.

    Attributes:
        metric: its key, the same in every arm: ``latency.p50``, ``memory.weights`` …
        ratio: arm ÷ baseline, or why there is none.
        verdict: in words, only where the interval excludes 1 or both numbers are exact; else why
            it is not ranked.
    """

    metric: str
    label: str
    value: Quantity
    ratio: Quantity
    verdict: str

    @property
    def resolved(self) -> bool:
        """Whether the interval of the ratio excludes 1."""
        low, high = self.ratio.low, self.ratio.high
        known = self.ratio.provenance is Provenance.MEASURED and low is not None
        return known and high is not None and low is not None and not low <= 1 <= high


def seconds(durations_ns: Sequence[float]) -> Quantity:
    """The median of measured durations."""
    return Quantity(median(durations_ns) / 1e9, "s", Provenance.MEASURED)


def verdict(found: Ratio, less: str = "less time", more: str = "more time") -> str:
    """Words for a ratio, and only where its interval excludes 1."""
    if found.low is None:
        counted = "1 pair is" if found.pairs == 1 else f"{found.pairs} pairs are"
        return f"not resolved: {counted} too few"
    if not found.resolved:
        return "no difference shown"
    return less if found.value < 1 else more


def quantity(found: Ratio) -> Quantity:
    """A ratio as a quantity."""
    note = f"{found.pairs} pairs" + ("" if found.low is not None else ": too few for an interval")
    return Quantity(found.value, "{ratio}", Provenance.MEASURED, found.low, found.high, note)


def no_ratio(why: str) -> Quantity:
    """Why there is no ratio."""
    return Quantity.unavailable("{ratio}", why)


# -- what is timed in turns ------------------------------------------------------------------------


def timed(
    found: Sequence[Round],
    arm: int,
    baseline: int,
    confidence: float,
    away: Collection[int] = (),
) -> tuple[Row, ...]:
    """Latency and CPU time of one arm, from rounds in which all had their turns.

    Of arms that are ``away`` another process does the work: their CPU time is not this one's.
    """
    return (
        _paired(
            ("latency.p50", "latency p50"),
            _p50(found, arm),
            _ratio(found, arm, baseline, middle, confidence),
            ("less time", "more time"),
        ),
        _tail(found, arm, baseline, confidence),
        _cpu(found, arm, baseline, confidence, away),
    )


def _cpu(
    found: Sequence[Round], arm: int, baseline: int, confidence: float, away: Collection[int]
) -> Row:
    name = ("cpu.time", "CPU time per inference")
    if arm in away:
        value = Quantity.unavailable("s", AWAY)
        return Row(*name, value, no_ratio(BASELINE if arm == baseline else AWAY), "")
    value = seconds([r[arm].cpu for r in found])
    if baseline in away:
        return Row(*name, value, no_ratio(f"the baseline's is unavailable: {AWAY}"), "not ranked")
    ratio = _ratio(found, arm, baseline, lambda turn: turn.cpu, confidence)
    return _paired(name, value, ratio, ("less CPU time", "more CPU time"))


def intervals(arms: int, batches: int) -> int:
    """How many ratios with an interval there are: three of each arm, and one per batch size."""
    return arms * (3 + batches)


def _each(found: Sequence[Round], arm: int) -> list[int]:
    return [t for r in found for t in r[arm].each]


def _p50(found: Sequence[Round], arm: int) -> Quantity:
    runs = _each(found, arm)
    return Quantity(median(runs) / 1e9, "s", Provenance.MEASURED, note=f"{len(runs)} runs")


def _ratio(
    found: Sequence[Round], arm: int, baseline: int, of: Callable[[Turn], int], confidence: float
) -> Ratio | str:
    """The ratio to the baseline, or why there is none."""
    if arm == baseline:
        return BASELINE
    try:
        return against(found, arm, baseline, of, confidence)
    except LabError:
        return "a turn used less than the clock can tell"


def _paired(
    name: tuple[str, str], value: Quantity, found: Ratio | str, words: tuple[str, str]
) -> Row:
    if isinstance(found, str):
        return Row(*name, value, no_ratio(found), "" if found == BASELINE else "not ranked")
    return Row(*name, value, quantity(found), verdict(found, *words))


def _tail(found: Sequence[Round], arm: int, baseline: int, confidence: float) -> Row:
    """The 95th percentile: an interval for each arm, and from both one for their ratio.

    Each is made for half of the error; the ratio lies between the ends that are furthest apart.
    """
    name = ("latency.p95", "latency p95")
    each = shared_confidence(2, confidence)
    value, other = _p95(found, arm, each), _p95(found, baseline, each)
    if arm == baseline:
        return Row(*name, value, no_ratio(BASELINE), "")
    ratio = apart(value, other)
    if not math.isfinite(ratio.value):
        return Row(*name, value, ratio, "not ranked: too few runs")
    return Row(*name, value, ratio, _told(ratio, ("less time", "more time")))


def _p95(found: Sequence[Round], arm: int, confidence: float) -> Quantity:
    runs = _each(found, arm)
    ends = quantile_interval(runs, TAIL, confidence)
    if ends is None:
        counted = "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"
        return Quantity.unavailable("s", f"{counted} too few for a 95th percentile")
    low, high = (end / 1e9 for end in ends)
    return Quantity(quantile(runs, TAIL) / 1e9, "s", Provenance.MEASURED, low, high)


def apart(value: Quantity, other: Quantity) -> Quantity:
    """The ratio of two numbers with intervals of their own, between their outermost ends."""
    missing = next((q for q in (value, other) if not math.isfinite(q.value)), None)
    if missing is not None:
        return no_ratio(missing.note or "there is no value")
    ends = (value.low, value.high, other.low, other.high)
    low, high, least, most = (math.nan if end is None else end for end in ends)
    if math.isnan(low + high + most) or not least > 0:
        return no_ratio("there is no interval")
    ratio = value.value / other.value
    return Quantity(ratio, "{ratio}", Provenance.MEASURED, low / most, high / least)


def _told(ratio: Quantity, words: tuple[str, str]) -> str:
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return "no difference shown"
    return words[ratio.value > 1]


def throughput(
    found: Sequence[Round], size: int, arm: int, baseline: int | None, confidence: float
) -> Row:
    """Inferences per second with that many examples at once; more is better."""
    name = (f"throughput.{size}", f"throughput, batch {size}")
    middle_ns = median(r[arm].mean for r in found)
    value = Quantity(size * 1e9 / middle_ns, "Hz", Provenance.MEASURED, note=f"{len(found)} rounds")
    if baseline is None:
        return Row(*name, value, no_ratio("the baseline does not take so many"), "not ranked")
    # Its time divided by the arm's is the arm's throughput divided by its.
    ratio: Ratio | str = BASELINE
    if arm != baseline:
        ratio = _ratio(found, baseline, arm, lambda turn: turn.mean, confidence)
    return _paired(name, value, ratio, ("less throughput", "more throughput"))


# -- what is counted or measured once --------------------------------------------------------------


def exact(
    name: tuple[str, str], value: Quantity, baseline: Quantity | None, words: tuple[str, str]
) -> Row:
    """A number that is counted: it differs or it does not, without an interval."""
    row = once(name, value, baseline)
    if not math.isfinite(row.ratio.value):
        return row
    difference = row.ratio.value - 1
    told = "the same" if abs(difference) < ROUNDED else words[difference > 0]
    return Row(*name, value, row.ratio, told)


def once(name: tuple[str, str], value: Quantity, baseline: Quantity | None) -> Row:
    """A number that was measured once: a ratio, and no verdict."""
    if baseline is None:
        return Row(*name, value, no_ratio(BASELINE), "")
    missing = next((q for q in (value, baseline) if q.provenance is Provenance.UNAVAILABLE), None)
    if missing is not None:
        whose = "" if missing is value else "the baseline's is unavailable: "
        return Row(*name, value, no_ratio(whose + missing.note), "not ranked")
    if value.provenance is not baseline.provenance:
        mixed = next(q for q in (baseline, value) if q.provenance is not Provenance.MEASURED)
        whose = "the baseline" if mixed is baseline else "it"
        why = f"{whose} is {mixed.provenance.value}"
        return Row(*name, value, no_ratio(why), f"not ranked: {why}")
    once_only = value.provenance is Provenance.MEASURED
    why = "measured once" if once_only else value.provenance.value
    return Row(*name, value, _divided(value, baseline), f"not ranked: {why}")


def _divided(value: Quantity, by: Quantity) -> Quantity:
    """The ratio of two numbers, or of two ranges that have no best value."""
    if math.isnan(value.value) and None not in {value.low, value.high, by.low, by.high}:
        low, high = value.low / by.high, value.high / by.low  # type: ignore[operator]
        return Quantity(math.nan, "{ratio}", value.provenance, low, high)
    if not by.value:
        return no_ratio("the baseline's is 0")
    return Quantity(value.value / by.value, "{ratio}", value.provenance)
