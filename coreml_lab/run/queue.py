"""The queue of the scheduler: what waits, and which of it runs next (no thread, no clock)."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from coreml_lab import config
from coreml_lab.program.graph import Array
from coreml_lab.run.model import Model
from coreml_lab.run.state import State

# Padded batches may be this much larger than what was asked for; small ones always.
WASTE, SMALL = 1.25, 8
Lane = tuple[Any, ...]


def _settings() -> tuple[bool, float]:
    """What of the settings a run depends on: joined requests have one run."""
    now = config.current()
    return now.recover, now.deadline


@dataclass(frozen=True, eq=False)
class Request:
    """One inference that was asked for; times in nanoseconds of the scheduler's clock.

    ``number``: the how-manieth of its scheduler; ``context``: that of who asked, whose settings
    hold for its run.
    """

    model: Model
    feeds: Mapping[str, Array]
    state: State | None
    priority: int
    at_ns: int
    end_ns: int | None
    number: int = 0
    context: Context = field(default_factory=copy_context)
    settings: tuple[bool, float] = field(default_factory=_settings)
    future: Future[dict[str, Any]] = field(default_factory=Future)

    @cached_property
    def rows(self) -> int:
        """Its size along the first dimension."""
        return next(int(a.shape[0]) for a in self.feeds.values())

    @cached_property
    def lane(self) -> Lane:
        """What may run together is equal here; steps of one state wait in line."""
        if self.state is not None:
            return (self.model, self.priority, id(self.state))
        # Those of classical models may be numbers, words and pictures, and are never joined.
        shapes = tuple((k, getattr(a, "shape", ())[1:]) for k, a in self.feeds.items())
        return (self.model, self.priority, self.settings, shapes)

    def late(self, now_ns: int) -> float:
        """Seconds past the time at which it had to begin; negative or 0 while it is in time."""
        return 0.0 if self.end_ns is None else (now_ns - self.end_ns) / 1e9


class Queue:
    """Lanes of requests that may run together, oldest first; at most ``limit`` in all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lanes: dict[Lane, deque[Request]] = {}
        self._size = 0
        # The requests of each state, in their order: only the first of them may run, and only
        # while no step of that state does.
        self._states: dict[int, deque[Request]] = {}
        self._stepping: set[int] = set()
        # When those with a deadline must begin.
        self._ends: dict[Request, int] = {}
        # When each model was last served, in turns; how many requests its last batch returned, and
        # when; whether its requests may run together, where that was asked.
        self._served: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
        self._returned: WeakKeyDictionary[Model, tuple[int, int]] = WeakKeyDictionary()
        self._joins: WeakKeyDictionary[Model, bool] = WeakKeyDictionary()
        self._unsure: WeakSet[Model] = WeakSet()
        # Somebody tries them now: they run when it is known what may run together.
        self._trying: WeakSet[Model] = WeakSet()
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def put(self, request: Request) -> bool:
        """Add a request; False when it is full."""
        if self._size >= self._limit:
            return False
        self._lanes.setdefault(request.lane, deque()).append(request)
        self._size += 1
        # A model that was never served waits like one that was served just now: else a new one
        # would always come before those that wait already.
        self._served.setdefault(request.model, self._turn)
        if request.state is not None:
            self._states.setdefault(id(request.state), deque()).append(request)
        if request.end_ns is not None:
            self._ends[request] = request.end_ns
        return True

    def remove(self, request: Request) -> bool:
        """Take one out; False where it does not wait any more."""
        lane = self._lanes.get(request.lane, ())
        if request not in lane:
            return False
        self._without(request)
        return True

    def _without(self, request: Request) -> None:
        _drop(self._lanes, request.lane, request)
        if request.state is not None:
            _drop(self._states, id(request.state), request)
        self._ends.pop(request, None)
        self._size -= 1

    def expired(self, now_ns: int) -> list[Request]:
        """Take out those that had to begin before."""
        found = [request for request, end in self._ends.items() if end < now_ns]
        for request in found:
            self._without(request)
        return found

    def first_end(self) -> int | None:
        """The next deadline of those that wait; None where none has one."""
        return min(self._ends.values(), default=None)

    @property
    def ready(self) -> bool:
        """Whether something waits that may run now."""
        return any(self._may_run(lane[0]) for lane in self._lanes.values())

    def _first(self) -> Lane | None:
        """The lane whose turn it is; None where nothing may run."""
        able = (k for k, lane in self._lanes.items() if self._may_run(lane[0]))
        return min(able, key=self._order, default=None)

    def _may_run(self, request: Request) -> bool:
        if request.model in self._trying:
            return False
        state = id(request.state)
        first = request.state is None or self._states[state][0] is request
        return first and state not in self._stepping

    def stepped(self, state: State) -> None:
        """The step of a state that was taken has ended."""
        self._stepping.discard(id(state))

    def _order(self, lane: Lane) -> tuple[int, int, int]:
        """Smaller is earlier."""
        first = self._lanes[lane][0]
        urgent = first.priority
        if first.state is not None:  # what waits behind it cannot overtake it
            urgent = max(r.priority for r in self._states[id(first.state)])
        return (-urgent, self._served[first.model], first.number)

    def untried(self) -> Request | None:
        """The request whose turn it is, where several wait and nobody knows if they may join.

        Who asks has to find out: until it is ``tried``, its model has no turn.
        """
        key = self._first()
        lane = self._lanes[key] if key is not None else deque[Request]()
        if len(lane) < 2 or lane[0].state is not None:  # noqa: PLR2004 - two are company
            return None
        if lane[0].model in self._joins:
            return None
        self._trying.add(lane[0].model)
        return lane[0]

    def tried(self, model: Model, *, joins: bool, sure: bool = True) -> None:
        """What was found out about a model; where that is not sure, it holds for its next run."""
        self._trying.discard(model)
        self._joins[model] = joins
        if not sure:
            self._unsure.add(model)

    def waits_until(self, budget_ns: float, most: int) -> float:
        """Until when the next batch may wait for others, in the clock's nanoseconds; else 0.

        It does while nothing else waits, and as many callers as the last batch served may soon be
        back: those who are not after as long as the budget may not come. No longer than the budget
        of its first allows, or half of the time to a deadline.
        """
        key = self._first()
        if key is None or len(self._lanes) > 1:
            return 0.0
        lane = self._lanes[key]
        count, at_ns = self._returned.get(lane[0].model, (0, 0))
        hoped = min(most, count)
        if lane[0].state is not None or len(lane) >= hoped or _full(lane):
            return 0.0
        ends = ((r.at_ns + r.end_ns) / 2 for r in lane if r.end_ns is not None)
        return min([min(at_ns, lane[0].at_ns) + budget_ns, *ends])

    def returned(self, batch: list[Request], now_ns: int) -> None:
        """A batch has been answered; of requests that run alone nobody asks how many there were."""
        if self._joins.get(batch[0].model) and batch[0].state is None:
            self._returned[batch[0].model] = len(batch), now_ns

    def take(self, most: int) -> list[Request]:
        """The next requests to run, together; nothing where nothing may run.

        That of a state is a step, and keeps the others of that state waiting until it ``stepped``.
        """
        key = self._first()
        if key is None:
            return []
        lane = self._lanes[key]
        model, batch = lane[0].model, [lane[0]]
        if self._joins.get(model) and batch[0].state is None:
            # Of a model that cannot say how many it takes, one runs, and is told what is wrong.
            with suppress(BaseException):
                batch = _fitting(lane, most)
        for request in batch:
            self._without(request)
        if batch[0].state is not None:
            self._stepping.add(id(batch[0].state))
        if model in self._unsure:
            self._unsure.discard(model)
            self._joins.pop(model, None)
        self._turn += 1
        self._served[model] = self._turn
        return batch

    def clear(self) -> list[Request]:
        """Take everything out."""
        left = [r for lane in self._lanes.values() for r in lane]
        self._lanes.clear()
        self._states.clear()
        self._ends.clear()
        self._size = 0
        return left


def _drop(lanes: dict[Any, deque[Request]], key: Any, request: Request) -> None:
    """Take a request out of its lane, and the lane away where it is empty."""
    lanes[key].remove(request)
    if not lanes[key]:
        del lanes[key]


def _full(lane: deque[Request]) -> bool:
    """Whether no other request fits into a run of the oldest of a lane that joins."""
    try:
        room = lane[0].model.largest_batch
    except BaseException:  # noqa: BLE001 - its run tells what is wrong with it
        return True
    return room is not None and sum(r.rows for r in lane) >= room


def _fitting(lane: deque[Request], most: int) -> list[Request]:
    """The oldest of a lane that one run takes."""
    model, batch, rows = lane[0].model, list[Request](), 0
    room = model.largest_batch or sys.maxsize
    for request in lane:
        if len(batch) == most or (batch and rows + request.rows > room):
            break
        batch.append(request)
        rows += request.rows
    # What would make this run mostly filling, where batches are padded, is left for the next one.
    padded = model.padded(rows)
    if rows > SMALL and padded > WASTE * rows:
        while len(batch) > 1 and rows > padded // 2:
            rows -= batch.pop().rows
    return batch
