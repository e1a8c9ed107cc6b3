"""The dashboard's memory: plain Python without clock, thread or widget.

It is told rows, events and the time, and hands out patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coreml_lab.widgets.messages import VERSION, CellEvent, Frame, IncidentEvent, State

Rows = NDArray[np.float64]
Event = CellEvent | IncidentEvent

SECOND_NS = 1_000_000_000
HOUR_OF_ROWS = 36_000
EARLY_NS = SECOND_NS // 50
EVENTS_KEPT = 1_000


def quiet() -> State:
    """The state of a kernel that has run nothing."""
    return {
        "busy": False,
        "cell": None,
        "runs": 0,
        "incidents": 0,
        "hits": 0,
        "misses": 0,
        "program": "",
        "scheduler": "",
        "title": "",
    }


@dataclass(frozen=True)
class Patch:
    """What a page lacks: rows, events and the state.

    Attributes:
        seq: number of the first row, counted from the first row ever pushed.
        dropped: rows so far that fell out, or failed to be sent, before any page was told.
        full: whether it replaces what the page has (the history) or follows it.
    """

    schema: int
    seq: int
    rows: Rows
    dropped: int
    now_ns: int
    every_ns: int
    events: tuple[Event, ...]
    state: State
    full: bool = False

    def message(self) -> tuple[Frame, list[bytes]]:
        """Header and buffers of the one message that carries it."""
        kind: Literal["f", "h"] = "h" if self.full else "f"
        header: Frame = {
            "k": kind,
            "v": VERSION,
            "schema": self.schema,
            "seq": self.seq,
            "n": len(self.rows),
            "dropped": self.dropped,
            "now": self.now_ns / SECOND_NS,
            "every": self.every_ns / SECOND_NS,
            "events": list(self.events),
            "state": self.state,
        }
        return header, [self.rows.astype("<f8", copy=False).tobytes()]


@dataclass
class Feed:
    """Keeps the newest ``capacity`` rows; hands each out once, in patches ``every_ns`` apart.

    Attributes:
        columns: what a row holds after its time.
        every_ns: least time between two patches; the pump widens it while nothing runs.
        total: rows ever pushed.
        dropped: rows that no patch carried.
    """

    columns: tuple[str, ...]
    capacity: int = HOUR_OF_ROWS
    every_ns: int = SECOND_NS // 10
    schema: int = 1
    state: State = field(default_factory=quiet)
    total: int = 0
    dropped: int = 0
    _ring: Rows = field(init=False, repr=False)
    _pending: int = 0
    _due_ns: int | None = None
    _told_state: State | None = None
    _events: dict[tuple[str, int], Event] = field(default_factory=dict)
    _fresh: dict[tuple[str, int], Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ring = np.full((self.capacity, 1 + len(self.columns)), np.nan)

    def push(self, t_ns: int, values: Sequence[float]) -> None:
        """Take one row.

        The oldest falls out when the ring is full, and counts as dropped if it was never sent.
        """
        row = self._ring[self.total % self.capacity]
        row[0] = t_ns / SECOND_NS
        row[1:] = values
        self.total += 1
        if self._pending == self.capacity:
            self.dropped += 1
        else:
            self._pending += 1

    def event(self, event: Event) -> None:
        """Take an event; one with the same kind and id replaces what was known of it."""
        key = (event["k"], event["id"])
        self._events[key] = event
        self._fresh[key] = event
        while len(self._events) > EVENTS_KEPT:
            self._events.pop(next(iter(self._events)))

    def lost(self, patch: Patch) -> None:
        """A patch could not be sent: its rows count as dropped, its events go with the next one."""
        self.dropped += len(patch.rows)
        for event in patch.events:
            self._fresh.setdefault((event["k"], event["id"]), event)
        self._told_state = None

    def poll(self, now_ns: int) -> Patch | None:
        """The next patch, unless nothing is new or the last is less than ``every_ns`` ago."""
        # Steps jitter by milliseconds: one that is a little early must not wait for the next.
        if self._due_ns is not None and now_ns < self._due_ns - min(EARLY_NS, self.every_ns):
            return None
        if not self._pending and not self._fresh and self.state == self._told_state:
            return None
        patch = self._patch(now_ns, self._pending, tuple(self._fresh.values()), full=False)
        self._tell(now_ns)
        return patch

    def history(self, now_ns: int) -> Patch:
        """Everything that is kept, for a page that has just come; nothing is pending then."""
        patch = self._patch(now_ns, self.kept, tuple(self._events.values()), full=True)
        self._tell(now_ns)
        return patch

    @property
    def kept(self) -> int:
        """Number of rows in the ring."""
        return min(self.total, self.capacity)

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that are kept, oldest first."""
        return tuple(self._events.values())

    def rows(self, last: int) -> Rows:
        """A copy of the ``last`` rows, oldest first."""
        count = min(last, self.kept)
        index = np.arange(self.total - count, self.total) % self.capacity
        picked: Rows = self._ring[index]
        return picked

    def _patch(self, now_ns: int, count: int, events: tuple[Event, ...], **kind: Any) -> Patch:
        seq = self.total - count
        rows = self.rows(count)
        return Patch(
            self.schema, seq, rows, self.dropped, now_ns, self.every_ns, events, self.state, **kind
        )

    def _tell(self, now_ns: int) -> None:
        # From due time to due time, so that early steps do not add up to more patches.
        behind = self._due_ns is None or abs(now_ns - self._due_ns) >= self.every_ns
        self._due_ns = (now_ns if behind or self._due_ns is None else self._due_ns) + self.every_ns
        self._told_state = self.state
        self._pending = 0
        self._fresh.clear()
