"""Which notebook cell runs: IPython's own events, and silence where there is no IPython."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.legible import legible
from coreml_lab.widgets.messages import CellEvent

KEPT = 1_000
LINE = 120
SECOND_NS = 1_000_000_000


def first_line(source: str) -> str:
    """The first line of a cell that says something."""
    lines = [line.strip() for line in source.splitlines()]
    return legible(next((line for line in lines if line), "")[:LINE])


@dataclass
class Cells:
    """The cells that ran, oldest first, and the one that runs now.

    Attributes:
        changed: counts starts and ends; who has seen a smaller number has something to read.
        on_end: called on the main thread after a cell has ended.
    """

    clock: Clock = SYSTEM
    seen: deque[CellEvent] = field(default_factory=lambda: deque(maxlen=KEPT))
    current: CellEvent | None = None
    changed: int = 0
    on_end: list[Callable[[], None]] = field(default_factory=list)
    _shell: Any = None
    _count: int = 0
    _depth: int = 0

    def watch(self, shell: Any) -> None:
        """Follow the cells of ``shell`` (an ``InteractiveShell``); a second time does nothing.

        A dashboard is made inside a cell whose start is past, so that cell counts from now.
        """
        if self._shell is shell or shell is None:
            return
        self.unwatch()
        self._shell = shell
        shell.events.register("pre_run_cell", self._started)
        shell.events.register("post_run_cell", self._ended)

    def adopt(self) -> None:
        """Take the cell that is running now, where its start was missed."""
        if self._shell is None or self.current is not None:
            return
        inputs = self._shell.user_ns.get("In", [""])
        self.start(len(inputs) - 1, inputs[-1] if inputs else "")

    def unwatch(self) -> None:
        """Stop following."""
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._started)
            self._shell.events.unregister("post_run_cell", self._ended)
            self._shell = None

    def start(self, number: int | None, source: str) -> None:
        """A cell begins; one that another cell runs (as ``%%time`` does) belongs to that cell."""
        if self.current is not None:
            if number is None or number == self.current["n"]:
                self._depth += 1
                return
            self._depth = 0
            self.end(ok=False)
        self._count += 1
        self.current = {
            "k": "cell",
            "id": self._count,
            "n": number,
            "src": first_line(source),
            "t0": self.clock.now_ns() / SECOND_NS,
            "t1": None,
            "ok": None,
        }
        self.seen.append(self.current)
        self.changed += 1

    def end(self, *, ok: bool) -> None:
        """The running cell ends; nothing happens where its start was before the watching."""
        if self.current is None:
            return
        if self._depth:
            self._depth -= 1
            return
        ended: CellEvent = {**self.current, "t1": self.clock.now_ns() / SECOND_NS, "ok": ok}
        self.seen[-1] = ended
        self.current = None
        self.changed += 1
        for callback in tuple(self.on_end):
            callback()

    def _started(self, info: Any) -> None:
        # IPython counts up before this event since 9.x, after it before: the inputs so far tell.
        number = len(self._shell.user_ns.get("In", [""]))
        stored = getattr(info, "store_history", True)
        self.start(number if stored else None, str(info.raw_cell))

    def _ended(self, result: Any) -> None:
        self.end(ok=bool(getattr(result, "success", True)))


def shell_or_none() -> Any:
    """The running IPython shell, or ``None`` in plain Python."""
    # A shell that runs has loaded this module; importing it would only cost time.
    module = sys.modules.get("IPython.core.getipython")
    return None if module is None else module.get_ipython()


def inputs_so_far() -> tuple[str, ...]:
    """The source of each cell that ran in this kernel, by its number; nothing without IPython."""
    shell = shell_or_none()
    return () if shell is None else tuple(map(str, shell.user_ns.get("In", ())))


CELLS = Cells()
