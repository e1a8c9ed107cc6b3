"""Collects what happens while models run, and turns it into recordings: one per model."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from coreml_lab.clock import Clock
from coreml_lab.errors import LabError
from coreml_lab.records import Incident, PlanInfo, ProgramInfo, Recording, Run, Sample
from coreml_lab.run import memory
from coreml_lab.run.activity import ACTIVITY

# Instrumented runs per model: enough for a median, few enough not to be waited for.
TRACED = 10
LIBRARIES = ("coreml-lab", "coremltools", "numpy", "onnxruntime")


class Subject(Protocol):
    """What can be measured: a ``Model``, or a test's stand-in for one."""

    @property
    def info(self) -> ProgramInfo:
        """What it is."""
        ...

    @property
    def plan(self) -> PlanInfo:
        """Who runs it."""
        ...

    def predict(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        """One inference."""
        ...

    def trace(self, inputs: Mapping[str, Any], /, *, runs: int) -> tuple[Run, ...]:
        """Instrumented inferences."""
        ...


@dataclass
class Seen:
    """One model's runs so far; its first inputs are those that the instrumented runs repeat."""

    model: Subject
    inputs: Mapping[str, Any]
    times: list[tuple[int, int]] = field(default_factory=list)

    @property
    def busy_ns(self) -> int:
        """Time spent inside it."""
        return sum(duration for _, duration in self.times)


class Recorder:
    """Keeps the times of runs as they happen; ``finish`` turns them into recordings."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.served_before = ACTIVITY.serving.total
        self.incidents_before = ACTIVITY.incident_total
        self._seen: dict[int, Seen] = {}

    def ran(
        self, model: Subject, inputs: Mapping[str, Any], start_ns: int, duration_ns: int
    ) -> None:
        """Keep one finished run. This is all that recording costs while models run."""
        seen = self._seen.get(id(model))
        if seen is None:
            seen = self._seen[id(model)] = Seen(model, inputs)
        seen.times.append((start_ns, duration_ns))

    @property
    def window(self) -> tuple[int, int] | None:
        """From the start of the first run to the end of the last; None where nothing ran."""
        times = [time for seen in self._seen.values() for time in seen.times]
        if not times:
            return None
        return min(s for s, _ in times), max(s + d for s, d in times)

    def finish(self, samples: Sequence[Sample], *, spans: bool) -> tuple[Recording, ...]:
        """One recording per model, the one that took most time first.

        Args:
            samples: what the sampler read meanwhile.
            spans: whether to run each model a few times more, instrumented.
        """
        overhead = _overhead(self.clock)
        served = ACTIVITY.serving.samples(self.served_before)
        order = sorted(self._seen.values(), key=lambda seen: -seen.busy_ns)
        fresh = ACTIVITY.incident_total - self.incidents_before
        incidents = tuple(ACTIVITY.incidents)[-fresh:] if fresh > 0 else ()
        return tuple(
            self._recording(seen, (*samples, *served), incidents, overhead, spans=spans)
            for seen in order
        )

    def _recording(
        self,
        seen: Seen,
        samples: Sequence[Sample],
        incidents: tuple[Incident, ...],
        overhead_ns: int,
        *,
        spans: bool,
    ) -> Recording:
        runs = [Run(i, start, duration) for i, (start, duration) in enumerate(seen.times)]
        if spans:
            try:
                traced = seen.model.trace(seen.inputs, runs=min(TRACED, len(runs)))
                runs += [
                    dataclasses.replace(run, index=len(runs) + i) for i, run in enumerate(traced)
                ]
            except LabError as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                incidents = (*incidents, self._untraced(error))
        return Recording(
            environment={**environment(), "engine": seen.model.plan.title},
            program=seen.model.info,
            plan=seen.model.plan,
            runs=tuple(runs),
            samples=(*samples, *memory.samples(seen.model.plan, self.clock.now_ns())),
            incidents=incidents,
            overhead_ns=overhead_ns,
            epoch_ns=time.time_ns() - time.monotonic_ns(),
            live=(seen.model, seen.inputs),
        )

    def _untraced(self, error: LabError) -> Incident:
        return Incident(
            self.clock.now_ns(),
            type(error).__name__,
            error.message,
            "record without spans",
            "total times are kept, times per operation are unavailable",
        )


def _overhead(clock: Clock, batches: int = 5, size: int = 200) -> int:
    """What recording one run costs, in nanoseconds: stamping and keeping runs that do nothing."""
    costs = []
    for _ in range(batches):
        recorder = Recorder(clock)
        begin = clock.now_ns()
        for _ in range(size):
            start = clock.now_ns()
            recorder.ran(_NOTHING, {}, start, clock.now_ns() - start)
        costs.append((clock.now_ns() - begin) / size)
    return round(median(costs))


class _Nothing:
    info: Any = None
    plan: Any = None

    def predict(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        return inputs

    def trace(self, inputs: Mapping[str, Any], /, *, runs: int) -> tuple[Run, ...]:
        del inputs, runs
        return ()


_NOTHING = _Nothing()


@functools.cache
def environment() -> Mapping[str, str]:
    """The machine and the libraries, in words."""
    found = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
    }
    return {**found, **{name: _version(name) for name in LIBRARIES}}


def _version(library: str) -> str:
    if library == "coreml-lab":
        from coreml_lab import __version__  # noqa: PLC0415 - true in a checkout that is not installed

        return __version__
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model name of the processor, or ``unknown``."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603 - a constant
        except (OSError, subprocess.SubprocessError):
            return "unknown"
        return answer.stdout.strip()
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")
