"""Keeps what energy counters publish while work is done, as a timeline per counter.

A publication is what counts, not a reading: where the driver stamps it, it stands at that time;
elsewhere in the middle of the time since the reading before, or of one period where that is
shorter, and it is uncertain by so much.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise

from coreml_lab.clock import Clock
from coreml_lab.errors import ProbeError
from coreml_lab.probes.counters import Domain, Opened, Reading

NAN = float("nan")
# Readings per period, and the limits of the time between two.
PER_PERIOD = 20
SHORTEST, LONGEST = 0.005, 0.05
# Publications after which the rhythm of a counter is known; it is then left alone until this share
# of the time between two has passed: a reading can take milliseconds of the driver's time.
RHYTHM, EARLY = 6, 0.7
# A stamped counter loses nothing by being read late.
STAMPED = 0.1


@dataclass(frozen=True)
class Point:
    """A publication, or a reading of a counter that is always up to date.

    Attributes:
        t_ns: when; uncertain by ``error_ns``.
        joules: since the counter was opened; NaN where it was reset.
        most: upper edge of an estimate; the same as ``joules`` for a counter.
    """

    t_ns: int
    error_ns: int
    joules: float
    most: float


@dataclass
class _Line:
    """One counter's publications so far."""

    domain: Domain
    points: list[Point] = field(default_factory=list)
    last: Reading | None = None
    known_from: int = 0

    @property
    def rhythm(self) -> int:
        """Nanoseconds between publications, once some have come; 0 before that."""
        recent = self.points[self.known_from :][-RHYTHM:]
        gaps = [b.t_ns - a.t_ns for a, b in pairwise(recent)]
        return min(gaps) if len(recent) == RHYTHM else 0

    def earliest(self) -> int:
        """When the next publication is worth looking for; 0 where that is not known."""
        rhythm = self.rhythm
        return self.points[-1].t_ns + round(EARLY * rhythm) if rhythm else 0

    def take(self, reading: Reading) -> None:
        """Keep what is new."""
        before, self.last = self.last, reading
        if before is None or not _news(before, reading):
            return
        if reading.published_ns is not None:
            self._keep(reading, reading.published_ns, 0)
        else:
            gap = reading.t_ns - before.t_ns
            if 2 * gap > self.rhythm > 0:  # it came while nobody looked: learn its rhythm anew
                self.known_from = len(self.points)
            gap = min(gap, round(self.domain.period * 1e9))
            self._keep(reading, reading.t_ns - gap // 2, gap)

    def mark(self, reading: Reading) -> None:
        """Keep a reading of a counter that is always up to date."""
        self.last = reading
        self._keep(reading, reading.t_ns, 0)

    def _keep(self, reading: Reading, t_ns: int, error_ns: int) -> None:
        most = reading.joules if reading.most is None else reading.most
        self.points.append(Point(t_ns, error_ns, reading.joules, most))


def _news(before: Reading, after: Reading) -> bool:
    """Whether a number was published between two readings."""
    if after.published_ns is not None and before.published_ns is not None:
        return after.published_ns > before.published_ns
    return before.joules != after.joules  # NaN differs from everything: a reset is kept


class Watch:
    """Reads sources when they are due; what is always up to date only when it is told to."""

    def __init__(self, sources: Sequence[Opened], clock: Clock) -> None:
        self._sources = [each for each in sources if each.domains]
        self._clock = clock
        self._lock = threading.Lock()
        self._due = [0] * len(self._sources)
        self.lines = {d.name: _Line(d) for each in self._sources for d in each.domains}

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Every counter that is read."""
        return tuple(line.domain for line in self.lines.values())

    @property
    def settle(self) -> float:
        """Seconds to rest before a mark."""
        return max((d.settle for d in self.domains), default=0.0)

    @property
    def rest(self) -> float:
        """Seconds until a source is due again."""
        due = [t for t, each in zip(self._due, self._sources, strict=True) if not _current(each)]
        left = (min(due) - self._clock.now_ns()) * 1e-9 if due else LONGEST
        return min(LONGEST, max(SHORTEST / 5, left))

    def poll(self) -> None:
        """Read the sources that are due."""
        with self._lock:
            for number, each in enumerate(self._sources):
                now = self._clock.now_ns()
                if now >= self._due[number] and not _current(each):
                    self._read(each, now, marked=False)
                    self._due[number] = max(now + round(_interval(each) * 1e9), self._next(each))

    def mark(self) -> None:
        """Read the sources that are always up to date: a block begins or ends."""
        with self._lock:
            for each in self._sources:
                if _current(each):
                    self._read(each, self._clock.now_ns(), marked=True)

    def points(self, domain: str) -> tuple[Point, ...]:
        """The timeline of a counter so far."""
        with self._lock:
            return tuple(self.lines[domain].points)

    def _next(self, each: Opened) -> int:
        """Until when no counter of a source will be published: each reading costs the machine."""
        return min(self.lines[domain.name].earliest() for domain in each.domains)

    def _read(self, each: Opened, now: int, *, marked: bool) -> None:
        try:
            readings = each.source.read(now)
        # Not this time, or what was read is no number; what follows cannot be compared.
        except (OSError, ValueError, ProbeError):
            readings = [Reading(d.name, NAN, now) for d in each.domains]
        for reading in readings:
            line = self.lines.get(reading.domain)
            if line is not None:
                (line.mark if marked else line.take)(reading)


def current(domain: Domain) -> bool:
    """Whether each reading is up to date, so that there is nothing to wait for."""
    return domain.period == 0 and not domain.stamped


def _current(each: Opened) -> bool:
    return all(current(domain) for domain in each.domains)


def _interval(each: Opened) -> float:
    """Seconds between readings."""
    if all(domain.stamped for domain in each.domains):
        return STAMPED
    period = min((d.period for d in each.domains if d.period > 0), default=LONGEST)
    return min(LONGEST, max(SHORTEST, period / PER_PERIOD))


Keep = Callable[[Watch], AbstractContextManager[object]]


@contextlib.contextmanager
def in_a_thread(watch: Watch) -> Iterator[None]:
    """Poll from a thread of this process until the block ends; it waits without the clock."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(watch.rest):
            watch.poll()

    watch.poll()
    thread = threading.Thread(target=poll, name="coreml_lab energy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
