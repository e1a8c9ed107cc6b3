"""A cache entry as one file, and back: a ZIP of what its manifest lists, checked on its way in."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from coreml_lab.errors import CacheError
from coreml_lab.program import manifest as manifests
from coreml_lab.program.manifest import LARGEST, MANIFEST, Manifest

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
PIECE = 1 << 20
# What reading a broken archive raises; RuntimeError is for one that is encrypted.
BROKEN = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
HINT = "make it again: coreml-lab cache export"


def pack(folder: Path, manifest: Manifest, file: Path) -> None:
    """Write an entry's files into one."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(MANIFEST, manifest.text())
        for name in manifest.files:
            archive.write(folder / name, name)


def inside(file: Path, limit: int) -> Manifest:
    """What an exported entry says it holds, checked as far as that can be without reading it all.

    Raises:
        CacheError: where it is no exported entry, is larger than ``limit``, or holds other names.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            found = manifests.parse(_short(archive))
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            doubled = len(archive.infolist()) != len(sizes)
    except BROKEN as error:
        raise CacheError(f"{file} is not an exported cache entry: {error}", hint=HINT) from error
    wrong = next((name for name in found.files if not _harmless(name)), "")
    told = {name: size for name, (_, size) in found.files.items()}
    sizes.pop(MANIFEST, None)
    if wrong or not KEY.fullmatch(found.key) or doubled or sizes != told:
        why = f"its name {wrong!r} leads elsewhere" if wrong else "it holds other than it lists"
        raise CacheError(f"{file} is not taken: {why}", hint=HINT)
    if sum(told.values()) > limit:
        raise CacheError(
            f"{file} holds {sum(told.values())} bytes, the cache is limited to {limit}",
            hint="cl.configure(cache_limit=…)",
        )
    return found


def unpack(file: Path, manifest: Manifest, folder: Path) -> None:
    """Write the files of an exported entry; none is longer than its manifest says.

    Raises:
        CacheError: for the first that is not as it was written.
    """
    with zipfile.ZipFile(file) as archive:
        for name, (digest, size) in manifest.files.items():
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                right = _copied(archive, name, target, size) == digest
            except BROKEN as error:
                raise CacheError(f"{file}: {name} cannot be read: {error}", hint=HINT) from error
            if not right:
                raise CacheError(f"{file}: {name} is not as it was written", hint=HINT)


def _copied(archive: zipfile.ZipFile, name: str, target: Path, size: int) -> str:
    """Copy one file, at most ``size`` bytes and one more; its SHA-256."""
    digest, left = hashlib.sha256(), size + 1
    with archive.open(name) as source, target.open("xb") as made:
        while left and (piece := source.read(min(PIECE, left))):
            left -= len(piece)
            digest.update(piece)
            made.write(piece)
    return digest.hexdigest()


def _short(archive: zipfile.ZipFile) -> bytes:
    with archive.open(MANIFEST) as file:
        return file.read(LARGEST)


def _harmless(name: str) -> bool:
    """Whether a name stays inside its folder on every system."""
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and not any(c in name for c in "\\:\0")
    return plain and bool(parts) and not name.startswith("/") and not {"..", "."} & set(parts)
