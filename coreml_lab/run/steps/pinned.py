"""Pinned memory, which a GPU copies from and to by itself: between arrays and a captured graph."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.run.steps.team import TEAM

# Larger inputs are copied by several threads, and are on their way to the device a piece while the
# next one is copied to pinned memory; larger results are not copied once more on the host.
# Seen on an H100 with 16 cores: 19 MB are there after 0.94 ms, copied by NumPy after 2.9 ms; pieces
# of 1 MB take a third more than those of 2. For 0.6 MB several threads gain a tenth, and lose
# much more where one of them has to wait for a core.
LARGE, SEVERAL, PIECE = 1 << 16, 1 << 20, 1 << 21
# Pinned memory cannot be swapped out: so much of it may be with callers, then results are copied.
GIVEN_AWAY = 1 << 30

# A part of a tensor on the device, and of its pinned memory.
Piece = tuple[Any, Any]


def pinned(torch: Any, inside: Any) -> Any:
    """Pinned memory for a tensor on the device."""
    return torch.empty(inside.shape, dtype=inside.dtype, pin_memory=True)


def room(torch: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Pinned memory as an array; None where the system gives no more of it."""
    try:
        tensor = torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True)
    except RuntimeError:
        return None
    array: Array = tensor.numpy()
    return array


def large(tensor: Any) -> bool:
    """Whether it is worth while to copy a tensor in another way than small ones."""
    return bool(tensor.nbytes > LARGE)


@dataclass
class Border:
    """A tensor on the device and the pinned memory that it is filled from or copied to.

    ``host`` is that memory as an array; ``pieces`` are parts of the two others.
    """

    torch: Any
    inside: Any
    outside: Any
    host: Array
    pieces: tuple[Piece, ...] = ()

    @staticmethod
    def of(torch: Any, inside: Any) -> Border:
        """With pinned memory of the same shape and type; a large one is cut into pieces."""
        made = Border.between(torch, inside, pinned(torch, inside))
        return made.cut() if made.large else made

    @staticmethod
    def between(torch: Any, inside: Any, outside: Any) -> Border:
        """With the pinned memory given."""
        return Border(torch, inside, outside, outside.numpy())

    def cut(self) -> Border:
        """The same with its pieces."""
        inside, outside = self.inside.view(-1), self.outside.view(-1)
        step = max(1, PIECE // self.inside.element_size())
        parts = [slice(at, at + step) for at in range(0, self.inside.numel(), step)]
        pieces = tuple((inside[part], outside[part]) for part in parts)
        return replace(self, pieces=pieces)

    @property
    def large(self) -> bool:
        """Whether an input is copied piece by piece, and each result gets memory of its own."""
        return large(self.inside)

    def enter(self, array: Array, *, through: bool = False) -> None:
        """Take an input: to the device piece by piece, or to where the graph fetches it.

        ``through``: a large one is copied as a whole to other memory of the device, and from there.
        While the team rests, CUDA's driver takes it as it takes those of any caller: by one thread
        through pinned memory of its own. For 19 MB that takes 1.4 ms, and with NumPy 2.3 (on the
        host of an H100, where the team takes 0.9: ``bench_cuda --only copies``).
        """
        if self.pieces and self.inside.nbytes > SEVERAL and self._shared(array):
            self._several(self.torch.from_numpy(array), through=through)
            return
        self.host[...] = array
        if through and self.pieces:
            self._through()
        elif self.pieces:
            self.fill()

    def _several(self, given: Any, *, through: bool) -> None:
        """Take one for which several threads are worth while."""
        if given.is_pinned():  # a result of ours: the GPU fetches it, and nobody waits for that
            self.inside.copy_(given, non_blocking=True)
        elif TEAM.rests:
            TEAM.instead(given.nbytes, lambda: self.inside.copy_(given, non_blocking=True))
        elif through:
            TEAM.copy(self.outside, given)
            self._through()
        else:
            parts = given.view(-1).split(len(self.pieces[0][1]))
            for (inside, outside), part in zip(self.pieces, parts, strict=True):
                TEAM.copy(outside, part)
                inside.copy_(outside, non_blocking=True)

    def _through(self) -> None:
        there = self.outside.to(self.inside.device, non_blocking=True)
        self.inside.copy_(there, non_blocking=True)

    def _shared(self, array: Array) -> bool:
        """Whether PyTorch reads an array where it is, with several threads and without a word."""
        flags = array.flags
        return bool(flags.c_contiguous and flags.writeable and array.dtype == self.host.dtype)

    def fill(self) -> None:
        """Copy to the device, in the stream's order."""
        self.inside.copy_(self.outside, non_blocking=True)

    def fetch(self, *, wait: bool = False) -> None:
        """Copy from the device, in the stream's order; ``wait`` until it is here."""
        self.outside.copy_(self.inside, non_blocking=not wait)


class Pinned:
    """Pinned memory that callers hold as results; PyTorch keeps what they let go of for reuse."""

    held = 0
    lock = threading.Lock()
    # What was let go of since: that may happen in the middle of anything, where nobody may wait.
    back: deque[int] = deque()  # noqa: RUF012 - the one queue

    @staticmethod
    def result(torch: Any, inside: Any) -> Any:
        """A tensor of its own to copy a result to; pinned while not too much of it is out."""
        size = inside.nbytes
        pin = Pinned._taken(size)
        try:
            tensor = torch.empty(inside.shape, dtype=inside.dtype, pin_memory=pin)
        except BaseException:
            Pinned.back.append(size * pin)
            raise
        if pin:
            weakref.finalize(tensor, Pinned.back.append, size)
        return tensor

    @staticmethod
    def _taken(size: int) -> bool:
        """Count a result of that size as given away, where that is not too much."""
        with Pinned.lock:
            while Pinned.back:
                Pinned.held -= Pinned.back.popleft()
            pin = Pinned.held + size <= GIVEN_AWAY
            Pinned.held += size * pin
        return pin
