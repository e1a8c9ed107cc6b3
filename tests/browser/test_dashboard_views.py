"""The views beside the live strips: the page's script in Chromium, with a kernel that is played."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import played
import pytest
from test_dashboard_esm import (
    CELLS,
    INCIDENTS,
    MARKUP,
    NOW,
    STATE,
    drawn,
    emit,
    row,
    text,
    theme,
    times,
)

pytestmark = pytest.mark.browser
VIEWS = ("live", "timeline", "operations", "compare", "suggestions", "record")


def tell(page, header, numbers=()):
    page.evaluate("([header, numbers]) => host.emit(header, numbers)", [header, list(numbers)])


def fill(page):
    emit(page, [row(t) for t in times(60)], k="h", events=CELLS + INCIDENTS)
    tell(page, *played.told())
    tell(page, played.SUGGESTED)
    tell(page, played.AIMS)
    tell(page, played.TAPING)
    page.wait_for_selector("section.cml canvas")
    drawn(page)
    return page


@pytest.fixture
def page(host):
    return fill(host(STATE))


def turn(page, view):
    page.get_by_role("tab", name=view).first.click()


def wishes(page):
    return [(m["what"], m["arg"]) for m in page.evaluate("host.sent") if m["k"] == "do"]


def names(page):
    return page.locator("[role=tabpanel]:visible tbody th").all_inner_texts()


@pytest.fixture(scope="module")
def ops():
    return played.told()[0]["ops"]


def test_operations_are_listed_the_longest_first_with_share_and_mark(page, ops):
    turn(page, "Operations")
    assert names(page) == [op["node"] for op in ops] or len(names(page)) == len(ops)
    shares = page.locator("td.cml-share").all_inner_texts()
    values = [float(s.split()[0].strip()) for s in shares]
    assert values == sorted(values, reverse=True)
    assert all(s.strip().endswith("%") for s in shares)
    assert page.locator("tbody svg[aria-label=apportioned]").count() == 8
    assert "unavailable" in page.locator("tbody").inner_text()
    assert "median of 40 runs" in text(page, "[role=tabpanel]:visible .cml-tools")


def test_operations_sort_by_a_click_and_by_the_keyboard_alone(page, ops):
    page.locator("section.cml").focus()
    page.keyboard.press("3")
    head = page.locator("th[data-column=name] button")
    head.focus()
    page.keyboard.press("Enter")
    assert names(page) == sorted(names(page))
    assert page.locator("th[data-column=name]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert page.locator("th[data-column=name]").get_attribute("aria-sort") == "descending"


def test_operations_are_searched_with_a_key_and_grouped_by_type(page):
    page.locator("section.cml").focus()
    page.keyboard.press("/")
    page.keyboard.type("matmul cuda")
    assert all("matmul" in name for name in names(page))
    assert len(names(page)) == 6
    assert text(page, "[role=tabpanel]:visible .cml-note") == "6 of 49 ops"
    page.locator("input[type=search]").fill("")
    page.get_by_role("button", name="op type").click()
    found = names(page)
    assert found.count("conv") == 2, "one per device: what two devices took is not added up"
    assert "[transfer]" in found


def test_a_click_on_an_operation_opens_it_in_the_timeline(page, ops):
    turn(page, "Operations")
    page.get_by_role("button", name=ops[0]["node"], exact=True).click()
    assert page.get_by_role("tab", name="Timeline").get_attribute("aria-selected") == "true"
    assert text(page, ".cml-detailbox h3").startswith(ops[0]["node"])


def test_the_timeline_has_a_track_per_device_and_one_for_transfers(page):
    turn(page, "Timeline")
    titles = page.locator(".cml-lanet b").all_inner_texts()
    assert titles == ["coreml:0 · portable", "Transfers", "cuda:0 · pytorch"]
    assert "440 µs" in page.locator(".cml-lane", has_text="Transfers").inner_text()
    colours = page.evaluate(
        """[...document.querySelectorAll('.cml-lane canvas')].slice(2).map(c => {
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          const seen = {};
          for (let i = 0; i < d.length; i += 4) {
            const key = [d[i], d[i+1], d[i+2]].join();
            if (d[i+3] > 250) seen[key] = (seen[key] ?? 0) + 1;
          }
          return seen; })"""
    )
    assert "0,114,178" in colours[0]
    assert "230,159,0" in colours[1]
    assert "0,158,115" in colours[2]


def test_the_timeline_tells_where_an_operation_was_made_and_where_a_chip_would_run_it(page):
    turn(page, "Timeline")
    page.locator(".cml-tracks").focus()
    page.keyboard.press("Home")
    told = text(page, ".cml-detailbox")
    for part in ("layer0.conv_0", "900 µs", "model.py, line 10", "1 × 64 × 56 × 56", "36.9 kB",
                 "on M4", "the Neural Engine runs fp16", "Roofline", "≈"):  # fmt: skip
        assert part in told
    page.keyboard.press("ArrowRight")
    assert "layer0.batch_norm_1" in text(page, ".cml-detailbox")
    box = page.locator(".cml-lane canvas").nth(4).bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    assert "cuda:0" in text(page, ".cml-detailbox")


def test_the_timeline_zooms_by_key_and_fits_again(page):
    turn(page, "Timeline")
    shown = "[role=tabpanel]:visible .cml-tools .cml-m"
    whole = text(page, shown)
    page.locator(".cml-tracks").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert text(page, shown) != whole
    page.keyboard.press("0")
    assert text(page, shown) == whole


def test_suggestions_show_every_state_and_ask_the_kernel(page):
    assert text(page, "[role=tab]:has-text('Suggestions') .cml-count") == "2"
    turn(page, "Suggestions")
    cards = page.locator(".cml-card")
    assert cards.count() == 5
    assert page.locator(".cml-tag").all_inner_texts() == [
        "new", "running", "awaits you", "not accepted", "advice",
    ]  # fmt: skip
    assert "0.63× the time [0.60, 0.66]" in cards.nth(2).inner_text()
    assert page.locator(".cml-interval[data-sure=true]").count() == 1
    assert cards.nth(1).locator("progress").evaluate("bar => bar.value") == 23 / 64
    cards.nth(0).get_by_role("button", name="Try it").click()
    cards.nth(1).get_by_role("button", name="Stop").click()
    cards.nth(2).get_by_role("button", name="Accept").click()
    assert wishes(page) == [("try", 1), ("halt", 2), ("accept", 3)]
    assert "waits for the kernel" in text(page, "[role=tabpanel]:visible .cml-note")
    tell(page, played.SUGGESTED)
    assert "waits" not in text(page, "[role=tabpanel]:visible .cml-note")


def test_progress_moves_without_taking_the_focus_from_a_button(page):
    turn(page, "Suggestions")
    page.locator(".cml-card").nth(1).get_by_role("button", name="Stop").focus()
    cards = [dict(c, done=40) if c["id"] == 2 else c for c in played.CARDS]
    tell(page, played.SUGGESTED | {"cards": cards})
    assert page.locator("progress").evaluate("bar => bar.value") == 40 / 64
    assert page.evaluate("document.activeElement.textContent") == "Stop"


def test_the_strategy_is_asked_for_and_shown_as_the_kernel_says(page):
    page.get_by_role("button", name="battery").click()
    assert wishes(page) == [("strategy", "battery")]
    assert "waits for the kernel" in text(page, ".cml-aims")
    tell(page, played.AIMS | {"current": "battery"})
    assert text(page, ".cml-aims [aria-pressed=true]") == "battery"


def test_two_recordings_are_compared_and_a_verdict_needs_intervals_apart(page):
    turn(page, "Compare")
    assert "Record twice" in text(page, "[role=tabpanel]:visible")
    tell(page, *played.told(2, slower=1.5))
    tell(page, *played.told(3, slower=1.001))
    verdicts = page.locator("[data-verdict]").all_inner_texts()
    assert verdicts == ["baseline", "slower", "not told apart"]
    page.locator("input[type=radio]").nth(1).check()
    verdicts = page.locator("[data-verdict]").all_inner_texts()
    assert verdicts == ["faster", "baseline", "faster"]


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


def test_every_export_has_what_was_shown(page, pictures):
    turn(page, "Live")
    turn(page, "Record")
    table = list(csv.reader(io.StringIO(exported(page, "CSV").read_text())))
    assert table[0][0] == "time [s]"
    assert table[0][1].startswith("process.cpu.cores [{core}] measured")
    assert len(table) == 1 + len(times(60))
    data = json.loads(exported(page, "JSON").read_text())
    assert len(data["rows"]) == len(times(60))
    assert data["recorded"]["name"] == "resnet50"
    trace = json.loads(exported(page, "Perfetto").read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in trace) == 49
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
    page.locator("input[type=file]").set_input_files(file)
    inner = page.locator("section.cml section.cml")
    inner.wait_for(timeout=30_000)
    inner.get_by_text("replay, 1×").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="10×").click()
    inner.get_by_text("replay, 10×").first.wait_for(timeout=30_000)
    inner.get_by_text("replay, at its end").first.wait_for(timeout=120_000)
    assert " GB" in inner.locator("[data-strip=memory] .cml-v").inner_text()
    inner.get_by_role("tab", name="Operations").click()
    assert inner.locator("tbody tr").count() == 49
    page.get_by_role("button", name="Close the replay").click()
    assert inner.count() == 0


def test_a_file_that_is_no_recording_is_refused_in_words(page, tmp_path):
    turn(page, "Record")
    for content in ("{}", "not json", '{"format":"coreml_lab dashboard","version":1,"rows":[]}'):
        file = tmp_path / "odd.json"
        file.write_text(content)
        page.locator("input[type=file]").set_input_files(file)
        page.get_by_text("this file is no recording").wait_for(timeout=30_000)


def test_names_of_strangers_are_only_text_in_every_view(host):
    opened = fill(host(STATE))
    header, numbers = played.told(2)
    for op in header["ops"]:
        op.update(node=MARKUP, where=MARKUP, why=MARKUP, placed=MARKUP, fused=[MARKUP])
    tell(opened, header | {"name": MARKUP, "title": MARKUP}, numbers)
    odd = played.card(9, title=MARKUP, why=MARKUP, evidence=[MARKUP], risk=MARKUP, reasons=[MARKUP])
    tell(opened, played.SUGGESTED | {"cards": [odd], "note": MARKUP})
    tell(opened, played.AIMS | {"choices": [{"name": MARKUP, "sentence": MARKUP}]})
    tell(opened, played.TAPING | {"error": MARKUP, "saved": MARKUP})
    for number, view in enumerate(VIEWS, start=1):
        opened.locator("section.cml").focus()
        opened.keyboard.press(str(number))
        if view == "timeline":
            opened.locator(".cml-tracks").focus()
            opened.keyboard.press("Home")
        assert opened.locator(".cml img, .cml script").count() == 0
    assert opened.evaluate("globalThis.owned") is None


def test_views_are_tabs_that_arrows_and_numbers_turn(page):
    tabs = page.get_by_role("tab")
    assert tabs.count() == 6
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.innerText").startswith("Timeline")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.innerText").startswith("Record")
    page.keyboard.press("5")
    assert (
        page.locator("[role=tabpanel]:visible")
        .get_attribute("aria-labelledby")
        .endswith("suggestions")
    )


def test_before_any_recording_each_view_says_what_to_do(host):
    opened = host(STATE)
    emit(opened, [row(t) for t in times(10)], k="h")
    drawn(opened)
    for view, words in (("Timeline", "cl.profile"), ("Operations", "cl.profile"),
                        ("Compare", "cl.profile"), ("Suggestions", "first recording")):  # fmt: skip
        turn(opened, view)
        assert words in text(opened, "[role=tabpanel]:visible")


def test_the_texts_of_the_views_are_japanese_for_a_japanese_reader(host):
    opened = fill(host(STATE, locale="ja-JP"))
    assert opened.get_by_role("tab").all_inner_texts()[0] == "ライブ"
    opened.get_by_role("tab", name="提案").click()
    assert opened.get_by_role("button", name="試す", exact=True).count() == 1


@pytest.mark.parametrize("width", [1120, 360])
@pytest.mark.parametrize("light", [True, False])
def test_no_view_is_wider_than_its_cell(host, pictures, width, light):
    body = f'<body style="{theme(light=light)}" data-jp-theme-light="{str(light).lower()}">'
    opened = fill(host(STATE, body=f'{body}<div id="cell"></div></body>', width=width))
    tell(opened, *played.told(2, slower=1.5))
    for number, view in enumerate(VIEWS, start=1):
        opened.locator("section.cml").focus()
        opened.keyboard.press(str(number))
        if view == "timeline":
            opened.locator(".cml-tracks").focus()
            opened.keyboard.press("Home")
        drawn(opened)
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        shade = "light" if light else "dark"
        opened.screenshot(path=pictures / f"view-{view}-{shade}-{width}.png", full_page=True)
