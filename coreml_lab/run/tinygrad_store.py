"""tinygrad's store of compiled kernels, for all threads of a process."""

from __future__ import annotations

import functools
import importlib
import sqlite3
from types import SimpleNamespace
from typing import Any


@functools.cache
def open_for_all_threads() -> None:
    """Open the store so that any thread may use it; who calls it sees to it that one does at once.

    tinygrad has one connection for the process, and SQLite lets only the thread use it that opened
    it, unless told otherwise: a kernel that another thread compiles would be an error.
    """
    helpers: Any = importlib.import_module("tinygrad.helpers")  # an extra, heavy

    real = helpers.sqlite3
    connect = functools.partial(sqlite3.connect, check_same_thread=False)
    helpers.sqlite3 = SimpleNamespace(**{**vars(sqlite3), "connect": connect})
    try:
        helpers._db_connection = None  # noqa: SLF001 - there is no public name
        helpers.db_connection()
    finally:
        helpers.sqlite3 = real
