"""Verdicts: what evidence accepts, rejects or leaves open."""

from __future__ import annotations

import math

import pytest

from coreml_lab.explain.agreement import Agreement
from coreml_lab.improve.trial import Trial, Verdict, judge
from coreml_lab.measure.paired import Ratio
from coreml_lab.metrics import Provenance, Quantity

M = Provenance.MEASURED


def agreement(snr=50.0, identical=False, note=""):
    return Agreement(
        "y",
        identical,
        Quantity(snr, "dB", M) if math.isfinite(snr) else Quantity.unavailable("dB", "all zero"),
        Quantity(0.01, "{value}", M),
        Quantity(12, "{ulp}", M),
        note,
    )


def trial(after=25, low=0.9, high=1.01, value=0.95, found=None):
    return Trial(
        size_before=Quantity(100, "By", M),
        size_after=Quantity(after, "By", M),
        latency_before=Quantity(4e-3, "s", M),
        latency_after=Quantity(4e-3, "s", M),
        ratio=Ratio(value, low, high, 20),
        agreement=(agreement() if found is None else found,),
    )


def test_smaller_close_and_not_slower_is_accepted_with_three_reasons():
    verdict, reasons = judge(trial())
    assert verdict is Verdict.ACCEPTED
    assert len(reasons) == 3
    assert "75% less" in reasons[0]
    assert "slower by 5% at most" in reasons[2]


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"after": 100}, Verdict.REJECTED, "it is not smaller"),
        ({"found": agreement(snr=12)}, Verdict.REJECTED, "less than the 30 dB"),
        ({"found": agreement(note="3 are not finite")}, Verdict.REJECTED, "3 are not finite"),
        ({"found": agreement(snr=math.nan)}, Verdict.OPEN, "all zero"),
        ({"found": agreement(identical=True)}, Verdict.ACCEPTED, "is identical"),
        ({"low": 1.06, "high": 1.2, "value": 1.1}, Verdict.REJECTED, "it is slower"),
        ({"low": 0.9, "high": 1.3}, Verdict.OPEN, "is not resolved"),
        ({"low": None, "high": None}, Verdict.OPEN, "too few pairs"),
        ({"low": 0.8, "high": 0.9, "value": 0.85}, Verdict.ACCEPTED, ": faster"),
        ({"low": 0.8, "high": 1.0, "value": 0.9}, Verdict.ACCEPTED, ": not slower"),
    ],
)
def test_each_kind_of_evidence_decides(changes, verdict, reason):
    found, reasons = judge(trial(**changes))
    assert found is verdict
    assert any(reason in sentence for sentence in reasons)


def test_a_reason_to_reject_outweighs_what_is_open():
    assert judge(trial(after=100, low=None, high=None))[0] is Verdict.REJECTED


def test_how_close_is_close_enough_can_be_said():
    assert judge(trial(), min_snr=60)[0] is Verdict.REJECTED
