"""The live strips alone: the page's script in Chromium, with a host that is played."""

from __future__ import annotations

import pytest
from hosted import (
    BUSY,
    CELLS,
    COLUMNS,
    INCIDENTS,
    MARKUP,
    NOW,
    PROVENANCE,
    STATE,
    coloured,
    drawn,
    emit,
    frame,
    row,
    text,
    theme,
    times,
)

from coreml_lab.metrics import Provenance
from coreml_lab.widgets import about

pytestmark = pytest.mark.browser


@pytest.fixture
def page(host):
    """A view of the last two minutes, with two cells, a gap and an incident."""
    opened = host(STATE)
    rows = [row(t) for t in times(120)]
    emit(opened, rows, k="h", dropped=12, events=CELLS + INCIDENTS)
    opened.wait_for_selector("section.cml canvas")
    drawn(opened)
    return opened


def test_it_says_hello_and_draws_every_strip_with_units(page, pictures):
    page.screenshot(path=pictures / "esm-light.png")
    assert page.evaluate("host.sent.map(m => m.k)[0]") == "hello"
    for strip in ("cpu", "memory", "accelerators", "power", "executor"):
        assert coloured(page, strip) > 0.004
    assert text(page, ".cml-hd h2") == "resnet50"
    assert text(page, ".cml-st") == "busy, cell [7]"
    assert "of 8 cores" in text(page, "[data-strip=cpu] .cml-v")
    assert text(page, "[data-strip=memory] .cml-v") == "2.30 GB"
    assert text(page, "[data-strip=executor] .cml-v") == "211 inferences/s"
    readings = text(page, "[data-strip=executor] .cml-lg")
    for shown in ("18.5 ms", "21.7 ms", "12 of 13", "Core ML program, portable engine (CPU)"):
        assert shown in readings
    assert page.locator(".cml-cores i").count() == 8
    accelerators = text(page, "[data-strip=accelerators] .cml-lg")
    for shown in ("%", "1.36 GB", "54.0 °C"):
        assert shown in accelerators
    conditions = text(page, "[data-strip=power] .cml-lg")
    assert "fair" in conditions
    assert "83.0 %" in conditions


def test_an_estimate_is_a_marked_range_and_what_is_missing_is_said_in_words(page):
    assert text(page, "[data-strip=power] .cml-v").startswith("≈ ")
    readings = text(page, "[data-strip=power] .cml-lg")
    assert "CPU in [7]" in readings
    assert readings.count("≈") == 2
    assert (
        text(page, "[data-strip=accelerators] .cml-missing") == "Neural Engine: not an Apple chip"
    )
    assert text(page, "[data-strip=power] .cml-missing").startswith(
        "CPU package: unavailable, no RAPL counter"
    )
    assert page.locator("[data-strip=power] [aria-label^='estimated']").count() >= 1


def test_a_gap_is_hatched_with_its_length_and_a_drop_is_counted(page):
    assert text(page, ".cml-gl").startswith("gap 2.")
    assert "1 gap, 2." in text(page, ".cml-ft")
    assert text(page, ".cml-dropped").startswith("dropped 12 of 1")
    seq = page.evaluate("host.drawn.at(-1).next")
    emit(page, [row(NOW + 0.5)], seq=seq + 5, now=NOW + 0.5, dropped=12)
    drawn(page)
    assert text(page, ".cml-dropped").startswith("dropped 17 of 1")


def test_cells_and_incidents_have_a_lane_and_their_text_is_only_text(page):
    assert page.locator(".cml-cell").count() == 2
    assert "[7] for batch in loader: <b>" in page.locator(".cml-cell text").last.text_content()
    assert page.locator(".cml-incident text").text_content() == "OutOfMemory → SplitBatch 8 → 4"
    assert page.locator(".cml-pl b").count() == 0


def test_no_text_of_the_kernel_is_markup(host):
    chips = [{"title": MARKUP, "kind": "cpu", "provenance": "measured", "note": MARKUP}]
    schema = about.schema(
        COLUMNS, PROVENANCE | {"hw.power.package": (Provenance.UNAVAILABLE, MARKUP)}, 0.1
    )
    page = host(
        STATE | {"about": {"name": MARKUP, "detail": MARKUP}, "chips": chips, "schema": schema}
    )
    cells = [cell | {"src": MARKUP} for cell in CELLS]
    incidents = [
        {k: MARKUP if isinstance(v, str) and k != "k" else v for k, v in i.items()}
        for i in INCIDENTS
    ]
    state = BUSY | {"program": MARKUP, "title": MARKUP, "scheduler": MARKUP, "cell": cells[1]}
    emit(
        page,
        [row(t) for t in times(60)],
        k="h",
        events=cells + incidents,
        state=state,
    )
    page.wait_for_selector("section.cml canvas")
    drawn(page)
    assert text(page, ".cml-hd h2") == MARKUP
    assert page.locator(".cml img, .cml script").count() == 0
    assert page.evaluate("globalThis.owned") is None


def test_pausing_freezes_the_view_while_samples_keep_coming(page):
    page.locator(".cml-pause").click()
    drawn(page)
    before = text(page, "[data-strip=cpu] .cml-v")
    assert text(page, ".cml-pause") == "▶ Resume"
    seq = page.evaluate("host.drawn.at(-1).next")
    late = [row(NOW + 60 + i / 10) for i in range(1, 31)]
    emit(page, late, seq=seq, now=NOW + 63)
    drawn(page)
    assert text(page, "[data-strip=cpu] .cml-v") == before
    assert "samples behind" in text(page, ".cml-ft")
    page.locator("section.cml").focus()
    page.keyboard.press("Space")
    drawn(page)
    assert text(page, ".cml-pause") == "❚❚ Pause"
    assert "samples behind" not in text(page, ".cml-ft")


def test_the_window_changes_by_button_and_by_key(page):
    pressed = ".cml-seg [aria-pressed=true]"
    assert text(page, pressed) == "1 min"
    page.get_by_role("button", name="10 min").click()
    drawn(page)
    assert text(page, pressed) == "10 min"
    assert "−2 min" in page.locator(".cml-pl svg").last.text_content()
    page.keyboard.press("]")
    drawn(page)
    assert text(page, pressed) == "1 h"
    for _ in range(5):
        page.keyboard.press("[")
    drawn(page)
    assert text(page, pressed) == "10 s"


def test_the_cursor_reads_the_past_by_key_and_by_pointer(page):
    page.locator("section.cml").focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    drawn(page)
    assert text(page, ".cml-curl") == "−18.0 s"
    assert "list: at −18.0 s" in text(page, ".cml-colh")
    page.keyboard.press("ArrowRight")
    drawn(page)
    assert text(page, ".cml-curl") == "−17.4 s"
    page.keyboard.press("Escape")
    drawn(page)
    assert not page.locator(".cml-curl").is_visible()
    assert "list: latest" in text(page, ".cml-colh")
    box = page.locator("[data-strip=cpu] .cml-pl").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 20)
    drawn(page)
    assert page.locator(".cml-curl").is_visible()


def test_under_the_cursor_in_a_gap_there_is_no_sample(page):
    page.locator(".cml-pause").click()
    page.locator("section.cml").focus()
    # The right edge runs on for some moments before the pause: search the gap around its place.
    for _ in range(32):
        page.keyboard.press("ArrowLeft")
        drawn(page)
        if "no sample" in text(page, "[data-strip=cpu] .cml-lg"):
            return
    pytest.fail("nowhere in the gap was there a read-out without a sample")


def test_colours_follow_the_theme_of_the_host(host, pictures):
    body = f'<body style="{theme(light=True)}"><div id="cell"></div></body>'
    opened = host(STATE, body=body)
    emit(opened, [row(t) for t in times(60)], k="h", events=CELLS + INCIDENTS)
    drawn(opened)
    light = opened.evaluate(
        "getComputedStyle(document.querySelector('.cml')).getPropertyValue('--cpu')"
    )
    opened.evaluate(
        "style => { document.body.style.cssText = style;"
        " document.body.dataset.jpThemeLight = 'false'; }",
        theme(light=False),
    )
    opened.wait_for_function("document.querySelector('.cml').dataset.dark === 'true'")
    drawn(opened)
    dark = opened.evaluate(
        "getComputedStyle(document.querySelector('.cml')).getPropertyValue('--cpu')"
    )
    assert (light.strip(), dark.strip()) == ("#0072b2", "#56b4e9")
    opened.screenshot(path=pictures / "esm-dark.png")


def test_a_narrow_cell_has_its_read_outs_above_the_plots(host, pictures):
    opened = host(STATE, width=360)
    emit(opened, [row(t) for t in times(60)], k="h", events=CELLS + INCIDENTS)
    drawn(opened)
    gutter = opened.locator("[data-strip=cpu] .cml-gu").bounding_box()
    plot = opened.locator("[data-strip=cpu] .cml-pl").bounding_box()
    assert plot["y"] >= gutter["y"] + gutter["height"] - 1
    assert plot["width"] > 300
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.screenshot(path=pictures / "esm-narrow.png", full_page=True)


def test_it_is_a_region_whose_pictures_are_described_and_whose_state_is_announced(page):
    root = page.locator("section.cml")
    assert root.get_attribute("role") == "region"
    assert root.get_attribute("data-lm-suppress-shortcuts") == "true"
    label = page.locator("[data-strip=power] .cml-pl").get_attribute("aria-label")
    assert "≈" in label
    assert "estimated" in label
    assert page.locator("[role=status]").inner_text().startswith("live")
    assert page.locator(".cml-seg button[aria-pressed]").count() == 4


def test_reduced_motion_redraws_once_a_second_at_most(host):
    opened = host(STATE, reduced_motion="reduce")
    emit(opened, [row(t) for t in times(10)], k="h")
    opened.wait_for_function("host.drawn.length > 0")
    opened.evaluate(
        """async () => { host.drawn.length = 0;
          for (let i = 0; i < 15; i++) {
            host.model.set('about', {name: 'x', detail: ''});
            await new Promise(done => setTimeout(done, 100));
          } }"""
    )
    assert opened.evaluate("host.drawn.length") <= 2


def test_a_hidden_tab_draws_nothing_and_catches_up_in_one_picture(page):
    hide = """state => {
      Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, "hidden")
    seq = page.evaluate("host.drawn.at(-1).next")
    page.evaluate("host.drawn.length = 0")
    for i in range(5):
        emit(page, [row(NOW + (i + 1) / 10)], seq=seq + i, now=NOW + (i + 1) / 10)
    page.wait_for_timeout(700)
    assert page.evaluate("host.drawn.length") == 0
    page.evaluate(hide, "visible")
    page.wait_for_function("host.drawn.length > 0")
    assert page.evaluate("host.drawn[0].next") == seq + 5


def test_when_the_kernel_goes_the_last_values_stay_and_it_is_said(page):
    page.evaluate("host.event('comm_live_update')")
    drawn(page)
    assert text(page, ".cml-st") == "kernel gone"
    assert "kernel gone, last values" in text(page, ".cml-ft")
    assert text(page, "[data-strip=memory] .cml-v") == "2.30 GB"


def test_without_any_frame_it_waits_in_words(host):
    opened = host(STATE)
    drawn(opened)
    assert text(opened, ".cml-st") == "no kernel yet"
    assert "waiting for the kernel" in text(opened, ".cml-ft")
    assert "no sample" in text(opened, "[data-strip=cpu] .cml-lg")


def test_it_waits_in_words_for_the_columns_of_a_sampler_that_starts(host):
    opened = host(STATE | {"schema": {}})
    assert text(opened, "section.cml") == "waiting for the kernel"
    opened.evaluate("schema => host.model.set('schema', schema)", STATE["schema"])
    emit(opened, [row(t) for t in times(10)], k="h")
    drawn(opened)
    assert opened.locator("section.cml").count() == 1
    assert text(opened, "[data-strip=memory] .cml-v") == "2.30 GB"
    opened.evaluate("host.end.abort()")
    assert opened.evaluate("Object.values(host.heard).flat().length") == 0


def test_a_frame_that_makes_no_sense_is_said_and_survived(page):
    page.evaluate("host.emit({k: 'f', v: 1, seq: 0, n: 3, events: []}, [1])")
    drawn(page)
    assert "8 bytes for 3 rows" in text(page, ".cml-ft")


def test_it_takes_everything_back_when_it_ends(page):
    page.evaluate("host.end.abort()")
    assert page.locator("section.cml").count() == 0
    assert page.evaluate("Object.values(host.heard).flat().length") == 0


def test_an_hour_at_ten_hertz_is_drawn_without_a_pause(host):
    opened = host(STATE)
    opened.evaluate(
        """([header, first]) => {
          const rows = 36000, numbers = new Array(rows * first.length);
          for (let i = 0; i < rows; i++) for (let c = 0; c < first.length; c++)
            numbers[i * first.length + c] = c ? first[c] : header.now - (rows - 1 - i) / 10;
          host.emit({...header, k: 'h', n: rows}, numbers);
        }""",
        [frame([])[0], row(NOW)],
    )
    opened.get_by_role("button", name="1 h").click()
    drawn(opened)
    assert "dropped 0" in text(opened, ".cml-ft")
    assert coloured(opened, "cpu") > 0.004


# Of plots without dashes, which begin anew with a picture: how many pixels are another colour.
SAVE = """() => { globalThis.saved = [...document.querySelectorAll(
    '[data-strip=accelerators] canvas:nth-of-type(2), [data-strip=power] canvas:nth-of-type(2)')]
  .map(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data); }"""
OTHER = """save => { const before = saved; let other = 0, drawn = 0; eval(save)();
  saved.forEach((data, k) => { for (let i = 3; i < data.length; i += 4) {
    drawn += data[i] > 0; other += Math.abs(data[i] - before[k][i]) > 64; } });
  return other / drawn; }"""


@pytest.mark.parametrize("window", ["1 min", "10 min"])
def test_a_picture_that_was_moved_is_the_one_that_is_drawn_anew(page, window):
    page.get_by_role("button", name=window, exact=True).click()
    drawn(page)
    seq = page.evaluate("host.drawn.at(-1).next")
    for i in range(16):
        # With a gap of its own, and more than one row for some pictures.
        t = NOW + (i + 1) / 10 + (4 if i > 8 else 0)
        emit(page, [row(t)], seq=seq + i, now=t)
        if i % 3:
            page.evaluate("new Promise(requestAnimationFrame)")
    page.locator(".cml-pause").click()
    drawn(page)
    page.evaluate(SAVE)
    # Another window and back: everything is drawn anew.
    for label in ("1 h", window):
        page.get_by_role("button", name=label, exact=True).click()
        drawn(page)
    assert page.evaluate(OTHER, SAVE) < 0.01


def test_in_forced_colours_the_frame_and_the_buttons_keep_their_borders(host):
    opened = host(STATE, forced_colors="active")
    emit(opened, [row(t) for t in times(10)], k="h")
    drawn(opened)
    style = "getComputedStyle(document.querySelector('.cml-st')).borderTopStyle"
    assert opened.evaluate(style) == "solid"
