"""Joules of work on made-up machines whose truth is known."""

from __future__ import annotations

import math
import random
import threading

import pytest

from coreml_lab.errors import InputError
from coreml_lab.measure.energy import BLOCK_SECONDS, Pace, designed, measure
from coreml_lab.measure.energy_watch import Watch, in_a_thread
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Scope
from tests.support.energy import Machine, Steps
from tests.support.sampling import until


def run(machine: Machine, *counters, seconds: float = 16.0, **more):
    return measure(
        machine.work,
        counters,
        seconds=seconds,
        clock=machine.clock,
        keep=machine.clock.polling,
        **more,
    )


def only(found):
    (group,) = found.groups
    return group


@pytest.mark.parametrize("period", [0.001, 0.02, 0.1, 0.3])
def test_energy_above_idle_is_found_whatever_the_period_of_the_counter(period):
    machine = Machine()
    group = only(run(machine, machine.counter(period=period), seconds=40.0))
    assert group.estimate.resolved
    assert group.estimate.marginal.mean == pytest.approx(machine.joules, rel=0.03)
    assert group.estimate.gross.mean == pytest.approx(8.0 * machine.call, rel=0.03)
    assert group.estimate.idle.mean == pytest.approx(2.0, rel=0.03)
    assert group.estimate.active.mean == pytest.approx(8.0, rel=0.03)
    assert group.pace.period == pytest.approx(max(period, 0.005), rel=0.1)


def test_batches_two_seconds_apart_are_measured_with_blocks_of_three_batches():
    machine = Machine()
    found = run(machine, machine.counter(period=2.1, stamped=True), seconds=100.0)
    assert found.block_s >= 6.3
    assert only(found).pace.state == "batched"
    assert only(found).estimate.marginal.mean == pytest.approx(machine.joules, rel=0.02)


def test_a_counter_too_slow_for_the_budget_is_not_resolvable_rather_than_zero():
    machine = Machine()
    slow = machine.counter(period=2.1, name="slow", group="ane", stamped=True)
    found = run(machine, slow, machine.counter(), seconds=15.0)
    ane = found.group("ane").estimate
    assert ane.marginal is None
    assert ane.gross is None
    assert "fewer than two publications" in ane.reason
    assert "give seconds=70" in ane.reason
    assert found.group("package").estimate.resolved


def test_too_little_time_gives_one_window_gross_and_without_an_interval():
    machine = Machine()
    found = run(machine, machine.counter(), seconds=4.0)
    estimate = only(found).estimate
    assert found.window is not None
    assert found.pairs == ()
    assert estimate.marginal is None
    assert estimate.gross.mean == pytest.approx(8.0 * machine.call, rel=0.03)
    assert math.isinf(estimate.gross.half)
    assert "single window" in estimate.reason


def test_steady_drift_of_the_idle_power_moves_neither_the_mean_nor_the_interval():
    steady, drifting = Machine(), Machine(base=lambda t: 2.0 + 0.05 * t)
    found = [only(run(m, m.counter(), seconds=25.0)).estimate for m in (steady, drifting)]
    assert found[1].marginal.mean == pytest.approx(drifting.joules, rel=0.02)
    assert found[1].marginal.half < 0.02 * drifting.joules
    # Without taking the order into account the drift would be noise.
    raw = Machine(base=lambda t: 2.0 + 0.05 * t)
    assert only(run(raw, raw.counter(), seconds=25.0)).estimate.gross.half > 0.001


def test_a_counter_that_goes_round_is_followed_across_its_end():
    machine = Machine()
    group = only(run(machine, machine.counter(wrap=20.0), seconds=16.0))
    assert group.estimate.marginal.mean == pytest.approx(machine.joules, rel=0.03)


def test_a_reset_costs_the_pair_it_falls_into_and_nothing_else():
    machine = Machine()
    whole = only(run(machine, machine.counter(), seconds=25.0)).estimate
    broken = Machine()
    group = only(run(broken, broken.counter(reset_at=12.0), seconds=25.0)).estimate
    assert group.pairs == whole.pairs - 1
    assert group.marginal.mean == pytest.approx(broken.joules, rel=0.03)


def test_a_counter_that_stalls_says_so_and_gives_no_number():
    machine = Machine()
    estimate = only(run(machine, machine.counter(stall_after=0.0))).estimate
    assert estimate.marginal is None
    assert estimate.gross is None
    assert "fewer than two publications" in estimate.reason


@pytest.mark.parametrize("settings", [{"period": 0.1, "stamped": True}, {"period": 0.0}])
def test_a_counter_that_is_published_without_ever_growing_is_no_zero(settings):
    machine = Machine(base=lambda _: 0.0, extra=0.0)
    counter = machine.counter(always_draws=True, **settings)
    estimate = only(run(machine, counter)).estimate
    assert estimate.marginal is None
    assert "stood still while there was work" in estimate.reason


def test_a_part_that_may_rest_and_does_is_below_resolution():
    machine = Machine(base=lambda _: 0.0, extra=0.0)
    estimate = only(run(machine, machine.counter(stamped=True, group="ane"))).estimate
    assert not estimate.resolved
    assert 0 < estimate.below < 1e-3


def test_a_source_that_fails_on_the_way_gives_what_was_seen_before():
    machine = Machine()
    whole = only(run(machine, machine.counter(), seconds=25.0)).estimate
    broken = Machine()
    group = only(run(broken, broken.counter(fail_at=17.0), seconds=25.0)).estimate
    assert 3 <= group.pairs < whole.pairs
    assert group.marginal.mean == pytest.approx(broken.joules, rel=0.03)


def test_what_draws_next_to_nothing_is_below_resolution_with_a_bound():
    machine = Machine(extra=1e-4, call=0.002)
    estimate = only(run(machine, machine.counter(quantum=1e-3))).estimate
    assert not estimate.resolved
    assert estimate.below > machine.joules
    assert estimate.below < 1e-3


def test_a_counter_that_rests_while_the_machine_does_counts_as_idle_below_its_step():
    machine = Machine(base=lambda _: 0.0)
    estimate = only(run(machine, machine.counter(quantum=1e-3))).estimate
    assert estimate.idle.mean == 0.0
    assert estimate.marginal.mean == pytest.approx(machine.joules, rel=0.03)
    assert estimate.floor > 0


def test_a_counter_that_must_settle_is_read_after_it_has():
    machine = Machine(base=lambda _: 0.0)
    counter = machine.counter(period=0.0, settle=0.01, quantum=1e-9, group="process")
    estimate = only(run(machine, counter)).estimate
    assert estimate.marginal.mean == pytest.approx(machine.joules, rel=0.001)
    assert machine.clock.slept.count(0.01) >= 16


def test_several_counters_of_a_group_are_one_row():
    machine = Machine()
    counters = [machine.counter(name=f"{i}") for i in range(2)]
    found = run(machine, *counters)
    assert only(found).estimate.marginal.mean == pytest.approx(2 * machine.joules, rel=0.03)
    assert len(only(found).domains) == 2


def test_an_estimate_alone_needs_no_idle_blocks_and_is_over_soon():
    machine = Machine()
    counter = machine.counter(
        period=0.0, provenance=Provenance.ESTIMATED, scope=Scope.PROCESS, group="process"
    )
    found = run(machine, counter, seconds=60.0)
    assert found.pairs == ()
    assert machine.clock.now_ns() < 6e9


def test_calls_longer_than_a_block_are_measured_in_blocks_of_three():
    machine = Machine(call=2.0)
    found = run(machine, machine.counter(), seconds=80.0)
    assert found.block_s >= 6.0
    assert only(found).estimate.marginal.mean == pytest.approx(machine.joules, rel=0.05)
    assert found.call_s == pytest.approx(2.0)


@pytest.mark.parametrize("seconds", [10.0, 16.0, 30.0, 200.0])
def test_the_budget_is_kept(seconds):
    machine = Machine(call=0.05)
    run(machine, machine.counter(), seconds=seconds)
    assert machine.clock.now_ns() * 1e-9 <= seconds * 1.05 + 0.5


def test_an_interrupt_keeps_the_pairs_that_were_finished():
    machine = Machine(stop_at=1400)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(machine, machine.counter(), seconds=40.0)
    found = caught.value.measurement
    assert found.pairs
    assert only(found).estimate.marginal.mean == pytest.approx(machine.joules, rel=0.05)
    assert not any(listener.__name__ == "poll" for listener in machine.clock.listeners)
    assert "sys.last_value.measurement" in caught.value.__notes__[0]


def test_an_interrupt_before_the_first_pair_carries_nothing():
    machine = Machine(stop_at=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(machine, machine.counter())
    assert not hasattr(caught.value, "measurement")


def test_progress_goes_from_nothing_to_done():
    machine, told = Machine(), []
    run(machine, machine.counter(), progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert told[1][1].startswith("pair 1 of ")


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_time_is_refused(seconds):
    machine = Machine()
    with pytest.raises(InputError, match="no time to measure in"):
        run(machine, machine.counter(), seconds=seconds)


def test_without_any_counter_there_is_no_row_and_no_number():
    machine = Machine()
    found = run(machine)
    assert found.groups == ()


def reads(machine, counter):
    """A counter's readings, counted."""
    source, kept = counter.source, []
    read = source.read
    source.read = lambda now: kept.append(now) or read(now)
    return kept


def test_a_counter_whose_rhythm_is_known_is_left_alone_between_publications():
    machine = Machine()
    counter = machine.counter(period=0.1)
    kept = reads(machine, counter)
    watch = Watch([counter], machine.clock)
    with machine.clock.polling(watch):
        machine.clock.sleep(1.0)
        before = len(kept)
        machine.clock.sleep(2.0)
    points = watch.points("package/fake")
    assert before >= 90  # hardly ever late while it is being learned
    assert len(kept) - before <= 20 * 9
    assert len(points) == 30
    assert {p.error_ns for p in points} == {5_000_000}


def test_a_counter_that_reads_as_nothing_is_passed_over():
    machine = Machine()
    counter = machine.counter(period=0.1)
    read, broken = counter.source.read, []

    def nothing(now_ns):
        if not broken:
            broken.append(now_ns)
            return int("")  # what a counter's file gives while the machine goes to sleep
        return read(now_ns)

    counter.source.read = nothing
    watch = Watch([counter], machine.clock)
    with machine.clock.polling(watch):
        machine.clock.sleep(1.0)
    assert broken
    assert watch.points("package/fake")


def test_a_counter_that_changes_its_rhythm_is_learned_anew_and_uncertain_meanwhile():
    machine = Machine()
    counter = machine.counter(period=0.1)
    watch = Watch([counter], machine.clock)
    with machine.clock.polling(watch):
        machine.clock.sleep(2.0)
        counter.source.period = 0.02
        machine.clock.sleep(2.0)
    points = watch.points("package/fake")
    assert max(p.error_ns for p in points) > 50_000_000
    assert points[-1].error_ns == 5_000_000
    assert points[-1].t_ns - points[-2].t_ns == pytest.approx(20_000_000, abs=6_000_000)


def test_a_thread_polls_while_the_work_is_done_and_ends_with_it():
    machine = Machine()
    counter = machine.counter(period=0.001)
    watch = Watch([counter], machine.clock)
    with in_a_thread(watch):
        until(lambda: machine.clock.advance(0.01) or len(watch.points("package/fake")) > 5)
    assert not [t for t in threading.enumerate() if t.name == "coreml_lab energy"]


def test_blocks_are_as_long_as_the_slowest_counter_that_fits_needs():
    assert designed([Pace(0.1, "fresh")], 30.0, 0.01).block >= BLOCK_SECONDS
    mixed = [Pace(0.1, "fresh"), Pace(2.1, "batched")]
    assert designed(mixed, 20.0, 0.01).block < 6.3
    assert designed(mixed, 70.0, 0.01).block >= 6.3
    for seconds in (12.0, 35.0, 500.0):
        design = designed([Pace(0.1, "fresh")], seconds, 0.01)
        assert design.pairs % 2 == 0
        assert 4 <= design.pairs <= 12


def test_the_same_seed_of_noise_gives_the_same_result():
    results = []
    for _ in range(2):
        noise = random.Random(3)
        machine = Machine(clock=Steps(), base=lambda _, n=noise: 2.0 + n.gauss(0, 0.1))
        results.append(only(run(machine, machine.counter())).estimate.marginal)
    assert results[0] == results[1]
