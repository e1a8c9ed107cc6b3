"""Locks that a forked child finds free, whoever held them in its parent."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

# A child has only the thread that forked: what another one held nobody would let go.
_LOCKS: weakref.WeakSet[Any] = weakref.WeakSet()


def lock() -> threading.Lock:
    """A lock."""
    made = threading.Lock()
    _LOCKS.add(made)
    return made


def rlock() -> threading.RLock:
    """A lock that its holder may take again."""
    made = threading.RLock()
    _LOCKS.add(made)
    return made


def _free() -> None:
    for each in list(_LOCKS):
        each._at_fork_reinit()  # noqa: SLF001 - as Python's own locks are made free there


os.register_at_fork(after_in_child=_free)
