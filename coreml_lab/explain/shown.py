"""What every result that can be looked at has in common: its page in several formats."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

from coreml_lab.explain.page import Page
from coreml_lab.explain.renderers import html, markdown, text
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.plain import to_plain


class Shown(ABC):
    """Something with a page."""

    @property
    @abstractmethod
    def page(self) -> Page:
        """Headline, tables and notes."""

    def to_html(self) -> str:
        """The page as HTML that needs no scripts and no trust."""
        return html.render(self.page)

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
