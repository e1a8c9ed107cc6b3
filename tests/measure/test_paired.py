"""Paired measuring: order, warm-up, and an interval that covers the truth as often as it says."""

from __future__ import annotations

import math
import random

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.errors import LabError
from coreml_lab.improve import timing
from coreml_lab.improve.limits import Decision, Limits
from coreml_lab.measure.paired import EXACT, Pairs, interleave, median_interval, ratio


def worker(clock: FakeClock, log: list[str], name: str, milliseconds: float):
    def work() -> None:
        log.append(name)
        clock.advance(milliseconds / 1000)

    return work


def measured(pairs=20, warmup=3, seconds=math.inf, seed=0):
    clock, log = FakeClock(), []
    arm, base = worker(clock, log, "a", 2), worker(clock, log, "b", 4)
    times = interleave(
        arm, base, pairs=pairs, warmup=warmup, seconds=seconds, clock=clock, seed=seed
    )
    return times, log


def test_durations_stand_at_the_index_of_their_pair():
    times, _ = measured(pairs=3)
    assert times == Pairs((2_000_000,) * 3, (4_000_000,) * 3)


def test_warm_up_runs_come_first_and_are_not_measured():
    times, log = measured(pairs=5, warmup=4)
    assert len(times.arm) == 5
    assert log[:8] == ["a", "b"] * 4
    assert len(log) == 18


def test_the_two_of_a_pair_run_in_both_orders():
    _, log = measured(pairs=40, warmup=0)
    firsts = log[::2]
    assert 8 < firsts.count("a") < 32
    assert all({a, b} == {"a", "b"} for a, b in zip(log[::2], log[1::2], strict=True))


def test_the_order_is_the_same_for_the_same_seed_only():
    assert measured(seed=1)[1] == measured(seed=1)[1]
    assert measured(seed=1)[1] != measured(seed=2)[1]


def test_measuring_ends_after_the_pair_in_which_the_time_is_up():
    times, _ = measured(pairs=1000, warmup=0, seconds=0.02)
    assert len(times.arm) == 4


def test_one_pair_is_measured_even_when_the_warm_up_used_all_the_time():
    times, log = measured(pairs=10, warmup=100, seconds=0.001)
    assert len(times.arm) == 1
    assert len(log) == 4


def test_no_pairs_are_refused_with_what_to_do():
    with pytest.raises(LabError, match="pairs=0") as caught:
        measured(pairs=0)
    assert "20" in caught.value.hint


def test_the_ratio_is_the_median_of_the_ratios_of_the_pairs():
    found = ratio(Pairs((10, 20, 90, 40, 50, 60, 70), (10, 10, 30, 10, 10, 10, 10)))
    assert found.value == 4
    # Between the first and second smallest, and the first and second largest ratio.
    assert 1 < found.low < 2
    assert 6 < found.high < 7
    assert found.pairs == 7


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (50, 18), (100, 40)])
def test_the_interval_is_that_of_the_sign_test(count, rank):
    # Ranks: Conover, table A3 (binomial with p = 1/2), two-sided 95 %.
    assert median_interval(range(1, count + 1)) == (rank, count + 1 - rank)


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_values_have_no_interval(count):
    assert median_interval(range(count)) is None


def by_floats(count: int, confidence: float) -> int:
    """As the definition says, where 2**count is a float."""
    allowed, below = (1 - confidence) / 2 * 2.0**count, 0
    for k in range(count // 2 + 1):
        below += math.comb(count, k)
        if below > allowed:
            return k
    return count // 2


@pytest.mark.parametrize("confidence", [0.95, 1 - 0.05 / 3, 0.99])
def test_ranks_are_those_of_the_definition(confidence):
    for count in (*range(6, 200), 511, 512, 1000, 1023):
        rank = by_floats(count, confidence)
        assert median_interval(range(1, count + 1), confidence) == (
            (rank, count + 1 - rank) if rank else None
        )


@pytest.mark.parametrize("count", [1024, 3001, EXACT, EXACT + 1, 1_000_000])
def test_many_values_have_an_interval_too(count):
    # As wide as the normal distribution says, to a rank or so at each end.
    low, high = median_interval(range(1, count + 1))
    assert low + high == count + 1
    assert abs(high - low - 1.959964 * math.sqrt(count)) <= 3


def test_a_limit_may_be_looked_at_in_thousands_of_rounds():
    clock = FakeClock()
    asked = Limits(max_latency=1.0)
    found = timing.measure(
        lambda: clock.advance(0.05), None, asked, rounds=1100, seconds=1e9, clock=clock
    )
    assert found.latency.decision is Decision.PASS


def test_too_few_pairs_resolve_nothing():
    found = ratio(Pairs((10, 10), (20, 20)))
    assert found.value == 0.5
    assert found.low is None
    assert not found.resolved


def test_a_ratio_is_resolved_where_the_interval_excludes_one():
    assert ratio(Pairs((10,) * 8, (20,) * 8)).resolved
    assert not ratio(Pairs((10, 30) * 4, (20,) * 8)).resolved
    assert not ratio(Pairs((20,) * 8, (20,) * 8)).resolved


def test_a_run_that_took_no_time_has_no_ratio():
    with pytest.raises(LabError, match="no measurable time"):
        ratio(Pairs((0,) * 8, (1,) * 8))


@pytest.mark.parametrize("pairs", [9, 20, 60])
def test_the_interval_covers_the_true_ratio_92_to_98_times_in_100(pairs):
    # Skewed noise with rare stalls; both runs of a pair share what slows the machine down.
    rng = random.Random(7)
    truth, covered, rounds = 0.8, 0, 500
    for _ in range(rounds):
        arm, base = [], []
        for _ in range(pairs):
            shared = rng.lognormvariate(0, 0.5)
            stall = [3.0 if rng.random() < 0.05 else 1.0 for _ in range(2)]
            noise = [rng.lognormvariate(0, 0.1) * s for s in stall]
            arm.append(round(1e6 * truth * shared * noise[0]))
            base.append(round(1e6 * shared * noise[1]))
        found = ratio(Pairs(tuple(arm), tuple(base)))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / rounds <= 0.98


def test_equal_arms_are_called_different_at_most_6_times_in_100():
    rng = random.Random(11)
    wrong = 0
    for _ in range(500):
        times = [[round(1e6 * rng.lognormvariate(0, 0.2)) for _ in range(20)] for _ in range(2)]
        wrong += ratio(Pairs(tuple(times[0]), tuple(times[1]))).resolved
    assert wrong / 500 <= 0.06
