"""The compile cache: whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
import zipfile
from pathlib import Path

import pytest

from coreml_lab.errors import CacheError
from coreml_lab.program import cache as cache_module
from coreml_lab.program.cache import ABANDONED, Cache, hash_files
from coreml_lab.program.manifest import MANIFEST, Manifest


def fill(text: str = "data") -> object:
    return lambda folder: (folder / "file.txt").write_text(text)


def several(folder: Path) -> None:
    """A short file, a long one that is checked meanwhile, an empty one, one in a folder."""
    (folder / "inner").mkdir()
    (folder / "inner" / "short.json").write_text('{"é": 1}')
    (folder / "long.bin").write_bytes(bytes(range(256)) * 4200)
    (folder / "empty").write_bytes(b"")


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    assert cache.get("k") is None
    folder = cache.put("k", fill())
    assert cache.get("k") == folder
    assert (folder / "file.txt").read_text() == "data"


def test_it_shows_its_entries_their_size_and_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", limit=2_000_000)
    assert repr(cache).startswith("0 entries, 0.0 MB")
    assert "limit 2.0 MB" in repr(cache)
    for i in range(22):
        cache.put(f"key{i}", fill(), title="digits")
    shown = repr(cache).splitlines()
    assert len(shown) == 1 + 20 + 2
    assert "digits" in shown[1]
    assert "and 2 used longer ago" in shown
    assert shown[-1].startswith("22 entries")


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
    tight = Cache(tmp_path, limit=3000)
    tight.put("d", fill("x" * 1000))
    assert {e.key for e in tight.entries()} == {"d", "c"}


def test_all_entries_are_looked_at_only_where_the_limit_may_be_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    entries = Cache.entries
    monkeypatch.setattr(Cache, "entries", lambda c: looks.append(c.root) or entries(c))
    cache, size = Cache(tmp_path, limit=400_000), 3000
    for i in range(20):
        cache.put(f"a{i}", fill("x" * size))
    assert len(looks) == 1  # a quarter of 397 kB holds 30 more
    for i in range(140):
        cache.put(f"b{i}", fill("x" * size))
        if i % 20 == 0:
            assert sum(e.bytes for e in entries(cache)) <= cache.limit
    assert len(looks) < 80
    assert {f"b{i}" for i in range(40, 140)} <= {e.key for e in entries(cache)}
    monkeypatch.setattr(cache_module, "RECOUNT", -1.0)
    Cache(tmp_path, limit=10**9).put("c", fill())
    before = len(looks)
    Cache(tmp_path, limit=10**9).put("d", fill())
    assert len(looks) == before + 1


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


def test_a_flipped_bit_in_any_byte_of_a_manifest_or_short_file_is_never_served(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path)
    folder = cache.put("k", fill(), title="näme")
    flips = [
        (file, place, bit)
        for file in (MANIFEST, "file.txt")
        for place in range((folder / file).stat().st_size)
        for bit in ((place % 8,) if file == MANIFEST else range(8))
    ]
    for file, place, bit in flips:
        data = bytearray((cache.put("k", fill(), title="näme") / file).read_bytes())
        data[place] ^= 1 << bit
        (folder / file).write_bytes(data)
        assert cache.get("k") is None, (file, place, bit)


@pytest.mark.parametrize("name", ["long.bin", "inner/short.json", MANIFEST])
def test_verify_finds_a_flipped_bit_in_any_file_and_removes_the_entry(
    tmp_path: Path, name: str
) -> None:
    cache = Cache(tmp_path)
    cache.put("good", several)
    file = cache.put("bad", several) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)
    damaged = cache.verify()
    assert list(damaged) == ["bad"]
    assert name in damaged["bad"]
    assert [e.key for e in cache.entries()] == ["good"]
    assert cache.verify() == {}


def test_verify_finds_a_file_that_is_missing_or_that_nobody_wrote(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (cache.put("less", several) / "empty").unlink()
    (cache.put("more", several) / "inner" / "new").write_text("new")
    assert cache.verify() == {
        "less": "empty is not as it was written",
        "more": "inner/new does not belong to it",
    }


def test_an_entry_under_another_key_is_not_served(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("k", fill()).rename(tmp_path / "other")
    assert cache.get("other") is None


def test_a_folder_without_a_manifest_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "half").write_text("half")
    assert (Cache(tmp_path).put("k", fill()) / "file.txt").read_text() == "data"


def test_listings_know_for_which_model_an_entry_was_made_and_when(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.put("k", fill(), title="net")
    os.utime(folder, (1000, 1000))
    os.utime(folder / MANIFEST, (2000, 2000))
    (entry,) = cache.entries()
    assert (entry.title, entry.made, entry.used) == ("net", 1000, 2000)


def test_one_entry_is_cleared_by_how_its_key_begins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("ab1", "ab2", "ab"):
        cache.put(key, fill())
    cache.clear("ab1")
    cache.clear("ab")  # called exactly so, though another begins so
    assert [e.key for e in cache.entries()] == ["ab2"]
    with pytest.raises(CacheError, match="no cache entry begins with 'x'"):
        cache.clear("x")


def test_two_entries_that_begin_alike_are_not_guessed_between(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("ab1", "ab2"):
        cache.put(key, fill())
    with pytest.raises(CacheError, match="2 cache entries begin with 'ab'"):
        cache.clear("ab")


def test_what_killed_processes_left_is_swept_away_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".part-old", tmp_path / ".part-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "half").write_text("half")
    then = time.time() - ABANDONED - 1
    os.utime(old, (then, then))
    Cache(tmp_path).put("k", fill())
    assert not old.exists()
    assert new.exists()


def test_an_entry_that_goes_while_it_is_read_is_a_miss_but_other_errors_are_raised(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path)
    cache.put("k", fill())

    def late(folder: Path) -> str:
        cache.clear()
        return (folder / "file.txt").read_text()

    assert cache.use("k", late) is None
    cache.put("k", fill())
    with pytest.raises(ZeroDivisionError):
        cache.use("k", lambda _: 1 / 0)


def test_an_exported_entry_is_imported_elsewhere_as_it_was(tmp_path: Path) -> None:
    here, there = Cache(tmp_path / "here"), Cache(tmp_path / "there")
    folder = here.put("k-portable", several, title="net")
    file = here.export("k-p", tmp_path / "net.cache")
    assert there.take(file).name == "k-portable"
    found = there.get("k-portable")
    assert found is not None
    assert hash_files(found) == hash_files(folder)
    assert there.entries()[0].title == "net"
    assert there.take(file) == found  # once more is no error
    with pytest.raises(CacheError, match="exists already"):
        here.export("k", file)


def test_a_damaged_export_is_refused_wherever_a_bit_flips(tmp_path: Path) -> None:
    cache, other = Cache(tmp_path / "c"), Cache(tmp_path / "d")
    cache.put("k", several)
    whole = cache.export("k", tmp_path / "whole").read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        data = bytearray(whole)
        data[place] ^= 4
        (tmp_path / "flipped").write_bytes(data)
        try:
            folder = other.take(tmp_path / "flipped")
        except CacheError:
            refused += 1
            continue
        # It was in a date or the like, which nobody reads.
        assert hash_files(folder) == hash_files(cache.root / "k")
    assert refused > 50
    assert not list(other.root.glob(".*"))


EVIL = ("../out", "/out", "a/../../out", "..\\out", "C:out", "a//b", "./a", "")


@pytest.mark.parametrize("name", EVIL)
def test_an_import_writes_nothing_outside_its_entry(tmp_path: Path, name: str) -> None:
    digest = "0" * 64
    with zipfile.ZipFile(tmp_path / "evil", "w") as archive:
        archive.writestr(MANIFEST, Manifest({name: (digest, 3)}, "", "k").text())
        archive.writestr(name or "x", "out")
    with pytest.raises(CacheError, match="not taken"):
        Cache(tmp_path / "c").take(tmp_path / "evil")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["../k", "", ".k", "a/b", "a\\b"])
def test_an_import_takes_no_key_that_is_a_path(tmp_path: Path, key: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil", "w") as archive:
        archive.writestr(MANIFEST, Manifest({}, "", key).text())
    with pytest.raises(CacheError, match="not taken"):
        Cache(tmp_path / "c").take(tmp_path / "evil")


def test_an_import_larger_than_it_says_or_than_the_limit_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, Manifest({"a": ("0" * 64, 3)}, "", "k").text())
        archive.writestr("a", b"0" * 1_000_000)
    with pytest.raises(CacheError, match="other than it lists"):
        Cache(tmp_path / "c").take(tmp_path / "bomb")
    cache = Cache(tmp_path / "c")
    cache.put("k", several)
    with pytest.raises(CacheError, match="limited to 1000"):
        Cache(tmp_path / "d", limit=1000).take(cache.export("k", tmp_path / "k"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_what_is_no_export_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CacheError, match="not an exported cache entry"):
        Cache(tmp_path / "c").take(tmp_path / "file")


def test_an_entry_that_is_cleared_and_put_again_while_it_is_read_is_read_again(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path)
    cache.put("k", fill("one"))
    turns: list[int] = []

    def read(folder: Path) -> str:
        turns.append(1)
        if len(turns) == 1:  # what another process does meanwhile
            cache.clear()
            cache.put("k", fill("one"))
            raise FileNotFoundError(folder / "file.txt")
        return (folder / "file.txt").read_text()

    assert cache.use("k", read) == "one"
    assert len(turns) == 2

    def broken(_: Path) -> str:
        raise ValueError("not the cache's fault")

    with pytest.raises(ValueError, match="fault"):
        cache.use("k", broken)


def strain(root: Path, seed: int, seconds: float) -> None:
    """Put, get, list, check and clear as fast as it goes; what is got must be right."""
    cache, end, turn = Cache(root, limit=20_000), time.monotonic() + seconds, seed
    while time.monotonic() < end:
        turn += 1
        key = f"k{turn % 5}"
        cache.put(key, fill(key * 1000))
        for other in range(5):
            name = f"k{other}"
            text = cache.use(name, lambda folder: (folder / "file.txt").read_text())
            assert text is None or text == name * 1000
        cache.entries()
        if turn % 7 == 0:
            cache.clear()
        elif turn % 5 == 0:
            assert cache.verify() == {}


def test_many_processes_put_get_and_clear_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=strain, args=(tmp_path, i * 3, 1.5)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert not list(tmp_path.glob(".*"))
    assert Cache(tmp_path).verify() == {}
