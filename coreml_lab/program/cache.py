"""The compile cache: content-addressed folders, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coreml_lab.errors import CacheError
from coreml_lab.program import archive
from coreml_lab.program import manifest as manifests
from coreml_lab.program.aside import aside
from coreml_lab.program.cache_listing import listed
from coreml_lab.program.manifest import MANIFEST, file_digest

T = TypeVar("T")
# Files up to here are checked before an entry is handed out, longer ones meanwhile.
SHORT = 1 << 20
# Entries that a notebook shows of a full cache; ``coreml-lab cache`` lists all.
SHOWN = 20
# Others may take an entry away while it is put: so often it is tried again.
TRIES = 10
# What a process left that was killed while it wrote or removed is swept away after a day.
PART, GONE = ".part-", ".gone-"
ABANDONED = 86400.0
FULL = {errno.ENOSPC, errno.EDQUOT}
# A full cache is emptied down to this share: else each entry more would take a look at all of them.
EMPTIED = 15 / 16
# All entries are looked at again once this share of the room is used up, or after so many seconds:
# other processes fill it, too.
SHARE, RECOUNT = 1 / 4, 30.0


@dataclass(frozen=True)
class Entry:
    """One entry as listings show it.

    Attributes:
        bytes: what its files take.
        used: when it was last handed out, seconds since 1970.
        made: when it was written.
    """

    key: str
    path: Path
    bytes: int
    used: float
    made: float

    @property
    def title(self) -> str:
        """The model it was made for; empty where its manifest does not tell."""
        try:
            return manifests.read(self.path).title
        except (OSError, ValueError):
            return ""


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
        _discard(self.folder)


@dataclass
class _Room:
    """Bytes that may be put before all entries are looked at again, and until when that holds."""

    bytes: float
    until: float


# What this process knows of each folder and limit.
_ROOMS: dict[tuple[Path, int], _Room] = {}


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
        try:
            manifest = manifests.read(folder)
        except FileNotFoundError:
            if folder.is_dir() and not (folder / MANIFEST).exists():
                _discard(folder)
            return None
        except (OSError, ValueError):
            _discard(folder)
            return None
        short = [name for name, (_, size) in manifest.files.items() if size <= SHORT]
        if manifest.differing(folder, short) or not _sized(folder, manifest):
            _discard(folder)
            return None
        with contextlib.suppress(OSError):  # a read-only cache still serves
            os.utime(folder / MANIFEST)
        long = [name for name in manifest.files if name not in short]
        rest = aside(lambda: not manifest.differing(folder, long)) if long else lambda: True
        return Found(folder, rest)

    def use(self, key: str, read: Callable[[Path], T]) -> T | None:
        """What ``read`` makes of an entry; None where there is none, or it goes meanwhile."""
        for turn in range(TRIES):
            folder = self.get(key)
            if folder is None:
                return None
            before = _identity(folder)
            try:
                return read(folder)
            except Exception:
                if self.get(key) is None:
                    return None
                # Cleared and put again by others meanwhile: it was not this one that failed.
                if _identity(folder) == before or turn == TRIES - 1:
                    raise
        return None

    def put(self, key: str, fill: Callable[[Path], None], *, title: str = "") -> Path:
        """Make an entry: ``fill`` writes into a folder beside it, which is then moved into place.

        Args:
            key: a hash of everything that the content follows from.
            fill: writes the files.
            title: the model it is for, as listings show it.

        Raises:
            CacheError: where the cache folder cannot be written.
        """
        temporary = self._workplace()
        try:
            fill(temporary)
            manifest = manifests.survey(temporary, key=key, title=title)
            text = manifest.text().encode()
            (temporary / MANIFEST).write_bytes(text)
            folder = self._moved(temporary, key)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise CacheError(
                f"the compile cache {self.root} cannot be written: {error.strerror}",
                hint="coreml-lab cache clear makes room; or " + _HINT,
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        added = len(text) + sum(size for _, size in manifest.files.values())
        room = _ROOMS.get((self.root, self.limit))
        if room is None or room.bytes < added or time.monotonic() > room.until:
            self._shrink(keep=key)
        else:
            room.bytes -= added
        return folder

    def _moved(self, temporary: Path, key: str) -> Path:
        folder = self.root / key
        for _ in range(TRIES):
            try:
                return temporary.rename(folder)
            except OSError as error:
                failure = error
            # Another process made the same entry meanwhile: the content is equal. A damaged one
            # is removed by asking for it.
            if self.get(key) is not None:
                return folder
        raise CacheError(
            f"cannot write the compile cache entry {folder}: {failure}", hint=_HINT
        ) from failure

    def _workplace(self) -> Path:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self.root, prefix=PART))
        except OSError as error:
            raise CacheError(
                f"cannot write to the compile cache folder {self.root}: {error}", hint=_HINT
            ) from error

    def __repr__(self) -> str:
        return listed(self.entries(), self.root, self.limit, time.time(), most=SHOWN)

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the most recently used first."""
        return tuple(sorted(self._scan(), key=lambda e: -e.used))

    def verify(self) -> dict[str, str]:
        """Check every file of every entry, and remove the entries that are damaged.

        Returns:
            The key of each that was removed -> what was wrong with it.
        """
        damaged = {}
        for entry in self.entries():
            folder = _identity(entry.path)
            try:
                manifest = manifests.read(entry.path)
                wrong = manifest.differing(entry.path)
                why = f"{wrong} is not as it was written" if wrong else ""
                if not why and (extra := manifests.stray(entry.path, manifest)):
                    why = f"{extra} does not belong to it"
            except (OSError, ValueError) as error:
                why = str(error)
            # Else another process has removed it meanwhile, or made it anew.
            if why and folder is not None and folder == _identity(entry.path):
                damaged[entry.key] = why
                _discard(entry.path)
        return damaged

    def clear(self, key: str = "") -> int:
        """Remove every entry, or one; returns the bytes that were freed.

        Raises:
            CacheError: where there is no entry ``key``.
        """
        found = [self.entry(key)] if key else self.entries()
        for entry in found:
            _discard(entry.path)
        self._sweep()
        return sum(e.bytes for e in found)

    def entry(self, key: str) -> Entry:
        """The entry whose key begins so.

        Raises:
            CacheError: where there is none, or several and none is called exactly so.
        """
        found = [e for e in self.entries() if e.key.startswith(key)]
        exact = [e for e in found if e.key == key] or found
        if len(exact) != 1:
            told = f"{len(exact)} cache entries begin" if exact else "no cache entry begins"
            raise CacheError(f"{told} with {key!r}", hint="coreml-lab cache list shows them")
        return exact[0]

    def export(self, key: str, file: str | os.PathLike[str]) -> Path:
        """Write an entry as one file, to be imported elsewhere: a ZIP with its checksums.

        Raises:
            CacheError: where there is no such entry, it is damaged, or ``file`` exists.
        """
        entry, target = self.entry(key), Path(file)
        if self.get(entry.key) is None:
            raise CacheError(f"the cache entry {entry.key} was damaged, and is removed", hint=_HINT)
        if target.exists():
            raise CacheError(f"{target} exists already", hint="give a new name")
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as folder:
                part = Path(folder) / target.name
                archive.pack(entry.path, manifests.read(entry.path), part)
                part.rename(target)
        except (OSError, ValueError) as error:
            raise CacheError(f"{target} cannot be written: {error}", hint=_HINT) from error
        return target

    def take(self, file: str | os.PathLike[str]) -> Path:
        """Import an entry that ``export`` wrote; it is checked whole before it is an entry.

        Checksums find damage, not malice: take files only from whom you would take the model.

        Raises:
            CacheError: where it is no such file, damaged, or larger than the cache's limit.
        """
        source = Path(file)
        manifest = archive.inside(source, self.limit)
        fill = lambda folder: archive.unpack(source, manifest, folder)  # noqa: E731 - one line
        return self.put(manifest.key, fill, title=manifest.title)

    def _scan(self) -> Iterator[Entry]:
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.name.startswith("."):
                continue
            with contextlib.suppress(OSError):  # no entry, or another process removes it meanwhile
                used, made = (folder / MANIFEST).stat().st_mtime, folder.stat().st_mtime
                yield Entry(folder.name, folder, size_files(folder), used, made)

    def _shrink(self, *, keep: str) -> None:
        found = self.entries()
        whole = sum(entry.bytes for entry in found)
        most = self.limit if whole <= self.limit else EMPTIED * self.limit
        kept = seen = 0
        for entry in found:
            seen += entry.bytes
            if seen > most and entry.key != keep:
                _discard(entry.path)
            else:
                kept += entry.bytes
        room = max(0.0, SHARE * (self.limit - kept))
        _ROOMS[self.root, self.limit] = _Room(room, time.monotonic() + RECOUNT)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what killed processes have left."""
        for prefix in (PART, GONE):
            for left in self.root.glob(f"{prefix}*"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > ABANDONED:
                        shutil.rmtree(left, ignore_errors=True)


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
    if root.is_dir():
        return _below(root)
    return root.stat().st_size if root.is_file() else 0


def _below(folder: Path | str) -> int:
    """Bytes of the files below a folder; by ``scandir``, since a cache holds many thousands."""
    total = 0
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                total += _below(entry.path)
            elif entry.is_file():
                total += entry.stat().st_size
    return total


def _discard(folder: Path) -> None:
    """Remove an entry at once: under another name nobody finds it half gone."""
    with contextlib.suppress(OSError):
        gone = Path(tempfile.mkdtemp(dir=folder.parent, prefix=GONE))
        with contextlib.suppress(OSError):  # another process was faster
            folder.rename(gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells an entry from one of the same name that is put there later."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _sized(folder: Path, manifest: manifests.Manifest) -> bool:
    """Whether all files have their sizes: the quick look at those that are hashed later."""
    try:
        return all((folder / n).stat().st_size == size for n, (_, size) in manifest.files.items())
    except OSError:
        return False
