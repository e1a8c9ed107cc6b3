"""What this process has been running: written by the executor, read by dashboard and profiler."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.records import Incident, PlanInfo, Recording
from coreml_lab.run.serving import Serving

KEPT = 65536


@dataclass
class Activity:
    """Counters and a ring of finished inferences; deque appends are atomic: no lock."""

    # (start_ns, duration_ns) of each finished inference; ``total`` counts those that fell out too.
    finished: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=KEPT))
    total: int = 0
    incidents: deque[Incident] = field(default_factory=lambda: deque(maxlen=KEPT))
    incident_total: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    serving: Serving = field(default_factory=Serving)
    plan: PlanInfo | None = None
    program: str = ""
    # What an engine is taking long for, in words; empty while nothing is waited for.
    stage: str = ""
    # Told of each finished run while a profile is open: (model, inputs, start_ns, duration_ns).
    watchers: list[Callable[[Any, Mapping[str, Any], int, int], None]] = field(default_factory=list)
    # Told of each finished recording, on the thread that made it.
    recorders: list[Callable[[Recording], None]] = field(default_factory=list)
    # Told of each finished comparison (``explain.comparison``), on the thread that made it.
    comparers: list[Callable[[Any], None]] = field(default_factory=list)
    # The newest recording while somebody keeps it: it holds a model and its inputs.
    last: Callable[[], Recording | None] = field(default=lambda: None)

    def report(self, incident: Incident) -> None:
        """Keep an incident."""
        self.incidents.append(incident)
        self.incident_total += 1

    def recorded(self, recording: Recording) -> None:
        """A recording is whole."""
        self.last = weakref.ref(recording)
        for told in tuple(self.recorders):
            told(recording)

    def compared(self, comparison: Any) -> None:
        """A comparison is whole."""
        for told in tuple(self.comparers):
            told(comparison)

    def since(self, total: int) -> tuple[tuple[int, int], ...]:
        """The inferences that finished after ``total`` had been counted, if still kept."""
        fresh = min(self.total - total, len(self.finished))
        # From the newest backwards: copying all that is kept would cost more than what is new.
        return tuple(itertools.islice(reversed(self.finished), max(fresh, 0)))[::-1]


ACTIVITY = Activity()
