"""Where Core ML plans to run each operation: a strip in the order of the program."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import FactorRange
from bokeh.plotting import figure

from coreml_lab.explain.figures.look import HATCHES, Columns, frame, look, nothing, source, told
from coreml_lab.metrics import Provenance
from coreml_lab.records import Placement

NAMES = {"ne": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}
LANE, FRAME = 34, 90
MOST = 1_000


def placements(
    rows: Sequence[Placement],
    *,
    title: str = "Planned for",
    why: str = "there is no plan: it takes Core ML on a Mac, or an estimate by cl.placement",
    notes: Sequence[str] = (),
    dark: bool = False,
) -> figure:
    """One cell per operation on the lane of its device; hatched, since a plan is an intention.

    Args:
        rows: in the order of the program; more than ``MOST`` are cut off, and the title says so.
        title: what kind of plan it is.
        why: what is said where there are no rows.
        notes: for each row, what its tooltip adds: the reason against another device.
        dark: whether it is drawn on dark ground.
    """
    colours = look(dark)
    if not rows:
        return nothing(title, why, colours)
    shown = rows[:MOST]
    lanes = [d for d in NAMES if any(row.device == d for row in shown)]
    lanes += sorted({row.device for row in shown} - set(lanes))
    cut = f", the first {MOST} of {len(rows)} operations" if len(rows) > MOST else ""
    counts = {d: sum(row.device == d for row in rows) for d in lanes}
    names = {d: f"{NAMES.get(d, d)} ({counts[d]})" for d in lanes}
    plot = frame(
        f"{title}{cut}",
        colours,
        height=FRAME + LANE * len(lanes),
        x="operations, in the order of the program",
        x_range=(0, len(shown)),
        y_range=FactorRange(factors=[names[d] for d in lanes][::-1]),
    )
    said = [*notes[: len(shown)], *[""] * (len(shown) - len(notes))]
    columns: Columns = {
        "lane": [names[row.device] for row in shown],
        "left": list(range(len(shown))),
        "right": [i + 1 for i in range(len(shown))],
        "node": [row.node for row in shown],
        "op": [row.op for row in shown],
        "supported": [", ".join(NAMES.get(d, d) for d in row.supported) for row in shown],
        "note": said,
        "colour": [colours.device(row.device) for row in shown],
        "hatch": [HATCHES[Provenance.ESTIMATED]] * len(shown),
    }
    drawn = plot.hbar(
        y="lane",
        left="left",
        right="right",
        height=0.8,
        fill_color="colour",
        line_color=None,
        hatch_pattern="hatch",
        hatch_color=colours.ink,
        hatch_alpha=0.3,
        source=source(columns),
    )
    told(
        plot, [drawn], [("", "@node"), ("type", "@op"), ("can run on", "@supported"), ("", "@note")]
    )
    plot.grid.visible = False
    return plot
