"""The queue of the scheduler: what waits, and which of it runs next (no thread, no clock)."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from coreml_lab.program.graph import Array
from coreml_lab.run.model import Model
from coreml_lab.run.state import State

# Padded batches may be this much larger than what was asked for; small ones always.
WASTE, SMALL = 1.25, 8


@dataclass(frozen=True, eq=False)
class Request:
    """One inference that was asked for; times in nanoseconds of the scheduler's clock.

    ``number``: the how-manieth of its scheduler, for errors; ``joins``: whether it may run together
    with others.
    """

    model: Model
    feeds: Mapping[str, Array]
    state: State | None
    priority: int
    at_ns: int
    end_ns: int | None
    number: int = 0
    joins: bool = False
    future: Future[dict[str, Any]] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        """Its size along the first dimension."""
        return next(int(a.shape[0]) for a in self.feeds.values())

    @property
    def lane(self) -> tuple[Any, ...]:
        """What may run together is equal here; a request that must run alone has its own."""
        if not self.joins:
            return (self.model, self.priority)
        shapes = tuple((k, a.shape[1:]) for k, a in self.feeds.items())
        return (self.model, self.priority, shapes)

    def late(self, now_ns: int) -> float:
        """Seconds past the time at which it had to begin; negative or 0 while it is in time."""
        return 0.0 if self.end_ns is None else (now_ns - self.end_ns) / 1e9


class Queue:
    """Lanes of requests that may run together, oldest first; at most ``limit`` in all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lanes: dict[tuple[Any, ...], deque[Request]] = {}
        self._size = 0
        self._dropped: list[Request] = []
        # When each model was last served, in turns; how many requests its last batch returned.
        self._served: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
        self._returned: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def put(self, request: Request) -> bool:
        """Add a request; False when it is full."""
        self._drop_cancelled()
        if self._size >= self._limit:
            return False
        self._lanes.setdefault(request.lane, deque()).append(request)
        self._size += 1
        return True

    def _drop_cancelled(self) -> None:
        """Make room, where it is needed, of those that were taken back."""
        if self._size < self._limit:
            return
        for lane in self._lanes.values():
            kept = [r for r in lane if not r.future.cancelled()]
            self._dropped += [r for r in lane if r.future.cancelled()]
            lane.clear()
            lane.extend(kept)
        self._size = sum(map(len, self._lanes.values()))
        self._lanes = {k: lane for k, lane in self._lanes.items() if lane}

    def dropped(self) -> list[Request]:
        """Those that were taken back and have made room since the last call."""
        found, self._dropped = self._dropped, []
        return found

    def _first(self) -> tuple[Any, ...]:
        """The lane whose turn it is."""
        return min(
            self._lanes,
            key=lambda k: (-k[1], self._served.get(k[0], -1), self._lanes[k][0].at_ns),
        )

    def oldest(self) -> int:
        """When the first of the next batch was submitted; 0 where nothing waits."""
        return self._lanes[self._first()][0].at_ns if self._size else 0

    def hopes_for_more(self, most: int) -> bool:
        """Whether as many callers as the last batch served may soon be back with the next one."""
        if not self._size:
            return False
        key = self._first()
        lane = self._lanes[key]
        return lane[0].joins and len(lane) < min(most, self._returned.get(key[0], 0))

    def returned(self, batch: list[Request]) -> None:
        """A batch has been answered; of requests that run alone nobody asks how many there were."""
        if batch[0].joins:
            self._returned[batch[0].model] = len(batch)

    def take(self, most: int) -> list[Request]:
        """The next requests to run, together; nothing where nothing waits."""
        if not self._size:
            return []
        key = self._first()
        lane = self._lanes[key]
        batch = [lane.popleft()]
        if batch[0].joins:
            room = (batch[0].model.largest_batch or sys.maxsize) - batch[0].rows
            while lane and len(batch) < most and lane[0].rows <= room:
                room -= lane[0].rows
                batch.append(lane.popleft())
            _trim(batch, lane)
        if not lane:
            del self._lanes[key]
        self._turn += 1
        self._served[key[0]] = self._turn
        self._size -= len(batch)
        return batch

    def clear(self) -> list[Request]:
        """Take everything out."""
        left = [r for lane in self._lanes.values() for r in lane]
        self._lanes.clear()
        self._size = 0
        return left


def _trim(batch: list[Request], lane: deque[Request]) -> None:
    """Leave for the next run what would make this one mostly filling, where batches are padded."""
    rows = sum(r.rows for r in batch)
    padded = batch[0].model.padded(rows)
    if rows <= SMALL or padded <= WASTE * rows:
        return
    while len(batch) > 1 and rows > padded // 2:
        rows -= batch[-1].rows
        lane.appendleft(batch.pop())
