"""How many runs are made: warm-up, precision, budget."""

from __future__ import annotations

import random

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.errors import LabError
from coreml_lab.measure.effort import Effort
from coreml_lab.measure.stopping import LOOKS


class Work:
    """Runs that take what a function of their number says, in milliseconds."""

    def __init__(self, milliseconds) -> None:
        self.clock, self.calls, self.kept = FakeClock(), 0, []
        self.milliseconds = milliseconds

    def __call__(self) -> None:
        self.calls += 1
        self.clock.advance(self.milliseconds(self.calls) / 1000)

    def warm_up(self, **options):
        return Effort(**options).warm_up(self, self.clock)

    def measure(self, **options):
        return Effort(**options).measure(self, self.keep, self.clock)

    def keep(self, start, spent) -> None:
        self.kept.append((start, spent))


def test_a_warm_up_ends_when_runs_do_not_get_faster():
    work = Work(lambda call: 4 + 20 / call**2)
    found = work.warm_up()
    assert found.stable
    assert 10 < len(found.durations_ns) < 25
    assert found.why.startswith(f"warm after {len(found.durations_ns)} runs: the last 5 took 4.")


def test_steady_runs_are_warm_after_ten():
    assert len(Work(lambda _: 4.0).warm_up().durations_ns) == 10


def test_a_warm_up_of_slow_runs_ends_with_its_time_and_says_that_it_cannot_tell():
    found = Work(lambda _: 2000.0).warm_up()
    assert (found.stable, len(found.durations_ns)) == (False, 3)
    assert found.why == "not known to be warm: 3 runs in 6 s are too few to tell"


def test_a_warm_up_never_takes_more_time_than_the_runs_may():
    assert len(Work(lambda _: 100.0).warm_up(seconds=0.5).durations_ns) < 10


def test_runs_that_become_faster_for_ever_end_the_warm_up_too():
    found = Work(lambda call: 1000 / (1 + call)).warm_up(seconds=1000.0)
    assert found.stable is False
    assert "still became faster" in found.why
    assert sum(found.durations_ns) < 5.1e9


def test_a_warm_up_that_its_time_ends_between_two_looks_is_judged_all_the_same():
    # It is looked at after ten runs, when it is not warm, and would be again after fifteen.
    work = Work(lambda call: 600.0 if call < 6 else 250.0)
    found = work.warm_up(seconds=1000.0)
    assert len(found.durations_ns) == 14
    assert found.stable


def test_the_last_run_that_was_asked_for_may_end_after_the_time():
    work = Work(lambda _: 600.0)
    assert work.measure(runs=2, seconds=1.0).startswith("2 runs, as asked")


def test_short_runs_warm_up_for_as_long_as_a_processor_needs():
    found = Work(lambda _: 0.05).warm_up()
    assert found.stable
    assert len(found.durations_ns) == 400
    assert "the last 200 took" in found.why


def test_a_warm_up_of_so_many_runs_is_not_judged():
    found = Work(lambda call: 100 / call).warm_up(warmup=4)
    assert (len(found.durations_ns), found.stable, found.why) == (4, None, "4 runs, as asked")


def test_steady_runs_are_known_at_the_first_look():
    work = Work(lambda _: 8.0)
    assert work.measure() == "the median is known: to ±0 % after 30 runs"
    assert work.kept[0] == (0, 8_000_000)
    assert len(work.kept) == 30


def test_short_runs_are_watched_for_a_fifth_of_a_second_at_least():
    work = Work(lambda _: 0.1)
    work.measure()
    assert len(work.kept) == next(n for n in LOOKS if n >= 2000)


def test_noisy_runs_are_made_until_the_median_is_known():
    rng = random.Random(0)
    work = Work(lambda _: rng.lognormvariate(0, 0.15))
    told = work.measure(precision=0.02)
    assert told.startswith("the median is known: to ±")
    assert len(work.kept) in LOOKS[3:]


def test_the_time_ends_the_runs_and_how_well_the_median_is_known_is_told():
    rng = random.Random(0)
    work = Work(lambda _: 100 * rng.lognormvariate(0, 0.2))
    told = work.measure(precision=0.001, seconds=2.0)
    assert told.startswith("the time was over (2 s): to ±")
    assert 15 < len(work.kept) < 30


def test_one_run_is_made_however_short_the_time():
    work = Work(lambda _: 5000.0)
    told = work.measure(seconds=1.0)
    assert told == "the time was over (1 s): 1 runs are too few for an interval"


def test_so_many_runs_as_asked_are_made_whatever_their_noise():
    work = Work(lambda call: 1 + call % 7)
    assert work.measure(runs=50, seconds=float("inf")).startswith("50 runs, as asked: to ±")
    assert len(work.kept) == 50


def test_runs_that_never_agree_end_at_the_most():
    work = Work(lambda call: 0.001 * 1.001**call)
    told = work.measure(precision=0.0001, seconds=1e9)
    assert told.startswith("10000 runs are the most")


@pytest.mark.parametrize("wrong", [{"precision": 0}, {"precision": 1.5}, {"seconds": 0}])
def test_an_aim_that_cannot_be_reached_is_refused(wrong):
    with pytest.raises(LabError, match="no aim") as caught:
        Effort(**wrong)
    assert "precision=0.02" in caught.value.hint
