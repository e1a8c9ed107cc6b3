"""The most memory a cell, a block of code or a run held: marks that nest, without sampling.

There is one mark per process. Whoever sets it back first writes down, for everybody who is still
watching, what it stood at: so watches may lie inside one another, or overlap in threads.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from coreml_lab.errors import LabError, ProbeError
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.highwater import Level, Marks, marks
from coreml_lab.probes.protocol import NAN, Target

EARLIER = "; the most so far was reached before, so the peak meanwhile is not known"
NO_NEURAL = "only macOS tells what the Neural Engine holds"


@dataclass(frozen=True)
class MemoryUse:
    """Memory of this process over a stretch of code, in bytes.

    Attributes:
        before: when it began.
        after: when it ended.
        peak: the most meanwhile.
        above: peak less before: what the code needed on top.
        grown: after less before: what it left behind.
        neural: what the Neural Engine held at most (macOS).
    """

    before: Quantity
    after: Quantity
    peak: Quantity
    above: Quantity
    grown: Quantity
    neural: Quantity


class Board:
    """The process's mark, and who is watching it."""

    def __init__(self, found: Marks) -> None:
        self.marks = found
        self._lock = threading.Lock()
        self._watching: list[Peak] = []

    def begin(self, watch: Peak) -> tuple[Level, str]:
        """Set the mark back for a new watch; what the others had reached is kept."""
        with self._lock:
            self._note(self.marks.level())
            refused = self.marks.reset()
            self._watching.append(watch)
            return self.marks.level(), refused

    def end(self, watch: Peak) -> Level:
        """Let a watch go."""
        with self._lock:
            level = self.marks.level()
            self._note(level)
            self._watching.remove(watch)
            return level

    def _note(self, level: Level) -> None:
        for watch in self._watching:
            watch.seen(level)


_boards: dict[int, Board] = {}


def board() -> Board:
    """This process's; a forked child has its own."""
    pid = os.getpid()
    if pid not in _boards:
        _boards[pid] = Board(marks(Target(pid)))
    return _boards[pid]


class Peak(contextlib.AbstractContextManager["Peak"]):
    """Watches this process's memory: ``with cl.peak() as p: …``, then ``p.use``."""

    def __init__(self, of: Board | None = None) -> None:
        self._of = of
        self._level: Level | None = None
        self._most = self._neural = NAN
        self._why = ""
        self._use: MemoryUse | None = None

    @property
    def use(self) -> MemoryUse:
        """What was held.

        Raises:
            LabError: before the block has ended.
        """
        if self._use is None:
            raise LabError("the block is still running", hint="look at it after the with block")
        return self._use

    def seen(self, level: Level) -> None:
        """Take a level of the mark into account; what it stood at before the watch does not count.

        Where the mark could not be set back, it says something new only when it has risen.
        """
        start = self._level
        if start is not None and (not self._why or level.most > start.most):
            self._most = _most(self._most, level.most)
            self._neural = _most(self._neural, level.neural_most)

    def __enter__(self) -> Self:
        self._of = self._of or board()
        self._use = None
        self._most = self._neural = NAN
        try:
            self._level, self._why = self._of.begin(self)
        except (ProbeError, OSError) as error:
            self._level, self._why = None, str(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        start, of = self._level, self._of
        if start is None or of is None:
            self._use = _unknown(self._why)
            return
        try:
            end = of.end(self)
        except (ProbeError, OSError) as failure:
            self._use = _unknown(str(failure))
            return
        self._use = self._made(start, end, of.marks.what)

    def _made(self, start: Level, end: Level, what: str) -> MemoryUse:
        def size(value: float, why: str) -> Quantity:
            missing = Quantity.unavailable("By", why)
            known = Quantity(value, "By", Provenance.MEASURED, note=what)
            return missing if math.isnan(value) else known

        why = self._why or "this system does not tell it"
        unknown = why + EARLIER * bool(self._why and not math.isnan(end.now))
        return MemoryUse(
            before=size(start.now, why),
            after=size(end.now, why),
            peak=size(self._most, unknown),
            above=size(self._most - start.now, unknown),
            grown=size(end.now - start.now, why),
            neural=size(self._neural, NO_NEURAL),
        )


def peak() -> Peak:
    """Watch this process's memory in a ``with`` block, without sampling."""
    return Peak()


def _unknown(why: str) -> MemoryUse:
    return MemoryUse(*(Quantity.unavailable("By", why),) * 6)


def _most(one: float, other: float) -> float:
    """The larger; NaN is nothing."""
    return other if math.isnan(one) else one if math.isnan(other) else max(one, other)
