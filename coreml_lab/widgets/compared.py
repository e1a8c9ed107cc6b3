"""A comparison as the page's view *Compare* wants it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_lab.legible import SENTENCE, legible
from coreml_lab.widgets import messages
from coreml_lab.widgets.messages import VERSION, Compared
from coreml_lab.widgets.recorded import amount

if TYPE_CHECKING:
    from coreml_lab.explain.comparison import Arm, Comparison

# A page draws so many points per arm.
MOST_TIMES = 400


def compared(found: Comparison, index: int) -> Compared:
    """The message about one comparison; ``index`` is its number in this dashboard."""
    return {
        "k": "compared",
        "v": VERSION,
        "id": index,
        "name": legible(found.program),
        "pairs": len(found.reference.times),
        "confidence": found.confidence,
        "reference": _arm(found.reference),
        "arms": [_arm(arm) for arm in found.arms],
        "absent": [
            {"name": legible(arm.name), "reason": legible(arm.reason, SENTENCE)}
            for arm in found.absent
        ],
    }


def _arm(arm: Arm) -> messages.Arm:
    return {
        "name": legible(arm.name),
        "title": legible(arm.plan.title),
        "device": legible(arm.device),
        "rows": [
            {
                "metric": row.metric,
                "label": legible(row.label),
                "value": amount(row.value),
                "ratio": amount(row.ratio),
                "verdict": legible(row.verdict, SENTENCE),
            }
            for row in arm.rows
        ],
        "times": [float(seconds) for seconds in arm.times[:MOST_TIMES]],
    }
