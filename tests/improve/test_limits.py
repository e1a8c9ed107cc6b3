"""Limits: how they are read, and what an interval says about one."""

from __future__ import annotations

import math

import pytest

from coreml_lab.errors import UnknownParameter
from coreml_lab.improve.limits import Decision, Limits, decide, duration, limits, size

NONE = dict.fromkeys(("min_snr", "max_abs", "max_latency", "max_latency_ratio", "max_size"))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("20ms", 0.02),
        ("1.5s", 1.5),
        ("800us", 8e-4),
        ("800 µs", 8e-4),
        ("5e2ns", 5e-7),
        ("2min", 120),
        (0.25, 0.25),
        (None, None),
    ],
)
def test_durations_are_read_with_their_units(given, seconds):
    assert duration(given) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("given", "count"),
    [("10MB", 1e7), ("10mb", 1e7), ("1KiB", 1024), ("2 GiB", 2 << 30), ("7B", 7), (5, 5)],
)
def test_sizes_are_read_in_thousands_and_in_1024s(given, count):
    assert size(given) == count


@pytest.mark.parametrize("given", ["20", "ms", "20 parsecs", "1.2.3ms", "-5ms", "", -1, math.nan])
def test_what_is_no_duration_is_one_error_with_an_example(given):
    with pytest.raises(UnknownParameter, match="max_latency") as caught:
        duration(given)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong", [{"min_snr": "loud"}, {"min_snr": math.inf}, {"max_abs": -1}, {"max_size": "1 house"}]
)
def test_a_limit_that_is_no_number_is_refused_by_name(wrong):
    with pytest.raises(UnknownParameter, match=next(iter(wrong))):
        limits(**{**NONE, **wrong})


def test_without_any_limit_nothing_could_fail():
    with pytest.raises(UnknownParameter, match="nothing could fail"):
        limits(**NONE)


def test_zero_is_a_limit():
    assert limits(**{**NONE, "max_abs": 0}) == Limits(max_abs=0)


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.8, 1.0, Decision.PASS),
        (1.01, 1.2, Decision.FAIL),
        (0.9, 1.1, Decision.OPEN),
        (0.9, 2.0, Decision.OPEN),
        (0.9, 2.1, Decision.UNCHECKED),
        (3.0, 9.0, Decision.FAIL),
    ],
)
def test_an_interval_decides_and_one_that_hides_a_doubling_does_not(low, high, decision):
    assert decide(low, high, 1.0) is decision
