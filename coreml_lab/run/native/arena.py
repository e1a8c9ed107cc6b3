"""Arrays in memory that two processes share: mapped files, since they outlive either process.

Named shared memory would need a third process that cleans it up; a folder is removed whole.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.run.native.messages import Parcel, Slot

ALIGNMENT = 64
SMALLEST = 1 << 16
CHUNK = 1 << 20


def shared_folder() -> Path:
    """A new folder for shared files."""
    return Path(tempfile.mkdtemp(prefix="coreml-lab-"))


class Writer:
    """Lays arrays out in a shared file; what it wrote before is overwritten."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._generation = 0
        self._path = Path()
        self._map: mmap.mmap | None = None

    def put(self, batch: Iterable[Mapping[str, Any]]) -> Parcel:
        """Copy the arrays of every example into the file; it grows where it is too small.

        Raises:
            OSError: where the disk is full.
        """
        offset, examples, copies = 0, [], []
        for arrays in batch:
            slots = []
            for name, array in arrays.items():
                slots.append(Slot(name, array.dtype.name, array.shape, offset))
                copies.append((slots[-1], array))
                offset += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
            examples.append(tuple(slots))
        buffer = self._room(offset)
        for slot, array in copies:
            view(buffer, slot)[...] = array
        return Parcel(str(self._path), tuple(examples))

    def _room(self, size: int) -> mmap.mmap:
        if self._map is not None and len(self._map) >= size:
            return self._map
        if self._map is not None:
            # Arrays may still look into the old file: it goes when they do.
            self._path.unlink(missing_ok=True)
        self._generation += 1
        self._path = self._folder / f"{self._name}-{self._generation}"
        self._map = None
        _reserve(self._path, max(SMALLEST, 1 << (size - 1).bit_length()))
        self._map = _mapped(self._path)
        return self._map


class Reader:
    """Looks into the other process's file; a new name takes the place of the last one."""

    def __init__(self) -> None:
        self._path = ""
        self._map: mmap.mmap | None = None

    def views(self, parcel: Parcel) -> list[dict[str, Any]]:
        """Writable arrays that share the file's memory, by name, for every example."""
        if self._map is None or self._path != parcel.file:
            self._map, self._path = _mapped(Path(parcel.file)), parcel.file
        return [{s.name: view(self._map, s) for s in slots} for slots in parcel.examples]


def view(buffer: mmap.mmap, slot: Slot) -> Any:
    """The array in a slot, without a copy."""
    return np.ndarray(slot.shape, np.dtype(slot.dtype), buffer, slot.offset)


def _reserve(path: Path, size: int) -> None:
    """A new file of zeros, really written: a full disk is an error here, not a fault later."""
    try:
        with path.open("xb") as file:
            while size:
                size -= file.write(bytes(min(size, CHUNK)))
    except OSError:
        path.unlink(missing_ok=True)  # what fits of it would keep the disk full
        raise


def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)
