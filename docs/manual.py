"""Parts of the manual that are made from the code while it is built, and so cannot be stale.

What takes the place of ``<!-- errors -->``, ``<!-- changes -->``, ``<!-- rows: … -->``,
``<others>`` and lines such as ``::: cl.load`` in a page is written here. Links out of docs/ lead
into the manual or become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import api
import messages

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"(?<!!)(\[[^\]]*\])\(([^)#\s]+)(#[^)\s]*)?\)")
PUBLIC = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
ROWS = re.compile(r"^<!-- rows: (\S+) \| (.+) -->$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
# Pages of the repository that stand elsewhere in the manual.
MOVED = {"CHANGELOG.md": "changelog.md", "README.md": "index.md", "README.ja.md": "start.ja.md"}


def inside(page: str, target: str) -> str:
    """Where a link of a page leads to in the manual; "" where the manual does not have it."""
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if place.startswith("docs/") or place.endswith(".ipynb"):
        return target
    if place in MOVED:
        return posixpath.relpath(MOVED[place], posixpath.dirname(page) or ".")
    return ""


def relinked(page: str, text: str) -> str:
    """A page whose links to files of the repository lead into the manual, or are plain text."""

    def one(link: re.Match[str]) -> str:
        label, target, anchor = link.groups()
        if "://" in target:
            return link[0]
        found = inside(page, target)
        return f"{label}({found}{anchor or ''})" if found else label[1:-1]

    return LINK.sub(one, text)


def changes() -> str:
    """The changelog below its title, with links as seen from docs/."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2]
    return text.replace("](docs/", "](").replace("](notebooks/", "](../notebooks/")


def rows(page: str, word: str) -> str:
    """Of another page's tables: the head, and the rows whose first cell has the word."""
    found = []
    for lines in TABLE.findall((DOCS / page).read_text(encoding="utf-8")):
        head, *body = lines.strip().split("\n")
        chosen = [row for row in body[1:] if word in row.split("|")[1]]
        if chosen:
            found.append("\n".join([head, body[0], *chosen]))
    return "\n\n".join(found)


def others(index: str) -> str:
    """Pages that the index does not list: they come last in its menu, none is lost."""
    pages = {str(p.relative_to(DOCS).with_suffix("")) for p in DOCS.rglob("*.md")}
    return "\n".join(sorted(pages - set(index.split()) - {"index"}))


def completed(page: str, text: str) -> str:
    """A page, its path below docs/ given, with its generated parts in place."""
    if "<!-- errors -->" in text:
        text = text.replace("<!-- errors -->", messages.tables())
    if "<!-- changes -->" in text:
        text = text.replace("<!-- changes -->", changes())
    text = ROWS.sub(lambda found: rows(*found.groups()), text)
    text = text.replace("<others>", others(text))
    return relinked(page, PUBLIC.sub(lambda found: api.entry(found[1]), text))


def complete(_: Any, name: str, source: list[str]) -> None:
    """What Sphinx calls with each page that it has read."""
    source[0] = completed(f"{name}.md", source[0])
