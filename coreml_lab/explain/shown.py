"""What every result that can be looked at has in common: its page in several formats."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import UnknownParameter
from coreml_lab.explain.page import Page
from coreml_lab.explain.renderers import document, html, markdown, text
from coreml_lab.explain.renderers.document import Drawing
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.plain import to_plain, write_atomically

Drawer = Callable[..., Any]


class Shown(ABC):
    """Something with a page."""

    @property
    @abstractmethod
    def page(self) -> Page:
        """Headline, tables and notes."""

    @property
    def figures(self) -> Mapping[str, Drawer]:
        """Figures by name, each made when it is called; ``dark=True`` is for dark ground."""
        return {}

    def figure(self, name: str = "", *, dark: bool = False) -> Any:
        """One of the ``figures`` (the first without a name), for ``bokeh.plotting.show``.

        Raises:
            UnknownParameter: where there is none of that name.
        """
        drawers = self.figures
        chosen = name or next(iter(drawers), "")
        if chosen not in drawers:
            known = ", ".join(drawers) or "it has none"
            raise UnknownParameter(f"there is no figure {name!r}", hint=f"figures: {known}")
        return drawers[chosen](dark=dark)

    def to_html(self) -> str:
        """The page as HTML that needs no scripts and no trust."""
        return html.render(self.page)

    def to_document(self) -> str:
        """Page and figures as one HTML file of less than 2 MB that needs no network."""
        from coreml_lab.explain.figures import embed  # noqa: PLC0415 - half a second

        items = {name: embed.item(draw()) for name, draw in self.figures.items()}
        drawing = Drawing(embed.library(), items, embed.safe_json(embed.darkened()))
        return document.render(self.page, drawing)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to ``path`` in the format of its ending: ``.html``, ``.md``, ``.json``, ``.txt``.

        Raises:
            UnknownParameter: for another ending.
        """
        target, formats = Path(path), self._formats()
        ending = next((e for e in formats if target.name.lower().endswith(e)), None)
        if ending is None:
            raise UnknownParameter(
                f"{target.name}: there is no such format", hint="one of " + ", ".join(formats)
            )
        return write_atomically(target, formats[ending]().encode())

    def _formats(self) -> dict[str, Callable[[], str]]:
        """How it is written, by the ending of a file's name; the more particular ones first."""
        return {
            ".html": self.to_document,
            ".md": self.to_markdown,
            ".json": self.to_json,
            ".txt": lambda: str(self),
        }

    def to_markdown(self) -> str:
        """The page as GitHub-flavoured Markdown."""
        return markdown.render(self.page)

    def to_json(self) -> str:
        """The page as JSON, in ASCII, numbers in SI base units; a missing one is null, with why."""
        return json.dumps(to_plain(self.page), allow_nan=False)

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(type(self).__name__ + "(…)" if cycle else str(self))

    def __str__(self) -> str:
        return text.render(self.page)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {legible(self.page.headline, SENTENCE)}>"
