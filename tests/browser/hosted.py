"""The page side of the dashboard in a host that is played: what it is sent, how it is asked."""

from __future__ import annotations

import math

import played

from coreml_lab.metrics import Provenance
from coreml_lab.widgets import about

COLUMNS = (
    "process.cpu.cores",
    "system.cpu.cores",
    *(f"system.cpu.core/{i}" for i in range(8)),
    "process.memory.usage",
    "process.memory.peak",
    "system.memory.available",
    "system.memory.limit",
    "coreml_lab.memory.pressure",
    "coreml_lab.power.cpu.low",
    "coreml_lab.power.cpu.high",
    "hw.power.package",
    "coreml_lab.executor.throughput",
    "coreml_lab.executor.latency.p50",
    "coreml_lab.executor.latency.p95",
    "coreml_lab.executor.latency.p99",
    "hw.gpu.utilization/0",
    "hw.gpu.memory.usage/0",
    "hw.temperature.gpu/0",
    "coreml_lab.thermal.state",
    "hw.battery.charge",
)
ESTIMATED = (Provenance.ESTIMATED, "2 to 8 W per busy core")
PROVENANCE = dict.fromkeys(COLUMNS, (Provenance.MEASURED, "")) | {
    "coreml_lab.power.cpu.low": ESTIMATED,
    "coreml_lab.power.cpu.high": ESTIMATED,
    "hw.power.package": (Provenance.UNAVAILABLE, "no RAPL counter in this virtual machine"),
}
STATE = {
    "schema": about.schema(COLUMNS, PROVENANCE, 0.1),
    "about": {"name": "resnet50", "detail": "fp32 · 122 ops · 102 MB"},
    "chips": about.chips(None, PROVENANCE, "not an Apple chip"),
    "version": 1,
}
NOW = 1000.0
CELLS = [
    {
        "k": "cell",
        "id": 1,
        "n": 6,
        "src": "model = cl.compile(net)",
        "t0": 946.6,
        "t1": 955.4,
        "ok": True,
    },
    {
        "k": "cell",
        "id": 2,
        "n": 7,
        "src": "for batch in loader: <b>",
        "t0": 959.8,
        "t1": None,
        "ok": None,
    },
]
INCIDENTS = [
    {"k": "incident", "id": 1, "t": 970.7, "error": "OutOfMemory", "message": "8 GB wanted",
     "action": "SplitBatch 8 → 4", "outcome": "recovered"},
]  # fmt: skip
BUSY = {
    "busy": True, "cell": CELLS[1], "runs": 6180, "incidents": 1, "hits": 12, "misses": 1,
    "program": "resnet50", "scheduler": "2 waiting",
    "title": "Core ML program, portable engine (CPU)",
}  # fmt: skip
GAP = (982.4, 984.8)


def row(t):
    """One sample: a slow wave, and the executor running since the second cell."""
    busy = t > CELLS[1]["t0"]
    cores = (3.4 if busy else 0.1) + 0.3 * math.sin(t)
    cores = max(cores, 0.0)
    running = (211.0, 0.0185, 0.0217, 0.0248) if busy else (0.0, None, None, None)
    gpu = (0.66 + 0.04 * math.sin(3 * t) if busy else 0.0, 1.36e9 if busy else 0.3e9, 54.0)
    memory = (2.3e9 if busy else 0.7e9, 2.4e9, 12e9, 16e9, 0.012)
    power = (2 * cores, 8 * cores, None)
    return [t, cores, cores + 0.4, *([cores / 8] * 8), *memory, *power, *running, *gpu, 1, 0.83]


def times(seconds):
    count = round(seconds * 10)
    every = [NOW - (count - 1 - i) / 10 for i in range(count)]
    return [t for t in every if not GAP[0] < t < GAP[1]]


def frame(rows, **extra):
    header = {
        "k": "f", "v": 1, "schema": 1, "seq": 0, "n": len(rows), "dropped": 0, "now": NOW,
        "every": 0.1, "events": [], "state": BUSY,
    }  # fmt: skip
    return [header | extra, [v for r in rows for v in r]]


def emit(page, *args, **extra):
    page.evaluate("([header, numbers]) => host.emit(header, numbers)", frame(*args, **extra))


def drawn(page):
    """Wait for a picture that is drawn after now; as if the tab was shown again, it is at once."""
    page.evaluate("host.drawn.length = 0; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_function("host.drawn.length > 0")


def text(page, selector):
    return page.locator(selector).first.inner_text()


def theme(*, light):
    colours = (
        "--jp-layout-color1:#fff;--jp-ui-font-color1:rgba(0,0,0,.87)"
        if light
        else "--jp-layout-color1:#212121;--jp-ui-font-color1:rgba(255,255,255,.92);"
        "--jp-ui-font-color2:rgba(255,255,255,.68);--jp-layout-color2:#333;"
        "--jp-border-color2:#3a3a3a;--jp-border-color3:#2c2c2c;--jp-border-color1:#616161"
    )
    return f"margin:0;{colours}"


MARKUP = '<img src=x onerror="globalThis.owned=1"><script>globalThis.owned=1</script>'
VIEWS = ("live", "timeline", "operations", "compare", "suggestions", "record", "strategy")


def coloured(page, strip):
    """Share of the pixels of a strip's plots that are not the ground."""
    return page.evaluate(
        """strip => {
          let filled = 0, all = 0;
          for (const c of document.querySelectorAll(`[data-strip=${strip}] canvas`)) {
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            for (let i = 3; i < d.length; i += 4) { all++; filled += d[i] > 128 ? 1 : 0; }
          }
          return filled / all;
        }""",
        strip,
    )


def tell(page, header, numbers=()):
    page.evaluate("([header, numbers]) => host.emit(header, numbers)", [header, list(numbers)])


def fill(page):
    emit(page, [row(t) for t in times(60)], k="h", events=CELLS + INCIDENTS)
    tell(page, *played.told())
    tell(page, played.SUGGESTED)
    tell(page, played.AIMS)
    tell(page, played.TAPING)
    tell(page, played.COMPARED)
    page.wait_for_selector("section.cml canvas")
    drawn(page)
    return page


def turn(page, view):
    page.get_by_role("tab", name=view).first.click()


def wishes(page):
    return [(m["what"], m["arg"]) for m in page.evaluate("host.sent") if m["k"] == "do"]


def names(page):
    return page.locator("[role=tabpanel]:visible tbody th").all_inner_texts()
