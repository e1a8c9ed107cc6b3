"""Does anything grow from run to run? Windows of equal length, and a verdict only when it is sure.

What a library keeps once shows in one window, a leak in all of them: so what grows by more than
its tolerance in *every* window is called a leak, and the smallest growth of a window is the most
that a leak can be. With six windows, noise that goes up as often as down does so in all of them
once in 64 times; tolerances are far above what counters that do not leak were seen to move by.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from coreml_lab.errors import LabError, ProbeError
from coreml_lab.measure.recorder import Subject
from coreml_lab.metrics import Provenance
from coreml_lab.probes.process import memory as memory_of
from coreml_lab.probes.protocol import NAN, Target
from coreml_lab.program import heap
from coreml_lab.run import memory
from coreml_lab.run.activity import ACTIVITY

WINDOWS = 6
RUNS = 200
# A few pages per window: what an allocator takes, or the kernel counts late.
PAGES = 64 * 1024
TRACED = 5


@dataclass(frozen=True)
class Counter:
    """Something that may grow.

    Attributes:
        name: what it is, for people.
        unit: ``By`` or ``{object}``, ``{thread}``, ``{file}``.
        read: what it stands at; NaN where it is not told.
        tolerance: what one window may grow by without being called a leak, for that many runs.
    """

    name: str
    unit: str
    read: Callable[[], float]
    tolerance: Callable[[int], float]


@dataclass(frozen=True)
class Growth:
    """What one counter did.

    Attributes:
        windows: growth in each window.
        tolerance: what a window may grow by without being called a leak.
        per_run: the median window's growth per run.
        low: the smallest window's per run: if it leaks, this much at most.
        high: the largest window's per run.
    """

    name: str
    unit: str
    windows: tuple[float, ...]
    tolerance: float
    runs: int

    @property
    def known(self) -> bool:
        """Whether it was told at all."""
        return all(w == w for w in self.windows)  # noqa: PLR0124 - is not NaN

    @property
    def leaks(self) -> bool:
        """Whether it grew by more than its tolerance in every window."""
        enough = len(self.windows) >= WINDOWS
        return self.known and enough and min(self.windows) > self.tolerance

    @property
    def per_run(self) -> float:
        """Growth per run of the median window."""
        return median(self.windows) / self.runs

    @property
    def low(self) -> float:
        """Growth per run of the smallest window."""
        return min(self.windows) / self.runs

    @property
    def high(self) -> float:
        """Growth per run of the largest window."""
        return max(self.windows) / self.runs

    @property
    def bound(self) -> float:
        """The largest leak per run that could have gone unnoticed."""
        return max(min(self.windows), self.tolerance) / self.runs


@dataclass(frozen=True)
class Found:
    """What grew over a number of windows of runs.

    Attributes:
        places: the lines of Python that allocated what was not given back, with bytes per run;
            only where Python's own objects grow.
    """

    runs: int
    growths: tuple[Growth, ...]
    places: tuple[tuple[str, float], ...] = ()

    @property
    def leaks(self) -> tuple[Growth, ...]:
        """Those that are sure."""
        return tuple(g for g in self.growths if g.leaks)


class Heard(Protocol):
    """Told after each window how many are done."""

    def __call__(self, done: int, of: int, /) -> None:
        """Take note."""
        ...


def unheard(done: int, of: int, /) -> None:
    """Tell nobody."""
    del done, of


def watch(
    work: Callable[[], object],
    counters: Sequence[Counter],
    *,
    runs: int = RUNS,
    windows: int = WINDOWS,
    progress: Heard = unheard,
) -> Found:
    """Run ``work`` in windows and see what grows.

    Raises:
        LabError: for fewer windows than a verdict needs.
    """
    if windows < WINDOWS or runs < 1:
        raise LabError(
            f"runs={runs}, windows={windows}: no verdict can be sure",
            hint=f"runs=200, windows={WINDOWS} or more",
        )
    for _ in range(runs // 2 + 3):  # what is kept once is kept now
        work()
    gc.collect()
    # What is there by now is no garbage; after each window only what came since is gone through.
    with heap.apart():
        grown = _grown(work, counters, runs, windows, progress)
    growths = tuple(
        Growth(c.name, c.unit, tuple(g), c.tolerance(runs), runs)
        for c, g in zip(counters, grown, strict=True)
    )
    objects = any(g.leaks and g.unit == "{object}" for g in growths)
    return Found(runs, growths, _places(work, runs) if objects else ())


def _grown(
    work: Callable[[], object],
    counters: Sequence[Counter],
    runs: int,
    windows: int,
    progress: Heard,
) -> list[list[float]]:
    """By how much each counter grew, window after window."""
    grown: list[list[float]] = [[] for _ in counters]
    before = _levels(counters)
    for window in range(windows):
        for _ in range(runs):
            work()
        after = _levels(counters)
        for kept, old, new in zip(grown, before, after, strict=True):
            kept.append(new - old)
        before = after
        progress(window + 1, windows)
    return grown


def _levels(counters: Sequence[Counter]) -> list[float]:
    """What all counters stand at, once the garbage is gone; objects of ours are not counted."""
    gc.collect()
    return [counter.read() for counter in counters]


def of_model(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    runs: int = RUNS,
    windows: int = WINDOWS,
    progress: Heard = unheard,
) -> Found:
    """``watch`` over predictions of a model."""
    with small_ring():
        return watch(
            lambda: model.predict(inputs),
            counters(model.plan.device),
            runs=runs,
            windows=windows,
            progress=progress,
        )


@contextlib.contextmanager
def small_ring(size: int = 64) -> Iterator[None]:
    """Keep few finished runs meanwhile: the ring fills up to some 8 MB, and is no leak."""
    kept, before = ACTIVITY.finished, ACTIVITY.total
    ACTIVITY.finished = deque(kept, maxlen=size)
    try:
        yield
    finally:
        fresh = min(ACTIVITY.total - before, size)
        kept.extend(list(ACTIVITY.finished)[-fresh:] if fresh else ())
        ACTIVITY.finished = kept


def counters(device: str) -> tuple[Counter, ...]:
    """What is looked at: this process's memory, objects, threads and files, and the device's."""
    found = [
        Counter("memory of this process", "By", _resident(), lambda _: PAGES),
        Counter(
            "Python objects",
            "{object}",
            lambda: float(sys.getallocatedblocks()),
            lambda runs: max(50.0, 0.2 * runs),
        ),
        Counter("threads", "{thread}", lambda: float(threading.active_count()), lambda _: 0.0),
        Counter("open files", "{file}", _files, lambda _: 0.0),
    ]
    if not device.startswith("cpu"):
        found.append(Counter(f"memory of {device}", "By", _held(device), lambda _: PAGES))
    return tuple(found)


def _resident() -> Callable[[], float]:
    try:
        read = memory_of(Target(os.getpid()))
    except (ProbeError, OSError):
        return lambda: NAN
    return lambda: read()[0]


def _files() -> float:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            return float(len(os.listdir(folder)))  # noqa: PTH208 - only how many
    return NAN


def _held(device: str) -> Callable[[], float]:
    """What a framework, or Core ML's process, says it holds; only what is measured counts."""

    def read() -> float:
        for found in memory.memory().devices:
            if found.device == device and found.live.provenance is Provenance.MEASURED:
                return found.live.value
        return NAN

    return read


def _places(work: Callable[[], object], runs: int) -> tuple[tuple[str, float], ...]:
    """The lines whose objects are still there after another window, by Python's own tracer."""
    import tracemalloc  # noqa: PLC0415 - only where something leaks

    if tracemalloc.is_tracing():
        return ()  # somebody else's measurement
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = tracemalloc.take_snapshot()
        for _ in range(runs):
            work()
        gc.collect()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    own = tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)
    rows = after.filter_traces([own]).compare_to(before.filter_traces([own]), "lineno")
    grown = sorted((r for r in rows if r.count_diff > runs // 2), key=lambda r: -r.size_diff)
    return tuple(
        (f"{r.traceback[0].filename}:{r.traceback[0].lineno}", r.size_diff / runs)
        for r in grown[:TRACED]
    )
