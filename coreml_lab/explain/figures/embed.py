"""Figures as data for a page that stands alone: BokehJS itself, and what it is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bokeh
from bokeh.embed import json_item

from coreml_lab.explain.figures.look import DARK, LIGHT


def library() -> str:
    """BokehJS, the part that draws plots (1.3 MB), as the installed bokeh brings it."""
    folder = Path(bokeh.__file__).parent / "server" / "static" / "js"
    return (folder / "bokeh.min.js").read_text(encoding="utf-8")


def item(figure: Any) -> tuple[str, str]:
    """A figure's title, which the page sets as text that wraps, and the rest as JSON.

    The JSON is what ``Bokeh.embed.embed_item`` draws, and cannot end a script element.
    """
    title = figure.title.text
    figure.title = None
    return title, safe_json(json_item(figure))


def safe_json(data: Any) -> str:
    """JSON in ASCII without ``<``: it may stand inside a script element of a page."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def darkened() -> dict[str, str]:
    """Each colour of light ground with the one that stands for it on dark ground."""
    return dict(zip(asdict(LIGHT).values(), asdict(DARK).values(), strict=True))
