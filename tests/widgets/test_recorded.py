"""A recording as the page's table, tracks and replay want it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from coreml_lab.circumstances import Region
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import (
    Incident,
    OpInfo,
    OpSpan,
    PlanInfo,
    ProgramInfo,
    Recording,
    Run,
    Sample,
)
from coreml_lab.widgets import recorded as module
from coreml_lab.widgets.past import past
from coreml_lab.widgets.recorded import amount, recorded
from coreml_lab.widgets.telling import told

MEASURED = Provenance.MEASURED


def span(node, op, start, length, **extra):
    return OpSpan(node, op, "portable", "coreml:0", start, length, 64, MEASURED, **extra)


def made(**extra):
    infos = (OpInfo("a\x1b[31m", "conv", (1, 2), "fp32", 8, where="x.py, line 1"),)
    program = ProgramInfo("net\u202e", "k", "", "fp32", (), (), infos, 8)
    spans = (span("a\x1b[31m", "conv", 1_100, 300), span("a\x1b[31m", "conv", 1_500, 100),
             span("r", "[Reorder]", 1_700, 50))  # fmt: skip
    runs = (Run(0, 0, 10**9), Run(1, 10**9, 10**9), Run(2, 1_000, 1_000, spans, instrumented=True))
    return Recording({}, program, PlanInfo("portable", "coreml:0", "CPU"), runs, **extra)


def test_an_operation_that_runs_twice_counts_twice_and_is_one_row():
    header, buffers = recorded(made(), 7, {}, "")
    assert header["id"] == 7
    assert [(op["op"], op["count"]) for op in header["ops"]] == [("conv", 2), ("[Reorder]", 1)]
    rows = np.frombuffer(buffers[0]).reshape(-1, 3)
    assert rows[:, 0].tolist() == [0, 0, 1]
    np.testing.assert_allclose(rows[:, 1] * 1e9, [100, 500, 700])


def test_traced_runs_are_told_the_last_one_first(monkeypatch):
    made_of = made()
    earlier = replace(made_of.runs[-1], index=1, spans=made_of.runs[-1].spans[:1])
    header, buffers = recorded(replace(made_of, runs=(earlier, *made_of.runs[2:])), 1, {}, "")
    assert [(t["run"], t["n"]) for t in header["tracks"]] == [(2, 3), (1, 1)]
    assert np.frombuffer(buffers[0]).reshape(-1, 3)[:, 0].tolist() == [0, 0, 1, 0]
    monkeypatch.setattr(module, "MOST_OF_TRACKS", 3)
    header, _ = recorded(replace(made_of, runs=(earlier, *made_of.runs[2:])), 1, {}, "")
    assert [t["run"] for t in header["tracks"]] == [2]


def test_names_of_strangers_become_visible_and_nan_becomes_null():
    header, _ = recorded(made(), 1, {}, "")
    assert header["name"] == "net\\u202e"
    assert header["ops"][0]["node"] == "a\\x1b[31m"
    assert header["ops"][0]["memory"] is None
    json.dumps(header, allow_nan=False)
    assert amount(Quantity.unavailable("s", "why"))["value"] is None


def test_what_does_not_fit_is_counted_as_left_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_OPS", 1)
    header, buffers = recorded(made(), 1, {}, "")
    assert len(header["ops"]) == 1
    assert header["n"] == 2
    assert len(buffers[0]) == 2 * 24
    assert header["left_out"] == 2


def test_without_a_traced_run_there_is_a_head_and_no_operation():
    header, buffers = recorded(Recording({}, made().program, made().plan, ()), 1, {}, "")
    assert (header["n"], header["ops"], buffers) == (0, [], [b""])
    assert header["p50"]["value"] is None
    assert header["p50"]["note"]


def test_a_recording_becomes_the_rows_that_the_strips_would_have_shown():
    def sample(t, name, value, how=MEASURED, note=""):
        return Sample(t, name, value, how, note)

    samples = (
        sample(10**9, "process.cpu.cores", 1.5),
        sample(10**9, "hw.power.package", float("nan"), Provenance.UNAVAILABLE, "no counter"),
        sample(1_400_000_000, "process.memory.peak", 7.0),
        sample(2 * 10**9, "process.cpu.cores", 2.5),
    )
    regions = (Region(0, "outer", None, 10**9, 10**9), Region(1, "inner", 0, 10**9, 10))
    incident = Incident(10**9, "OutOfMemory", "m", "split", "recovered")
    header, buffers = past(made(samples=samples, regions=regions, incidents=(incident,)))
    columns = [column["name"] for column in header["schema"]["columns"]]
    rows = np.frombuffer(buffers[0]).reshape(header["n"], -1)
    assert rows[:, 0].tolist() == [1.0, 2.0]
    assert rows[:, 1 + columns.index("process.cpu.cores")].tolist() == [1.5, 2.5]
    # What another source read in between makes no row of its own, in which the rest is missing.
    peak = rows[:, 1 + columns.index("process.memory.peak")]
    np.testing.assert_array_equal(peak, [7.0, np.nan])
    assert np.isnan(rows[:, 1 + columns.index("hw.power.package")]).all()
    power = header["schema"]["columns"][columns.index("hw.power.package")]
    assert (power["provenance"], power["note"]) == ("unavailable", "no counter")
    throughput = 1 + columns.index("coreml_lab.executor.throughput")
    assert rows[:, throughput].tolist() == [1.0, 1.0]
    assert [event["k"] for event in header["events"]] == ["cell", "incident"]
    assert header["events"][0]["src"] == "outer"
    json.dumps(header, allow_nan=False)


def strips(runs, samples):
    header, buffers = past(Recording({}, made().program, made().plan, runs, samples))
    rows = np.frombuffer(buffers[0]).reshape(header["n"], -1)
    return header["schema"]["columns"], rows


@pytest.mark.parametrize(
    ("count", "step", "took"), [(3600, 10**9, 10**8), (20_000, 10**7, 10**6), (70_000, 10**6, 10)]
)
def test_the_replayed_throughput_is_that_of_every_run(count, step, took):
    runs = tuple(Run(i, i * step, took) for i in range(count))
    moments = range(5 * 10**9, count * step, 10**9)
    samples = [Sample(t + step // 2, "process.cpu.cores", 1.0, MEASURED) for t in moments]
    columns, rows = strips(runs, samples)
    rate, median, tail, last = rows[:, -4:].T
    assert columns[-4]["name"] == "coreml_lab.executor.throughput"
    assert set(rate) == {10**9 / step}
    assert set(median) == set(tail) == {took / 1e9}
    assert np.isnan(last).all() == (step > 10**7)


def test_slow_runs_are_seen_beside_a_burst_of_fast_ones():
    slow = [Run(i, i * 10**9, 10**8) for i in range(100)]
    fast = [Run(i, 10**11 + i * 10**4, 9000) for i in range(60_000)]
    moments = (30 * 10**9 + 2 * 10**8, 10**11 + 9 * 10**8)
    samples = [Sample(t, "process.cpu.cores", 1.0, MEASURED) for t in moments]
    _, rows = strips((*slow, *fast), samples)
    assert rows[0, -4:-1].tolist() == [1.0, 0.1, 0.1]
    assert rows[1, -4] == 60_000


def test_a_replayed_metric_is_as_certain_as_its_least_certain_reading():
    hows = ((Provenance.ESTIMATED, "a model"), (MEASURED, "RAPL"))
    samples = [Sample(i, "hw.power.package", 1.0, *how) for i, how in enumerate(hows)]
    columns, _ = strips((), samples)
    assert (columns[0]["provenance"], columns[0]["note"]) == ("estimated", "a model")


def test_a_metric_that_is_not_known_is_no_share():
    columns, _ = strips((), [Sample(0, "vendor.future.thing", 5.0, MEASURED)])
    assert columns[0]["unit"] == ""


@pytest.mark.parametrize("path", ["x" * 5000, "\ud800", "a\0b"])
def test_a_path_of_strangers_that_is_none_is_no_error(path):
    program = replace(made().program, package=path)
    header, _ = told(replace(made(), program=program), 1)
    assert header["chip"] == ""


def test_a_recording_without_samples_has_no_rows():
    header, buffers = past(made())
    assert (header["n"], buffers) == (0, [b""])
