"""An hour of 40 metrics at 10 Hz in a recording: memory while it is kept, time to save and load.

Memory is what tracemalloc counts (numpy's columns are part of it): kept, and the most at once while
the columns are made. The values are random, so they compress as badly as any can.
Targets: < 50 MB, even while it is made; < 2 s to save.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from coreml_lab.metrics import Provenance
from coreml_lab.records import PlanInfo, ProgramInfo, Recording
from coreml_lab.samples import Sample, Samples

TICKS, METRICS, TIMES = 36_000, 40, 5
MOST_MB, MOST_SECONDS = 50, 2.0


def hour() -> Iterator[Sample]:
    """Every 100 ms a reading of each metric."""
    draw = random.Random(0)
    names = [f"system.cpu.core/{i}" for i in range(METRICS)]
    for tick in range(TICKS):
        for name in names:
            yield Sample(tick * 100_000_000, name, draw.random(), Provenance.MEASURED)


def timed(work: Callable[[], object]) -> tuple[float, float, float]:
    """Median, least and most seconds of a few runs."""
    found = []
    for _ in range(TIMES):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found), min(found), max(found)


def main() -> int:
    """0 where both targets are met."""
    tracemalloc.start()
    samples = Samples.of(hour())
    kept, peak = (size / 1e6 for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    program = ProgramInfo("net", "k", "net.mlpackage", "fp32", (), (), (), 0)
    recording = Recording({}, program, PlanInfo("portable", "cpu", "a CPU"), (), samples)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.json"
        save = timed(lambda: recording.save(path))
        load = timed(lambda: Recording.load(path))
        size = path.stat().st_size / 1e6
    met = peak < MOST_MB and save[0] < MOST_SECONDS
    print(f"{len(samples):,} samples: {kept:.1f} MB kept, {peak:.0f} MB at most while made")
    for what, (middle, least, most) in (("save", save), ("load", load)):
        print(f"{what}: {middle:.2f} s [{least:.2f}, {most:.2f}] ({TIMES} times), {size:.1f} MB")
    print(f"targets < {MOST_MB} MB and < {MOST_SECONDS:g} s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
