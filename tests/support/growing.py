"""Whether a process grows: over predictions, and over loading and letting go of models.

A leak shows in every window; what a library keeps once, or what another test left behind to be
freed, does not. So of several windows of the same length one must have grown little.

    python -m tests.support.growing ENGINE DEVICE

asks for ten thousand predictions and a thousand loads, in a process of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.probes.process import memory as memory_of
from coreml_lab.probes.protocol import Target
from coreml_lab.program import heap
from coreml_lab.run.activity import ACTIVITY

X = {"x": np.ones((4, 8), np.float32)}
WINDOWS, KEPT_RUNS = 3, 64
PREDICTIONS, LOADS, ALL_KB = 10_000, 1_000, 2048


def network(x: Any) -> Any:
    return cl.ops.relu(cl.ops.linear(x, weight=np.ones((16, 8), np.float32)))


def model_on(engine: str, device: str) -> Any:
    return cl.compile(network, x=cl.spec(4, 8), name="net", engine=engine, device=device)


def resident(pid: int = 0) -> float:
    """Bytes of a process in memory, after the garbage is gone."""
    gc.collect()
    return memory_of(Target(pid or os.getpid()))()[0]


def opened() -> tuple[int, int]:
    """Threads and open files of this process."""
    files = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112
    return threading.active_count(), len(os.listdir(files))  # noqa: PTH208


def assert_bounded(
    work: Callable[[], object], times: int, limit_kb: float, pid: int = 0, windows: int = WINDOWS
) -> None:
    """In one of the windows at least a process grew by less, and nothing stayed open."""
    for _ in range(times // 4 + 1):
        work()
    gc.collect()
    before, grown = opened(), []
    with heap.apart():
        while not grown or (grown[-1] >= limit_kb and len(grown) < windows):
            start = resident(pid)
            for _ in range(times):
                work()
            grown.append((resident(pid) - start) / 1024)
    now = opened()
    assert now[0] <= before[0], "threads stayed"
    assert now[1] <= before[1], "files stayed open"
    said = f"grew by {', '.join(f'{kb:.0f}' for kb in grown)} kB in {times} times each"
    assert grown[-1] < limit_kb, said + ("" if pid else f": {allocated(work, times)}")


def allocated(work: Callable[[], object], times: int) -> str:
    """Where Python keeps more after another window, and how many more objects of which type."""
    kinds = Counter(type(o).__name__ for o in gc.get_objects())
    tracemalloc.start(8)
    try:
        for _ in range(times // 4):
            work()
        gc.collect()
        first = tracemalloc.take_snapshot()
        for _ in range(times // 4):
            work()
        gc.collect()
        found = tracemalloc.take_snapshot().compare_to(first, "traceback")
    finally:
        tracemalloc.stop()
    lines = [
        f"{d.size_diff} B in {d.count_diff}:\n" + "\n".join(d.traceback.format()) for d in found[:6]
    ]
    more = Counter(type(o).__name__ for o in gc.get_objects()) - kinds
    return f"{more.most_common(8)}\n" + "\n".join(lines)


def few_kept() -> deque[tuple[int, int]]:
    """A ring of finished runs that is full at once: it grows to some 8 MB, and no further."""
    return deque(ACTIVITY.finished, maxlen=KEPT_RUNS)


def main(engine: str, device: str) -> None:
    """The whole lengths; an error where something grew."""
    ACTIVITY.finished = few_kept()
    model = model_on(engine, device)
    package = model.program.package
    assert_bounded(lambda: model.predict(X), PREDICTIONS, ALL_KB)
    assert_bounded(lambda: cl.load(package, engine=engine, device=device).predict(X), LOADS, ALL_KB)


if __name__ == "__main__":
    main(*sys.argv[1:])
