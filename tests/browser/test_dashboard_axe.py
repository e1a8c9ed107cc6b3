"""Every view under axe-core's rules for accessibility, light and dark, wide and narrow."""

from __future__ import annotations

import os
from pathlib import Path

import played
import pytest
from hosted import STATE, VIEWS, drawn, fill, tell, theme

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "js" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def axe():
    if not AXE.is_file():
        message = "axe-core is not installed: npm ci in js/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("light", "width"), [(True, 1120), (False, 360)])
def test_no_view_breaks_a_rule_of_accessibility(host, axe, light, width):
    style = f"{theme(light=light)};background:{'#fff' if light else '#111'}"
    body = f'<body style="{style}" data-jp-theme-light="{str(light).lower()}">'
    page = fill(host(STATE, body=f'{body}<div id="cell"></div></body>', width=width))
    tell(page, *played.told(2, slower=1.5))
    page.evaluate(f"{axe};0")
    found = []
    for number, view in enumerate(VIEWS, start=1):
        page.locator("section.cml").focus()
        page.keyboard.press(str(number))
        if view == "timeline":
            page.locator(".cml-tracks").focus()
            page.keyboard.press("Home")
        drawn(page)
        result = page.evaluate("axe.run('section.cml', {resultTypes: ['violations']})")
        found += [(view, v["id"], v["nodes"][0]["html"]) for v in result["violations"]]
    assert found == []
