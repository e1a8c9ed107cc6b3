"""The views with a real kernel: a recording, a suggestion that is tried, a replay, an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="no playwright here").expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MODEL = """import coreml_lab as cl, numpy as np, time
def net(x):
    w = np.random.default_rng(0).standard_normal((32, 3, 3, 3)).astype("float32")
    return cl.ops.softmax(x=cl.ops.relu(x=cl.ops.conv(x=x, weight=w)), axis=-1)
model = cl.compile(net, x=cl.spec(1, 3, 64, 64))
from coreml_lab.widgets import desk
desk.BUDGET = 4.0
cl.Dashboard(model)"""
RECORD = """recording = cl.profile(model, {"x": np.ones((1, 3, 64, 64), "float32")}, runs=60)
print('RECORDED')"""
LONG = 90_000


@pytest.fixture(scope="module")
def recorded(shared):
    shared.open([MODEL, RECORD])
    shared.run_all()
    shared.wait_for_output("RECORDED", timeout=120)
    shared.page.wait_for_selector(".cml-count:not(:empty)", timeout=LONG)
    return shared


@pytest.fixture
def page(recorded):
    yield recorded.page
    assert recorded.kernel_errors() == []
    assert recorded.errors == []


def turn(page, view):
    tabs = page.get_by_role("tab", name=view, exact=False).and_(page.locator(".cml [role=tab]"))
    tabs.first.click()  # a replay that is open has tabs of its own, behind these


def test_a_recording_fills_timeline_and_operations_by_itself(page):
    turn(page, "Operations")
    page.locator(".cml-table tbody th", has_text="conv").first.wait_for(timeout=LONG)
    page.locator(".cml-link", has_text="conv").first.click()
    told = page.locator(".cml-detailbox").inner_text()
    assert "on M4" in told
    assert "Cell In[1], line 4" in told, "the place where the operation was made"
    assert "return cl.ops.softmax" in page.locator(".cml-listing mark").inner_text()
    assert "of the roof" in told


def test_a_model_goes_to_another_engine_and_back(page):
    turn(page, "Strategy")
    page.get_by_role("button", name="Look for devices").click()
    page.get_by_role("button", name="cpu: Use it").click(timeout=LONG)
    page.get_by_role("button", name="cpu: in use").wait_for(timeout=LONG)
    page.get_by_role("button", name="coreml:0: Use it").click()
    page.get_by_role("button", name="coreml:0: in use").wait_for(timeout=LONG)


def test_devices_are_compared_in_turns_in_the_background(page):
    turn(page, "Compare")
    page.get_by_role("button", name="Measure on every device").click()
    page.locator("[data-compared]").wait_for(timeout=LONG)
    told = page.locator("[data-compared]").inner_text()
    assert "coreml" in told
    assert "latency p50" in told
    assert "gpu: not here" in told or "cuda" in told


def test_a_suggestion_is_tried_in_the_background_and_accepted(page):
    turn(page, "Suggestions")
    card = page.locator(".cml-card", has_text="Compute in fp16")
    card.get_by_role("button", name="Try it").click()
    tag = card.locator(".cml-tag-awaits, .cml-tag-rejected")
    tag.wait_for(timeout=LONG)
    assert "× the time" in card.inner_text()
    card.get_by_role("button", name="Accept").click()
    card.locator(".cml-tag-accepted").wait_for(timeout=LONG)
    shown = "document.querySelector('.cml-hd .cml-detail').textContent.startsWith('{}')"
    page.wait_for_function(shown.format("fp16"), timeout=LONG)
    card.get_by_role("button", name="Undo").click()
    page.wait_for_function(shown.format("fp32"), timeout=LONG)


def test_the_last_recording_is_played_again_in_the_same_strips(page, pictures):
    turn(page, "Record")
    page.get_by_role("button", name="Replay the last recording").click()
    inner = page.locator("section.cml section.cml")
    inner.wait_for(timeout=LONG)
    inner.get_by_text("replay, at its end").first.wait_for(timeout=LONG)
    page.screenshot(path=pictures / "kernel-replay.png")
    # A recording of 20 ms, too, has the readings that cover it.
    expect(inner.locator("[data-strip=memory] .cml-v")).not_to_contain_text("no sample")
    page.get_by_role("button", name="Close the replay").click()


def test_while_a_cell_is_busy_views_and_exports_work(page):
    page.evaluate(
        """() => { const shown = jupyterapp.shell.currentWidget.context.sessionContext;
          shown.session.kernel.requestExecute({code: "import time; time.sleep(25)"}); }"""
    )
    page.locator(".cml-st[data-state=busy]").wait_for(timeout=LONG)
    turn(page, "Operations")
    assert page.locator(".cml-table tbody tr").count() >= 2
    turn(page, "Record")
    for kind in ("JSON", "PNG"):
        with page.expect_download(timeout=LONG) as waiting:
            page.get_by_role("button", name=f"Export the view seen last: {kind}").click()
        content = Path(waiting.value.path()).read_bytes()
        if kind == "JSON":
            assert json.loads(content)["rows"]
        else:
            assert content.startswith(b"\x89PNG")
    assert page.locator(".cml-st").first.get_attribute("data-state") == "busy"
