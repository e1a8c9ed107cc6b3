"""Quantities as people read them."""

from __future__ import annotations

import math

import pytest

from coreml_lab.explain.units import LEGEND, digits, explained, show
from coreml_lab.metrics import METRICS, Provenance, Quantity

M = Provenance.MEASURED
NARROW = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0613, "s", "61.3 ms"),
        (1.5, "s", "1.50 s"),
        (75, "s", "75.0 s"),
        (0.9996, "s", "1.00 s"),
        (0.000999, "s", "999 µs"),
        (0.00099999, "s", "1.00 ms"),
        (2.64e-7, "s", "264 ns"),
        (0.0, "s", "0 s"),
        (0, "By", "0 B"),
        (999, "By", "999 B"),
        (2_501_000, "By", "2.50 MB"),
        (1.31e9, "By", "1.31 GB"),
        (5.2e12, "By", f"5{NARROW}200 GB"),
        (0.59, "J", "590 mJ"),
        (2.5, "W", "2.50 W"),
        (182.3, "Hz", "182 /s"),
        (0.5714, "1", "57.1 %"),
        (0.004, "1", "0.400 %"),
        (1.5, "{core}", "1.50 cores"),
        (0.65, "{ratio}", "0.650 ×"),
        (-3.0, "dB", "\N{MINUS SIGN}3.00 dB"),
        (math.inf, "dB", "∞ dB"),
        (-math.inf, "dB", "\N{MINUS SIGN}∞ dB"),
        (1.19e-7, "{value}", "1.19e-7"),
        (0.25, "{value}", "0.250"),
        (3.2e10, "{value}", "3.20e10"),
        (12345, "{ulp}", f"12{NARROW}345 ulp"),
        (7, "{something}", "7.00 {something}"),
        (1e-13, "J", "1.00e-7 µJ"),
        (1e-9, "{core}", "1.00e-9 cores"),
        (-3e-8, "{ratio}", "\N{MINUS SIGN}3.00e-8 ×"),
        (0.4, "{request}", "0.400 requests"),
        (1.0, "\x1b]0;owned\x07\x1b[2J", r"1.00 \x1b]0;owned\x07\x1b[2J"),
    ],
)
def test_three_digits_and_a_unit_for_people(value, unit, text):
    assert show(Quantity(value, unit, M)) == f"{text} ●"


def test_an_interval_is_in_the_unit_of_its_value():
    assert show(Quantity(0.65, "{ratio}", M, 0.63, 0.67)) == "0.650 × [0.630, 0.670] ●"
    assert show(Quantity(0.0015, "s", M, 0.0009, 0.002)) == "1.50 ms [0.900, 2.00] ●"


def test_an_estimate_without_a_best_value_is_a_range():
    assert show(Quantity(math.nan, "W", Provenance.ESTIMATED, 2, 8)) == "2.00–8.00 W ≈"
    assert show(Quantity(math.nan, "W", Provenance.ESTIMATED, 0, 0)) == "0–0 W ≈"


def test_an_interval_with_an_end_that_is_unknown_is_left_out():
    assert show(Quantity(1.0, "s", M, math.nan, 2.0)) == "1.00 s ●"
    assert show(Quantity(math.nan, "s", M, math.nan, 2.0)) == "unavailable"
    assert digits(math.nan) == "unknown"


def test_missing_is_a_word_and_never_a_number():
    missing = Quantity.unavailable("W", "no RAPL")
    assert show(missing) == "unavailable"
    assert explained(missing) == "unavailable: no RAPL"
    assert show(Quantity(math.nan, "W", M)) == "unavailable"


def test_every_provenance_has_a_mark_in_the_legend():
    assert all(p.value in LEGEND for p in Provenance)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
def test_every_unit_of_the_schema_can_be_shown(metric):
    assert "{" not in show(Quantity(1.0, metric.unit, M))
