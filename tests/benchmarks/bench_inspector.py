"""Is the Inspector smooth with thousands of operations? Frame times in a real Chromium.

A program of 5,000 operations (layers of a transformer, each with shapes of its own, so that none is
remembered from another) is laid out, moved and zoomed. Times are the page's own: what its main
thread spends on a frame, until the canvas has drawn it; and the longest that it was ever busy while
the picture opened. A busy machine makes all of them longer: the least of the rounds is nearest to
what the page costs.
"""

from __future__ import annotations

import base64
import gzip
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from coreml_lab.explain.picture.data import Picture, Placing, Time, Timed
from coreml_lab.explain.picture.drawing import drawn
from coreml_lab.explain.picture.scene import scene
from coreml_lab.plain import to_plain
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.widgets.inspector import layouter

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from conftest import ARGS, find_chromium
from inspected import HOST, MOVED

COUNT, ROUNDS = 5_000, 3
WIDTH, HEIGHT = 1200, 760
LAYER = (
    ("layer_norm", 1), ("linear", 1), ("split", 1), ("reshape", 1), ("mul", 1), ("transpose", 1),
    ("reshape", 4), ("transpose", 1), ("matmul", 3), ("softmax", 1), ("reshape", 8),
    ("transpose", 1), ("matmul", 3), ("transpose", 1), ("reshape", 1), ("linear", 1), ("add", 17),
    ("layer_norm", 1), ("linear", 1), ("gelu", 1), ("linear", 1), ("add", 5),
)  # fmt: skip
WATCH = """() => {
  globalThis.long = [];
  const keep = list => list.getEntries().forEach(e => long.push(e.duration));
  const watch = new PerformanceObserver(keep);
  watch.observe({type: 'longtask'});
}"""


def program(count: int) -> Graph:
    """Layers of a transformer, until there are ``count`` operations."""
    node = Node("input", (TensorType((1, 197, 192), np.dtype(np.float32)),), name="x")
    nodes = [node]
    for i in range(count):
        op, back = LAYER[i % len(LAYER)]
        # A shape of its own for each layer: else they would be groups, laid out once for all.
        kind = (TensorType((1, 197, 100 + i // len(LAYER)), np.dtype(np.float32)),)
        reads = {"x": Value(nodes[-1])}
        if op == "reshape" and back > 1:
            reads = {"x": Value(nodes[-back])}
        elif back > 1 and len(nodes) > back:
            reads["y"] = Value(nodes[-back])
        nodes.append(Node(op, kind, reads, name=f"{op}_{i}"))
    return Graph({"y": Value(nodes[-1])})


def inspector(count: int) -> Any:
    """What a page needs, with times for every operation."""
    found = drawn(program(count))
    random = np.random.default_rng(0)
    rows = {
        str(i): Time(float(10 ** random.uniform(-6, -3)), "measured", "cpu", "portable")
        for i, box in enumerate(found.nodes)
        if box.kind == "op"
    }
    picture = Picture(
        f"{count} operations", "", found.nodes, found.groups, "", "cpu", 0,
        Placing("M4", missing="left out"), Timed("", 3, rows),
    )  # fmt: skip
    text = json.dumps(to_plain(scene((picture,)))).encode()
    return SimpleNamespace(scene=gzip.compress(text), layouter=layouter(), still="still")


def opened(browser: Any, made: Any) -> tuple[Any, dict[str, float]]:
    """A page with the picture, and how long it took to the first sight and to ELK's layout."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_content('<body style="margin:0"><div id="cell"></div></body>')
    page.evaluate(WATCH)
    folder = Path(__file__).parents[2] / "coreml_lab" / "widgets" / "static"
    sources = [(folder / f"inspector.{kind}").read_text() for kind in ("js", "css")]
    data = [base64.b64encode(part).decode() for part in (made.scene, made.layouter)]
    begin = time.perf_counter()
    page.evaluate(HOST, [*sources, {"still": made.still, "timed": {}}, *data])
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    first = time.perf_counter() - begin
    page.wait_for_selector(".cml-inspector[data-ready]", timeout=300_000)
    whole = time.perf_counter() - begin
    longest = max(page.evaluate("long"), default=0.0)
    return page, {"first sight s": first, "laid out s": whole, "longest task ms": longest}


def moved(page: Any) -> dict[str, float]:
    """Median and 95th percentile of frames, in ms: far, at middle distance and near."""
    found = {}
    for name, presses in (("whole", 0), ("middle", 5), ("near", 5)):
        for _ in range(presses):
            page.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(300)
        *frames, settled = page.evaluate(MOVED, 60)
        frames.sort()
        found[f"{name} p50 ms"] = statistics.median(frames)
        found[f"{name} p95 ms"] = frames[int(len(frames) * 0.95)]
        found[f"{name} settled ms"] = settled
    return found


def main() -> dict[str, float]:
    """Measure in rounds; print and return the least and the most of each number."""
    from playwright.sync_api import sync_playwright

    made = inspector(COUNT)
    rounds = []
    with sync_playwright() as playwright:
        chromium = find_chromium()
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGS)
        for _ in range(ROUNDS):
            page, times = opened(browser, made)
            rounds.append({**times, **moved(page)})
            page.close()
        browser.close()
    print(f"{COUNT} operations, {WIDTH} x {HEIGHT}, {ROUNDS} rounds: least to most")
    results = {}
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"  {name:<18} {min(values):8.1f} to {max(values):8.1f}")
        results[name] = min(values)
    return results


if __name__ == "__main__":
    main()
