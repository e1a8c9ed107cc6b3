"""Write ``js/src/text/metrics.ts`` from the table of metrics; run it after changing that."""

from __future__ import annotations

import json
from pathlib import Path

from coreml_lab.metrics import METRICS

PLACE = Path(__file__).parents[1] / "js" / "src" / "text" / "metrics.ts"
HEAD = """// Label, unit and strip of each metric, for recordings that are opened without a kernel.
// Written by docs/dashboard_metrics.py from coreml_lab/metrics.py.

export const METRICS: Record<string, [label: string, unit: string, panel: string]> = {
"""


def text() -> str:
    """The whole file."""
    rows = (
        f"  {json.dumps(m.name)}: {json.dumps([m.label, m.unit, m.panel])},\n"
        for m in METRICS.values()
    )
    return HEAD + "".join(rows) + "};\n"


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
