"""The report in a real browser: figures are drawn, nothing is fetched, no stranger's name runs."""

from __future__ import annotations

from typing import Any

import pytest

from coreml_lab.explain.report import report
from tests.support.fakes import recording
from tests.test_legible import EVIL, evil

FIGURES = "document.querySelectorAll('[data-figure]').length"
DRAWN = f"document.documentElement.dataset.drawn === String({FIGURES}) && {FIGURES} >= 7"
WIDEST = "document.documentElement.scrollWidth - innerWidth"


def until(page: Any, expression: str, seconds: float = 60) -> None:
    """Ask from outside: the page's own policy forbids to evaluate anything inside."""
    for _ in range(int(seconds * 10)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def opened(browser: Any, path: Any, **options: Any) -> tuple[Any, list[str]]:
    """A page of the file, and whatever went wrong or was asked of the network."""
    page = browser.new_page(**options)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: wrong.append(r.url) if r.url != path.as_uri() else None)
    page.goto(path.as_uri())
    until(page, DRAWN)
    return page, wrong


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 360)])
def test_every_figure_is_drawn_in_light_and_dark_wide_and_narrow(
    browser: Any, tmp_path: Any, pictures: Any, scheme: Any, width: int
) -> None:
    path = report(recording()).save(tmp_path / "report.html")
    size = {"width": width, "height": 900}
    page, wrong = opened(browser, path, color_scheme=scheme, viewport=size)
    page.wait_for_timeout(300)
    page.screenshot(path=pictures / f"report-{scheme}-{width}.png", full_page=True)
    assert wrong == []
    assert page.evaluate(WIDEST) <= 0
    canvases = page.locator("canvas").count()
    assert canvases >= 7
    page.close()


def test_figures_follow_the_ground_when_it_changes(browser: Any, tmp_path: Any) -> None:
    path = report(recording()).save(tmp_path / "report.html")
    page, wrong = opened(browser, path, color_scheme="light")
    ink = "Bokeh.documents.at(-1)?.roots()[0]?.below[0].axis_label_text_color"
    dark = page.evaluate(
        "Object.values(JSON.parse(document.getElementById('colours').textContent))"
    )
    assert page.evaluate(ink) not in dark
    page.emulate_media(color_scheme="dark")
    until(page, f"{dark}.includes({ink})")
    assert wrong == []
    page.close()


@pytest.mark.parametrize("name", ["script", "image", "attribute", "formula"])
def test_no_name_of_a_stranger_runs_or_fetches(browser: Any, tmp_path: Any, name: str) -> None:
    path = report(evil(EVIL[name])).save(tmp_path / "report.html")
    page, wrong = opened(browser, path, viewport={"width": 900, "height": 900})
    # Over the bars and tiles, so that tooltips are made.
    seen = 0
    for place in page.locator("[data-figure]").all():
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40, steps=3)
        page.wait_for_timeout(150)
        seen += page.locator(".bk-Tooltip").count()
    assert seen
    assert wrong == []
    assert page.locator("img[src=x], b, script[src]").count() == 0
    page.close()
