"""One thread per process that moves numbers: sampler and executor -> feed -> page, at 10 Hz."""

from __future__ import annotations

import contextvars
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Provenance
from coreml_lab.records import Incident
from coreml_lab.run.activity import Activity
from coreml_lab.widgets.cells import Cells
from coreml_lab.widgets.feed import Feed, Patch
from coreml_lab.widgets.messages import Frame

SECOND_NS = 1_000_000_000
FAST_NS = SECOND_NS // 10
SLOW_NS = SECOND_NS
# Seconds between two steps: at least, and in addition while no tick comes.
REST, AT_MOST = 0.07, 0.05
# A page says so every 5 s while idle: three lost heartbeats and nobody is looking.
ATTENTION_NS = 15 * SECOND_NS
# A busy kernel cannot hear its page, so silence proves nothing then; but a stream that nobody
# reads piles up in the server.
PATIENCE_NS = 600 * SECOND_NS
# Long enough that ten inferences a second are not a saw-tooth, short enough to show a stall.
WINDOW_NS = SECOND_NS
MOST_DURATIONS = 500

EXECUTOR = (
    "coreml_lab.executor.throughput",
    "coreml_lab.executor.latency.p50",
    "coreml_lab.executor.latency.p95",
    "coreml_lab.executor.latency.p99",
)
# Fewer durations do not tell their 99th percentile from their greatest.
ENOUGH_FOR_P99 = 100


class Tick(Protocol):
    """One reading of all columns."""

    @property
    def t_ns(self) -> int:
        """When it was read."""
        ...

    @property
    def values(self) -> Sequence[float]:
        """One value per column, NaN where there is none."""
        ...


class Source(Protocol):
    """What the pump needs of a sampler."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a tick."""
        ...

    @property
    def provenance(self) -> Mapping[str, tuple[Provenance, str]]:
        """How each column comes to be, and why it is missing."""
        ...

    def read(self) -> Sequence[Tick]:
        """The ticks since the last call."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for a tick that was not read yet; False where none came in ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """Let the sampler go."""
        ...


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie, interpolated; NaN of none."""
    if not ordered:
        return math.nan
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass
class Throughput:
    """Inferences per second and their latencies, at each tick, over the second before it."""

    activity: Activity
    _seen: int = 0
    # End, duration and how many inferences it stands for.
    _ends: deque[tuple[int, int, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._seen = self.activity.total

    def collect(self) -> None:
        """Take what has finished since the last call."""
        total = self.activity.total
        finished = self.activity.since(self._seen)
        count, self._seen = total - self._seen, total
        # Sorting a hundred thousand durations a second would slow down what is watched: of many,
        # every n-th stands for its neighbours, and for those that fell out of the activity's ring.
        picked = finished[:: max(1, len(finished) // MOST_DURATIONS)]
        share = count / len(picked) if picked else 0.0
        self._ends.extend((start + took, took, share) for start, took in picked)

    def at(self, t_ns: int) -> tuple[float, float, float, float]:
        """Throughput, median, 95th and 99th percentile; NaN where too few have finished."""
        while self._ends and self._ends[0][0] <= t_ns - WINDOW_NS:
            self._ends.popleft()
        known = [(took / SECOND_NS, share) for end, took, share in self._ends if end <= t_ns]
        durations = sorted(took for took, _ in known)
        rate = math.fsum(share for _, share in known) * SECOND_NS / WINDOW_NS
        p99 = percentile(durations, 0.99) if len(durations) >= ENOUGH_FOR_P99 else math.nan
        return rate, percentile(durations, 0.5), percentile(durations, 0.95), p99


@dataclass
class Demand:
    """How often the page wants to be told, decided from what is known about it."""

    seen_ns: int | None = None
    busy_since_ns: int | None = None

    def looked(self, now_ns: int) -> None:
        """A page has spoken, or a cell has ended in front of one."""
        self.seen_ns = now_ns

    def every(self, now_ns: int, *, busy: bool) -> int | None:
        """Nanoseconds between two frames, or ``None`` for no frames at all."""
        if self.seen_ns is None:
            return None
        if not busy:
            self.busy_since_ns = None
            return SLOW_NS if now_ns - self.seen_ns <= ATTENTION_NS else None
        if self.busy_since_ns is None:
            self.busy_since_ns = now_ns
        heard = max(self.busy_since_ns, self.seen_ns)
        return FAST_NS if now_ns - heard <= PATIENCE_NS else SLOW_NS


Send = Callable[[Frame, list[bytes]], None]


@dataclass
class Pump:
    """Moves what is new once per step; ``start`` takes ten steps a second in its own thread.

    Attributes:
        lock: held while the feed is written; who reads the feed from another thread takes it too.
    """

    source: Source
    feed: Feed
    activity: Activity
    cells: Cells
    send: Send
    clock: Clock = SYSTEM
    demand: Demand = field(default_factory=Demand)
    _throughput: Throughput = field(init=False)
    _cells_seen: int = 0
    _incidents_seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _history: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _complaint: str = ""

    def __post_init__(self) -> None:
        self._throughput = Throughput(self.activity)
        self._incidents_seen = self.activity.incident_total

    def looked(self, *, wants_history: bool = False) -> None:
        """A page has spoken; called from whatever thread its message arrives on."""
        self.demand.looked(self.clock.now_ns())
        if wants_history:
            self._history.set()
        self._wake.set()

    def step(self) -> None:
        """Read everything that is new, and tell the page if it is time."""
        with self.lock:
            self._read()
            patch = self._next()
        if patch is None:
            return
        try:
            self.send(*patch.message())
        except Exception:  # noqa: BLE001 - a closing socket raises many kinds; the loss is counted and shown
            with self.lock:
                self.feed.lost(patch)

    def _next(self) -> Patch | None:
        now = self.clock.now_ns()
        every = self.demand.every(now, busy=self.feed.state["busy"])
        if every is None:
            return None
        self.feed.every_ns = every
        if self._history.is_set():
            self._history.clear()
            return self.feed.history(now)
        return self.feed.poll(now)

    def _read(self) -> None:
        # Ticks before inferences: whatever finished before a tick is then known.
        ticks = self.source.read()
        self._throughput.collect()
        for tick in ticks:
            self.feed.push(tick.t_ns, (*tick.values, *self._throughput.at(tick.t_ns)))
        self._read_cells()
        self._read_incidents()
        activity, cell = self.activity, self.cells.current
        self.feed.state = {
            "busy": cell is not None,
            "cell": cell,
            "runs": activity.total,
            "incidents": activity.incident_total,
            "hits": activity.cache_hits,
            "misses": activity.cache_misses,
            "program": legible(activity.program),
            "scheduler": str(activity.serving),
            "title": legible(activity.stage or (activity.plan.title if activity.plan else "")),
        }

    def _read_cells(self) -> None:
        changed = self.cells.changed
        fresh = changed - self._cells_seen
        self._cells_seen = changed
        if fresh:
            # A cell changes at most twice, so the last ``fresh`` of them hold every change.
            for cell in list(self.cells.seen)[-fresh:]:
                self.feed.event(cell)

    def _read_incidents(self) -> None:
        total = self.activity.incident_total
        fresh = min(total - self._incidents_seen, len(self.activity.incidents))
        self._incidents_seen = total
        if fresh <= 0:
            return
        for offset, incident in enumerate(list(self.activity.incidents)[-fresh:]):
            self.feed.event(
                {
                    "k": "incident",
                    "id": total - fresh + offset + 1,
                    "t": incident.t_ns / SECOND_NS,
                    "error": legible(incident.error),
                    "message": legible(incident.message, SENTENCE),
                    "action": legible(incident.action, SENTENCE),
                    "outcome": legible(incident.outcome, SENTENCE),
                }
            )

    def start(self) -> None:
        """Begin, unless it runs already."""
        if self._thread is not None:
            return
        self._stopped.clear()
        # ipykernel 7.0 finds no parent header in a bare thread: it inherits the caller's context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name="coreml_lab pump", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    def _attempt(self) -> None:
        try:
            self.step()
        except Exception as error:  # noqa: BLE001 - a dead thread would be silent; an incident is not
            said = f"the dashboard could not read its numbers: {error}"
            if said != self._complaint:
                self._complaint = said
                self.activity.report(
                    Incident(self.clock.now_ns(), type(error).__name__, said, "go on", "retried")
                )

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self._attempt()
            # The sampler's ticks set the pace: a step between two of them would find nothing.
            self._wake.wait(REST)
            self._wake.clear()
            self.source.wait(AT_MOST)
