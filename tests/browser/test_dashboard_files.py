"""The recorder's files: replay, comparison and export in the page alone, which is played to."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import perfetto
import played
import pytest
from hosted import NOW, STATE, drawn, emit, fill, row, tell, text, times, turn, wishes

from coreml_lab.metrics import Provenance
from coreml_lab.records import Incident
from coreml_lab.samples import Sample

pytestmark = pytest.mark.browser


@pytest.fixture
def page(host):
    return fill(host(STATE))


def test_a_saved_recording_is_played_and_compared_by_the_page_alone(page, tmp_path, tape):
    turn(page, "Record")
    file = tape.save(tmp_path / "saved.json")
    page.locator("[role=tabpanel]:visible input[type=file]").set_input_files(file)
    inner = page.locator("section.cml section.cml")
    inner.wait_for(timeout=90_000)
    page.get_by_role("button", name="10×").click()
    inner.get_by_text("replay, at its end").first.wait_for(timeout=120_000)
    assert inner.locator("[data-strip=cpu] .cml-v").inner_text().startswith("1.50")
    assert "inferences/s" in inner.locator("[data-strip=executor] .cml-v").inner_text()
    inner.get_by_role("tab", name="Operations").click()
    rows = inner.locator("tbody th").all_inner_texts()
    assert sorted(rows) == sorted(op["node"] for op in played.told()[0]["ops"])
    turn(page, "Compare")
    page.locator("[role=tabpanel]:visible input[type=file]").set_input_files(file)
    page.get_by_text("(from a file)").first.wait_for(timeout=90_000)
    assert page.locator("[data-verdict]").count() == 2


@pytest.fixture
def tape():
    """A recording of 3 s with samples, an incident and a region, as a kernel saves it."""
    start = 5_000_000_000
    samples = [
        Sample(start + i * 100_000_000, "process.cpu.cores", 1.5, Provenance.MEASURED, "")
        for i in range(30)
    ]
    made = played.recording()
    runs = tuple(replace(r, start_ns=start + i * 60_000_000) for i, r in enumerate(made.runs))
    incident = Incident(start, "Timeout", "late", "retry", "recovered")
    return replace(made, runs=runs, samples=samples, incidents=(incident,))


def test_recording_is_started_and_stopped_by_the_kernel_alone(page):
    turn(page, "Record")
    page.get_by_role("button", name="Start recording").click()
    assert wishes(page) == [("record", "")]
    tell(page, played.TAPING | {"on": True, "since": NOW - 3})
    assert "recording for" in text(page, "[role=tabpanel]:visible .cml-note")
    page.get_by_role("button", name="Stop recording").click()
    assert wishes(page)[-1] == ("stop", "")


def exported(page, kind):
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("button", name=f"Export the view seen last: {kind}").click()
    return Path(waiting.value.path())


def test_every_export_has_what_was_shown(browser, page, pictures):
    turn(page, "Live")
    turn(page, "Record")
    table = list(csv.reader(io.StringIO(exported(page, "CSV").read_text())))
    assert table[0][0] == "time [s]"
    assert table[0][1].startswith("process.cpu.cores [{core}] measured")
    assert len(table) == 1 + len(times(60))
    data = json.loads(exported(page, "JSON").read_text())
    assert len(data["rows"]) == len(times(60))
    assert data["recorded"]["name"] == "resnet50"
    with perfetto.opened(browser, exported(page, "Perfetto").read_text()) as viewer:
        assert (viewer.complaints(), viewer.errors) == ([], [])
        assert viewer.rows("select count() from slice") == [[49]]
    html = exported(page, "HTML").read_text()
    assert "<script" not in html
    assert "resnet50" in html
    assert "<foreignObject" in exported(page, "SVG").read_text()
    png = exported(page, "PNG").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 20_000
    (pictures / "export.png").write_bytes(png)


def test_an_export_is_played_again_in_the_same_strips(page, tmp_path):
    turn(page, "Record")
    file = tmp_path / "tape.json"
    file.write_bytes(exported(page, "JSON").read_bytes())
    page.locator("[role=tabpanel]:visible input[type=file]").set_input_files(file)
    inner = page.locator("section.cml section.cml")
    inner.wait_for(timeout=90_000)
    inner.get_by_text("replay, 1×").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="10×").click()
    inner.get_by_text("replay, 10×").first.wait_for(timeout=90_000)
    inner.get_by_text("replay, at its end").first.wait_for(timeout=120_000)
    assert " GB" in inner.locator("[data-strip=memory] .cml-v").inner_text()
    inner.get_by_role("tab", name="Operations").click()
    assert inner.locator("tbody tr").count() == 49
    page.get_by_role("button", name="Close the replay").click()
    assert inner.count() == 0


ODD = {
    "{}": "another format",
    "not json": "JSON",
    '{"format":"coreml_lab dashboard","version":1,"rows":[]}': "no columns",
}


@pytest.mark.parametrize("view", ["Record", "Compare"])
def test_a_refused_file_is_told_in_words_that_stand_until_the_next(page, tmp_path, tape, view):
    turn(page, view)
    note = page.locator("[role=tabpanel]:visible [aria-live=polite]").first
    choose = page.locator("[role=tabpanel]:visible input[type=file]")
    for content, words in ODD.items():
        file = tmp_path / "odd.json"
        file.write_text(content)
        choose.set_input_files(file)
        told = note.filter(has_text="this file is no recording").filter(has_text=words)
        told.wait_for(timeout=90_000)
        # What the kernel tells meanwhile, ten times a second, does not wipe the words away.
        tell(page, played.TAPING)
        emit(page, [row(NOW + 0.1)])
        drawn(page)
        assert "this file is no recording" in note.inner_text()
    choose.set_input_files(tape.save(tmp_path / "saved.json"))
    note.filter(has_not_text="this file is no recording").wait_for(timeout=90_000, state="attached")
