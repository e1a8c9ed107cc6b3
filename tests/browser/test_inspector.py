"""The page side of the Inspector alone: its script in Chromium, with a host that is played."""

from __future__ import annotations

import base64
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hosted import theme
from inspected import HOST
from test_dashboard_axe import AXE

import coreml_lab as cl
from coreml_lab.widgets.dashboard import bundle
from coreml_lab.widgets.inspector import Inspector

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def digits():
    return cl.zoo.digits()


@pytest.fixture(scope="module")
def timed(digits):
    image = np.zeros((1, 1, 8, 8), np.float32)
    return Inspector(digits, recording=cl.profile(digits, {"x": image}, runs=2))


@pytest.fixture(scope="module")
def beside(digits, tmp_path_factory):
    """A model and what half precision makes of it."""
    path = tmp_path_factory.mktemp("edited") / "half.mlpackage"
    cl.edit(digits).apply("float16").save(path)
    return Inspector(digits, path)


@pytest.fixture
def shown(browser):
    """Opens an Inspector in a page of its own, and waits until it is laid out."""
    contexts = []

    def opened(made, *, width=1120, light=True, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(90_000)
        contexts.append(context)
        page = context.new_page()
        style = f"margin:0;{theme(light=light)};background:{'#fff' if light else '#111'}"
        page.set_content(
            f'<html lang="en"><body style="{style}" data-jp-theme-light="{str(light).lower()}">'
            '<div id="cell"></div></body></html>'
        )
        sources = [bundle(f"inspector.{kind}").read_text() for kind in ("js", "css")]
        data = [base64.b64encode(part).decode() for part in (made.scene, made.layouter)]
        page.evaluate(HOST, [*sources, {"still": made.still, "timed": {}}, *data])
        page.wait_for_selector(".cml-inspector[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()


def panel(page):
    return page.locator(".cmi-panel").inner_text()


def test_the_keys_walk_along_the_edges_open_the_details_and_change_the_colours(shown, timed):
    page = shown(timed, reduced_motion="reduce")
    page.locator(".cmi-canvas").focus()
    for key in ("ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    text = panel(page)
    assert "conv_0" in text
    assert "median of" in text
    assert "runs fp16" in text
    assert "coremltools" in text  # the source of the reason
    page.keyboard.press("ArrowDown")
    assert "relu_1" in panel(page)
    page.keyboard.press("ArrowUp")
    assert "conv_0" in panel(page)
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "cmi-panel"
    for wanted in ("on M4", "Core ML program", "traced runs", "32 bits"):
        page.keyboard.press("c")
        assert wanted in page.locator(".cmi-legend").inner_text()
    page.keyboard.press("Escape")
    assert "Choose an operation" in panel(page)


def test_a_search_finds_an_operation_and_the_list_tells_the_same_graph(shown, timed):
    page = shown(timed)
    page.keyboard.press("Tab")
    page.locator(".cml-search").fill("linear")
    page.wait_for_function("document.querySelectorAll('[role=treeitem]').length === 1")
    page.locator(".cml-search").press("Enter")
    assert "linear" in panel(page)
    page.locator(".cml-search").fill("")
    page.wait_for_function("document.querySelectorAll('[role=treeitem]').length === 10")
    page.get_by_role("button", name="List").click()
    page.get_by_role("treeitem", name="max_pool_2").click()
    assert "max_pool_2" in panel(page)


def test_two_models_are_walked_together_and_their_differences_are_told(shown, beside):
    page = shown(beside)
    head = page.locator(".cml-top").inner_text()
    assert "3 changed, 5 in precision only, 2 added, 0 removed, 2 the same" in head
    page.get_by_role("button", name="Next difference").click()
    text = panel(page)
    assert "changed" in text
    assert "16 bits" in text
    assert page.locator("[role=treeitem][aria-selected=true]").count() == 2


def test_the_graph_is_saved_as_a_drawing_with_a_text_for_every_box_and_as_an_image(shown, timed):
    page = shown(timed)
    page.get_by_role("button", name="SVG").click()
    page.wait_for_function("host.files.length")
    name, text = page.evaluate("host.files[0]")
    assert name == "digits-graph.svg"
    words = [e.text for e in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("conv") == 2
    page.get_by_role("button", name="PNG").click()
    page.wait_for_function("host.files.length === 2")
    name, text = page.evaluate("host.files[1]")
    assert name == "digits-graph.png"
    assert text[1:4] == "PNG"


def test_neither_wide_nor_narrow_breaks_a_rule_of_accessibility(shown, beside, timed):
    if not AXE.is_file():
        message = "axe-core is not installed: npm ci in js/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    script = Path(AXE).read_text(encoding="utf-8")
    found = []
    for made, width, light in ((beside, 1120, True), (timed, 360, False)):
        page = shown(made, width=width, light=light)
        page.get_by_role("button", name="List").click()
        page.locator(".cmi-canvas").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.evaluate(f"{script};0")
        result = page.evaluate("axe.run(document.querySelector('section.cml'))")
        found += [(width, v["id"], v["nodes"][0]["html"]) for v in result["violations"]]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found == []


def test_in_jupyterlab_it_opens_with_its_layout_and_the_still_picture_stands_aside(notebook):
    notebook.open(["import coreml_lab as cl\ncl.Inspector(cl.zoo.digits())", "print('END')"])
    notebook.run_all()
    notebook.wait_for_output("END")
    page = notebook.page
    page.wait_for_selector(".cml-inspector[data-ready]")
    assert notebook.kernel_errors() == []
    assert notebook.errors == []
    # A note would tell that the host allows no workers, and that the layout is a rough one.
    assert page.locator(".cml-inspector .cml-off").count() == 0
    assert not page.locator("[class^=cml-still-]").is_visible()
    page.locator(".cmi-canvas").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert "conv_0" in panel(page)
    assert "layers.py, line" in panel(page)


def test_reasons_and_what_helps_are_japanese_for_a_japanese_reader(shown, timed):
    page = shown(timed, reduced_motion="reduce", locale="ja-JP")
    page.locator(".cmi-canvas").focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    told = [line for line in panel(page).splitlines() if "出典" not in line]  # titles of sources
    assert any("fp32 で計算しますが、Neural Engine は fp16 です" in line for line in told)
    assert [line for line in told if re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", line)] == []
