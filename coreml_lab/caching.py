"""What ``coreml-lab cache`` and ``%coreml cache`` do and say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import coreml_lab as cl
from coreml_lab.errors import CacheError
from coreml_lab.legible import legible
from coreml_lab.program.cache import Cache
from coreml_lab.program.cache_listing import listed, megabytes

Do = Literal["list", "verify", "clear", "export", "import"]


def cache(action: Do, key: str, file: Path | None) -> tuple[str, bool]:
    """Do one thing with the compile cache; what to say of it, and whether all was whole.

    Raises:
        CacheError: where it cannot be done, or ``key`` or ``file`` is missing.
    """
    store = cl.cache()
    if action == "list":
        return listed(store.entries(), store.root, store.limit, time.time()), True
    if action == "verify":
        return _verified(store)
    if action == "clear":
        return f"{megabytes(store.clear(key))} removed from {store.root}", True
    if file is None or (action == "export" and not key):
        needed = "--key KEY --file FILE" if action == "export" else "--file FILE"
        raise CacheError(f"{action} needs {needed}", hint=f"coreml-lab cache {action} {needed}")
    if action == "export":
        return f"written: {store.export(key, file)}", True
    return f"{store.take(file).name} is in {store.root}", True


def _verified(store: Cache) -> tuple[str, bool]:
    count = len(store.entries())
    damaged = store.verify()
    rows = [f"{legible(key)} removed: {legible(why)}" for key, why in damaged.items()]
    rows.append(f"{count - len(damaged)} of {count} entries are whole, in {store.root}")
    return "\n".join(rows), not damaged
