"""The dashboard without a page: the last values as text, and as HTML for any notebook viewer.

Untrusted notebooks keep tables, inline styles and ``data:`` images, and nothing else; so that is
all there is here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from coreml_lab.metrics import METRICS, Kind, Provenance, metric
from coreml_lab.widgets.feed import Rows
from coreml_lab.widgets.messages import About, State
from coreml_lab.widgets.quantities import NO_SAMPLE, digits, show, show_between

PANELS = {"cpu": "CPU", "memory": "Memory", "power": "Power", "executor": "Executor"}
MARKS = {
    Provenance.MEASURED: "●",
    Provenance.APPORTIONED: "◐",
    Provenance.ESTIMATED: "≈",
    Provenance.SIMULATED: "◌",
    Provenance.UNAVAILABLE: "⊘",
}
LOW, HIGH = "coreml_lab.power.cpu.low", "coreml_lab.power.cpu.high"
EACH_CORE = "system.cpu.core"
WIDTH, HEIGHT = 160, 24
LEFT = "text-align:left"


@dataclass(frozen=True)
class Line:
    """One quantity: its last value in words, and its course for a small picture."""

    panel: str
    label: str
    text: str
    provenance: Provenance
    note: str
    course: tuple[float, ...]


def lines(
    columns: Sequence[str], provenance: Mapping[str, tuple[Provenance, str]], rows: Rows
) -> Iterator[Line]:
    """One line per level of the table that the feed has, in the table's order."""
    place = {name: i + 1 for i, name in enumerate(columns)}
    for column in _listed(columns):
        how, note = provenance.get(column, (Provenance.MEASURED, ""))
        known, part = metric(column), column.partition("/")[2]
        course = tuple(float(v) for v in rows[:, place[column]])
        last = course[-1] if course else math.nan
        text, label = show(last, known.unit), f"{known.label} {part}".strip()
        if column == HIGH and LOW in place:
            low = float(rows[-1, place[LOW]]) if course else math.nan
            text = show_between(low, last, known.unit).removeprefix("≈ ")
            label = "CPU, estimated"
        if how is Provenance.UNAVAILABLE:
            text = f"unavailable: {note}" if note else "unavailable"
        yield Line(PANELS.get(known.panel, known.panel), label, text, how, note, course)


def _listed(columns: Sequence[str]) -> Iterator[str]:
    """The columns of levels, in the table's order; each GPU has its own, cores are too many."""
    for name, known in METRICS.items():
        if name not in {LOW, EACH_CORE} and known.kind is not Kind.COUNTER:
            yield from (column for column in columns if column.partition("/")[0] == name)


def to_text(about: About, state: State, found: Sequence[Line]) -> str:
    """The summary for a terminal."""
    head = ", ".join(part for part in (about["name"], about["detail"]) if part)
    cell = state["cell"]
    doing = (
        f"busy, cell [{cell['n']}]"
        if cell and cell["n"] is not None
        else "busy"
        if cell
        else "idle"
    )
    body = [f"  {x.panel:<9} {x.label:<16} {MARKS[x.provenance]} {x.text}" for x in found]
    if not any(x.course for x in found):
        body = [f"  {NO_SAMPLE} yet"]
    tail = f"  {state['runs']} inferences, {state['incidents']} incidents, "
    tail += f"compile cache {state['hits']} of {state['hits'] + state['misses']}"
    legend = "  " + "  ".join(f"{mark} {how}" for how, mark in MARKS.items())
    return "\n".join([f"coreml_lab dashboard: {head} ({doing})", *body, tail, legend])


def to_html(about: About, state: State, found: Sequence[Line], *, css_class: str = "") -> str:
    """The summary as a table with small pictures of the last minute."""
    cells = "".join(_row(line) for line in found)
    caption = escape(", ".join(p for p in (about["name"], about["detail"]) if p))
    foot = (
        f"{state['runs']} inferences, {state['incidents']} incidents. "
        f"{'  '.join(f'{mark} {how}' for how, mark in MARKS.items())}. "
        "The live view needs a running kernel."
    )
    named = f' class="{css_class}"' if css_class else ""
    titles = ("strip", "quantity", "last value", "last minute")
    heads = "".join(f'<th scope="col" style="{LEFT}">{title}</th>' for title in titles)
    return (
        f'<div{named}><table style="border-collapse:collapse;font-size:12px;line-height:16px">'
        f'<caption style="{LEFT};font-weight:600;padding:4px 0">{caption}: last values</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"
        f'<p style="font-size:12px;margin:4px 0">{escape(foot)}</p></div>'
    )


def _row(line: Line) -> str:
    mark = f'<span title="{line.provenance}">{MARKS[line.provenance]}</span>'
    return (
        f'<tr><td style="{LEFT}">{line.panel}</td>'
        f'<th scope="row" style="{LEFT};font-weight:400">{escape(line.label)}</th>'
        f'<td style="{LEFT}" title="{escape(line.note)}">{mark} {escape(line.text)}</td>'
        f'<td style="{LEFT}">{picture(line.course)}</td></tr>'
    )


def picture(course: Sequence[float]) -> str:
    """A small curve as an ``img``, broken where there are no values; nothing without any."""
    known = [v for v in course if not math.isnan(v)]
    if len(known) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    top = max(*known, 1e-12)
    step = WIDTH / max(len(course) - 1, 1)
    parts, pen = [], "M"
    for i, value in enumerate(course):
        if math.isnan(value):
            pen = "M"
            continue
        parts.append(f"{pen}{i * step:.1f} {HEIGHT - 2 - (HEIGHT - 4) * max(value, 0) / top:.1f}")
        pen = "L"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<path d="{"".join(parts)}" fill="none" stroke="#0072B2" stroke-width="1.3"/></svg>'
    )
    data = base64.b64encode(svg.encode()).decode()
    alt = f"course of the last minute, at most {digits(top)} in base units"
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return f'<img alt="{alt}" {size} src="data:image/svg+xml;base64,{data}">'
