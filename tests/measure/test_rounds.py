"""Rounds of several arms: order, pairing, and an interval of a quantile that covers it."""

from __future__ import annotations

import itertools

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.measure.blocks import Block
from coreml_lab.measure.rounds import (
    against,
    rounds,
    shared_confidence,
)


def made(count, block=Block(1, 2)):  # noqa: B008 - frozen
    clock, log = FakeClock(), []

    def work(name, seconds):
        def run():
            log.append(name)
            clock.advance(seconds)

        return run

    works = [work("a", 0.001), work("b", 0.002), work("c", 0.004)]
    cpu = lambda: clock.now_ns() * 3  # noqa: E731
    return list(itertools.islice(rounds(works, block, clock=clock, cpu=cpu), count)), log


def test_every_arm_has_a_turn_in_each_round_and_results_stand_in_the_given_order():
    found, log = made(5)
    assert all([t.mean for t in r] == [1_000_000, 2_000_000, 4_000_000] for r in found)
    for start in range(0, len(log), 9):
        assert sorted(log[start : start + 9]) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_the_order_is_drawn_anew_in_each_round():
    _, log = made(60)
    orders = {tuple(dict.fromkeys(log[i : i + 9])) for i in range(0, len(log), 9)}
    assert len(orders) == 6


def test_runs_before_the_clock_starts_are_not_counted_and_cpu_time_is_per_run():
    found, _ = made(1)
    first = found[0][0]
    assert len(first.each) == 2
    assert first.cpu == 3_000_000


def test_ratios_are_of_turns_of_the_same_round():
    found, _ = made(8)
    ratio = against(found, 0, 2)
    assert (ratio.value, ratio.pairs) == (0.25, 8)


def test_several_statements_share_the_error():
    assert shared_confidence(1) == 0.95
    assert shared_confidence(5) == pytest.approx(0.99)
