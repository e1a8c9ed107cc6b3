"""Where samples come from while something is profiled: the process's own sampler, or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from coreml_lab import config
from coreml_lab.clock import Clock
from coreml_lab.errors import ProbeError
from coreml_lab.measure.framing import Tick
from coreml_lab.measure.sampler import Reader, shared
from coreml_lab.metrics import METRICS, Provenance, Quantity
from coreml_lab.probes.process import cpu_seconds
from coreml_lab.probes.protocol import Target
from coreml_lab.records import Incident, Sample
from coreml_lab.run.activity import ACTIVITY

# Seconds to wait for the sampler's first reading, and at the end for each that is on its way.
START_WAIT = 2.0
END_WAIT = 0.5
GONE = Provenance.UNAVAILABLE
FORGOTTEN = "the sampler has forgotten its readings of that time"


class Source(Protocol):
    """Where samples come from while something is being profiled."""

    def start(self) -> None:
        """Begin; returns once there are readings."""
        ...

    def stop(self, window: tuple[int, int] | None) -> Sequence[Sample]:
        """End; the readings inside the window."""
        ...

    @property
    def load(self) -> Quantity:
        """Cores that sampling kept busy, once it has ended."""
        ...


class SharedSampler:
    """The process's sampler as a source; where it gives nothing, every metric says why."""

    def __init__(
        self,
        clock: Clock,
        join: Callable[[float], Reader] | None = None,
        report: Callable[[Incident], None] = ACTIVITY.report,
    ) -> None:
        self._clock = clock
        self._report = report
        self._join = join if join is not None else shared
        self._reader: Reader | None = None
        self._why = ""
        self._used: Callable[[], float] | None = None
        self._begun = (0.0, 0)
        self.load = Quantity.unavailable("{core}", "nothing was sampled")

    def start(self) -> None:
        """Start the sampler, or join it where it is running, and wait for its first reading."""
        self._reader, self._why = None, ""
        try:
            self._reader = self._join(config.current().interval)
        except ProbeError as error:
            self._why = error.message
            return
        if not self._reader.wait(START_WAIT):
            self._why = f"the sampler gave no reading in {START_WAIT:g} s"
            return
        self._watch(self._reader)

    def _watch(self, reader: Reader) -> None:
        """Begin to count the CPU time of the sampling process."""
        try:
            pid = reader.sampler.process_id
            self._used = None if pid is None else cpu_seconds(Target(pid))
            self._begun = (self._used() if self._used else 0.0, self._clock.now_ns())
        except (OSError, ProbeError):
            self._used = None

    def _weigh(self) -> Quantity:
        """Cores that the sampling process has kept busy since then."""
        seconds = (self._clock.now_ns() - self._begun[1]) / 1e9
        if self._used is None or seconds <= 0:
            return Quantity.unavailable("{core}", "the sampling process does not tell")
        try:
            used = self._used() - self._begun[0]
        except (OSError, ProbeError) as error:
            return Quantity.unavailable("{core}", str(error))
        return Quantity(used / seconds, "{core}", Provenance.MEASURED)

    def stop(self, window: tuple[int, int] | None) -> Sequence[Sample]:
        """Let the sampler go; the readings inside the window."""
        reader, self._reader = self._reader, None
        if reader is None:
            return self._missing()
        try:
            ticks = self._ticks(reader, window)
            self.load = self._weigh()
            if not ticks and self._why:
                return self._missing()
            found = [sample for tick in ticks for sample in reader.samples(tick)]
            return [*self._forgotten(reader, ticks, window), *found]
        finally:
            reader.close()

    @staticmethod
    def _ticks(reader: Reader, window: tuple[int, int] | None) -> list[Tick]:
        """The ticks inside the window, or else the first after it, which tells of its time, too.

        Those of its end may still be on their way.
        """
        if window is None:
            return []
        start, end = window
        ticks = reader.read()
        while (not ticks or ticks[-1].t_ns < end) and reader.wait(END_WAIT):
            ticks += reader.read()
        since = [tick for tick in ticks if tick.t_ns >= start]
        return [tick for tick in since if tick.t_ns <= end] or since[:1]

    def _forgotten(
        self, reader: Reader, ticks: list[Tick], window: tuple[int, int] | None
    ) -> list[Sample]:
        """What is told in place of readings that only came to be read too late."""
        # Those before the window may go: then there is one soon after its start.
        if not reader.lost or window is None or not ticks or _soon(ticks, window[0]):
            return []
        begun = (ticks[0].t_ns - window[0]) / 1e9
        lost = f"{FORGOTTEN}: it keeps as many as it takes in an hour at 10 Hz"
        since = f"samples begin {begun:.3g} s after the first run; what counts is unavailable"
        self._report(Incident(ticks[0].t_ns, "SamplesLost", lost, "go on", since))
        return [
            replace(sample, t_ns=window[0], value=math.nan, provenance=GONE, note=FORGOTTEN)
            for sample in reader.samples(ticks[0])
            if sample.provenance is not GONE
        ]

    def _missing(self) -> list[Sample]:
        now = self._clock.now_ns()
        return [
            Sample(now, name, math.nan, Provenance.UNAVAILABLE, self._why)
            for name, metric in METRICS.items()
            if metric.panel not in {"executor", "device", "scheduler"}
        ]


def _soon(ticks: list[Tick], start_ns: int) -> bool:
    """Whether the first reading is the one that is to be expected after a moment."""
    step = ticks[1].t_ns - ticks[0].t_ns if len(ticks) > 1 else 0
    return ticks[0].t_ns - start_ns <= 2 * step
