"""A page with figures as one HTML file: no network, nothing else needed, under 2 MB.

Its own policy (CSP) allows only the two scripts that it was made with, by their hashes: whatever a
name in it holds, nothing else runs, and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coreml_lab.explain.page import Page, Table
from coreml_lab.explain.renderers import html
from coreml_lab.explain.renderers.html import escape

# Bytes of the whole file.
MOST_BYTES = 2_000_000
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Drawing:
    """What a document needs to draw: the library, the dark colours, titles and items by name."""

    library: str
    items: Mapping[str, tuple[str, str]]
    colours: str


def render(page: Page, drawing: Drawing) -> str:
    """The whole file; figures that would make it too large are left out, and a note says so."""
    kept: set[str] = set()
    left = MOST_BYTES - len(drawing.library) - len(html.render(page).encode()) - 10_000
    for name, (title, item) in sorted(drawing.items.items(), key=lambda pair: len(pair[1][1])):
        left -= len(item) + len(escape(title)) + 200
        if left > 0:
            kept.add(name)
    lost = [name for name in drawing.items if name not in kept]
    if lost:
        said = f"Left out, since the file would be larger than 2 MB: {', '.join(lost)}."
        page = replace(page, notes=(*page.notes, said))
    shown = {name: drawing.items[name] for name in drawing.items if name in kept}
    return _document(page, replace(drawing, items=shown))


def _document(page: Page, drawing: Drawing) -> str:
    placed = [name for table in page.tables for name in table.figures]
    free = [name for name in drawing.items if name not in placed]
    first = f"<section>{''.join(_figure(n, drawing) for n in free)}</section>" if free else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in page.notes)
    data = [_data(name, item) for name, (_, item) in drawing.items.items()]
    scripts = (drawing.library, SCRIPT) if drawing.items else ()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(page.headline)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(page.headline)}</h1>{first}"
        f"{''.join(_section(table, drawing) for table in page.tables)}"
        f"{f'<ul>{notes}</ul>' if notes else ''}"
        f"<footer><small>{html.legend()}</small></footer>"
        f"{_data('colours', drawing.colours)}{''.join(data)}"
        f"{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>"
    )


def _section(table: Table, drawing: Drawing) -> str:
    drawn = "".join(_figure(name, drawing) for name in table.figures)
    return f'<section>{drawn}<div class="scroll">{html.table(table)}</div></section>'


def _figure(name: str, drawing: Drawing) -> str:
    """A place to draw in; what it shows stands in the tables, too, for those who cannot see it."""
    if name not in drawing.items:
        return ""
    title = escape(drawing.items[name][0])
    place = f'<div role="img" aria-label="{title}" data-figure="{_id(name)}"></div>'
    return f"<figure><figcaption>{title}</figcaption>{place}</figure>"


def _id(name: str) -> str:
    """A name as HTML's identifiers are: without blanks."""
    return "-".join(escape(name).split())


def _data(name: str, text: str) -> str:
    return f'<script type="application/json" id="{_id(name)}">{text}</script>'


def _policy(scripts: tuple[str, ...]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
