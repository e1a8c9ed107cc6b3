"""What applying a suggestion really brought, and the verdict on it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from coreml_lab.explain.agreement import Agreement
from coreml_lab.explain.comparison import quantity
from coreml_lab.explain.suggestion import ANY, MEMORY, NE, SIZE
from coreml_lab.explain.units import explained, show
from coreml_lab.measure.paired import Ratio
from coreml_lab.metrics import Quantity

# What an action must keep to be accepted. 30 dB: differences are about 3 % of the values' size.
MIN_SNR = 30.0
# A change that is not about time may make runs this much longer, no more.
MARGIN = 1.05


class Verdict(StrEnum):
    """What became of a suggestion."""

    ACCEPTED = "accepted"
    REJECTED = "not accepted"
    OPEN = "not resolvable"
    UNMEASURED = "not measured"
    ESTIMATED = "by estimate only"
    ADVICE = "for the author"
    FAILED = "could not be applied"


@dataclass(frozen=True)
class Trial:
    """Before and after, measured on the same machine in turns."""

    size_before: Quantity
    size_after: Quantity
    latency_before: Quantity
    latency_after: Quantity
    ratio: Ratio
    agreement: tuple[Agreement, ...]


def judge(
    trial: Trial, min_snr: float = MIN_SNR, serves: str = SIZE, target: str = ANY
) -> tuple[Verdict, tuple[str, ...]]:
    """Accepted only if close enough and shown to be what it is for; with the reasons.

    Args:
        trial: what was measured.
        min_snr: how close results must stay, in dB.
        serves: what it is for: ``size`` must be smaller and not slower, ``latency`` faster.
        target: for which processors; what is for the Neural Engine cannot be accepted here.
    """
    numbers = _numbers(trial.agreement, min_snr)
    if target == NE and serves != SIZE:
        said = [*numbers, (Verdict.ESTIMATED, "Only Apple hardware can show what it brings.")]
    elif serves in {SIZE, MEMORY}:
        said = [*_size(trial), *numbers, *_time(trial.ratio)]
    else:
        said = [*numbers, *_faster(trial.ratio)]
    reasons = tuple(sentence for _, sentence in said)
    verdicts = [verdict for verdict, _ in said]
    for verdict in (Verdict.REJECTED, Verdict.OPEN, Verdict.ESTIMATED):
        if verdict in verdicts:
            return verdict, reasons
    return Verdict.ACCEPTED, reasons


Finding = tuple[Verdict, str]


def _size(trial: Trial) -> list[Finding]:
    told = f"The package went from {show(trial.size_before)} to {show(trial.size_after)}"
    if trial.size_after.value >= trial.size_before.value:
        return [(Verdict.REJECTED, f"{told}: it is not smaller.")]
    saved = 1 - trial.size_after.value / trial.size_before.value
    return [(Verdict.ACCEPTED, f"{told}: {saved:.0%} less.")]


def _numbers(agreement: Sequence[Agreement], min_snr: float) -> list[Finding]:
    return [_number(found, min_snr) for found in agreement]


def _number(found: Agreement, min_snr: float) -> Finding:
    if found.identical:
        return Verdict.ACCEPTED, f"Output {found.output} is identical."
    if math.isnan(found.snr.value):
        return Verdict.OPEN, f"Output {found.output}: signal to noise {explained(found.snr)}."
    told = f"Output {found.output} keeps {show(found.snr)} signal to noise, largest difference "
    told += show(found.largest)
    if found.note:
        return Verdict.REJECTED, f"{told}; {found.note}."
    if found.snr.value < min_snr:
        return Verdict.REJECTED, f"{told}: less than the {min_snr:g} dB that are asked for."
    return Verdict.ACCEPTED, f"{told}."


def _faster(ratio: Ratio) -> list[Finding]:
    told = f"Time per inference after ÷ before: {show(quantity(ratio))}"
    if not ratio.resolved:
        return [(Verdict.OPEN, f"{told}: no difference is shown.")]
    if ratio.value < 1:
        return [(Verdict.ACCEPTED, f"{told}: faster.")]
    return [(Verdict.REJECTED, f"{told}: it is slower.")]


def _time(ratio: Ratio) -> list[Finding]:
    told = f"Time per inference after ÷ before: {show(quantity(ratio))}"
    if ratio.low is None or ratio.high is None:
        return [(Verdict.OPEN, f"{told}: too few pairs to say more.")]
    if ratio.low > MARGIN:
        return [(Verdict.REJECTED, f"{told}: it is slower.")]
    if ratio.high <= 1:
        return [(Verdict.ACCEPTED, f"{told}: {'faster' if ratio.resolved else 'not slower'}.")]
    if ratio.high <= MARGIN:
        return [(Verdict.ACCEPTED, f"{told}: slower by {MARGIN - 1:.0%} at most.")]
    return [
        (
            Verdict.OPEN,
            f"{told}: whether it is slower by more than {MARGIN - 1:.0%} is not resolved.",
        )
    ]
