"""What ``coreml-lab cache`` and ``%coreml cache`` do and say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import coreml_lab as cl
from coreml_lab.errors import CacheError
from coreml_lab.legible import legible
from coreml_lab.program.cache import Cache, Entry

Do = Literal["list", "verify", "clear", "export", "import"]
KEY = 41  # a hash of 32 digits and what kind of entry it is
NAMED = 40
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def cache(action: Do, key: str, file: Path | None) -> tuple[str, bool]:
    """Do one thing with the compile cache; what to say of it, and whether all was whole.

    Raises:
        CacheError: where it cannot be done, or ``key`` or ``file`` is missing.
    """
    store = cl.cache()
    if action == "list":
        return _listed(store, time.time()), True
    if action == "verify":
        return _verified(store)
    if action == "clear":
        return f"{_megabytes(store.clear(key))} removed from {store.root}", True
    if file is None or (action == "export" and not key):
        needed = "--key KEY --file FILE" if action == "export" else "--file FILE"
        raise CacheError(f"{action} needs {needed}", hint=f"coreml-lab cache {action} {needed}")
    if action == "export":
        return f"written: {store.export(key, file)}", True
    return f"{store.take(file).name} is in {store.root}", True


def _listed(store: Cache, now: float) -> str:
    """A row for each entry, the most recently used first, and their sum."""
    entries = store.entries()
    rows = [_row(entry, now) for entry in entries]
    if rows:
        rows.insert(0, f"{'key':<{KEY}}  {'size':>10}  {'made':>8}  {'used':>8}  of")
    total = _megabytes(sum(entry.bytes for entry in entries))
    limit = f"limit {_megabytes(store.limit)}"
    return "\n".join([*rows, f"{len(entries)} entries, {total}, in {store.root} ({limit})"])


def _row(entry: Entry, now: float) -> str:
    made, used = (f"{_age(now - then):>8}" for then in (entry.made, entry.used))
    what = legible(entry.title, NAMED)
    size = f"{_megabytes(entry.bytes):>10}"
    return f"{entry.key:<{KEY}}  {size}  {made}  {used}  {what}".rstrip()


def _age(seconds: float) -> str:
    whole = max(seconds, 0.0)
    size, unit = next((u for u in UNITS if whole >= u[0]), UNITS[-1])
    return f"{whole / size:.0f} {unit}"


def _verified(store: Cache) -> tuple[str, bool]:
    count = len(store.entries())
    damaged = store.verify()
    rows = [f"{legible(key)} removed: {legible(why)}" for key, why in damaged.items()]
    rows.append(f"{count - len(damaged)} of {count} entries are whole, in {store.root}")
    return "\n".join(rows), not damaged


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
