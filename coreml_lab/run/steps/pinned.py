"""Pinned memory, which a GPU copies from and to by itself: between arrays and a captured graph."""

from __future__ import annotations

import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from coreml_lab.program.graph import Array

# Larger inputs are on their way to the device while the graph is being launched, a piece while the
# next one is copied to pinned memory; larger results are not copied once more on the host.
LARGE, PIECE = 1 << 16, 1 << 20
# One core copies 8 GB/s: inputs of so many pieces are copied with the help of other threads.
MANY, HELPERS = 4, 2
# Pinned memory cannot be swapped out: so much of it may be with callers, then results are copied.
GIVEN_AWAY = 1 << 30

# A part of a tensor on the device, of its pinned memory, and of that memory as an array.
Piece = tuple[Any, Any, Array]


def pinned(torch: Any, inside: Any) -> Any:
    """Pinned memory for a tensor on the device."""
    return torch.empty(inside.shape, dtype=inside.dtype, pin_memory=True)


def large(tensor: Any) -> bool:
    """Whether it is worth while to copy a tensor in another way than small ones."""
    return bool(tensor.nbytes > LARGE)


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HELPERS, thread_name_prefix="copying")


def _enter(work: deque[tuple[Piece, Array]]) -> None:
    """Copy arrays to pinned memory and on to the device, each piece as soon as it is there.

    Helpers take pieces from the end, for as long as there are any: nobody waits for a helper that
    has not begun.
    """
    copied: deque[Piece] = deque()

    def help_() -> None:
        while True:
            try:
                piece, array = work.pop()
            except IndexError:
                return
            piece[2][...] = array
            copied.append(piece)

    helping = [_helpers().submit(help_) for _ in range(HELPERS if len(work) >= MANY else 0)]
    while True:
        try:
            (inside, outside, host), array = work.popleft()
        except IndexError:
            break
        host[...] = array
        inside.copy_(outside, non_blocking=True)
    for helper in helping:
        if not helper.cancel():
            helper.result()
    for inside, outside, _ in copied:
        inside.copy_(outside, non_blocking=True)


@dataclass
class Border:
    """A tensor on the device and the pinned memory that it is filled from or copied to.

    ``host`` is that memory as an array; ``pieces`` are parts of all three.
    """

    inside: Any
    outside: Any
    host: Array
    pieces: tuple[Piece, ...] = ()

    @staticmethod
    def of(torch: Any, inside: Any) -> Border:
        """With pinned memory of the same shape and type; a large one is cut into pieces."""
        made = Border.between(inside, pinned(torch, inside))
        return made.cut() if made.large else made

    @staticmethod
    def between(inside: Any, outside: Any) -> Border:
        """With the pinned memory given."""
        return Border(inside, outside, outside.numpy())

    def cut(self) -> Border:
        """The same with its pieces."""
        inside, outside, host = self.inside.view(-1), self.outside.view(-1), self.host.reshape(-1)
        step = max(1, PIECE // self.inside.element_size())
        parts = [slice(at, at + step) for at in range(0, self.inside.numel(), step)]
        pieces = tuple((inside[part], outside[part], host[part]) for part in parts)
        return replace(self, pieces=pieces)

    @property
    def large(self) -> bool:
        """Whether an input is copied piece by piece, and each result gets memory of its own."""
        return large(self.inside)

    def enter(self, array: Array, *, through: bool = False) -> None:
        """Take an input: to the device piece by piece, or to where the graph fetches it.

        ``through``: a large one is copied as a whole to other memory of the device, and from there.
        """
        if through and self.pieces:
            self.host[...] = array
            there = self.outside.to(self.inside.device, non_blocking=True)
            self.inside.copy_(there, non_blocking=True)
            return
        if not self.pieces or not array.flags.c_contiguous:
            self.host[...] = array
            for inside, outside, _ in self.pieces:
                inside.copy_(outside, non_blocking=True)
            return
        given, at, work = array.reshape(-1), 0, deque[tuple[Piece, Array]]()
        for piece in self.pieces:
            size = piece[2].size
            work.append((piece, given[at : at + size]))
            at += size
        _enter(work)

    def fill(self) -> None:
        """Copy to the device, in the stream's order."""
        self.inside.copy_(self.outside, non_blocking=True)

    def fetch(self) -> None:
        """Copy from the device, in the stream's order."""
        self.outside.copy_(self.inside, non_blocking=True)


class Pinned:
    """Pinned memory that callers hold as results; PyTorch keeps what they let go of for reuse."""

    held = 0

    @staticmethod
    def result(torch: Any, inside: Any) -> Any:
        """A tensor of its own to copy a result to; pinned while not too much of it is out."""
        size = inside.nbytes
        pin = Pinned.held + size <= GIVEN_AWAY
        tensor = torch.empty(inside.shape, dtype=inside.dtype, pin_memory=pin)
        if pin:
            Pinned.held += size
            weakref.finalize(tensor, Pinned._back, size)
        return tensor

    @staticmethod
    def _back(size: int) -> None:
        Pinned.held -= size
