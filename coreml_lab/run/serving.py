"""What schedulers have been doing, for recordings and the dashboard.

Each request leaves one ``Outcome`` in a ring. Rates and percentiles are worked out when somebody
looks, over the second before each moment.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from coreml_lab.metrics import Provenance
from coreml_lab.run import forking
from coreml_lab.samples import Sample

KEPT, MOST_TOLD = 65536, 1000
SECOND_NS = 1_000_000_000
STEP_NS = SECOND_NS // 10
SERVED, FAILED, CANCELLED, REFUSED = "served", "failed", "cancelled", "refused"
PREFIX = "coreml_lab.scheduler."
SHARES = {"p50": 50, "p95": 95, "p99": 99}


class Outcome(NamedTuple):
    """How one request ended; a tuple, since one is made between two runs.

    Attributes:
        t_ns: when.
        kind: served, failed, cancelled or refused.
        waited_ns: from its submission to the start of its run.
        batch: how many requests ran together with it, itself included; 0 where it did not run.
        waiting: how many requests waited when it had ended.
    """

    t_ns: int
    kind: str
    waited_ns: int = 0
    batch: int = 0
    waiting: int = 0


@dataclass
class Serving:
    """The outcomes of this process' requests, written by the threads of all schedulers."""

    outcomes: deque[Outcome] = field(default_factory=lambda: deque(maxlen=KEPT))
    counts: Counter[str] = field(default_factory=Counter)
    # How many requests wait, by the scheduler (its ``id``) that they wait in.
    queues: dict[int, int] = field(default_factory=dict)
    _lock: Any = field(default_factory=forking.rlock)  # a finalizer may take one back

    @property
    def waiting(self) -> int:
        """Requests that wait now, in all schedulers."""
        return sum(list(self.queues.values()))

    def ended(self, outcome: Outcome) -> None:
        """Keep how a request ended."""
        with self._lock:
            self.outcomes.append(outcome)
            self.counts[outcome.kind] += 1

    @property
    def total(self) -> int:
        """How many requests have ended."""
        return self.counts.total()

    def samples(self, before: int) -> tuple[Sample, ...]:
        """The metrics ten times a second while those requests ended that came after ``before``."""
        fresh = min(self.total - before, len(self.outcomes))
        known = tuple(self.outcomes)[-fresh:] if fresh > 0 else ()
        times = [o.t_ns for o in known]
        return series(known, (min(times) - STEP_NS, max(times))) if known else ()

    def __str__(self) -> str:
        """The last second that had a request, and counts, in words; empty where there was none."""
        known = tuple(self.outcomes)[-MOST_TOLD:]
        if not known:
            return ""
        found = figures([o for o in known if o.t_ns > known[-1].t_ns - SECOND_NS], 1.0)
        words = [f"{self.waiting} waiting"]
        if f"{PREFIX}batch" in found:
            waits = (f"{k} {found[f'{PREFIX}wait.{k}'] * 1e3:.3g} ms" for k in SHARES)
            words += [f"{found[f'{PREFIX}batch']:.3g} per run", f"waited {', '.join(waits)}"]
        words += [
            f"{n} {kind}" for kind in (REFUSED, CANCELLED, FAILED) if (n := self.counts[kind])
        ]
        return "; ".join(words)


def figures(outcomes: Sequence[Outcome], seconds: float) -> dict[str, float]:
    """Rates and percentiles of the outcomes of a stretch of time, by metric."""
    served = [o for o in outcomes if o.kind == SERVED]
    found = {f"{PREFIX}throughput": len(served) / seconds}
    if served:
        # Each request of a batch stands for its share of one run.
        found[f"{PREFIX}batch"] = len(served) / math.fsum(1 / o.batch for o in served)
        waits = np.percentile([o.waited_ns / 1e9 for o in served], list(SHARES.values()))
        names = (f"{PREFIX}wait.{k}" for k in SHARES)
        found |= dict(zip(names, map(float, waits), strict=True))
    return found


def series(outcomes: Sequence[Outcome], window: tuple[int, int]) -> tuple[Sample, ...]:
    """Samples at equal steps of a window, each over the second before it; counts since its start.

    Args:
        outcomes: of the window, in any order.
        window: start and end, in nanoseconds.
    """
    order = sorted(outcomes, key=lambda o: o.t_ns)
    if not order:
        return ()
    times = [o.t_ns for o in order]
    start, end = window
    found, counts, before = list[Sample](), Counter[str](), 0
    for t_ns in (*range(start + STEP_NS, end, STEP_NS), end):
        since = max(start, t_ns - SECOND_NS)
        here = bisect_right(times, t_ns)
        stretch = order[bisect_right(times, since - 1) : here]
        values = figures(stretch, max(t_ns - since, 1) / 1e9)
        counts.update(o.kind for o in order[before:here])
        before = here
        values |= {f"{PREFIX}{kind}": float(counts[kind]) for kind in (REFUSED, CANCELLED, FAILED)}
        if here:
            values[f"{PREFIX}waiting"] = float(order[here - 1].waiting)
        found += [Sample(t_ns, name, v, Provenance.MEASURED) for name, v in values.items()]
    return tuple(found)
