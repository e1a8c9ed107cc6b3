"""Memory that is really held, and really given back."""

from __future__ import annotations

import mmap


def touch(size: int) -> None:
    """Map ``size`` bytes, write to every page, and unmap them.

    An array would not do: in a process that has run much, the allocator takes it from memory that
    was freed before, and keeps that afterwards.
    """
    with mmap.mmap(-1, size, access=mmap.ACCESS_COPY) as held:
        held[:: mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)
