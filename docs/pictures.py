"""Make docs/images/dashboard*: the dashboard in a real JupyterLab, each view, and one that moves.

Run: ``python docs/pictures.py`` with Chromium and the test extra installed. The model is
MobileNetV2 from the zoo, the numbers are this machine's; only the pages' own names are shown.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import conftest as seam  # noqa: E402 - by the path above

IMAGES = ROOT / "docs" / "images"
SOURCE = """import coreml_lab as cl
import numpy as np, time
model = cl.zoo.mobilenet_v2()
cl.Dashboard(model)
%%
x = {name: np.random.default_rng(0).random(p.sizes, dtype='float32')
     for name, p in model.inputs.items()}
end = time.monotonic() + 3
while time.monotonic() < end:
    model.predict(x)
%%
time.sleep(1)
%%
recording = cl.profile(model, x, runs=60)
%%
comparison = cl.compare(model, x, ['coreml', 'cpu'], parts=('time',), budget=15)
%%
end = time.monotonic() + 65
while time.monotonic() < end:
    model.predict(x)"""
CELLS = SOURCE.split("\n%%\n")
VIEWS = ("Timeline", "Operations", "Compare", "Suggestions", "Record", "Strategy")
FRAMES, EVERY_MS, WIDE, MOST = 20, 250, 900, 1_000_000
BUSY = "document.querySelector('.cml-st')?.textContent.includes('[6]')"


def still(page: Any, name: str) -> None:
    """One view as a picture."""
    data = page.locator("section.cml").first.screenshot(animations="disabled")
    Image.open(io.BytesIO(data)).convert("RGB").save(IMAGES / f"{name}.png", optimize=True)


def moving(page: Any) -> None:
    """The live strips for some seconds, as a WebP that shows the real pace."""
    frames = []
    for _ in range(FRAMES):
        data = page.locator("section.cml").first.screenshot()
        shot = Image.open(io.BytesIO(data)).convert("RGB")
        frames.append(shot.resize((WIDE, round(shot.height * WIDE / shot.width))))
        page.wait_for_timeout(EVERY_MS)
    path = IMAGES / "dashboard.webp"
    for quality in (80, 60, 40, 20):
        options = {"duration": EVERY_MS, "loop": 0, "quality": quality, "method": 6}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        if path.stat().st_size < MOST:
            return
    sys.exit(f"{path.name} is larger than {MOST} bytes at any quality")


def views(page: Any) -> None:
    """Every view beside the live strips, with an operation chosen in the timeline."""
    for view in VIEWS:
        page.locator(".cml [role=tab]", has_text=view).first.click()
        if view == "Timeline":
            page.locator(".cml-tracks").focus()
            page.keyboard.press("Home")
            page.keyboard.press("+")
        if view == "Strategy":
            page.get_by_role("button", name="Look for devices").click()
            page.get_by_role("button", name="in use").wait_for(timeout=60_000)
        page.wait_for_timeout(500)
        still(page, f"dashboard-{view.lower()}")
    page.locator(".cml [role=tab]", has_text="Live").first.click()


def main() -> None:
    """All pictures."""
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=seam.find_chromium(), headless=True, args=seam.ARGS
        )
        context = browser.new_context(viewport={"width": 1280, "height": 1300})
        with seam.serve_lab(Path(home)) as lab:
            notebook = seam.NotebookPage(context.new_page(), lab)
            notebook.open(CELLS)
            page = notebook.page
            page.evaluate("void jupyterapp.commands.execute('application:toggle-left-area')")
            notebook.run_all()
            page.wait_for_selector("section.cml", timeout=180_000)
            page.wait_for_function(BUSY, timeout=300_000)
            page.locator("section.cml").first.scroll_into_view_if_needed()
            # So long that what was compared before has left the minute that is shown.
            page.wait_for_timeout(52_000)
            still(page, "dashboard")
            moving(page)
            page.wait_for_function("document.querySelector('.cml-st')?.textContent === 'idle'",
                                   timeout=300_000)  # fmt: skip
            views(page)
            page.evaluate("void jupyterapp.commands.execute('apputils:change-theme',"
                          " {theme: 'JupyterLab Dark'})")  # fmt: skip
            page.wait_for_function("document.querySelector('.cml').dataset.dark === 'true'")
            page.wait_for_timeout(1_500)
            still(page, "dashboard-dark")
            told = notebook.kernel_errors() + notebook.errors
        browser.close()
    for path in sorted(IMAGES.glob("dashboard*")):
        print(f"{path.name:<30}{path.stat().st_size / 1000:8.0f} kB")
    if told:
        sys.exit("\n".join(told))


if __name__ == "__main__":
    main()
