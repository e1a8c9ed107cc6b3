"""Verdicts: what is kept rests on the goal, the tolerance, and how sure each number is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_lab.improve import spent
from coreml_lab.improve.optimizing.ledger import Evidence
from coreml_lab.improve.optimizing.verdicts import judge
from coreml_lab.metrics import Provenance, Quantity


def joules(low: float, high: float) -> Quantity:
    """As an estimate is: a range, and no value."""
    return Quantity(float("nan"), "J", Provenance.ESTIMATED, low, high)


def evidence(**given: Any) -> Evidence:
    return replace(Evidence(100, 1.0, 0.98, 1.02, 1e-3, 1e-3, 0.0, 1000), **given)


@pytest.mark.parametrize(
    ("goal", "found", "verdict", "said"),
    [
        ("latency", evidence(ratio=0.8, low=0.7, high=0.9), "accepted", "20% less time"),
        ("latency", evidence(ratio=1.2, low=1.1, high=1.3), "rejected", "20% more time"),
        ("latency", evidence(ratio=1.0042, low=1.001, high=1.01), "rejected", "0.42% more time"),
        ("latency", evidence(ratio=0.9958, low=0.99, high=0.999), "accepted", "0.42% less time"),
        ("latency", evidence(), "not resolved", "no difference"),
        ("latency", evidence(low=None, high=None), "not resolved", "too few"),
        ("latency", evidence(ratio=0.5, high=0.6, loss=0.3), "rejected", "0.3 is beyond 0.1"),
        ("latency", evidence(loss=float("nan")), "rejected", "not a number"),
        ("size", evidence(size=50), "accepted", "file is 50% smaller"),
        ("size", evidence(size=99), "rejected", "not smaller"),
        ("size", evidence(size=50, ratio=1.5, low=1.4, high=1.6), "rejected", "50% more time"),
        ("size", evidence(size=50, ratio=10, low=None, high=None), "not resolved", "too few"),
        ("size", evidence(size=50, low=0.9, high=30.0), "not resolved", "may take 2900% more"),
        ("size+memory", evidence(size=50, low=None), "not resolved", "too few"),
        ("size+memory", evidence(size=50, ratio=2, low=1.9, high=2.1), "rejected", "100% more"),
        ("memory", evidence(memory=500), "accepted", "memory is 50% smaller"),
        ("memory", evidence(memory=500, high=1.2), "not resolved", "may take 20% more time"),
        ("memory", evidence(memory=900, memories=(890, 900, 1010)), "not resolved", "no diff"),
        ("memory", evidence(memory=900, memories=(890, 900, 930)), "accepted", "10% smaller"),
        ("memory", evidence(memory=1000, memories=(990, 1000)), "rejected", "not smaller"),
        ("latency+memory", evidence(memory=900, memories=(800, 1010)), "not resolved", "no diff"),
        ("memory", evidence(memory=None, unknown="no /proc"), "not resolved", "no /proc"),
        ("latency+memory", evidence(memory=500), "accepted", "memory × 0.50"),
        ("latency+memory", evidence(memory=900, low=1.05, high=1.3), "not resolved", "no diff"),
        ("latency+memory", evidence(memory=900, low=1.2, high=1.3), "rejected", "latency × 1.25"),
        ("size+energy", evidence(size=20), "not resolved", "energy is not known"),
        ("latency+energy", evidence(low=None), "not resolved", "too few"),
        ("energy", evidence(energy=joules(0.1, 0.2)), "accepted", "less energy"),
        ("energy", evidence(energy=joules(5, 9)), "rejected", "more energy"),
        ("energy", evidence(energy=joules(0.5, 2)), "not resolved", "overlap"),
        ("energy", evidence(energy=Quantity.unavailable("J", "no")), "not resolved", ": no"),
        ("size+energy", evidence(energy=joules(0.1, 0.2)), "accepted", "energy × "),
        ("size+energy", evidence(energy=joules(-0.1, 0.2)), "accepted", "energy × 0.20 or less"),
        ("energy", evidence(energy=joules(-1.0, -0.5)), "not resolved", "not known"),
    ],
)
def test_a_verdict_rests_on_the_goal_and_the_tolerance(
    goal: str, found: Evidence, verdict: str, said: str
) -> None:
    told, reason = judge(goal, evidence(energy=joules(1, 4)), found, 0.1)
    assert told == verdict
    assert said in reason


def test_energy_above_idle_is_not_compared_with_gross() -> None:
    above, gross = joules(0.009, 0.011), joules(0.059, 0.061)
    before = evidence(energy=above, gross=gross)
    unknown = Quantity.unavailable("J", "a single window")
    found = evidence(energy=unknown, gross=joules(0.051, 0.053))
    verdict, reason = judge("energy", before, found, 0.1)
    assert verdict == "accepted"
    assert "idle power included" in reason
    assert judge("energy", found, before, 0.1)[0] == "rejected"
    below = evidence(energy=joules(0.0, 0.002), gross=gross)  # below resolution: up to 0.002
    assert judge("energy", before, below, 0.1)[0] == "accepted"
    assert judge("energy", below, below, 0.1)[0] == "not resolved"
    assert judge("size+energy", below, below, 0.1)[0] == "not resolved"
    noise = evidence(energy=joules(-0.1, 0.5), gross=gross)  # an interval that reaches below 0
    assert judge("latency+energy", noise, evidence(energy=joules(0.2, 0.9)), 0.1) == (
        "not resolved",
        "latency × 1.00, energy × 0.40 or more: no difference is shown",
    )


def test_what_is_spent_has_both_kinds_of_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    above, gross = joules(1, 2), joules(3, 4)
    row = SimpleNamespace(above_idle=above, gross=gross)
    monkeypatch.setattr(spent, "energy", lambda *_, **__: SimpleNamespace(main=row))
    assert spent.energy_of(None, {}, 1.0) == spent.Joules(above, gross)
    monkeypatch.setattr(spent, "energy", lambda *_, **__: SimpleNamespace(main=None))
    assert "no counter" in spent.energy_of(None, {}, 1.0).above.note
