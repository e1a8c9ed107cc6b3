"""The pump: reads everything, sends as often as somebody looks, and survives what breaks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coreml_lab.records import Incident, PlanInfo
from coreml_lab.widgets.pump import ATTENTION_NS, PATIENCE_NS, Demand, percentile

SECOND = 10**9


def last_row(bench):
    return bench.feed.rows(1)[0]


def test_nothing_is_sent_until_a_page_has_spoken_but_everything_is_kept(bench):
    for _ in range(5):
        bench.tick()
    assert bench.sent == []
    assert bench.feed.total == 5
    bench.pump.looked(wants_history=True)
    bench.tick()
    header, _ = bench.sent[0]
    assert (header["k"], header["n"]) == ("h", 6)


def test_a_busy_cell_is_told_ten_times_a_second_and_an_idle_kernel_once(bench):
    bench.pump.looked()
    for _ in range(20):
        bench.tick()
    assert len(bench.sent) == 2
    bench.cells.start(3, "work()")
    bench.sent.clear()
    for _ in range(20):
        bench.tick()
    assert len(bench.sent) == 20
    assert sum(header["n"] for header, _ in bench.sent) + 9 >= 20


def test_a_late_step_sends_the_backlog_in_one_message(bench):
    bench.pump.looked()
    bench.cells.start(1, "x")
    bench.tick()
    for _ in range(30):
        bench.clock.advance(0.1)
        bench.source.put(bench.clock.now_ns())
    bench.pump.step()
    assert bench.sent[-1][0]["n"] == 30
    assert bench.sent[-1][0]["dropped"] == 0


def test_throughput_and_latency_are_those_of_the_second_before_the_tick(bench):
    bench.finish(0.02, count=4)
    bench.finish(0.04)
    bench.tick()
    rate, median, tail, far = last_row(bench)[-4:]
    assert rate == 5
    assert math.isnan(far), "five inferences do not have a 99th percentile"
    assert median == pytest.approx(0.02)
    assert tail == pytest.approx(0.036)
    for _ in range(11):
        bench.tick()
    rate, median, *_ = last_row(bench)[-4:]
    assert rate == 0
    assert math.isnan(median)


def test_very_many_inferences_are_counted_exactly_and_sampled_for_their_latency(bench):
    bench.finish(0.00001, count=20_000)
    bench.tick()
    rate, median, *_ = last_row(bench)[-4:]
    assert rate == pytest.approx(20_000)
    assert median == pytest.approx(0.00001)
    assert last_row(bench)[-1] == pytest.approx(0.00001)
    assert len(bench.pump._throughput._ends) <= 1000


def test_inferences_after_the_last_tick_count_with_the_next(bench):
    bench.clock.advance(0.1)
    bench.source.put(bench.clock.now_ns())
    bench.clock.advance(0.05)
    bench.finish(0.01)
    bench.pump.step()
    assert last_row(bench)[-4] == 0
    bench.tick()
    assert last_row(bench)[-4] == 1


def test_cells_and_incidents_are_told_with_the_numbers_of_the_state(bench):
    bench.pump.looked()
    bench.cells.start(7, "for x in y:\n    run(x)")
    bench.activity.report(Incident(bench.clock.now_ns(), "Timeout", "late", "retry", "recovered"))
    bench.activity.plan = PlanInfo("portable", "coreml:0", "Core ML program, portable engine")
    bench.activity.cache_hits = 3
    bench.tick()
    header = bench.sent[-1][0]
    kinds = {event["k"]: event for event in header["events"]}
    assert kinds["cell"]["n"] == 7
    assert kinds["cell"]["src"] == "for x in y:"
    assert kinds["incident"]["action"] == "retry"
    assert header["state"]["busy"] is True
    assert header["state"]["hits"] == 3
    assert header["state"]["title"] == "Core ML program, portable engine"
    bench.cells.end(ok=True)
    bench.tick(1.0)
    ended = bench.sent[-1][0]["events"][0]
    assert ended["t1"] is not None
    assert bench.sent[-1][0]["state"]["cell"] is None


def test_what_could_not_be_sent_is_counted_and_said_with_the_next_frame(bench):
    bench.pump.looked()
    bench.cells.start(1, "x")
    bench.refuse = True
    bench.tick()
    bench.refuse = False
    bench.tick()
    assert bench.sent[-1][0]["dropped"] == 1


def test_a_sampler_that_raises_becomes_one_incident_and_the_pump_goes_on(bench):
    bench.source.broken = True
    bench.pump._attempt()
    bench.pump._attempt()
    assert [i.error for i in bench.activity.incidents] == ["OSError"]
    bench.source.broken = False
    bench.tick()
    assert bench.feed.total == 1


def test_an_idle_stream_stops_when_nobody_looks_any_more():
    demand = Demand()
    assert demand.every(0, busy=True) is None
    demand.looked(0)
    assert demand.every(ATTENTION_NS, busy=False) == SECOND
    assert demand.every(ATTENTION_NS + 1, busy=False) is None


def test_a_long_busy_cell_is_told_slowly_in_the_end():
    demand = Demand()
    demand.looked(0)
    assert demand.every(SECOND, busy=True) == SECOND // 10
    assert demand.every(SECOND + PATIENCE_NS, busy=True) == SECOND // 10
    assert demand.every(2 * SECOND + PATIENCE_NS, busy=True) == SECOND


def test_percentiles_are_interpolated_as_numpy_does():
    values = sorted([3.0, 1.0, 4.0, 1.5, 9.0])
    for share in (0.0, 0.5, 0.95, 1.0):
        assert percentile(values, share) == pytest.approx(np.percentile(values, share * 100))
    assert math.isnan(percentile([], 0.5))


def test_the_thread_takes_steps_until_it_is_stopped(bench):
    bench.pump.start()
    bench.pump.start()
    thread = bench.pump._thread
    bench.source.put(bench.clock.now_ns())
    bench.pump.looked()
    for _ in range(3000):
        if bench.sent:
            break
        bench.clock.advance(0.1)
        bench.pump.looked()
        thread.join(0.01)
    bench.pump.stop()
    assert bench.sent
    assert not thread.is_alive()
