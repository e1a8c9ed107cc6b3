"""Where time goes, as tables and sentences."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest

from coreml_lab.circumstances import Condition, Overhead, Pace, Region, Split, Stage, Start
from coreml_lab.explain import timing
from coreml_lab.explain.facts import facts
from coreml_lab.explain.latency import latency
from coreml_lab.explain.report import report
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpSpan, Run
from tests.support.fakes import INFO, MS, recording

MEASURED, APPORTIONED = Provenance.MEASURED, Provenance.APPORTIONED


def span(node, op, milliseconds, how=MEASURED, engine="portable"):
    device = "ne" if how is APPORTIONED else "cpu"
    return OpSpan(node, op, engine, device, 0, round(milliseconds * MS), 0, how)


def traced(*spans, index=0):
    whole = sum(s.duration_ns for s in spans)
    return Run(index, 0, whole, tuple(spans), instrumented=True)


def plain(*milliseconds, region=None):
    return tuple(Run(i, 0, round(ms * MS), region=region) for i, ms in enumerate(milliseconds))


def shown(table):
    return [
        tuple(show(c) if isinstance(c, Quantity) else c.strip() for c in row) for row in table.rows
    ]


def test_percentiles_come_with_intervals_where_there_are_runs_enough():
    found = latency(np.random.default_rng(0).lognormal(0, 0.1, 400).tolist())
    for quantity in (found.p50, found.p90, found.p95, found.p99):
        assert quantity.low < quantity.value < quantity.high
    assert found.fastest.value < found.p50.value < found.p90.value < found.slowest.value
    assert not found.course.drifts


def test_a_percentile_of_few_runs_has_no_interval_and_says_how_many_it_needs():
    found = latency(list(np.random.default_rng(0).lognormal(0, 0.1, 100)))
    assert found.p99.low is None
    assert found.p99.note == "its 95 % interval needs 368 independent runs"
    assert found.p50.low is not None
    assert "needs 10 runs, there are 9" in latency([1.0] * 9).p90.note


def test_no_runs_have_no_times():
    found = latency([])
    for quantity in (found.p50, found.p90, found.slowest, found.throughput, found.stalls):
        assert math.isnan(quantity.value)
        assert quantity.note == "no run was timed"


def test_the_parts_of_an_inference_are_listed_in_their_order_with_the_whole():
    splits = tuple(
        Split(0, 10 * MS, {"framework": 7 * MS, "convert": 2 * MS, "binding": MS}) for _ in range(7)
    )
    table = timing.parts(recording(splits=splits))
    assert [row[0] for row in table.rows] == ["convert", "framework", "binding", "wall"]
    assert [row[2].value for row in table.rows] == pytest.approx([2e-3, 7e-3, 1e-3, 10e-3])
    assert [row[3].value for row in table.rows[:-1]] == pytest.approx([0.2, 0.7, 0.1])
    assert table.rows[0][2].low == pytest.approx(2e-3)
    assert not timing.parts(recording()).rows


def test_loading_is_told_by_its_steps_and_beside_them_cold_and_warm_starts():
    first = Stage("first run", 0, 5 * MS)
    lowering, session = Stage("lowering", 0, 40 * MS), Stage("session", 0, 10 * MS)
    own = Stage("my own", 0, MS)
    cold, warm = (lowering, session, first), (dataclasses.replace(session, duration_ns=MS), first)
    starts = tuple(Start(cached, row) for cached, row in ((False, cold), (True, warm)))
    table = timing.loading(recording(stages=(session, own, first), starts=starts))
    assert shown(table) == [
        ("lowering", timing.STAGES["lowering"], "not needed", "40.0 ms ●", "not needed"),
        ("session", timing.STAGES["session"], "10.0 ms ●", "10.0 ms ●", "1.00 ms ●"),
        ("first run", timing.STAGES["first run"], "5.00 ms ●", "5.00 ms ●", "5.00 ms ●"),
        ("my own", "", "1.00 ms ●", "not needed", "not needed"),
    ]
    assert table.columns[3:] == ("cold (1 starts)", "warm (1 starts)")
    assert len(timing.loading(recording(stages=(session,))).columns) == 3


def test_measured_and_apportioned_times_are_never_in_one_table():
    run = traced(
        span("[copy]", "[copy]", 1, engine="coreml"),
        span("conv_0", "conv", 6, APPORTIONED, "coreml"),
        span("linear_2", "linear", 3, APPORTIONED, "coreml"),
    )
    mine = traced(span("conv_0", "conv", 8), span("linear_2", "linear", 2), index=1)
    found = facts(recording(runs=(run, run, mine, mine)))
    tables = timing.operations(found)
    assert [t.caption for t in tables] == [
        "Time per operation, portable (measured, median of 4 instrumented runs)",
        "Time per operation, coreml (apportioned, median of 4 instrumented runs)",
    ]
    for table in tables:
        assert len({row[2].provenance for row in table.rows}) == 1
    # Each engine's times are medians of its own runs, and its shares are of its own time.
    assert [row[2].value for row in tables[0].rows] == pytest.approx([8e-3, 2e-3])
    assert [row[3].value for row in tables[1].rows] == pytest.approx([0.6, 0.3])
    kinds = [(k.op, k.time.provenance, k.time.value) for k in found.kinds]
    assert ("conv", MEASURED, pytest.approx(8e-3)) in kinds
    assert ("conv", APPORTIONED, pytest.approx(6e-3)) in kinds


def test_an_operation_that_only_some_runs_took_counts_as_nothing_in_the_others():
    taken = traced(span("conv_0", "conv", 4), span("linear_2", "linear", 1))
    left = traced(span("linear_2", "linear", 1), index=1)
    found = facts(recording(runs=(taken, left)))
    assert {op.node: op.time.value for op in found.ops}["conv_0"] == pytest.approx(2e-3)


def test_a_sum_is_as_certain_as_the_least_certain_of_its_parts():
    run = traced(span("a", "add", 1), span("b", "add", 1, APPORTIONED))
    program = dataclasses.replace(
        INFO, ops=(dataclasses.replace(INFO.ops[0], name="a", where="cell 1"),)
    )
    found = facts(recording(runs=(run,), program=program))
    assert timing.lines(found).rows[0][:3] == ("cell 1", "a", "1")
    assert {row[3].provenance for row in timing.lines(found).rows} == {MEASURED, APPORTIONED}


def test_time_is_added_up_by_line_of_code_the_longest_first():
    places = ("Cell In[3], line 4", "Cell In[3], line 9", "Cell In[3], line 4", "")
    ops = tuple(
        dataclasses.replace(INFO.ops[1], name=f"op_{i}", op=f"kind_{i}", where=where)
        for i, where in enumerate(places)
    )
    spans = [span(op.name, op.op, ms) for op, ms in zip(ops, (1, 3, 4, 2), strict=True)]
    program = dataclasses.replace(INFO, ops=ops)
    found = facts(recording(runs=(traced(*spans),), program=program))
    assert shown(timing.lines(found)) == [
        ("Cell In[3], line 4", "op_2, op_0", "2", "5.00 ms ●", "50.0 % ●"),
        ("Cell In[3], line 9", "op_1", "1", "3.00 ms ●", "30.0 % ●"),
        (timing.UNPLACED, "op_3", "1", "2.00 ms ●", "20.0 % ●"),
    ]
    assert shown(timing.lines(found, top=1))[-1] == (
        "2 other lines",
        "op_1, op_3",
        "2",
        "5.00 ms ●",
        "50.0 % ●",
    )


def test_a_line_of_many_operations_names_the_longest():
    spans = [span(f"op_{i}", "add", 10 - i) for i in range(6)]
    ops = tuple(dataclasses.replace(INFO.ops[1], name=s.node, where="cell 1") for s in spans)
    program = dataclasses.replace(INFO, ops=ops)
    ((_, named, count, *_),) = timing.lines(
        facts(recording(runs=(traced(*spans),), program=program))
    ).rows
    assert (named, count) == ("op_0, op_1, op_2, op_3 and 2 more", "6")


def test_without_lines_there_is_no_table_of_them():
    assert not timing.lines(facts(recording(runs=(traced(span("x", "add", 1)),)))).rows
    stored = dataclasses.replace(INFO.ops[1], name="x", where="net.mlpackage: x")
    program = dataclasses.replace(INFO, ops=(stored,))
    found = recording(runs=(traced(span("x", "add", 1)),), program=program)
    assert not timing.lines(facts(found)).rows  # it would say the names once more


def test_regions_are_nested_with_their_own_time_and_the_runs_inside():
    regions = (
        Region(5, "decode", 1, 0, 100 * MS),  # the one around it was open before the profile
        Region(6, "step", 5, 0, 30 * MS),
        Region(7, "step", 5, 40 * MS, 50 * MS),
        Region(8, "step", None, 200 * MS, 5 * MS),
        Region(9, "helper", 5, 10 * MS, 70 * MS, thread="other"),
    )
    runs = (*plain(20, region=6), *plain(40, region=7), *plain(3), *plain(9, region=999))
    table = timing.regions(recording(regions=regions, runs=runs))
    assert shown(table) == [
        ("decode", "1", "100 ms ●", "100 ms ●", "20.0 ms ●", "0", ""),
        ("step", "2", "80.0 ms ●", "40.0 ms ●", "80.0 ms ●", "2", "60.0 ms ●"),
        ("helper", "1", "70.0 ms ●", "70.0 ms ●", "70.0 ms ●", "0", ""),
        ("step", "1", "5.00 ms ●", "5.00 ms ●", "5.00 ms ●", "0", ""),
        (timing.OUTSIDE, "", "", "", "", "2", "12.0 ms ●"),
    ]
    assert not timing.regions(recording()).rows


def nested_regions(count):
    """Each inside of the one before, a millisecond shorter."""
    return tuple(
        Region(i, f"r{i}", i - 1 if i else None, 0, (count - i) * MS) for i in range(count)
    )


def test_regions_too_deep_are_one_row_that_counts_no_time_twice():
    runs = plain(1, region=99)
    table = timing.regions(recording(regions=nested_regions(100), runs=runs))
    assert [row[0].strip() for row in table.rows] == [*(f"r{i}" for i in range(64)), "…"]
    name, times, together, each, own, inside, _ = table.rows[-1]
    assert name == "\N{NO-BREAK SPACE}" * 128 + "…"
    assert (times, inside) == ("1", "1")
    assert together.value == each.value == own.value == pytest.approx(0.036)
    assert sum(row[4].value for row in table.rows) == pytest.approx(0.1)


def test_a_recording_of_deeply_nested_regions_does_not_hold_a_report_up():
    found = recording(regions=nested_regions(4_000), runs=plain(1))
    before = time.process_time()
    timing.regions(found)
    # It took minutes while the work grew with the third power of the depth.
    assert time.process_time() - before < 5


def test_regions_that_name_one_another_as_parents_end():
    regions = (Region(1, "a", 2, 0, MS), Region(2, "b", 1, 0, MS))
    assert len(timing.regions(recording(regions=regions, runs=())).rows) == 2


def test_the_machine_is_quiet_noisy_or_not_known():
    conditions = (
        Condition("work of other programs", Quantity(1.5, "{core}", MEASURED), noisy=True),
        Condition("moved to and from swap", Quantity(0.0, "By", MEASURED)),
        Condition("slowed down because of heat", Quantity.unavailable("{time}", "no counter")),
        Condition("battery", Quantity(1.0, "{value}", MEASURED, note="on battery"), noisy=True),
    )
    found = recording(conditions=conditions)
    assert [row[2] for row in timing.machine(found).rows] == [
        "noisy",
        "quiet",
        "not known",
        "noisy",
    ]
    told = timing.notes(found, facts(found))
    assert told[0] == (
        "The machine was noisy while this was measured: "
        "work of other programs: 1.50 cores ●; battery: on battery."
    )


def test_drift_dependence_and_stalls_are_told_with_figures():
    rng = np.random.default_rng(0)
    rising = np.linspace(10, 13, 60) * (1 + 0.01 * rng.standard_normal(60))
    found = facts(recording(runs=plain(*rising)))
    (told,) = timing.notes(recording(), found)
    assert told.startswith("The runs drifted: the last third took 2")
    assert "% longer than the first" in told
    blocks = np.repeat(rng.permutation(30), 10) / 100 + 10
    (told,) = timing.notes(recording(), facts(recording(runs=plain(*blocks))))
    assert told.startswith("Runs resemble the ones before: 300 tell as much as ")
    stalled = [10.0] * 45 + [30.0] * 5
    rng.shuffle(stalled)
    (told,) = timing.notes(recording(), facts(recording(runs=plain(*stalled))))
    assert told == "10.0 % ● of the runs took more than twice the median."


def test_pace_and_costs_are_told_in_sentences():
    overhead = Overhead(500, 3000, Quantity(0.003, "{core}", MEASURED))
    regions = (Region(1, "a", None, 0, MS),)
    found = recording(
        pace=Pace((MS,), True, "warm after 10 runs", "the median is known"),
        overhead=overhead,
        regions=regions,
    )
    told = timing.notes(found, facts(found))
    assert told == (
        "Warm-up: warm after 10 runs.",
        "Runs: the median is known.",
        (
            "Keeping a run costs 500 ns ●, a region 3.00 µs ●; "
            "sampling kept 0.00300 cores ● busy. No time shown includes it."
        ),
    )


def test_a_report_shows_all_of_it():
    found = recording(
        splits=(Split(0, MS, {"framework": MS}),),
        stages=(Stage("session", 0, MS),),
        regions=(Region(1, "decode", None, 0, MS),),
        conditions=(Condition("swap", Quantity(0.0, "By", MEASURED)),),
    )
    captions = [table.caption for table in report(found).tables]
    for caption in (
        "Where the time of an inference goes (1 runs, not instrumented)",
        "Loading and the first run",
        "Regions of the code",
        "Was the machine quiet?",
        "Time per line of code",
    ):
        assert caption in captions
