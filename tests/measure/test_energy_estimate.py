"""The arithmetic of energy: edges, order, resolution, and how often an interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_lab.measure.energy_estimate import (
    Block,
    Estimate,
    Interval,
    Pair,
    estimate,
    mean_of,
    mean_of_both,
    power,
    single,
)
from coreml_lab.measure.energy_watch import Point
from coreml_lab.measure.intervals import student
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Domain, Scope

S = 1_000_000_000
COUNTER = Domain("c", "c", "c", Scope.PACKAGE, Provenance.MEASURED, "made up", period=0.1)


def points(*rows, error=0):
    return tuple(Point(round(t * S), round(error * S), j, j) for t, j in rows)


def block(start, end, calls=0):
    return Block(round(start * S), round(end * S), calls)


def test_power_is_taken_between_the_publications_inside_a_block():
    line = points((0.9, 50.0), (1.1, 60.0), (1.5, 64.0), (1.9, 68.0), (2.1, 99.0))
    assert power(line, block(1, 2), COUNTER).watts == pytest.approx(10.0)


def test_a_publication_that_may_lie_outside_is_not_used():
    line = points((1.02, 0.0), (1.2, 2.0), (1.8, 8.0), (1.97, 90.0), error=0.1)
    assert power(line, block(1, 2), COUNTER).watts == pytest.approx(10.0)
    assert power(line, block(1, 2), COUNTER).error_s == pytest.approx(0.1)


@pytest.mark.parametrize("line", [points(), points((1.5, 1.0)), points((0.5, 1.0), (2.5, 9.0))])
def test_fewer_than_two_publications_are_no_power(line):
    assert power(line, block(1, 2), COUNTER) is None


def test_a_reset_inside_a_block_leaves_no_power():
    assert power(points((1.1, 1.0), (1.5, math.nan), (1.9, 2.0)), block(1, 2), COUNTER) is None


def test_the_mean_of_both_orders_takes_out_what_drifts_steadily():
    found = mean_of_both([11.0, 11.0, 11.0], [9.0, 9.0, 9.0])
    assert found == Interval(10.0, 0.0)
    assert mean_of([11.0, 11.0, 11.0, 9.0, 9.0, 9.0]).half > 1


def test_too_few_of_one_order_are_a_plain_mean():
    assert mean_of_both([1.0, 2.0, 3.0], [4.0]) == mean_of([1.0, 2.0, 3.0, 4.0])


def test_one_value_has_no_finite_interval():
    assert mean_of([3.0]) == Interval(3.0, math.inf)


def test_quantiles_are_students_and_go_on_smoothly():
    assert student(1) == pytest.approx(12.706, abs=0.001)
    assert student(4) == pytest.approx(2.776, abs=0.001)
    assert student(60) == pytest.approx(2.000, abs=0.001)
    assert student(10, 0.995) == pytest.approx(3.581, abs=0.001)
    assert all(student(n) > student(n + 1) for n in range(1, 100))


def test_a_single_window_of_an_estimate_has_two_edges_and_no_mean():
    line = (Point(S, 0, 1.0, 4.0), Point(2 * S, 0, 3.0, 12.0))
    domain = Domain("c", "c", "c", Scope.PROCESS, Provenance.ESTIMATED, "CPU time")
    found = single(block(1, 2, calls=4), {"c": line}, [domain])
    assert (found.low, found.high) == (0.5, 2.0)
    assert found.gross is None


def test_noise_below_nothing_is_below_resolution_by_its_own_size():
    found = Estimate(Interval(-3.0, 1.0), Interval(1.0, 1.0), floor=0.5)
    assert not found.resolved
    assert found.below == 4.0


def test_no_pair_is_a_reason():
    assert estimate([], {"c": ()}, [COUNTER]).reason == "no pair of blocks was finished"


@settings(max_examples=60, deadline=None)
@given(
    factor=st.floats(1e-3, 1e3),
    base=st.floats(0.5, 50.0),
    extra=st.floats(0.5, 50.0),
    calls=st.integers(10, 5000),
)
def test_energy_scales_with_the_unit_and_falls_with_the_number_of_calls(factor, base, extra, calls):
    pairs, line = constant(base * factor, extra * factor, calls)
    found = estimate(pairs, {"c": line}, [COUNTER])
    assert found.marginal.mean == pytest.approx(extra * factor / calls, rel=1e-6)
    assert found.gross.mean == pytest.approx((base + extra) * factor / calls, rel=1e-6)


def constant(base, extra, calls):
    """Four pairs of blocks of one second, without noise."""
    pairs, joules, line = [], 0.0, []
    for k in range(4):
        idle, active = block(4 * k, 4 * k + 1), block(4 * k + 2, 4 * k + 3, calls)
        pairs.append(Pair(idle, active, idle_first=k % 2 == 0))
        for start, watts in ((4 * k, base), (4 * k + 2, base + extra)):
            line += [(start + k / 10, joules + watts * k / 10) for k in range(11)]
            joules = line[-1][1]
    return pairs, points(*line)


# -- how often the interval holds the truth --------------------------------------------------------

BASE, EXTRA, CALL, NOISE, SLOT = 2.0, 6.0, 0.01, 0.05, 0.05
REST = 0.25
# How idle power drifts over a run: 3 % of it, in several ways.
DRIFTS = {
    "none": lambda t, rng: np.zeros_like(t),
    "steady": lambda t, rng: 0.03 * rng.uniform(-1, 1) * t / t[-1],
    "cooling": lambda t, rng: 0.03 * (np.exp(-3 * t / t[-1]) - 1) * rng.uniform(0, 1),
    "wandering": lambda t, rng: np.cumsum(rng.normal(0, 0.03 / math.sqrt(t.size), t.size)),
}
# Period, block, pairs, seconds between polls (0: stamped), joules per step.
COUNTERS = {
    "1 ms": (0.001, 1.0, 6, 0.05, 61e-6),
    "20 ms": (0.02, 1.0, 6, 0.01, 1e-3),
    "100 ms": (0.1, 1.0, 6, 0.005, 1e-3),
    "batches of 2.1 s": (2.1, 6.3, 4, 0.0, 1e-3),
}


def simulated(rng, counter, drift):
    """Pairs and timeline of one run on a machine with noise and drift."""
    _, length, count, _, _ = COUNTERS[counter]
    step = 0.001
    total = count * 2 * (length + REST)
    t = np.arange(round(total / step) + 1) * step
    watts = BASE * (1 + DRIFTS[drift](t, rng))
    pairs, at = [], 0.0
    for k in range(count):
        found = {}
        for active in (False, True) if k % 2 == 0 else (True, False):
            if active:
                watts[round(at / step) : round((at + REST + length) / step)] += EXTRA
            calls = round(length / CALL) if active else 0
            found[active] = block(at + REST, at + REST + length, calls)
            at += REST + length
        pairs.append(Pair(found[False], found[True], idle_first=k % 2 == 0))
    noise = 1 + rng.normal(0, NOISE, math.ceil(total / SLOT) + 1)
    watts *= noise[(t / SLOT).astype(int)]
    energy = np.concatenate([[0.0], np.cumsum(watts[:-1]) * step])
    return pairs, seen(rng, t, energy, counter)


def seen(rng, t, energy, counter):
    """What a watch keeps of a counter."""
    period, _, _, poll, quantum = COUNTERS[counter]
    when = np.arange(rng.uniform(0, period), t[-1], period)
    joules = np.floor(np.interp(when, t, energy) / quantum) * quantum
    if not poll:
        return points(*zip(when, joules, strict=True))
    polls = np.arange(0, t[-1], poll) + rng.uniform(0, poll / 4, len(np.arange(0, t[-1], poll)))
    last = np.searchsorted(when, polls, side="right") - 1
    new = np.flatnonzero(np.diff(last) > 0)
    gaps = np.minimum(np.diff(polls), period)
    return tuple(
        Point(
            round((polls[i + 1] - gaps[i] / 2) * S),
            round(gaps[i] * S),
            joules[last[i + 1]],
            joules[last[i + 1]],
        )
        for i in new
    )


def coverage(counter, drifts, runs):
    """Share of runs whose interval holds the truth, and the root mean square error."""
    rng = np.random.default_rng(20)
    domain = Domain(
        "c", "c", "c", Scope.PACKAGE, Provenance.MEASURED, "made up", period=COUNTERS[counter][0]
    )
    truth = EXTRA * CALL
    held, errors = 0, []
    for k in range(runs):
        pairs, line = simulated(rng, counter, drifts[k % len(drifts)])
        found = estimate(pairs, {"c": line}, [domain])
        assert found.resolved
        errors.append(found.marginal.mean / truth - 1)
        held += abs(found.marginal.mean - truth) <= found.marginal.half
    return held / runs, float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("counter", COUNTERS)
def test_the_interval_holds_the_truth_in_95_of_100_runs_whatever_drifts(counter):
    held, error = coverage(counter, tuple(DRIFTS), runs=400)
    assert 0.92 <= held <= 0.98, f"{held:.1%}"
    assert error < 0.02


@pytest.mark.parametrize("drift", DRIFTS)
def test_the_interval_holds_the_truth_under_each_kind_of_drift(drift):
    held, _ = coverage("100 ms", (drift,), runs=400)
    assert 0.92 <= held <= 0.98, f"{held:.1%}"


@pytest.mark.sweep
@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("drift", DRIFTS)
def test_the_interval_holds_the_truth_for_each_counter_under_each_drift(counter, drift):
    held, _ = coverage(counter, (drift,), runs=2000)
    assert 0.92 <= held <= 0.98, f"{held:.1%}"
