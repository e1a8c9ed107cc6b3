"""What stands in a cache entry: every file's size and SHA-256, and the list's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "entry.json"
LARGEST = 16 << 20


@dataclass(frozen=True)
class Manifest:
    """The files of an entry, and what it was made for.

    Attributes:
        files: name relative to the entry -> (SHA-256, bytes).
        title: the model it was made for.
        key: the entry it describes: what is copied to another place is no entry there.
    """

    files: Mapping[str, tuple[str, int]]
    title: str
    key: str

    def text(self) -> str:
        """As it is written: exactly one way, so that no bit of it can change unseen."""
        told = {"key": self.key, "title": self.title, "files": self.files}
        held = json.dumps(told)
        return json.dumps({"sum": hashlib.sha256(held.encode()).hexdigest(), **told})

    def differing(self, folder: Path, names: Iterable[str] | None = None) -> str:
        """The first file (of ``names``) that is not as it was written, or empty."""
        for name in self.files if names is None else names:
            digest, size = self.files[name]
            try:
                file = folder / name
                right = file.stat().st_size == size and file_digest(file) == digest
            except OSError:
                right = False
            if not right:
                return name
        return ""


def survey(folder: Path, *, key: str, title: str) -> Manifest:
    """The manifest of what is in a folder now."""
    found = {
        file.relative_to(folder).as_posix(): (file_digest(file), file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    return Manifest(found, title, key)


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: where it is not exactly what was written.
    """
    try:
        told = json.loads(data)
        files = {str(n): (str(digest), int(size)) for n, (digest, size) in told["files"].items()}
        found = Manifest(files, str(told["title"]), str(told["key"]))
        right = found.text().encode() == data
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ValueError(f"{MANIFEST} is not a list of files: {error}") from error
    if not right:
        raise ValueError(f"{MANIFEST} is not as it was written")
    return found


def read(folder: Path) -> Manifest:
    """The manifest of an entry.

    Raises:
        OSError: where there is none.
        ValueError: where it is damaged, or another entry's.
    """
    with (folder / MANIFEST).open("rb") as file:
        found = parse(file.read(LARGEST))
    if found.key != folder.name:
        raise ValueError(f"{MANIFEST} is that of {found.key}")
    return found


def stray(folder: Path, manifest: Manifest) -> str:
    """A file that is in the folder and not in its manifest, or empty."""
    known = {*manifest.files, MANIFEST}
    found = (f.relative_to(folder).as_posix() for f in folder.rglob("*") if not f.is_dir())
    return next((name for name in found if name not in known), "")


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
