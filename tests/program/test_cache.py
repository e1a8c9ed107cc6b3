"""The compile cache: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coreml_lab.errors import CacheError
from coreml_lab.program.cache import Cache, hash_files


def fill(text: str = "data") -> object:
    return lambda folder: (folder / "file.txt").write_text(text)


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    assert cache.get("k") is None
    folder = cache.put("k", fill())
    assert cache.get("k") == folder
    assert (folder / "file.txt").read_text() == "data"


def test_a_failed_fill_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")

    def broken(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.put("k", broken)
    assert list((tmp_path / "c").iterdir()) == []
    assert cache.entries() == ()


@pytest.mark.parametrize("damage", ["other", ""])
def test_a_damaged_entry_is_a_miss_and_is_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    folder = cache.put("k", fill())
    (folder / "file.txt").write_text(damage)
    assert cache.get("k") is None
    assert not folder.exists()


def test_a_damaged_manifest_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (cache.put("k", fill()) / "entry.json").write_text("[")
    assert cache.get("k") is None


def test_two_processes_may_make_the_same_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def race(folder: Path) -> None:
        (folder / "file.txt").write_text("data")
        if cache.get("k") is None:
            cache.put("k", fill())

    assert cache.get("k") is None
    assert (cache.put("k", race) / "file.txt").read_text() == "data"
    assert [e.key for e in cache.entries()] == ["k"]


def test_the_limit_removes_what_was_unused_longest(tmp_path: Path) -> None:
    roomy = Cache(tmp_path)
    for i, key in enumerate("abc"):
        os.utime(roomy.put(key, fill("x" * 1000)) / "entry.json", (i, i))
    tight = Cache(tmp_path, limit=2500)
    tight.put("d", fill("x" * 1000))
    assert {e.key for e in tight.entries()} == {"d", "c"}


def test_clear_frees_everything(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("k", fill())
    assert cache.clear() > 0
    assert cache.entries() == ()


def test_a_folder_that_cannot_be_written_is_one_error_with_what_to_try(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CacheError, match="cannot write to the compile cache") as caught:
        Cache(tmp_path / "file" / "c").put("k", fill())
    assert "COREML_LAB_CACHE_DIR" in str(caught.value)


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("1")
    first = hash_files(tmp_path / "a")
    (tmp_path / "a" / "f").rename(tmp_path / "a" / "g")
    second = hash_files(tmp_path / "a")
    (tmp_path / "a" / "g").write_text("2")
    assert len({first, second, hash_files(tmp_path / "a")}) == 3
