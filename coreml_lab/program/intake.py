"""A stranger's model before any of it is read: what its folder holds, where that lies, how large.

Files come from unpacked archives and clones: links, pipes and holes may come with them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from coreml_lab.errors import ModelError

# Packages have a handful of files; compiled models of pipelines some dozens.
MOST_FILES = 10_000
# Of a file that is larger than this, at least this share must be there: the rest are holes.
LARGE, FILLED = 256 << 20, 1 / 64
BLOCK = 512
UNTRUSTED = "do not trust this file"
AGAIN = "fetch or save it again"


def examine(path: Path) -> None:
    """Refuse what cannot be a model before its files are opened.

    Raises:
        ModelError: for a link out of the package, a pipe or device, a file that is nearly all
            holes, or more files than any model has.
    """
    if not path.is_dir():
        _file(path, path)
        return
    homes = _homes(path)
    for count, file in enumerate(_files(path)):
        if count >= MOST_FILES:
            raise ModelError(f"{path.name} holds more than {MOST_FILES} files", hint=AGAIN)
        if file.is_symlink():
            _within(path, Path(file.path), homes)
        if not file.is_dir():
            _file(path, Path(file.path))


def located(package: Path, item: str) -> Path:
    """What a package's manifest calls ``item``, below its folder ``Data``; it may be missing.

    Raises:
        ModelError: where it lies outside of the package, or can be no file's name.
    """
    path = package / "Data" / item
    return _within(package, path, _homes(package))


def text(path: Path, file: Path, most: int) -> str:
    """The text of a ``file`` of the model at ``path``, of ``most`` bytes.

    Raises:
        ModelError: where it is longer, or no text.
    """
    _file(path, file)
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
        if len(data) <= most:
            return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path.name}: {file.name} cannot be read: {error}", hint=AGAIN) from error
    raise ModelError(f"{path.name}: {file.name} is too large to be true", hint=AGAIN)


def _files(path: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder; folders that are links are named, not entered."""
    left: list[str | Path] = [path]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                yield entry


def _homes(package: Path) -> list[Path]:
    """Where a package's files may lie: in it, or in the cache of Hugging Face's that links them."""
    snapshots = [p for p in package.absolute().parents if p.name == "snapshots"]
    caches = [Path(os.path.realpath(p.parent)) / "blobs" for p in snapshots]
    return [Path(os.path.realpath(package)), *caches]


def _within(package: Path, path: Path, homes: list[Path]) -> Path:
    try:
        found = path.resolve()
        inside = any(found.is_relative_to(home) for home in homes)
        found.exists()
    except (OSError, ValueError, RuntimeError) as error:  # loops, long names, zeros
        raise ModelError(
            f"{package.name}: {path.name!r} is no file's name: {error}", hint=UNTRUSTED
        ) from error
    if not inside:
        raise ModelError(
            f"{package.name}: {path.name!r} points outside the package", hint=UNTRUSTED
        )
    return found


def _file(path: Path, file: Path) -> None:
    """Refuse what is no file, and what is no file's content."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name}: {file.name} cannot be read: {error}", hint=AGAIN) from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path.name}: {file.name} is no file", hint=UNTRUSTED)
    # Windows does not tell how much of a file is there.
    there = getattr(found, "st_blocks", None)
    if there is not None and found.st_size > LARGE and there * BLOCK < found.st_size * FILLED:
        raise ModelError(
            f"{path.name}: {file.name} says it has {found.st_size} bytes, nearly all are holes",
            hint=UNTRUSTED,
        )
