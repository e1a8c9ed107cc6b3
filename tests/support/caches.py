"""A compile cache that another process works at, made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreml_lab.program.cache import Cache


def cleared_when_found(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """The next entry that is found and whose key ends so is gone before it is read, once."""
    get = Cache.get

    def cleared(cache: Cache, key: str) -> Path | None:
        found = get(cache, key)
        if key.endswith(ending) and found is not None:
            monkeypatch.setattr(Cache, "get", get)
            cache.clear(key)
        return found

    monkeypatch.setattr(Cache, "get", cleared)
