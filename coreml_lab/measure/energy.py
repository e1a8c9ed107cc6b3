"""Joules of any work: idle and active blocks in turns, watched by the machine's energy counters.

``measure`` is what ``cl.energy`` and comparisons rest on; it takes a callable and opened sources.
Its parts: ``energy_watch`` keeps what counters publish, ``energy_estimate`` does the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError
from coreml_lab.measure.energy_estimate import Block, Estimate, Pair, estimate, single
from coreml_lab.measure.energy_watch import Keep, Point, Watch, current, in_a_thread
from coreml_lab.measure.paired import Work
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Domain, Opened

# A block is ten publications long, and at least a second; three where they come in batches.
BLOCK_SECONDS = 1.0
PERIODS, BATCHED_PERIODS, BATCHED = 10.0, 3.0, 0.5
FEWEST, MOST = 4, 12
WARM_CALLS, WARM_SECONDS = 3, 1.0
# After work, power falls for a while, and rises when it begins again: not counted.
REST = 0.25
ESTIMATE_SECONDS = 3.0
# To see how often a counter is published takes this many of them, and at most this long.
SEEN, LONGEST_LOOK = 3, 8.0
FRESH = 0.15
NAN = math.nan

Progress = Callable[[float, str], object]


@dataclass(frozen=True)
class Pace:
    """How often a counter was seen to be published.

    Attributes:
        period: seconds between publications; 0 for one that is always up to date.
        state: ``fresh``, ``batched`` (more than 0.15 s apart) or ``silent``.
    """

    period: float
    state: str


@dataclass(frozen=True)
class GroupEnergy:
    """One row: a group of counters, how they were paced, and what they say per inference."""

    group: str
    domains: tuple[Domain, ...]
    pace: Pace
    estimate: Estimate

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.domains[0].title


@dataclass(frozen=True)
class Measurement:
    """Everything that was seen.

    Attributes:
        groups: per group of counters, what it says.
        missing: counters that are not here, with their reasons.
        call_s: median seconds of a call in the active blocks.
        pairs: the blocks; empty where one window was all there was time for.
        window: that single active block.
        timelines: counter -> its publications.
    """

    groups: tuple[GroupEnergy, ...]
    missing: tuple[Domain, ...]
    call_s: float
    block_s: float
    pairs: tuple[Pair, ...]
    window: Block | None = None
    timelines: Mapping[str, tuple[Point, ...]] = field(default_factory=dict, repr=False)

    def group(self, name: str) -> GroupEnergy | None:
        """A row by its name; None where there is no such counter."""
        return next((g for g in self.groups if g.group == name), None)


@dataclass(frozen=True)
class Design:
    """How long a block is and how many pairs there are; no pair: one window of that length."""

    block: float
    pairs: int


def measure(
    work: Work,
    sources: Sequence[Opened],
    *,
    seconds: float = 30.0,
    progress: Progress | None = None,
    clock: Clock = SYSTEM,
    keep: Keep = in_a_thread,
) -> Measurement:
    """Joules per call of ``work``, by every counter of ``sources``.

    Args:
        work: what to do once; it returns when the device has finished.
        sources: opened sources of energy (``probes.sources``).
        seconds: the budget. Too little for four pairs of blocks: one window, gross energy only.
        progress: called with the share that is done and what is being done.
        clock: what time it is.
        keep: what polls the counters meanwhile: a thread.

    Raises:
        InputError: for a budget that is no time.

    An interrupt ends it early: the exception carries what had been found as ``measurement``.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds={seconds!r} is no time to measure in", hint="give 30, or more")
    run = _Run(work, Watch(sources, clock), clock, progress or _silent, seconds)
    missing = tuple(d for each in sources for d in each.missing)
    with keep(run.watch):
        try:
            run.all()
        except BaseException as error:
            found = run.result(missing)
            if found.pairs or found.window is not None:
                error.measurement = found  # type: ignore[attr-defined]
                error.add_note(
                    f"{len(found.pairs)} pairs of blocks were measured before this: "
                    "sys.last_value.measurement"
                )
            raise
    return run.result(missing)


class _Run:
    """One measurement while it is made."""

    def __init__(
        self, work: Work, watch: Watch, clock: Clock, progress: Progress, seconds: float
    ) -> None:
        self.watch = watch
        self._work = work
        self._clock = clock
        self._progress = progress
        self._start_ns = clock.now_ns()
        self._seconds = seconds
        self._paces: dict[str, Pace] = {}
        self._pairs: list[Pair] = []
        self._window: Block | None = None
        self._calls: list[float] = []
        self._block = NAN

    def all(self) -> None:
        """Warm up, see how the counters are paced, measure."""
        self._tell(0.0, "warming up")
        each = self._warm_up()
        self._look()
        design = self._design(each)
        self._block = design.block
        if not design.pairs:
            self._tell(0.5, "one window")
            self._window = self._active(design.block)
            return
        for number in range(design.pairs):
            self._tell(number / design.pairs, f"pair {number + 1} of {design.pairs}")
            self._pairs.append(self._pair(idle_first=number % 2 == 0))
        self._tell(1.0, "done")

    def _design(self, each: float) -> Design:
        if any(d.provenance is Provenance.MEASURED for d in self.watch.domains):
            return designed(self._paces.values(), self._left(), each)
        # An estimate from CPU time has no idle power, and its interval is that of the watts.
        return Design(max(3 * each, min(ESTIMATE_SECONDS, self._left())), 0)

    def result(self, missing: tuple[Domain, ...]) -> Measurement:
        """What was found so far."""
        lines = {d.name: self.watch.points(d.name) for d in self.watch.domains}
        groups: dict[str, list[Domain]] = {}
        for domain in self.watch.domains:
            groups.setdefault(domain.group, []).append(domain)
        rows = tuple(self._group(name, tuple(d), lines) for name, d in groups.items())
        call = median(self._calls) if self._calls else NAN
        pairs = tuple(self._pairs)
        return Measurement(rows, missing, call, self._block, pairs, self._window, lines)

    def _group(
        self, name: str, domains: tuple[Domain, ...], lines: Mapping[str, Sequence[Point]]
    ) -> GroupEnergy:
        paces = [self._paces.get(d.name, Pace(d.period, "silent")) for d in domains]
        pace = max(paces, key=lambda p: (p.state == "silent", p.period))
        if self._window is not None:
            found = single(self._window, lines, domains)
        else:
            found = estimate(self._pairs, lines, domains)
        needed = budget(pace.period)
        slow = pace.period > 0 and pace.state != "silent" and needed > self._seconds
        if found.marginal is None and slow:  # what is told whenever it is read needs no more time
            hint = f"it is published every {pace.period:.1f} s: give seconds={needed}"
            found = replace(found, reason="; ".join(filter(None, (found.reason, hint))))
        return GroupEnergy(name, domains, pace, found)

    def _warm_up(self) -> float:
        """Seconds per call, once the work has settled."""
        times: list[float] = []
        end = self._clock.now_ns() + round(min(WARM_SECONDS, self._seconds / 10) * 1e9)
        while len(times) < WARM_CALLS or self._clock.now_ns() < end:
            start = self._clock.now_ns()
            self._work()
            times.append((self._clock.now_ns() - start) * 1e-9)
            if self._left() <= 0:
                break
        return median(times)

    def _look(self) -> None:
        """See how often each counter is published, working all the while: what rests is silent."""
        end = self._clock.now_ns() + round(min(LONGEST_LOOK, self._left() / 4) * 1e9)
        waiting = [d for d in self.watch.domains if not current(d)]
        while waiting and self._clock.now_ns() < end:
            self._work()
            waiting = [d for d in waiting if len(self.watch.points(d.name)) <= SEEN]
        self._paces = {d.name: paced(d, self.watch.points(d.name)) for d in self.watch.domains}

    def _pair(self, *, idle_first: bool) -> Pair:
        if idle_first:
            idle = self._idle()
            return Pair(idle, self._active(self._block), idle_first=True)
        active = self._active(self._block)
        return Pair(self._idle(), active, idle_first=False)

    def _idle(self) -> Block:
        self._clock.sleep(REST)
        start, _ = self._marked()
        self._clock.sleep(self._block)
        return Block(start, self._marked()[1], 0)

    def _active(self, seconds: float) -> Block:
        """Work for so long, after a moment that does not count."""
        self._until(self._clock.now_ns() + round(REST * 1e9))
        start, begin = self._marked()
        calls = self._until(begin + round(seconds * 1e9))
        self._calls.append((self._clock.now_ns() - begin) * 1e-9 / calls)
        return Block(start, self._marked()[1], calls)

    def _until(self, end_ns: int) -> int:
        """Work at least once, until then; how often."""
        calls = 1
        self._work()
        while self._clock.now_ns() < end_ns:
            self._work()
            calls += 1
        return calls

    def _marked(self) -> tuple[int, int]:
        """Read what is always up to date, once it has settled; the times before and after."""
        if self.watch.settle:
            self._clock.sleep(self.watch.settle)
        before = self._clock.now_ns()
        self.watch.mark()
        return before, self._clock.now_ns()

    def _left(self) -> float:
        return self._seconds - (self._clock.now_ns() - self._start_ns) * 1e-9

    def _tell(self, share: float, what: str) -> None:
        self._progress(share, what)


def paced(domain: Domain, points: Sequence[Point]) -> Pace:
    """How often a counter is published, from what was seen of it."""
    if current(domain):
        return Pace(0.0, "fresh")
    gaps = [(b.t_ns - a.t_ns) * 1e-9 for a, b in pairwise(points)]
    if not gaps:
        return Pace(domain.period, "silent")
    period = median(gaps)
    return Pace(period, "fresh" if period <= FRESH else "batched")


def designed(paces: Iterable[Pace], seconds: float, each: float) -> Design:
    """Blocks as long as the slowest counter needs that the budget has room for."""
    wanted = sorted(_needed(p.period) for p in paces if p.state != "silent") or [BLOCK_SECONDS]
    floor = max(BLOCK_SECONDS, 3 * each)
    fits = [b for b in wanted if FEWEST * 2 * (max(b, floor) + REST + each) <= seconds]
    if not fits:
        return Design(max(floor, seconds - REST - each), 0)
    block = max(fits[-1], floor)
    pairs = min(MOST, int(seconds / (2 * (block + REST + each))))
    pairs -= pairs % 2  # as many begin with the one as with the other
    return Design(max(block, seconds / (2 * pairs) - REST - each), pairs)


def budget(period: float) -> int:
    """Seconds for four pairs of blocks of a counter of that period, in full tens."""
    looking = WARM_SECONDS + (SEEN + 1) * period
    return 10 * math.ceil((FEWEST * 2 * (_needed(period) + REST) + looking) / 10)


def _needed(period: float) -> float:
    """Seconds of a block for a counter of that period."""
    if period > BATCHED:
        return BATCHED_PERIODS * period
    return max(BLOCK_SECONDS, PERIODS * period)


def _silent(share: float, what: str) -> None:
    """Nobody wants to know."""
