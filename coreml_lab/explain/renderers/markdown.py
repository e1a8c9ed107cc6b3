"""A page as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.renderers.text import plain, reasons
from coreml_lab.explain.units import LEGEND
from coreml_lab.legible import SENTENCE, legible

SIGNS = "\\`*_[]<>|~$#"
# A name of a person or repository after @, an issue after #, an address: linked as they stand.
LINKS = re.compile(r"@(?=\w)|#(?=\d)|\b\w+:(?=//)|\bwww(?=\.)", re.IGNORECASE)


def render(page: Page) -> str:
    """Headline as a heading, pipe tables, notes as a list, legend."""
    parts = [f"## {_escape(page.headline)}", *map(_table, page.tables)]
    notes = "\n".join(f"- {_escape(note)}" for note in page.notes)
    return "\n\n".join([*parts, *([notes] if notes else []), LEGEND]) + "\n"


def _table(table: Table) -> str:
    rules = ("--:" if table.numeric(i) else ":--" for i in range(len(table.columns)))
    rows = [table.columns, tuple(rules), *(map(_cell, row) for row in table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    why = [f"\n{_escape(reason)}" for reason in reasons(table)]
    return "\n".join([f"**{_escape(table.caption)}**", "", *lines, *why])


def _cell(cell: Cell) -> str:
    return _escape(plain(cell))


def _escape(text: str) -> str:
    """Text that means nothing to GitHub: no markup, formula, mention, reference or link."""
    text = legible(text, SENTENCE).replace("&", "&amp;")
    for sign in SIGNS:
        text = text.replace(sign, "\\" + sign)
    return LINKS.sub("\\g<0>\N{WORD JOINER}", text)
