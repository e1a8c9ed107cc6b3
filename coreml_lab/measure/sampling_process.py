"""The process that samples: reads the probes on time, writes records to its standard output.

A thread in the kernel would stand still while native code holds the interpreter's lock. This
process never waits for its reader, starts in well under 0.2 s, and ends when its input does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections import deque
from dataclasses import asdict, dataclass
from typing import Protocol

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.measure.framing import Header
from coreml_lab.probes import PROBES, Panel, Target

BACKLOG_RECORDS = 36_000  # an hour at 10 Hz
_AT_ONCE = 256  # records per write


@dataclass(frozen=True)
class Orders:
    """What the sampling process is told on its command line."""

    pid: int
    interval_ns: int
    core_watts: tuple[float, float]
    parent: int

    def to_json(self) -> str:
        """The orders as one argument."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Orders:
        """The orders that ``to_json`` wrote."""
        data = json.loads(text)
        return Orders(**{**data, "core_watts": tuple(data["core_watts"])})


class Outbox:
    """Records on their way out: writing never blocks; of what nobody reads, the newest are kept."""

    def __init__(self, descriptor: int, most: int = BACKLOG_RECORDS) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._records: deque[bytes] = deque(maxlen=most)
        self._begun = b""  # the rest of what was partly written: it must go first, and whole

    def __bool__(self) -> bool:
        return bool(self._begun or self._records)

    def put(self, record: bytes) -> None:
        """Keep a record and write what the pipe takes."""
        self._records.append(record)
        self.flush()

    def flush(self) -> None:
        """Write until everything is out or the pipe is full."""
        while self:
            if not self._begun:
                count = min(_AT_ONCE, len(self._records))
                self._begun = b"".join(self._records.popleft() for _ in range(count))
            try:
                written = os.write(self.descriptor, self._begun)
            except BlockingIOError:
                return
            self._begun = self._begun[written:]


class Pause(Protocol):
    """How the loop waits."""

    def until(self, due_ns: int) -> bool:
        """Wait until ``due_ns``; False where there is nobody to sample for any more."""
        ...


class Lifeline:
    """Waits while the parent lives: holds our standard input open, and is still our parent."""

    def __init__(self, parent: int, outbox: Outbox, clock: Clock, stdin: int = 0) -> None:
        self._parent = parent
        self._outbox = outbox
        self._clock = clock
        self._stdin = stdin

    def until(self, due_ns: int) -> bool:
        """Wait, writing what the pipe takes meanwhile."""
        while True:
            left = (due_ns - self._clock.now_ns()) * 1e-9
            if left <= 0:
                return os.getppid() == self._parent
            waiting = [self._outbox.descriptor] if self._outbox else []
            readable, writable, _ = select.select([self._stdin], waiting, [], left)
            if readable and not os.read(self._stdin, 4096):
                return False
            if writable:
                self._outbox.flush()


def next_due(start_ns: int, interval_ns: int, now_ns: int) -> int:
    """The next deadline on the grid: those that have passed are skipped, not made up for."""
    return start_ns + ((now_ns - start_ns) // interval_ns + 1) * interval_ns


def serve(panel: Panel, interval_ns: int, outbox: Outbox, pause: Pause, clock: Clock) -> None:
    """Tell the columns, then a record per interval until nobody wants any more."""
    header = Header(panel.channels, interval_ns)
    outbox.put(header.to_line())
    start = clock.now_ns()
    panel.read(start)  # where differences start from
    due = start + interval_ns
    while pause.until(due):
        now = clock.now_ns()
        outbox.put(header.pack(now, panel.read(now)))
        due = next_due(start, interval_ns, clock.now_ns())


def main(text: str) -> None:
    """Run until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupting a cell must not end the samples
    orders = Orders.from_json(text)
    outbox = Outbox(sys.stdout.fileno())
    panel = Panel(Target(orders.pid, orders.core_watts), PROBES)
    try:
        serve(panel, orders.interval_ns, outbox, Lifeline(orders.parent, outbox, SYSTEM), SYSTEM)
    except BrokenPipeError:
        return
