"""Facts: what a recording says, as numbers."""

from __future__ import annotations

import dataclasses
import math

import pytest

from coreml_lab.explain.facts import facts, percentile
from coreml_lab.metrics import Provenance
from coreml_lab.records import Incident, OpSpan, Run, Sample
from tests.support.fakes import MS, recording


def sample(metric, value, t=0, provenance=Provenance.MEASURED, note=""):
    return Sample(t, metric, value, provenance, note)


def timed(count):
    return tuple(Run(i, 0, (i + 1) * MS) for i in range(count))


def test_latency_comes_from_uninstrumented_runs_only():
    found = facts(recording()).latency
    assert found.p50.value == pytest.approx(5.5e-3)
    assert found.fastest.value == pytest.approx(4e-3)
    assert found.throughput.value == pytest.approx(4 / 22e-3)
    assert found.p50.provenance is Provenance.MEASURED


@pytest.mark.parametrize(
    ("count", "p95", "p99"), [(19, False, False), (20, True, False), (100, True, True)]
)
def test_tails_need_enough_runs_to_mean_something(count, p95, p99):
    found = facts(recording(runs=timed(count))).latency
    assert math.isfinite(found.p95.value) is p95
    assert math.isfinite(found.p99.value) is p99
    if not p99:
        assert found.p99.note == f"needs 100 runs, there are {count}"


def test_percentiles_are_interpolated_between_neighbours():
    assert percentile([4, 1, 2, 3], 0.5) == 2.5
    assert percentile([1, 2], 1.0) == 2
    assert percentile([7], 0.99) == 7


def test_operations_are_listed_longest_first_with_shares_of_the_time_in_spans():
    found = facts(recording())
    assert [op.node for op in found.ops] == ["conv_0", "linear_2"]
    assert [op.share.value for op in found.ops] == pytest.approx([2 / 3.5, 1 / 3.5])
    assert found.ops[0].time.value == pytest.approx(2e-3)


def test_fused_operations_are_named_by_type_and_their_weights_counted_once():
    conv = facts(recording()).ops[0]
    assert conv.fused == ("relu",)
    assert conv.weights.value == 2_000_000


def test_the_engines_own_work_is_kept_apart():
    found = facts(recording())
    assert [op.op for op in found.own_work] == ["[reorder]"]
    assert all(not op.own_work for op in found.ops)


def test_what_is_in_no_span_is_between_operations():
    assert facts(recording()).between.value == pytest.approx(1.5e-3)


def test_operations_longer_than_their_run_leave_no_negative_time_between_them():
    spans = [OpSpan(n, "add", "openvino", "cpu", 0, 3 * MS, 0, Provenance.MEASURED) for n in "ab"]
    found = facts(recording(runs=(Run(0, 0, 4 * MS, tuple(spans), instrumented=True),)))
    assert found.between.provenance is Provenance.UNAVAILABLE
    assert "add up to more" in found.between.note


def test_an_operation_that_one_run_skipped_counts_as_zero_there():
    span = OpSpan("a", "add", "portable", "cpu", 0, 3 * MS, 0, Provenance.MEASURED)
    runs = [Run(i, 0, 4 * MS, (span,) if i else (), instrumented=True) for i in range(3)]
    assert facts(recording(runs=tuple(runs))).ops[0].time.value == pytest.approx(3e-3)


def test_an_operation_that_runs_twice_in_a_run_is_added_up():
    span = OpSpan("a", "add", "portable", "cpu", 0, MS, 0, Provenance.MEASURED)
    runs = (Run(0, 0, 4 * MS, (span, span), instrumented=True),)
    assert facts(recording(runs=runs)).ops[0].time.value == pytest.approx(2e-3)


def test_operations_below_the_resolution_have_no_share():
    span = OpSpan("a", "add", "portable", "cpu", 0, 0, 0, Provenance.MEASURED)
    found = facts(recording(runs=(Run(0, 0, MS, (span,), instrumented=True),)))
    assert found.ops[0].share.provenance is Provenance.UNAVAILABLE
    assert found.kinds[0].share.provenance is Provenance.UNAVAILABLE


def test_types_add_up_to_everything():
    kinds = facts(recording()).kinds
    assert [(k.op, k.count) for k in kinds] == [("conv", 1), ("linear", 1), ("[reorder]", 1)]
    assert sum(k.share.value for k in kinds) == pytest.approx(1)


def test_without_runs_every_number_is_unavailable_with_a_reason():
    found = facts(recording(runs=(), samples=(), overhead_ns=None))
    for quantity in (
        found.latency.p50,
        found.latency.throughput,
        found.between,
        found.slowdown,
        found.overhead,
    ):
        assert quantity.provenance is Provenance.UNAVAILABLE
        assert quantity.note
    assert found.ops == ()


def test_provenance_of_spans_is_kept():
    run = recording().runs[-1]
    spans = tuple(dataclasses.replace(s, provenance=Provenance.APPORTIONED) for s in run.spans)
    found = facts(recording(runs=(dataclasses.replace(run, spans=spans),)))
    assert {op.time.provenance for op in found.ops} == {Provenance.APPORTIONED}


def test_gauges_give_median_and_highest():
    found = facts(
        recording(samples=(sample("process.cpu.cores", 1.0), sample("process.cpu.cores", 3.0)))
    )
    assert [(m.label, m.typical.value, m.highest.value) for m in found.metrics] == [
        ("this kernel", 2, 3)
    ]


def test_counters_give_what_was_used_meanwhile():
    found = facts(
        recording(samples=(sample("process.cpu.time", 10.0), sample("process.cpu.time", 12.5)))
    )
    metric = found.metrics[0]
    assert (metric.label, metric.typical.value) == ("kernel CPU time, used meanwhile", 2.5)
    assert metric.highest is None


def counted(name, *values):
    rows = [sample(name, value, t) for t, value in enumerate(values)]
    (metric,) = facts(recording(samples=tuple(rows))).metrics
    return metric.typical


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((100.0,), "only one reading"),
        ((100.0, 110.0, 0.0, 2.0), "began again"),
        ((0.0, 10.0, math.nan, 10.0, 20.0), "not read for a while"),
        ((math.nan, 5.0, 6.0), "not read for a while"),
    ],
)
def test_what_a_counter_grew_by_is_unavailable_where_its_readings_do_not_tell(values, why):
    found = counted("hw.energy.package", *values)
    assert (found.provenance, found.unit) == (Provenance.UNAVAILABLE, "J")
    assert why in found.note


@pytest.mark.parametrize(("values", "all_of_them"), [((7.0,), 7), ((1.0, 1.0, 4.0), 4)])
def test_what_schedulers_count_from_the_start_has_its_first_step(values, all_of_them):
    found = counted("coreml_lab.scheduler.refused", *values)
    assert (found.value, found.provenance) == (all_of_them, Provenance.MEASURED)


def spent(start, *values):
    rows = [sample("process.cpu.time", value, start + t) for t, value in enumerate(values)]
    return recording(samples=tuple(rows))


def test_the_time_between_two_recordings_that_were_merged_is_nobodys():
    early, late, between = spent(0, 10.0, 10.5), spent(9000, 500.0, 500.5), spent(50, 77.0, 78.0)
    for merged in (early.merge(late), late.merge(early)):
        assert facts(merged).metrics[0].typical.value == 1
    assert facts(early.merge(late).merge(between)).metrics[0].typical.value == 2


def test_recordings_that_overlap_count_once_and_one_with_a_single_reading_is_told():
    merged = spent(0, 10.0, 11.0, 12.0).merge(spent(1, 11.0, 12.0, 13.0))
    assert facts(merged).metrics[0].typical.value == 3
    alone = facts(spent(0, 10.0, 11.0).merge(spent(50, 12.0))).metrics[0].typical
    assert "only one reading" in alone.note


def test_refusals_of_two_recordings_add_up():
    rows = [sample("coreml_lab.scheduler.refused", value, t) for t, value in enumerate((1.0, 3.0))]
    later = [sample("coreml_lab.scheduler.refused", 2.0, 50)]
    merged = recording(samples=tuple(rows)).merge(recording(samples=tuple(later)))
    assert facts(merged).metrics[0].typical.value == 5


def test_a_metric_is_as_certain_as_the_least_certain_reading_of_it():
    rows = (
        sample("hw.power.package", 5.0, 0, Provenance.ESTIMATED, "a model"),
        sample("hw.power.package", 50.0, 1),
    )
    metric = facts(recording(samples=rows)).metrics[0]
    assert {metric.typical.provenance, metric.highest.provenance} == {Provenance.ESTIMATED}
    assert metric.typical.note == "a model"


def test_a_missing_metric_is_unavailable_with_its_reason_and_never_zero():
    missing = sample(
        "hw.power.package", math.nan, provenance=Provenance.UNAVAILABLE, note="no RAPL"
    )
    metric = facts(recording(samples=(missing,))).metrics[0]
    assert metric.typical.provenance is Provenance.UNAVAILABLE
    assert metric.typical.note == "no RAPL"


def test_readings_that_are_missing_now_and_then_are_left_out():
    rows = (
        sample("process.cpu.cores", 1.0),
        sample("process.cpu.cores", math.nan, provenance=Provenance.UNAVAILABLE),
    )
    assert facts(recording(samples=rows)).metrics[0].typical.value == 1


def test_estimated_power_is_one_range_and_never_a_number():
    rows = (
        sample("coreml_lab.power.cpu.low", 2.0, provenance=Provenance.ESTIMATED),
        sample("coreml_lab.power.cpu.high", 8.0, provenance=Provenance.ESTIMATED),
    )
    (metric,) = facts(recording(samples=rows)).metrics
    assert math.isnan(metric.typical.value)
    assert (metric.typical.low, metric.typical.high) == (2, 8)
    assert metric.typical.provenance is Provenance.ESTIMATED


def test_estimated_power_that_is_missing_is_unavailable():
    rows = tuple(
        sample(
            f"coreml_lab.power.cpu.{edge}", math.nan, provenance=Provenance.UNAVAILABLE, note="why"
        )
        for edge in ("low", "high")
    )
    (metric,) = facts(recording(samples=rows)).metrics
    assert metric.typical.note == "why"


def test_instances_and_unknown_metrics_have_a_label():
    rows = (sample("system.cpu.core/1", 0.5), sample("someone.elses", 3.0))
    assert [m.label for m in facts(recording(samples=rows)).metrics] == ["core 1", "someone.elses"]


def test_incidents_of_the_recording_and_of_its_runs_are_listed_once_each():
    one, two = (Incident(i, name, "", "", "") for i, name in enumerate(("One", "Two")))
    found = facts(recording(incidents=(one,), runs=(Run(0, 0, MS, incidents=(two, two)),)))
    assert [i.error for i in found.incidents] == ["One", "Two", "Two"]
