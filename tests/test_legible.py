"""Names of strangers: whatever they hold, what is shown of them is visible, short and plain text.

The evil names go through every renderer, the figures and the messages of the widgets.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coreml_lab.circumstances import Condition, Pace, Region, Stage, Start
from coreml_lab.errors import ModelError
from coreml_lab.explain.page import Page, Table
from coreml_lab.explain.renderers import html, markdown, text
from coreml_lab.explain.report import report
from coreml_lab.legible import NAME, legible
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Incident, OpInfo, OpSpan, Placement, Recording, Run, Sample
from coreml_lab.widgets import about, snapshot
from coreml_lab.widgets.feed import Feed, quiet
from tests.support.fakes import INFO, MS, PLANS, recording

EVIL = {
    "script": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)" x="',
    "image": "<img src=x onerror=alert(1)>",
    "closing": "</td></table></script><!--",
    "entity": "&lt;script&gt;",
    "bidi": "safe\u202egpj.exe\u2066\u200f",
    "terminal": "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x08\x7f",
    "lines": "one\r\ntwo\u2028three\x85four\tfive",
    "invisible": "a\u200bb\ufeff\u00ad\U000e0041",
    "surrogate": "half \ud800 pair",
    "markdown": "![x](http://evil) **b** `c` ~~d~~ | e | $\\pi$ @team #12 www.evil.org",
    "formula": "$$\\href{http://evil}{x}$$ \\[y\\] \\(z\\)",
    "braces": "@{name} {safe} %s {0} ${x}",
    "long": "x" * 1_000_000,
}
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
OURS = {"\n", "\N{WORD JOINER}"}


def evil(name: str) -> Recording:
    """A recording in which everything that a file can name bears ``name``."""
    spans = (OpSpan(name, name, name, name, 0, MS, 8, Provenance.MEASURED, (name,)),)
    info = dataclasses.replace(INFO, name=name, ops=(OpInfo(name, name, (1,), name, 8, name),))
    incident = Incident(1, name, name, name, name)
    placement = Placement(name, name, name, (name,), 1.0)
    return recording(
        program=info,
        plan=dataclasses.replace(PLANS["coreml"], title=name, placements=(placement,)),
        runs=(Run(0, 0, MS), Run(1, 2 * MS, MS, spans, (incident,), instrumented=True)),
        samples=(
            Sample(0, name, 1.0, Provenance.MEASURED, name),
            Sample(0, "hw.power.package", float("nan"), Provenance.UNAVAILABLE, name),
        ),
        environment={name: name},
        stages=(Stage(name, 0, MS),),
        starts=(Start(cached=False, stages=(Stage(name, 0, MS),)),),
        pace=Pace((1,), stable=True, warmed=name, ended=name),
        regions=(Region(1, name, None, 0, MS, name),),
        conditions=(Condition(name, Quantity(1, "1", Provenance.MEASURED, note=name), noisy=True),),
    )


@pytest.fixture(params=EVIL)
def shown(request: pytest.FixtureRequest) -> Any:
    return report(evil(EVIL[request.param]))


class Strict(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}


def assert_visible(told: str) -> None:
    bad = {c for c in told if unicodedata.category(c) in INVISIBLE} - OURS
    assert not bad, bad
    assert len(told) < 100_000
    told.encode()


def test_short_visible_text_is_left_alone() -> None:
    for name in ("resnet50/conv1", "größe ×2 — 模型 µs", "a\u202fb", ""):
        assert legible(name) == name


def test_what_is_invisible_is_written_out() -> None:
    assert legible("a\x1b[2Jb\u202ec\ud800\U000e0041") == "a\\x1b[2Jb\\u202ec\\ud800\\U000e0041"


def test_lines_become_blanks() -> None:
    assert legible("a\nb\tc\u2028d") == "a b c d"


def test_the_middle_of_a_long_name_is_left_out() -> None:
    told = legible("a" * 500_000 + "z" * 500_000)
    assert len(told) < NAME + 40
    assert told.startswith("aaa")
    assert told.endswith("zzz")
    assert "(1000000 characters)" in told


def test_text_obeys_nothing(shown: Any) -> None:
    assert_visible(str(shown))
    assert_visible(repr(shown))
    plain = str(report(evil("plain")))
    assert len(str(shown).splitlines()) == len(plain.splitlines())


@pytest.mark.parametrize("name", EVIL)
def test_a_unit_of_strangers_obeys_nothing_either(name: str) -> None:
    condition = Condition("clock", Quantity(1.0, EVIL[name], Provenance.MEASURED), noisy=True)
    found = report(dataclasses.replace(evil("plain"), conditions=(condition,)))
    assert "clock" in str(found)
    assert_visible(str(found))
    assert_visible(found.to_markdown())


def test_html_has_only_its_own_tags_and_attributes(shown: Any) -> None:
    told = shown.to_html()
    assert_visible(told)
    plain = Strict(report(evil("plain")).to_html())
    found = Strict(told)
    assert found.names == plain.names
    assert found.attributes == plain.attributes


def test_markdown_has_only_its_own_markup(shown: Any) -> None:
    told = shown.to_markdown()
    assert_visible(told)
    plain = report(evil("plain")).to_markdown()
    assert told.count("\n") == plain.count("\n")
    for sign in "|*`_~[]<>$#":
        count = lambda text, s=sign: len(re.findall(rf"(?<!\\){re.escape(s)}", text))  # noqa: E731
        assert count(told.replace("\\\\", "")) == count(plain.replace("\\\\", "")), sign
    assert not re.search(r"@\w|#\d|https?://|www\.", told)


def test_json_is_ascii_and_whole(shown: Any) -> None:
    assert shown.to_json().isascii()
    assert json.loads(shown.to_json())["headline"] == shown.headline


def test_the_trace_can_be_written_and_is_small(shown: Any) -> None:
    told = shown.to_trace()
    assert len(told.encode("utf-8")) < 100_000  # no half of a pair
    assert "\\u" not in told.replace("\\\\u", "")  # Perfetto shows such escapes as they are
    for event in json.loads(told)["traceEvents"]:
        assert_visible(json.dumps(event, ensure_ascii=False))


def test_a_recording_keeps_every_name_as_it_was() -> None:
    for name in EVIL.values():
        assert Recording.from_json(evil(name).to_json()).program.name == name


@pytest.mark.parametrize("name", EVIL)
def test_the_widgets_are_told_only_what_can_be_seen(name: str) -> None:
    made = evil(EVIL[name])

    class Model:
        info, plan = made.program, made.plan

    head = about.about(Model())
    chips = about.chips(Model(), {}, EVIL[name])
    for told in (*head.values(), *(str(v) for chip in chips for v in chip.values())):
        assert_visible(told)
    found = Strict(snapshot.to_html(head, quiet(), ()))
    assert found.names == Strict(snapshot.to_html(about.about(None), quiet(), ())).names


def test_a_frame_of_the_dashboard_stays_small() -> None:
    feed = Feed(("a",))
    feed.state = {**quiet(), "program": legible(EVIL["long"]), "title": legible(EVIL["long"])}
    header, _ = feed.history(0).message()
    assert len(json.dumps(header)) < 2_000


SINKS = re.compile(
    r"innerHTML|outerHTML\s*=(?!=)|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function|setAttribute\(.on|\.srcdoc|javascript:"
)


def test_the_page_sets_text_only_as_text() -> None:
    """What is written in TypeScript has no way to make markup of what the kernel says."""
    sources = sorted((Path(__file__).parents[1] / "js" / "src").glob("**/*.ts"))
    assert len(sources) > 10
    assert not [s.name for s in sources if SINKS.search(s.read_text(encoding="utf-8"))]


def test_a_page_of_many_long_names_stays_small() -> None:
    rows = tuple((EVIL["long"], Quantity(1, "s", Provenance.MEASURED)) for _ in range(200))
    page = Page(EVIL["long"], (Table(EVIL["long"], ("a", "b"), rows, bars=1),), (EVIL["long"],))
    for render in (text.render, html.render, markdown.render):
        assert len(render(page)) < 500_000


@pytest.mark.parametrize("name", EVIL)
def test_an_error_shows_names_and_obeys_none(name: str) -> None:
    error = ModelError(f"no model {EVIL[name]}", hint="another\nand a second line")
    assert_visible(str(error))
    assert str(error).endswith("try: another\nand a second line")
    assert EVIL[name] in error.message
