"""The compile cache as a table of text: what it holds, for whom, and how much of its limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from coreml_lab.legible import legible

KEY = 41  # a hash of 32 digits and what kind of entry it is
NAMED = 40
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


class Listed(Protocol):
    """An entry: see ``cache.Entry``."""

    @property
    def key(self) -> str:
        """What it is found by."""
        ...

    @property
    def title(self) -> str:
        """The model it was made for."""
        ...

    @property
    def bytes(self) -> int:
        """What its files take."""
        ...

    @property
    def made(self) -> float:
        """When it was written, seconds since 1970."""
        ...

    @property
    def used(self) -> float:
        """When it was last handed out, seconds since 1970."""
        ...


def listed(
    entries: Sequence[Listed], root: Path, limit: int, now: float, *, most: int | None = None
) -> str:
    """A row for each entry, in their order, and their sum; of more than ``most`` the first ones."""
    rows = [_row(entry, now) for entry in entries[:most]]
    if rows:
        rows.insert(0, f"{'key':<{KEY}}  {'size':>10}  {'made':>8}  {'used':>8}  of")
    if most is not None and len(entries) > most:
        rows.append(f"and {len(entries) - most} used longer ago")
    total = megabytes(sum(entry.bytes for entry in entries))
    count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    return "\n".join([*rows, f"{count}, {total}, in {root} (limit {megabytes(limit)})"])


def megabytes(size: int) -> str:
    """Bytes for people to read."""
    return f"{size / 1e6:.1f} MB"


def _row(entry: Listed, now: float) -> str:
    made, used = (f"{_age(now - then):>8}" for then in (entry.made, entry.used))
    what = legible(entry.title, NAMED)
    size = f"{megabytes(entry.bytes):>10}"
    return f"{entry.key:<{KEY}}  {size}  {made}  {used}  {what}".rstrip()


def _age(seconds: float) -> str:
    whole = max(seconds, 0.0)
    size, unit = next((u for u in UNITS if whole >= u[0]), UNITS[-1])
    return f"{whole / size:.0f} {unit}"
