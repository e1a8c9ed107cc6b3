"""Reports and their renderers: golden text, and what each format must keep."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from coreml_lab.explain.changes import diff_recordings
from coreml_lab.explain.page import Page, Table
from coreml_lab.explain.renderers import html, markdown, text
from coreml_lab.explain.report import report
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Incident, OpSpan, Recording, Run
from tests.support.fakes import MS, recording

GOLDEN = """\
tiny on Core ML program, portable engine (CPU): 5.50 ms ● per inference (median of 4); conv \
takes 57.1 % ● of the time in operations

Time per inference (4 runs, not instrumented)
                                     value [95 % interval]
-----------------------------------  ---------------------
fastest                                          4.00 ms ●
median                                           5.50 ms ●
90th percentile                                unavailable
95th percentile                                unavailable
99th percentile                                unavailable
slowest                                          7.00 ms ●
mean                                             5.50 ms ●
inferences per second, back to back               182 /s ●
  90th percentile: unavailable, needs 10 runs, there are 4
  95th percentile: unavailable, needs 20 runs, there are 4
  99th percentile: unavailable, needs 100 runs, there are 4

Time per operation (measured, median of 2 instrumented runs)
operation  type              time per run     share    weights
---------  ----------------  ------------  --------  ---------
conv_0     conv (with relu)     2.00 ms ●  57.1 % ●  2.00 MB ●
linear_2   linear               1.00 ms ●  28.6 % ●   500 kB ●

Time per line of code
line                        operations  number  time per run     share
--------------------------  ----------  ------  ------------  --------
cell 3                      conv_0      1          2.00 ms ●  57.1 % ●
(no line of code is known)  linear_2    1          1.00 ms ●  28.6 % ●

Time per type of operation
type       operations  time per run     share
---------  ----------  ------------  --------
conv       1              2.00 ms ●  57.1 % ●
linear     1              1.00 ms ●  28.6 % ●
[reorder]  1               500 µs ●  14.3 % ●

The engine's own work, which belongs to no operation
where               what                      time per run     share
------------------  ------------------------  ------------  --------
[reorder]           [reorder]                     500 µs ●  14.3 % ●
between operations  call, scheduling, copies     1.50 ms ●

The machine meanwhile
metric            typical       highest
-----------  ------------  ------------
this kernel  1.50 cores ●  2.00 cores ●
CPU package   unavailable
  CPU package: unavailable, no RAPL here

Where
        what
------  --------------------------------------
system  Linux
engine  Core ML program, portable engine (CPU)

* Recording adds 400 ns ● to a run; no time shown includes it.
* An instrumented run takes 0.909 × ● the time of a plain one: times per operation are those of \
instrumented runs, time per inference is not.

● measured  ◐ apportioned  ≈ estimated  ◌ simulated  ⊘ unavailable
"""

ALLOWED = {
    "div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li",
    "span", "em", "small", "img",
}  # fmt: skip


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))


def page(*rows, bars=None):
    columns = ("what", *(f"c{i}" for i in range(1, len(rows[0]))))
    return Page("Head <&>", (Table("Cap | tion", columns, tuple(rows), bars),), ("a *note*",))


def ms(value):
    return Quantity(value / 1000, "s", Provenance.MEASURED)


def test_the_text_is_exactly_this():
    assert str(report(recording())) == GOLDEN


def test_the_short_form_is_the_headline():
    assert repr(report(recording())).startswith("<Report: tiny on Core ML program")


def test_many_operations_are_cut_off_and_the_others_added_up():
    spans = tuple(
        OpSpan(f"op_{i}", "add", "portable", "cpu", i * MS, MS, 0, Provenance.MEASURED)
        for i in range(30)
    )
    runs = (Run(0, 0, 30 * MS, spans, instrumented=True),)
    table = report(recording(runs=runs), top=5).tables[0]
    assert len(table.rows) == 6
    assert table.rows[-1][0] == "25 others"
    assert table.rows[-1][2].value == pytest.approx(25e-3)


def test_many_types_are_cut_off_and_the_others_added_up():
    spans = tuple(
        OpSpan(f"op_{i}", f"kind_{i}", "portable", "cpu", i * MS, MS, 0, Provenance.MEASURED)
        for i in range(15)
    )
    runs = (Run(0, 0, 15 * MS, spans, instrumented=True),)
    table = report(recording(runs=runs)).tables[1]
    assert table.rows[-1][:2] == ("3 other types", "3")


def test_equal_fused_operations_are_counted():
    run = recording().runs[-1]
    span = OpSpan(
        "conv_0",
        "conv",
        "p",
        "cpu",
        0,
        MS,
        0,
        Provenance.MEASURED,
        ("relu_1", "relu_1", "linear_2"),
    )
    shown = report(recording(runs=(run, Run(9, 0, MS, (span,), instrumented=True))))
    assert "conv (with relu ×2, linear)" in str(shown)


def test_incidents_are_shown():
    incident = Incident(0, "DeviceLost", "it stopped", "Retry", "recovered")
    assert "it stopped" in str(report(recording(incidents=(incident,))))


def test_a_recording_without_runs_says_so():
    shown = report(recording(runs=(), samples=()))
    assert shown.headline.endswith("no run was timed")
    assert [table.caption for table in shown.tables] == ["Where"]


def test_runs_without_spans_or_samples_say_why_there_are_none():
    shown = report(recording(runs=recording().runs[:4], samples=()))
    assert "Times per operation are unavailable: no instrumented run." in shown.notes
    assert any("No sample fell into the runs" in note for note in shown.notes)


def test_a_saved_recording_gives_the_same_report(tmp_path):
    path = recording().save(tmp_path / "r.json")
    assert str(report(Recording.load(path))) == GOLDEN


def test_json_keeps_si_units_provenance_and_reasons():
    data = json.loads(report(recording()).to_json())
    rows = dict(data["tables"][0]["rows"])
    assert rows["median"]["value"] == pytest.approx(5.5e-3)
    assert (rows["median"]["unit"], rows["median"]["provenance"]) == ("s", "measured")
    assert rows["95th percentile"]["value"] is None
    assert "needs 20 runs" in rows["95th percentile"]["note"]


def test_other_results_are_told_in_the_same_report():
    before, after = recording(), recording(runs=recording().runs[:2])
    part = diff_recordings(before, after)
    whole = report(after, part)
    captions = [table.caption for table in whole.tables]
    assert captions.index("Operations, most time first") < captions.index("The machine meanwhile")
    assert part.page.headline in whole.notes
    assert list(whole.figures)[-1] == "changes"
    beside = [table.caption for table in whole.tables if "changes" in table.figures]
    assert beside == ["Time per inference"]
    assert 'data-figure="changes"' in whole.to_document()


def test_html_has_only_what_an_untrusted_notebook_keeps():
    tags = Tags(report(recording()).to_html()).tags
    assert {tag for tag, _ in tags} <= ALLOWED
    for _, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
    sources = [a["src"] for tag, a in tags if tag == "img"]
    assert sources
    assert all(s.startswith("data:image/svg+xml;base64,") for s in sources)


def test_html_tables_have_captions_and_scopes():
    tags = Tags(report(recording()).to_html()).tags
    count = [tag for tag, _ in tags].count
    assert count("table") == count("caption") == 7
    assert all(a["scope"] in {"row", "col"} for tag, a in tags if tag == "th")


def test_html_heads_stand_where_their_columns_do():
    shown = html.render(page(("a", ms(1))))
    heads = re.findall(r'<th scope="col" style="text-align:(\w+)">', shown)
    assert heads == ["left", "right"]


def test_html_says_how_each_number_came_to_be_in_words_too():
    shown = html.render(page(("a", Quantity(1, "s", Provenance.ESTIMATED, note="a < b"))))
    assert 'aria-label="estimated: a &lt; b">≈</span>' in shown


def test_html_escapes_what_it_is_given():
    shown = html.render(page(("<script>", ms(1))))
    assert "<script>" not in shown
    assert "Head &lt;&amp;&gt;" in shown


def test_html_shows_why_something_is_missing():
    shown = html.render(page(("a", Quantity.unavailable("W", "no RAPL"))))
    assert "<em>unavailable: no RAPL</em>" in shown


def test_bars_are_as_long_as_their_share_of_the_longest():
    shown = html.render(
        page(("a", ms(4)), ("b", ms(1)), ("c", Quantity.unavailable("s", "?")), bars=1)
    )
    svgs = [base64.b64decode(d).decode() for d in re.findall(r"base64,([^\"]+)", shown)]
    assert [int(re.search(r'width="(\d+)"', svg)[1]) for svg in svgs] == [120, 30]


def test_a_table_of_zeros_has_no_bars():
    assert "<img" not in html.render(page(("a", ms(0)), bars=1))


def test_markdown_escapes_and_aligns():
    shown = markdown.render(page(("a|b", ms(1)), ("c", Quantity.unavailable("s", "too *few*"))))
    assert "## Head \\<&amp;\\>" in shown
    assert "| a\\|b | 1.00 ms ● |" in shown
    assert "| :-- | --: |" in shown
    assert "c: unavailable, too \\*few\\*" in shown
    assert "- a \\*note\\*" in shown


def test_text_gives_each_reason_once_with_all_its_rows():
    missing = Quantity.unavailable("W", "no RAPL")
    shown = text.render(page(("a", missing), ("b", missing), ("c", ms(1))))
    assert "  a, b: unavailable, no RAPL" in shown


def events(found: Recording, phase: str):
    return [e for e in json.loads(report(found).to_trace())["traceEvents"] if e["ph"] == phase]


def test_the_trace_has_every_run_and_span_and_begins_at_zero():
    found = events(recording(), "X")
    assert len(found) == 6 + 6
    assert min(e["ts"] for e in found) == 0
    assert [e["dur"] for e in found if e["cat"] == "run"] == [4000, 5000, 6000, 7000, 5000, 5000]


def test_nothing_overlaps_on_a_lane_of_the_trace():
    span = OpSpan("a", "add", "p", "cpu", 0, 3 * MS, 0, Provenance.MEASURED)
    runs = (Run(0, 0, 9 * MS, (span, span, span)), Run(1, MS, MS), Run(2, 9 * MS, MS))
    found = events(recording(runs=runs), "X")
    for lane in {e["tid"] for e in found}:
        rows = sorted((e for e in found if e["tid"] == lane), key=lambda e: e["ts"])
        assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in pairwise(rows))
    assert len({e["tid"] for e in found if e["cat"] == "op"}) == 3


def test_every_lane_of_the_trace_has_one_name():
    found = recording()
    names = [e["tid"] for e in events(found, "M") if e["name"] == "thread_name"]
    assert len(names) == len(set(names))
    assert set(names) == {e["tid"] for e in events(found, "X")}


def test_samples_are_counters_and_missing_ones_are_left_out():
    found = events(recording(), "C")
    assert [e["args"] for e in found] == [{"[{core}]": 1.0}, {"[{core}]": 2.0}]
    assert {e["name"] for e in found} == {"process.cpu.cores"}


def test_incidents_are_instants_of_the_trace():
    incident = Incident(7 * MS, "DeviceLost", "it stopped", "Retry", "recovered")
    (event,) = events(recording(incidents=(incident,)), "i")
    assert (event["ts"], event["name"]) == (7000, "DeviceLost")


def test_a_trace_of_nothing_is_a_trace():
    assert events(recording(runs=(), samples=()), "X") == []


def test_the_figure_shows_program_and_engine_in_milliseconds():
    plot = report(recording()).figure()
    data = plot.renderers[0].data_source.data
    assert data["name"] == ["conv_0", "linear_2", "[reorder]"]
    assert data["time"] == pytest.approx([2.0, 1.0, 0.5])
    assert len(set(data["colour"])) == 2
    assert plot.xaxis.axis_label == "time per run (ms, measured)"
    few = report(recording()).figure(top=1)
    assert few.renderers[0].data_source.data["name"] == ["conv_0"]
