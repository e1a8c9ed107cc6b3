"""The widget: one per kernel, slow facts in traits, numbers in messages, words without a page."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import Bench, FakeSource

from coreml_lab.errors import LabError, ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.records import OpInfo, Placement, PlanInfo, ProgramInfo
from coreml_lab.widgets import dashboard as module
from coreml_lab.widgets import quantities, snapshot
from coreml_lab.widgets.dashboard import Dashboard, bundle

OPS = tuple(OpInfo(f"op{i}", "relu", (1,), "fp32") for i in range(2))
MODEL = SimpleNamespace(
    info=ProgramInfo("nmp", "key", "package", "fp32", (), (), OPS, 1_234_567),
    plan=PlanInfo("portable", "coreml:0", "Core ML program, portable engine (CPU)"),
)


@pytest.fixture
def board(monkeypatch):
    """A dashboard whose pump takes no steps of its own, and what it sent."""
    sent = []
    monkeypatch.setattr(module.Pump, "start", lambda self: None)
    made = Bench()
    view = Dashboard(
        MODEL,
        source=made.source,
        activity=made.activity,
        cells=made.cells,
        clock=made.clock,
    )
    monkeypatch.setattr(
        type(view), "send", lambda _, content, buffers: sent.append((content, buffers))
    )
    made.pump, made.feed, made.sent = view.pump, view.feed, sent
    yield SimpleNamespace(view=view, bench=made, sent=sent)
    view.close()


def test_the_slow_facts_are_traits_and_the_schema_says_how_numbers_come_to_be(board):
    view = board.view
    assert view.about == {"name": "nmp", "detail": "fp32 · 2 ops · 1.23 MB"}
    kinds = {chip["title"]: chip["provenance"] for chip in view.chips}
    assert kinds["Core ML program, portable engine (CPU)"] == "measured"
    assert kinds["Neural Engine: unavailable"] == "unavailable"
    assert kinds["CPU energy: estimated"] == "estimated"
    columns = {c["name"]: c for c in view.schema["columns"]}
    assert columns["hw.power.package"]["provenance"] == "unavailable"
    assert columns["hw.power.package"]["note"] == "no counter here"
    assert columns["system.cpu.core/0"]["panel"] == "cpu"
    assert columns["coreml_lab.executor.latency.p50"]["unit"] == "s"


def test_there_is_one_dashboard_per_kernel_and_it_shows_the_model_given_last(board):
    other = SimpleNamespace(info=MODEL.info, plan=MODEL.plan)
    other.info = ProgramInfo("crepe", "k", "p", "fp16", (), (), OPS[:1], 10)
    assert Dashboard(other) is board.view
    assert board.view.about["name"] == "crepe"
    assert board.view.about["detail"] == "fp16 · 1 op · 10.0 B"
    assert Dashboard() is board.view
    assert board.view.about["name"] == "coreml_lab"


def test_numbers_go_as_one_binary_message_and_hello_asks_for_the_history(board):
    bench = board.bench
    bench.tick()
    header, buffers = board.sent[-1]
    assert (header["k"], header["n"], len(buffers)) == ("f", 1, 1)
    width = 1 + len(board.view.schema["columns"])
    assert np.frombuffer(buffers[0]).size == width
    board.view._heard(None, {"k": "hello", "v": 1}, [])
    bench.tick()
    assert board.sent[-1][0]["k"] == "h"
    board.view._heard(None, {"k": "nonsense"}, [])
    board.view._heard(None, "nonsense", [])


def test_a_closed_dashboard_lets_go_and_the_next_one_is_new(board):
    view, source = board.view, board.bench.source
    view.close()
    assert source.closed
    assert board.bench.cells.on_end == []
    view._heard(None, {"k": "hello"}, [])
    assert "nmp" in repr(view)
    fresh = Dashboard(source=FakeSource(), cells=board.bench.cells)
    assert fresh is not view
    fresh.close()
    view.close()


@pytest.mark.parametrize("starts", [True, False])
def test_the_page_does_not_wait_for_a_sampler_that_starts(monkeypatch, starts):
    told, bench = threading.Event(), Bench()

    class Slow:
        def __getattr__(self, name):
            return getattr(bench.source, name)

        @property
        def columns(self):
            assert told.wait(60)
            if not starts:
                raise ProbeError("no sampling process", hint="")
            return bench.source.columns

    source = Slow()
    monkeypatch.setattr(module.Pump, "start", lambda self: None)
    monkeypatch.setattr(module, "shared", lambda: source)
    view = Dashboard(MODEL, activity=bench.activity, cells=bench.cells, clock=bench.clock)
    assert view.about["name"] == "nmp"
    assert (view.schema, view.pump) == ({}, None)
    assert "nmp" in view._repr_mimebundle_()[0]["text/html"]
    told.set()
    if starts:
        assert "0.50" not in view.summary()
        assert view.schema["columns"][0]["name"] == bench.source.columns[0]
    else:
        with pytest.raises(ProbeError, match="no sampling process"):
            view.summary()
        assert bench.activity.incidents[-1].error == "ProbeError"
    view.close()


def test_without_a_page_it_is_text_with_units_and_provenance(board):
    board.bench.tick()
    text = repr(board.view)
    assert "nmp, fp32 · 2 ops · 1.23 MB (idle)" in text
    assert "● 0.50 cores" in text
    assert "≈ 1.0–4.0 W" in text
    assert "⊘ unavailable: no counter here" in text
    assert "● no sample" in text


def test_the_html_fallback_is_a_table_that_untrusted_notebooks_keep(board):
    for _ in range(3):
        board.bench.tick()
    data, _ = board.view._repr_mimebundle_()
    page = data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<table" in page
    assert 'src="data:image/svg+xml;base64,' in page
    for stripped in ("<script", "<style", "<svg", "onload"):
        assert stripped not in page
    assert "unavailable: no counter here" in page


def test_in_a_terminal_showing_is_printing(board, capsys):
    board.view._ipython_display_()
    assert "coreml_lab dashboard" in capsys.readouterr().out


def test_in_a_notebook_a_summary_is_shown_beside_the_view_and_kept_fresh(board, monkeypatch):
    shown, updates = [], []
    handle = SimpleNamespace(update=lambda data, raw: updates.append(data))
    monkeypatch.setattr(module, "display", lambda data, **kw: shown.append((data, kw)) or handle)
    monkeypatch.setattr(module, "shell_or_none", lambda: SimpleNamespace(kernel=object()))
    board.view._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown[0][0]
    assert shown[1][1]["display_id"] is True
    assert module.SNAPSHOT_CLASS in shown[1][0]["text/html"]
    board.bench.cells.start(2, "x")
    board.bench.cells.end(ok=True)
    assert len(updates) == 1


def test_a_cell_ends_only_when_the_dashboard_that_it_made_is_open(board):
    """Otherwise a next cell that holds the interpreter's lock would keep it from opening."""
    waited = []
    board.view._opening = SimpleNamespace(wait=waited.append)
    board.bench.cells.start(1, "cl.Dashboard()")
    assert waited == []
    board.bench.cells.end(ok=True)
    assert waited == [module.OPENING_S]
    board.view._opening = threading.Event()
    board.view._opening.set()


def test_a_front_end_that_was_not_built_is_said_with_what_to_do():
    with pytest.raises(LabError, match="npm run build"):
        bundle("missing.js")


def test_a_measured_package_power_is_a_chip_of_its_own():
    provenance = {"hw.power.package": (Provenance.MEASURED, "RAPL")}
    titles = [c["title"] for c in module.describe.chips(None, provenance, "not here")]
    assert titles == ["Neural Engine: unavailable", "CPU package power: measured"]
    nothing = module.describe.chips(MODEL, {}, "not here")[-1]
    assert nothing["title"] == "CPU power: unavailable"


def test_core_mls_plan_for_the_neural_engine_is_an_estimate():
    placements = tuple(Placement(f"op_{i}", "conv", d) for i, d in enumerate(("ne", "ne", "cpu")))
    plan = PlanInfo("coreml", "coreml:0", "Core ML, macOS 26.1", placements=placements)
    found = module.describe.chips(SimpleNamespace(info=MODEL.info, plan=plan), {}, "not here")
    assert [(c["title"], c["provenance"]) for c in found[:2]] == [
        ("Core ML, macOS 26.1", "measured"),
        ("Neural Engine: planned for 2 of 3 ops", "estimated"),
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0185, "s", "18.5 ms"),
        (2.5e-6, "s", "2.50 µs"),
        (2.31e9, "By", "2.31 GB"),
        (0.012, "1", "1.20 %"),
        (0.0, "s", "0.00 s"),
        (-3.0, "W", "−3.00 W"),
        (211.4, "Hz", "211 /s"),
        (5.0, "furlong", "5.00 furlong"),
        (0.004, "{core}", "0.00400 cores"),
        (1e-9, "s", "1.00 ns"),
        (1e-9, "{core}", "1.00e-9 cores"),
        (-0.004, "{core}", "−0.00400 cores"),
        (0.0, "{state}", "0.00"),
        (0.99997, "s", "1.00 s"),
        (math.nan, "W", "no sample"),
    ],
)
def test_numbers_are_written_for_people(value, unit, text):
    assert quantities.show(value, unit) == text


def test_estimates_have_two_digits_a_mark_and_no_value_where_an_edge_is_missing():
    assert quantities.show_between(6.89, 27.6, "W") == "≈ 6.9–28 W"
    assert quantities.show_between(0.0004, 0.16, "{core}") == "≈ 0.00040–0.16 cores"
    assert quantities.show_between(math.nan, 1.0, "W") == "no sample"


def test_each_gpu_has_its_line_and_cores_have_none():
    columns = ("hw.power.gpu/1", "hw.power.gpu/0", "system.cpu.core/0", "hw.energy.gpu/0")
    rows = np.array([[1.0, 310.0, 300.0, 0.5, 9.0]])
    provenance = {"hw.power.gpu/0": (Provenance.MEASURED, "NVML")}
    found = list(snapshot.lines(columns, provenance, rows))
    assert [(line.label, line.text) for line in found] == [("GPU 1", "310 W"), ("GPU 0", "300 W")]
    assert found[1].note == "NVML"


def test_the_picture_of_a_course_breaks_where_values_are_missing():
    import base64

    assert snapshot.picture([1.0, math.nan]) == ""
    image = snapshot.picture([1.0, 2.0, math.nan, 1.0, 2.0])
    svg = base64.b64decode(image.split("base64,")[1].split('"')[0]).decode()
    assert svg.split('d="')[1].count("M") == 2
