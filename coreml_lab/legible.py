"""Text of strangers as it may be shown: a model's names and notes may hold anything.

Terminals obey escape codes, bidirectional marks turn a line around, a name may have a million
characters: shown are visible characters only, and not too many of them.
"""

from __future__ import annotations

import unicodedata

# Characters of a name, and of a sentence that may hold some names.
NAME, SENTENCE = 200, 2_000
# What only moves the cursor is a blank; what is invisible is written as its number.
BLANKS = "\t\n\v\f\r\x85\u2028\u2029"


def legible(text: str, most: int = NAME) -> str:
    r"""``text`` on one line and of visible characters, its middle left out beyond ``most``.

    Control characters, marks of direction, zero-width characters and lone surrogates become
    ``\x1b``, ``\u202e``; spaces of any width stay.
    """
    if len(text) > most:
        told = f" … ({len(text)} characters) … "
        tail = most // 4
        text = text[: most - tail] + told + text[len(text) - tail :]
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(sign: str) -> str:
    if sign.isprintable() or unicodedata.category(sign) == "Zs":
        return sign
    if sign in BLANKS:
        return " "
    return sign.encode("unicode_escape").decode("ascii")
