"""The compile cache: content-addressed folders, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coreml_lab.errors import CacheError

T = TypeVar("T")
MANIFEST = "entry.json"
# Files up to here are checked before an entry is handed out, longer ones meanwhile.
SHORT = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One entry as listings show it."""

    key: str
    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class Found:
    """An entry whose short files are right; the long ones, which may be read, are being checked."""

    folder: Path
    _rest: Callable[[], bool]

    def whole(self) -> bool:
        """Whether all of it is as it was written; waits until that is known."""
        return self._rest()

    def remove(self) -> None:
        """Take it out of the cache."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Cache:
    """A folder of entries; ``limit`` bytes are kept, those unused longest go first."""

    root: Path
    limit: int = 4 << 30

    def get(self, key: str) -> Path | None:
        """The folder of an entry that is whole, or None; a damaged one is removed."""
        found = self.find(key)
        if found is None:
            return None
        if not found.whole():
            found.remove()
            return None
        return found.folder

    def find(self, key: str) -> Found | None:
        """An entry that can be used while the rest of it is checked; who finds out removes it."""
        folder = self.root / key
        if not (folder / MANIFEST).is_file():
            return None
        try:
            files = _manifest(folder)
            short = {name: digest for name, (digest, size) in files.items() if size <= SHORT}
            sizes = all((folder / name).stat().st_size == size for name, (_, size) in files.items())
            right = sizes and _match(folder, short)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            right = False
        if not right:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):  # a read-only cache still serves
            os.utime(folder / MANIFEST)
        long = {name: digest for name, (digest, _) in files.items() if name not in short}
        return Found(folder, aside(lambda: _match(folder, long)) if long else lambda: True)

    def put(self, key: str, fill: Callable[[Path], None]) -> Path:
        """Make an entry: ``fill`` writes into a folder beside it, which is then moved into place.

        Raises:
            CacheError: where the cache folder cannot be written.
        """
        temporary = self._workplace()
        try:
            fill(temporary)
            _write_manifest(temporary)
            folder = self.root / key
            try:
                temporary.rename(folder)
            except OSError as error:
                # Another process made the same entry meanwhile: the content is equal.
                if self.get(key) is None:
                    raise CacheError(
                        f"cannot write the compile cache entry {folder}: {error}", hint=_HINT
                    ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._shrink(keep=key)
        return folder

    def _workplace(self) -> Path:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self.root, prefix=".part-"))
        except OSError as error:
            raise CacheError(
                f"cannot write to the compile cache folder {self.root}: {error}", hint=_HINT
            ) from error

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the most recently used first."""
        return tuple(sorted(self._scan(), key=lambda e: -e.used))

    def clear(self) -> int:
        """Remove every entry; returns the bytes that were freed."""
        found = self.entries()
        for entry in found:
            shutil.rmtree(entry.path, ignore_errors=True)
        return sum(e.bytes for e in found)

    def _scan(self) -> Iterator[Entry]:
        for manifest in self.root.glob(f"*/{MANIFEST}") if self.root.is_dir() else ():
            folder = manifest.parent
            if not folder.name.startswith("."):
                size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
                yield Entry(folder.name, folder, size, manifest.stat().st_mtime)

    def _shrink(self, *, keep: str) -> None:
        kept = 0
        for entry in self.entries():
            kept += entry.bytes
            if kept > self.limit and entry.key != keep:
                shutil.rmtree(entry.path, ignore_errors=True)


_HINT = "cl.configure(cache_dir=…) or COREML_LAB_CACHE_DIR: a folder you may write to"


def hash_files(root: Path) -> str:
    """SHA-256 over a file, or over names and contents of all files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if file.is_file():
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file_digest(file).encode())
    return digest.hexdigest()


def size_files(root: Path) -> int:
    """Bytes of a file, or of everything below a folder."""
    files = root.rglob("*") if root.is_dir() else [root]
    return sum(f.stat().st_size for f in files if f.is_file())


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def aside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin ``work`` in a thread of its own; the result is a function that waits for it."""
    made: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            made.append(work())
        except Exception as error:  # noqa: BLE001 - raised where the result is wanted
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> T:
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    return result


def _write_manifest(folder: Path) -> None:
    files = {
        str(f.relative_to(folder)): (file_digest(f), f.stat().st_size)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}), encoding="utf-8")


def _manifest(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and size of every file of an entry."""
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return {str(name): (str(digest), int(size)) for name, (digest, size) in files.items()}


def _match(folder: Path, digests: Mapping[str, str]) -> bool:
    try:
        return all(file_digest(folder / name) == digest for name, digest in digests.items())
    except OSError:
        return False
