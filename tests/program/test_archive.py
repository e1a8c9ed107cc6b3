"""Exported entries of the cache that are odd inside."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from coreml_lab.errors import CacheError
from coreml_lab.program.cache import Cache
from coreml_lab.program.manifest import MANIFEST, Manifest


@pytest.mark.parametrize("names", [("a", "a/b"), ("d" * 300 + "/b",)])
def test_an_import_of_names_that_no_folder_can_hold_leaves_nothing(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    held = {name: (hashlib.sha256(b"x").hexdigest(), 1) for name in names}
    with zipfile.ZipFile(tmp_path / "odd", "w") as archive:
        archive.writestr(MANIFEST, Manifest(held, "", "k").text())
        for name in names:
            archive.writestr(name, "x")
    cache = Cache(tmp_path / "c")
    with pytest.raises(CacheError, match="cannot be read"):
        cache.take(tmp_path / "odd")
    assert not list(cache.root.iterdir())
