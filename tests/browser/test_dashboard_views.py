"""The views beside the live strips: the page's script in Chromium, with a kernel that is played."""

from __future__ import annotations

import played
import pytest
from hosted import (
    BUSY,
    MARKUP,
    NOW,
    STATE,
    VIEWS,
    drawn,
    emit,
    fill,
    names,
    row,
    tell,
    text,
    theme,
    times,
    turn,
    wishes,
)

pytestmark = pytest.mark.browser


@pytest.fixture
def page(host):
    return fill(host(STATE))


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
    page.locator("[role=tabpanel]:visible input[type=search]").fill("")
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
    assert titles == ["coreml:0 · portable", "Transfers", "cuda:0 · pytorch", "Neural Engine"]
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
    for part in ("layer0.conv_0", "900 µs", "Cell In[4], line 2", "1 × 64 × 56 × 56", "36.9 kB",
                 "on M4", "the Neural Engine runs fp16", "Roofline", "≈"):  # fmt: skip
        assert part in told
    page.keyboard.press("ArrowRight")
    assert "layer0.batch_norm_1" in text(page, ".cml-detailbox")
    box = page.locator(".cml-lane canvas").nth(4).bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    assert "cuda:0" in text(page, ".cml-detailbox")


def test_a_traced_run_is_chosen_among_those_that_were_kept(page):
    header, numbers = played.told(2)
    header["tracks"][1]["length"] *= 2
    tell(page, header, numbers)
    turn(page, "Timeline")
    picker = page.get_by_label("Traced run", exact=True)
    assert picker.locator("option").count() == 2
    assert picker.input_value() == "0"
    before = text(page, "[role=tabpanel]:visible .cml-tools .cml-s")
    picker.select_option("1")
    assert text(page, "[role=tabpanel]:visible .cml-tools .cml-s") != before
    page.locator(".cml-tracks").focus()
    page.keyboard.press("Home")
    assert "layer0.conv_0" in text(page, ".cml-detailbox")


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
    page.locator(".cml-aims").get_by_role("button", name="battery").click()
    assert wishes(page) == [("strategy", "battery")]
    assert "waits for the kernel" in text(page, ".cml-aims")
    tell(page, played.AIMS | {"current": "battery"})
    assert text(page, ".cml-aims [aria-pressed=true]") == "battery"


def test_two_recordings_are_compared_and_a_verdict_needs_intervals_apart(page):
    turn(page, "Compare")
    tell(page, *played.told(2, slower=1.5))
    tell(page, *played.told(3, slower=1.001))
    verdicts = page.locator("[data-verdict]").all_inner_texts()
    assert verdicts == ["baseline", "slower", "not told apart"]
    page.locator("input[type=radio]").nth(1).check()
    verdicts = page.locator("[data-verdict]").all_inner_texts()
    assert verdicts == ["faster", "baseline", "faster"]


def test_what_was_measured_in_turns_is_shown_with_its_intervals_and_what_is_not_here(page):
    turn(page, "Compare")
    told = text(page, "[data-compared]")
    for part in ("20 pairs", "99.2 %", "0.65 [0.63, 0.67]", "less time", "metal: not here"):
        assert part in told
    assert page.locator("td[data-sure=true]").all_inner_texts().count("less time") == 1
    assert page.locator(".cml-dots circle").count() == 60
    page.get_by_role("button", name="Measure on every device").click()
    assert wishes(page) == [("compare", "")]
    tell(page, played.COMPARING | {"stage": "time", "done": 0.4})
    assert "measuring: time, 40 %" in text(page, "[role=tabpanel]:visible .cml-note")
    tell(page, played.COMPARING | {"error": "record once"})
    assert "record once" in text(page, "[role=tabpanel]:visible .cml-note")


def test_an_engine_is_chosen_among_the_devices_that_are_here(page):
    page.locator("section.cml").focus()
    page.keyboard.press("7")
    assert "CPU and GPU, split" in text(page, "[role=tabpanel]:visible")
    page.get_by_role("button", name="Look for devices").click()
    tell(page, played.AIMS | {"places": played.PLACES})
    assert page.get_by_role("button", name="coreml:0: in use").is_disabled()
    assert page.get_by_role("button", name="cuda:0: Use it").is_disabled()
    assert "no NVIDIA driver is here" in text(page, "[role=tabpanel]:visible")
    page.get_by_role("button", name="cpu: Use it").click()
    assert wishes(page) == [("places", ""), ("device", "cpu")]
    page.get_by_role("button", name="battery: Choose").click()
    assert wishes(page)[-1] == ("strategy", "battery")


def test_the_strips_are_a_table_for_those_who_do_not_see_curves(page):
    page.locator("section.cml").focus()
    page.keyboard.press("t")
    drawn(page)
    sheet = page.locator(".cml-sheet")
    cells = sheet.locator("tr", has_text="this kernel").locator("td").all_inner_texts()
    assert cells[0] == "CPU"
    assert cells[2] == "–"
    least, now, most = (float(cells[i].split()[0]) for i in (3, 1, 4))
    assert least < now <= most
    assert cells[5] == "measured"
    assert "unavailable" in sheet.inner_text()
    page.keyboard.press("ArrowLeft")
    drawn(page)
    assert sheet.locator("thead th").nth(3).inner_text() == "at −0.6 s"
    page.get_by_role("button", name="Table").click()
    assert sheet.is_hidden()


def test_a_window_of_its_own_shows_the_same_and_goes_with_the_page(page):
    with page.expect_popup() as waiting:
        page.get_by_role("button", name="Window").click()
    other = waiting.value
    other.wait_for_selector("section.cml canvas")
    other.wait_for_function("document.querySelector('.cml-num').textContent !== ''")
    assert text(other, ".cml-hd h2") == "resnet50"
    seq = page.evaluate("host.drawn.at(-1).next")
    emit(page, [row(NOW + 1)], seq=seq, now=NOW + 1, state=BUSY | {"runs": 7777})
    other.wait_for_function("document.body.innerText.includes('7\u202f777')")
    other.get_by_role("tab", name="Operations").click()
    assert other.locator("tbody tr").count() == 49
    other.keyboard.press("1")
    assert other.get_by_role("button", name="Window").count() == 0
    page.evaluate("host.end.abort()")
    other.wait_for_event("close") if not other.is_closed() else None
    assert other.is_closed()


def test_names_of_strangers_are_only_text_in_every_view(host):
    opened = fill(host(STATE))
    header, numbers = played.told(2)
    for op in header["ops"]:
        op.update(node=MARKUP, where=MARKUP, why=MARKUP, placed=MARKUP, fused=[MARKUP])
    tell(opened, header | {"name": MARKUP, "title": MARKUP}, numbers)
    odd = played.card(9, title=MARKUP, why=MARKUP, evidence=[MARKUP], risk=MARKUP, reasons=[MARKUP])
    tell(opened, played.SUGGESTED | {"cards": [odd], "note": MARKUP})
    place = dict.fromkeys(("device", "title", "reason"), MARKUP)
    said = dict.fromkeys(("plan", "why", "device", "engine", "error"), MARKUP)
    tell(opened, played.AIMS | said | {
        "choices": [{"name": MARKUP, "sentence": MARKUP}],
        "places": [place | {"engines": [MARKUP], "available": True}],
    })  # fmt: skip
    arm = {"name": MARKUP, "title": MARKUP, "device": MARKUP, "times": [1.0], "rows": []}
    tell(opened, played.COMPARED | {"name": MARKUP, "reference": arm, "arms": [arm]})
    tell(opened, played.COMPARING | {"stage": MARKUP, "error": MARKUP})
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
    assert tabs.count() == 7
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.innerText").startswith("Timeline")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.innerText").startswith("Strategy")
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


def test_numbers_have_the_readers_own_decimal_sign(host):
    opened = fill(host(STATE, locale="de-DE"))
    assert text(opened, "[data-strip=memory] .cml-v") == "2,30 GB"
    assert "18,5 ms" in text(opened, "[data-strip=executor] .cml-lg")
    assert "6\u202f180" in text(opened, "[data-strip=executor] .cml-lg")


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
