"""The tour as a newcomer runs it: real JupyterLab, real Chromium, real models, every cell."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.models]

TOUR = Path(__file__).parents[2] / "notebooks" / "00_tour.ipynb"
# On the document: JupyterLab may draw an output again, in an element of its own.
WATCH = """() => {
  window.seen = [];
  document.querySelector('section.cml').scrollIntoView({block: 'center'});
  document.addEventListener('cml:drawn', e => {
    const badge = e.target.querySelector('.cml-st')?.textContent ?? '';
    if (badge.startsWith('busy')) seen.push([performance.now(), e.detail.next]);
  }, true);
}"""
OUTPUTS = (
    "[...document.querySelectorAll('.jp-OutputArea-output')].map(e => e.innerText).join('\\n')"
)
DONE = "() => {const t = [...document.querySelectorAll('.jp-InputArea-prompt')]"
DONE += ".map(e => e.textContent); return t.length > 10 && !t.some(p => p.includes('[ ]')"
DONE += " || p.includes('[*]'))}"


@pytest.fixture
def tour(notebook):
    """The tour in a tab, every cell rendered whether or not it is in view."""
    settings = notebook.lab.root.parent / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    shutil.copy(TOUR, notebook.lab.root / TOUR.name)
    notebook.goto(TOUR.name)
    return notebook


def test_every_cell_of_the_tour_runs_and_the_dashboard_moves_while_one_is_busy(tour, pictures):
    page = tour.page
    tour.run_all()
    page.wait_for_selector("section.cml", timeout=90_000)
    page.evaluate(WATCH)
    page.wait_for_function("seen.length > 10", timeout=60_000)
    page.screenshot(path=pictures / "tour-busy.png")
    page.wait_for_function(DONE, timeout=180_000)
    page.screenshot(path=pictures / "tour-done.png")
    text = page.evaluate(OUTPUTS)

    assert tour.kernel_errors() == []
    assert "heard:  [60, 64, 67, 72]" in text
    assert re.search(r"within 50 cents: 100\.0 %", text)
    assert re.search(r"largest difference from NumPy: \d", text)
    assert re.search(r"runs, \d+ spans, \d+ samples; equal: True", text)
    assert "Core ML program, portable engine (CPU)" in text
    assert re.search(r"Store the weights as int8: (accepted|not accepted|not resolvable)", text)

    # What the strips say are numbers with units, and the estimate says that it is one.
    strips = {
        name: page.locator(f"[data-strip={name}]").first.inner_text()
        for name in ("cpu", "memory", "power", "executor")
    }
    assert re.search(r"\d", strips["cpu"])
    assert re.search(r"of \d+ cores", strips["cpu"])
    assert re.search(r"[MG]B", strips["memory"])
    assert "≈" in strips["power"]
    assert re.search(r"ms", strips["executor"])
    seen = page.evaluate("seen")
    rate = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]) * 1000
    assert rate > 5
    assert page.locator(".cml-dropped").first.inner_text() == "dropped 0"
    assert tour.errors == []
