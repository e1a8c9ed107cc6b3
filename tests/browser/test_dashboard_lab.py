"""The dashboard in a real JupyterLab and Notebook 7: it moves while a cell is busy."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHOW = "import coreml_lab as cl, time, ctypes\ncl.Dashboard()"
FREE = """end = time.monotonic() + 4
while time.monotonic() < end: time.sleep(0.05)
print('END free')"""
# A call that keeps the interpreter lock, as native Core ML does: nothing leaves the kernel.
HELD = """hold = ctypes.PyDLL(None).usleep
for _ in range(4): hold(700_000)
print('END held')"""
WATCH = """() => {
  window.drawn = [];
  document.querySelector('section.cml').parentElement
    .addEventListener('cml:drawn', e => drawn.push(e.detail.next));
}"""
BADGE = "text => document.querySelector('.cml-st')?.textContent === text"


def shown(page, selector):
    return page.locator(selector).first.inner_text()


def test_the_dashboard_moves_while_a_cell_is_busy(notebook):
    notebook.open([SHOW, FREE, HELD])
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector("section.cml", timeout=30_000)
    page.evaluate(WATCH)
    page.wait_for_function(BADGE, arg="busy, cell [2]", timeout=15_000)
    page.wait_for_function(
        "drawn.length > 15 && drawn.at(-1) - drawn[0] > 15 && /live, \\d+ Hz/.test("
        "document.querySelector('.cml-on').textContent)",
        timeout=15_000,
    )
    notebook.wait_for_output("END held")
    page.wait_for_function(BADGE, arg="idle", timeout=15_000)
    assert page.locator(".cml-cell").count() >= 3
    assert shown(page, ".cml-dropped") == "dropped 0"
    # Held for 0.7 s at a time, the sampler goes on: the backlog leaves no gap.
    assert page.locator(".cml-gl").count() == 0
    assert " MB" in shown(page, "[data-strip=memory] .cml-v") + " MB"
    assert "unavailable" not in shown(page, "[data-strip=cpu]")
    assert not page.locator(".cml-snapshot").first.is_visible()
    assert notebook.errors == []
    assert notebook.kernel_errors() == []


def test_a_second_dashboard_is_the_first_one_shown_again(notebook):
    again = "print('SAME', cl.Dashboard() is cl.Dashboard())\ncl.Dashboard()"
    notebook.open([SHOW, again])
    notebook.run_all()
    notebook.wait_for_output("SAME True")
    notebook.page.wait_for_function("document.querySelectorAll('section.cml').length === 2")
    assert notebook.errors == []
    assert notebook.kernel_errors() == []


def test_after_a_kernel_restart_the_last_values_stay_and_say_so(notebook):
    notebook.open([SHOW])
    page = notebook.page
    notebook.run_all()
    page.wait_for_function(BADGE, arg="idle", timeout=30_000)
    page.evaluate(
        "void jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.restart()"
    )
    page.wait_for_function(BADGE, arg="kernel gone", timeout=20_000)
    assert page.locator(".cml-on").inner_text() == "● kernel gone, last values"


def test_the_dashboard_lives_in_notebook_7_too(notebook):
    notebook.open([SHOW], app="notebooks")
    notebook.run_all()
    notebook.page.wait_for_function(BADGE, arg="idle", timeout=30_000)
    # Notebook 7 itself has scripts that complain; ours come from a blob.
    assert [error for error in notebook.errors if "blob:" in error] == []
    assert notebook.kernel_errors() == []
