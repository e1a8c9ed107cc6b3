"""A place in the text of a program: what follows is taken, or one error names the line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from coreml_lab.errors import ModelError

WORD = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_@]*)")
STRING = re.compile(r'\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
SCALAR = re.compile(r"\s*([-+]?[A-Za-z0-9_.+-]+)")
# Brackets, and what never stands between those of numbers.
BRACKET = re.compile(r'[\[\]()";]')
SPACE = re.compile(r"\s*")
# Real programs nest a few levels: types, values and blocks deeper than this are not of this world.
DEEPEST = 50
SHOWN = 30


class Scanner:
    """Walks through ``text`` once, from the left to the right."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self._depth = 0

    def accept(self, token: str) -> bool:
        """Whether ``token`` comes next; if so, it is taken."""
        text, at = self.text, self.at
        if not text.startswith(token, at):
            if not text[at : at + 1].isspace():
                return False
            at = self._next()
            if not text.startswith(token, at):
                return False
        self.at = at + len(token)
        return True

    def expect(self, token: str) -> None:
        """Take ``token``.

        Raises:
            ModelError: where something else comes next.
        """
        if not self.accept(token):
            raise self.error(f"{token!r} is expected")

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What of ``pattern`` comes next, if it does; it is taken."""
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        """The first group of ``pattern``, which must come next.

        Raises:
            ModelError: where something else does.
        """
        found = self.find(pattern)
        if not found:
            raise self.error(f"{what} is expected")
        return found[1]

    def word(self, what: str) -> str:
        """A name."""
        return self.take(WORD, what)

    def until(self, close: str) -> Iterator[None]:
        """One step for each of the things, separated by commas, that come before ``close``."""
        while not self.accept(close):
            yield
            if not self.accept(","):
                self.expect(close)
                return

    def bracketed(self) -> str:
        """Everything up to the bracket that closes the one that was just taken."""
        start, depth = self.at, 1
        for found in BRACKET.finditer(self.text, start):
            if found[0] not in "[]":
                break
            depth += 1 if found[0] == "[" else -1
            if not depth:
                self.at = found.end()
                return self.text[start : found.start()]
        raise self.error("a bracket is never closed")

    def deeper(self) -> None:
        """One level of nesting more; ``higher`` ends it.

        Raises:
            ModelError: where there are too many.
        """
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} levels of nesting")

    def higher(self) -> None:
        """One level of nesting less."""
        self._depth -= 1

    def error(self, problem: str) -> ModelError:
        """An error at this place."""
        at = self._next()
        line = self.text.count("\n", 0, at) + 1
        rest = self.text[at : at + SHOWN].partition("\n")[0]
        seen = f"before {rest!r}" if rest else "but the text ends"
        return ModelError(
            f"{self.file}, line {line}: {problem}, {seen}",
            hint="the file may be truncated: fetch it again, or compile the model again",
        )

    def _next(self) -> int:
        """Where the next token begins."""
        found = SPACE.match(self.text, self.at)
        return found.end() if found else self.at
