"""The report as one HTML file: whole, small, and closed to anything that did not come with it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coreml_lab.errors import UnknownParameter
from coreml_lab.explain.renderers import document
from coreml_lab.explain.renderers.document import MOST_BYTES, Drawing
from coreml_lab.explain.report import report
from tests.support.fakes import recording
from tests.test_legible import EVIL, assert_visible, evil


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def whole() -> str:
    return report(recording()).to_document()


def test_it_is_one_small_file_with_every_figure(whole: str) -> None:
    assert len(whole.encode()) < MOST_BYTES
    found = Page(whole)
    drawn = [a["data-figure"] for _, a in found.tags if "data-figure" in a]
    assert sorted(filter(None, drawn)) == sorted(report(recording()).figures)
    data = [a["id"] for tag, a in found.tags if tag == "script" and "id" in a]
    assert set(drawn) | {"colours"} == set(data)


def test_it_fetches_nothing(whole: str) -> None:
    for tag, attributes in Page(whole).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert not attributes.keys() & {"href", "srcset", "action"}
        assert (attributes.get("src") or "data:").startswith("data:")
    assert "url(" not in document.STYLE


def test_only_its_own_two_scripts_may_run(whole: str) -> None:
    found = Page(whole)
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "content" in a)
    assert policy is not None
    running = [a for tag, a in found.tags if tag == "script" and "type" not in a]
    assert len(running) == 2
    code = [s for s in found.scripts if not s.lstrip().startswith("{")]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in code]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert policy.startswith("default-src 'none';")
    assert "unsafe-inline" not in policy.partition("style-src")[0]


@pytest.mark.parametrize("name", ["script", "attribute", "closing", "bidi", "long"])
def test_names_of_strangers_add_no_tag_and_no_attribute(name: str) -> None:
    drawing = Drawing("library", {EVIL[name]: (EVIL[name], json.dumps({"a": 1}))}, "{}")
    plain = Page(
        document.render(report(evil("plain")).page, Drawing("l", {"a": ("a", "{}")}, "{}"))
    )
    told = document.render(report(evil(EVIL[name])).page, drawing)
    assert_visible(told.replace("\n", ""))
    found = Page(told)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) for _, a in found.tags] == [set(a) for _, a in plain.tags]


def test_figures_that_do_not_fit_are_left_out_and_named() -> None:
    big = "x" * (MOST_BYTES - 50_000)
    items = {"small": ("s", "{}"), "large": ("l", json.dumps(big)), "other": ("o", json.dumps(big))}
    told = document.render(report(recording()).page, Drawing("", items, "{}"))
    assert len(told.encode()) < MOST_BYTES
    assert "larger than 2 MB: other." in told
    assert 'data-figure="small"' in told
    assert 'data-figure="other"' not in told


def test_a_result_without_figures_has_no_scripts_that_run() -> None:
    told = document.render(report(recording()).page, Drawing("library", {}, "{}"))
    assert "<script>" not in told
    assert "script-src 'none'" in told


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.html", "<!doctype html>"),
        ("r.md", "## tiny"),
        ("r.txt", "tiny on"),
        ("r.json", '{"headline"'),
        ("r.trace.json", '{"traceEvents"'),
        ("r.otlp.json", '{"resourceMetrics"'),
        ("r.PROM", "# HELP"),
    ],
)
def test_the_ending_of_a_file_says_its_format(tmp_path: Path, name: str, begins: str) -> None:
    path = report(recording()).save(tmp_path / "deep" / name)
    assert path.read_text(encoding="utf-8").startswith(begins)


def test_an_ending_that_nobody_knows_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownParameter, match="no such format") as caught:
        report(recording()).save(tmp_path / "r.pdf")
    assert ".html" in caught.value.hint
    assert not list(tmp_path.iterdir())
