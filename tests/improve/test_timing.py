"""Timing for a gate: it neither fails at random nor passes whatever comes."""

from __future__ import annotations

import itertools
import random

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.improve.limits import Decision, Limits
from coreml_lab.improve.timing import measure
from coreml_lab.measure.blocks import Block, sized

RATIO = Limits(max_latency_ratio=1.2)


def work(clock, seconds):
    """Work that takes the next of some durations."""
    turns = itertools.cycle([seconds] if isinstance(seconds, float) else seconds)
    return lambda: clock.advance(next(turns))


def timed(mine, other=None, asked=RATIO, rounds=20, seconds=1e6):
    clock = FakeClock()
    reference = None if other is None else work(clock, other)
    return measure(work(clock, mine), reference, asked, rounds=rounds, seconds=seconds, clock=clock)


def noisy(seed, centre, spread):
    """Durations longer than a block, so that each is one of them."""
    random_ = random.Random(seed)
    return [0.15 * centre * random_.lognormvariate(0, spread) for _ in range(997)]


def test_steady_times_are_decided_at_the_first_look():
    found = timed(0.01, 0.01)
    assert found.ratio.decision is Decision.PASS
    assert found.ratio.value.value == 1
    assert "20 blocks" in found.ratio.value.note
    assert timed(0.013, 0.01).ratio.decision is Decision.FAIL


def test_a_time_alone_has_no_ratio():
    found = timed(0.03, asked=Limits(max_latency=0.02))
    assert (found.latency.decision, found.ratio) == (Decision.FAIL, None)


def test_what_noise_leaves_open_is_looked_at_twice_more():
    found = timed(noisy(1, 1.2, 0.3), noisy(2, 1.0, 0.3))
    assert found.ratio.decision is Decision.OPEN
    assert "80 blocks" in found.ratio.value.note
    assert found.ratio.value.low < 1.2 < found.ratio.value.high


def test_noise_that_could_hide_a_doubling_is_no_pass():
    found = timed(noisy(1, 1.2, 3.0), noisy(2, 1.0, 3.0), rounds=7)
    assert found.ratio.decision is Decision.UNCHECKED


@pytest.mark.parametrize(("true", "decision"), [(1.2, Decision.FAIL), (1.5, Decision.PASS)])
def test_of_a_hundred_noisy_gates_fewer_than_five_are_wrong(true, decision):
    wrong = 0
    for seed in range(100):
        found = timed(noisy(2 * seed, true, 0.15), noisy(2 * seed + 1, 1.0, 0.15))
        # At the limit itself a gate must not fail; far above, it must.
        wrong += found.ratio.decision is decision if true == 1.2 else not_failed(found)
    assert wrong < 5


def not_failed(found):
    return found.ratio.decision is not Decision.FAIL


def test_when_the_time_is_over_no_round_is_begun():
    found = timed(10.0, 10.0, rounds=20, seconds=45)
    assert "1 blocks" not in found.ratio.value.note
    assert int(found.ratio.value.note.split()[0]) < 5


def test_few_runs_that_agree_decide_and_say_that_they_are_few():
    found = timed(10.0, asked=Limits(max_latency=1.0), seconds=15)
    assert found.latency.decision is Decision.FAIL
    assert "too few for an interval" in found.latency.value.note


def test_a_block_is_long_enough_for_the_fastest_and_does_not_wait_for_the_slowest():
    clock = FakeClock()
    assert sized([work(clock, 1e-4), work(clock, 2e-4)], clock) == Block(100, 100)
    assert sized([work(clock, 1e-5), work(clock, 0.05)], clock) == Block(1, 2)
    assert sized([work(clock, 0.5)], clock) == Block(0, 1)


def test_one_disturbed_run_does_not_shorten_a_block():
    clock = FakeClock()
    assert sized([work(clock, [1e-4, 9e-3, 1e-4, 1e-4, 9e-3])], clock).repeats == 100
