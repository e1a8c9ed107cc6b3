"""Traces in the Perfetto UI itself: what it draws, and what its trace processor read of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import perfetto
import pytest

import coreml_lab as cl
from coreml_lab.circumstances import Region
from coreml_lab.explain.renderers import trace
from coreml_lab.metrics import Provenance
from coreml_lab.records import Recording, Sample
from tests.support.fakes import MS
from tests.support.turns import split

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SLICES = """select thread.name, slice.name, slice.ts - trace_start(), slice.dur, slice.depth
  from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
  order by thread.tid, slice.ts"""
COUNTERS = """select counter_track.name, counter.value
  from counter join counter_track on counter.track_id = counter_track.id order by counter.ts"""
FLOWS = """select one.name, other.name from flow
  join slice one on flow.slice_out = one.id join slice other on flow.slice_in = other.id"""
# What an importer may trip over: marks of JSON and HTML, other scripts, a line's end, a long name.
ODD = ('say "a\\b"', "<script>alert(1)</script>", "畳み込み·é", "two\nlines", "long" * 10_000)


def test_a_profiled_model_is_drawn_with_every_operation_and_reading(browser, pictures):
    model = cl.compile(lambda x: cl.ops.relu(x=cl.ops.sin(x=x)), x=cl.spec(64, 64))
    with cl.profile() as watched, cl.region("decode"):
        for _ in range(5):
            model.predict({"x": np.ones((64, 64), np.float32)})
    found = watched.recording
    with perfetto.opened(browser, trace.render(found)) as viewer:
        assert (viewer.complaints(), viewer.errors) == ([], [])
        drawn = viewer.rows(SLICES)
        regions, runs = len(found.regions), len(found.runs)
        assert len(drawn) == regions + runs + len(found.spans)
        assert {row[0] for row in drawn} == {"regions", "inferences", "coreml:0 · portable"}
        took = [row[3] for row in drawn if row[0] == "inferences"]
        assert took == [run.duration_ns for run in found.runs]
        names = {name for name, _ in viewer.rows(COUNTERS)}
        assert "process.memory.usage [By]" in names
        assert "coreml_lab.power.cpu.high [W] estimated" in names
        shown = " ".join(viewer.unfold())
        for title in ("regions", "inferences", "coreml:0 · portable", *names):
            assert title in shown
        viewer.page.screenshot(path=pictures / "perfetto.png")


def hybrid() -> Recording:
    """Two engines in turns, and two readings."""
    samples = [
        Sample(t, "process.memory.usage", v, Provenance.MEASURED)
        for t, v in ((2_000, 1e9), (3_000, 1.5e9))
    ]
    return dataclasses.replace(split(), samples=samples)


def test_devices_are_tracks_transfers_arrows_and_incidents_marks(browser):
    with perfetto.opened(browser, trace.render(hybrid())) as viewer:
        assert (viewer.complaints(), viewer.errors) == ([], [])
        drawn = viewer.rows(SLICES)
        ops = {(row[0], row[1]): row[2:] for row in drawn if row[0] != "inferences"}
        assert ops["cpu · portable", "conv"] == [1, 1_000, 0]
        assert ops["cpu · portable", "softmax"] == [3_445, 1, 0]
        assert ops["cuda:0 · pytorch", "linear"] == [1_334, 2_111, 0]
        assert ops["cuda:0 · pytorch, at the same time (2)", "relu"] == [2_000, 77, 0]
        assert viewer.rows(FLOWS) == [["conv", "[transfer]"], ["relu", "softmax"]]
        read = [["process.memory.usage [By]", 1e9 * v] for v in (1, 1.5)]
        assert viewer.rows(COUNTERS) == read
        assert viewer.rows("select ts - trace_start() from slice where name = 'DeviceLost'")


def test_names_are_shown_as_they_are_and_nothing_of_them_runs(browser):
    base = hybrid()
    regions = tuple(Region(i, name, None, i * MS, MS, "main") for i, name in enumerate(ODD))
    program = dataclasses.replace(base.program, name=ODD[0] + ODD[1] + ODD[2])
    odd = dataclasses.replace(base, regions=regions, program=program)
    with perfetto.opened(browser, trace.render(odd)) as viewer:
        viewer.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        assert (viewer.complaints(), viewer.errors) == ([], [])
        shown = [row[1] for row in viewer.rows(SLICES) if row[0] == "regions"]
        assert shown[:3] == list(ODD[:3])
        assert "\n" not in shown[3]
        assert len(shown[4]) < 1_000
        assert viewer.rows("select name from process where pid = 1") == [[program.name]]
        assert viewer.page.locator("script", has_text="alert(1)").count() == 0
