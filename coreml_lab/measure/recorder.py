"""Collects what happens while models run, and turns it into recordings: one per model."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from coreml_lab.circumstances import Condition, Overhead, Pace, Region, Split, Stage, Start
from coreml_lab.clock import Clock
from coreml_lab.errors import LabError
from coreml_lab.measure import regions
from coreml_lab.measure.model_memory import samples
from coreml_lab.measure.overhead import per_call
from coreml_lab.metrics import Quantity
from coreml_lab.records import Incident, PlanInfo, ProgramInfo, Recording, Run, Sample
from coreml_lab.run.activity import ACTIVITY

# Instrumented runs per model: enough for a median, few enough not to be waited for.
TRACED = 10
# Runs whose time is taken in parts: as fast as others, so more of them.
SPLIT = 20
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


@runtime_checkable
class Splitting(Protocol):
    """A model that can tell where the time of an inference goes."""

    def split(self, inputs: Mapping[str, Any], /, *, runs: int) -> tuple[Split, ...]:
        """Some inferences in parts."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A model that may remember something from run to run."""

    @property
    def states(self) -> Mapping[str, Any]:
        """What it remembers; mostly nothing."""
        ...

    def make_state(self) -> Any:
        """New contents, all zero."""
        ...

    def predict(self, inputs: Mapping[str, Any], state: Any, /) -> Mapping[str, Any]:
        """One inference that changes the state."""
        ...


class Predicting(Protocol):
    """A model without states, or one that is not asked for them."""

    def predict(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        """One inference."""
        ...


def inference(model: Predicting, inputs: Mapping[str, Any]) -> Callable[[], object]:
    """One inference, to be repeated; a model with states goes on with them, from zeros."""
    if isinstance(model, Stateful) and model.states:
        stateful, state = model, model.make_state()
        return lambda: stateful.predict(inputs, state)
    return lambda: model.predict(inputs)


@runtime_checkable
class Staged(Protocol):
    """A model that knows how long the steps of loading it took."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The steps, and the first run."""
        ...


@dataclass
class Seen:
    """One model's runs so far; its first inputs are those that the instrumented runs repeat."""

    model: Subject
    inputs: Mapping[str, Any]
    # Start, duration, region.
    times: list[tuple[int, int, int | None]] = field(default_factory=list)

    @property
    def busy_ns(self) -> int:
        """Time spent inside it."""
        return sum(duration for _, duration, _ in self.times)


@dataclass(frozen=True)
class Around:
    """What is known besides the runs, when they are over.

    Attributes:
        samples: what the sampler read meanwhile.
        conditions: what the machine did meanwhile.
        sampler: cores that the sampler kept busy.
        pace: why so many runs were made, where they were made here.
        starts: starts from nothing.
    """

    samples: Sequence[Sample] = ()
    conditions: tuple[Condition, ...] = ()
    sampler: Quantity = field(
        default_factory=lambda: Quantity.unavailable("{core}", "nothing was sampled")
    )
    pace: Pace | None = None
    starts: tuple[Start, ...] = ()


class Recorder:
    """Keeps the times of runs as they happen; ``finish`` turns them into recordings."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.served_before = ACTIVITY.serving.total
        self.incidents_before = ACTIVITY.incident_total
        self._seen: dict[int, Seen] = {}
        self._regions: list[Region] = []

    def ran(
        self, model: Subject, inputs: Mapping[str, Any], start_ns: int, duration_ns: int
    ) -> None:
        """Keep one finished run. This is all that recording costs while models run."""
        seen = self._seen.get(id(model))
        if seen is None:
            # In one step: two threads may come with a model's first run.
            seen = self._seen.setdefault(id(model), Seen(model, inputs))
        seen.times.append((start_ns, duration_ns, regions.current()))

    def left(self, region: Region) -> None:
        """Keep a region that has ended."""
        self._regions.append(region)

    @property
    def window(self) -> tuple[int, int] | None:
        """From the start of the first run to the end of the last; None where nothing ran."""
        times = [time for seen in self._seen.values() for time in seen.times]
        if not times:
            return None
        return min(s for s, _, _ in times), max(s + d for s, d, _ in times)

    def finish(self, around: Around, *, spans: bool) -> tuple[Recording, ...]:
        """One recording per model, the one that took most time first.

        Args:
            around: what else is known of that time.
            spans: whether to run each model a few times more: in parts, and instrumented.
        """
        overhead = Overhead(*_costs(self.clock), around.sampler)
        served = ACTIVITY.serving.samples(self.served_before)
        around = dataclasses.replace(around, samples=(*around.samples, *served))
        order = sorted(self._seen.values(), key=lambda seen: -seen.busy_ns)
        fresh = ACTIVITY.incident_total - self.incidents_before
        incidents = tuple(ACTIVITY.incidents)[-fresh:] if fresh > 0 else ()
        return tuple(
            self._recording(seen, around, incidents, overhead, spans=spans) for seen in order
        )

    def _recording(
        self,
        seen: Seen,
        around: Around,
        incidents: tuple[Incident, ...],
        overhead: Overhead,
        *,
        spans: bool,
    ) -> Recording:
        model = seen.model
        runs = [Run(i, s, d, region=region) for i, (s, d, region) in enumerate(seen.times)]
        splits: tuple[Split, ...] = ()
        if spans:
            traced, splits, troubles = self._repeated(seen)
            runs += [dataclasses.replace(run, index=len(runs) + i) for i, run in enumerate(traced)]
            incidents = (*incidents, *troubles)
        own = set(getattr(model, "incidents", ()))
        _tell(runs, [incident for incident in incidents if incident in own])
        return Recording(
            environment={**environment(), "engine": model.plan.title},
            program=model.info,
            plan=model.plan,
            runs=tuple(runs),
            samples=(*around.samples, *samples(model, seen.inputs, runs, self.clock.now_ns())),
            incidents=incidents,
            overhead_ns=overhead.run_ns,
            epoch_ns=time.time_ns() - time.monotonic_ns(),
            stages=model.stages if isinstance(model, Staged) else (),
            starts=around.starts,
            pace=around.pace,
            splits=splits,
            regions=tuple(
                sorted(self._regions, key=lambda region: (region.start_ns, region.index))
            ),
            conditions=around.conditions,
            overhead=overhead,
            live=(model, seen.inputs),
        )

    def _repeated(
        self, seen: Seen
    ) -> tuple[tuple[Run, ...], tuple[Split, ...], tuple[Incident, ...]]:
        """Some more runs, in parts and instrumented; what cannot be had is told."""
        model, count = seen.model, len(seen.times)
        splits: tuple[Split, ...] = ()
        try:
            if isinstance(model, Splitting):
                splits = model.split(seen.inputs, runs=min(SPLIT, count))
            return model.trace(seen.inputs, runs=min(TRACED, count)), splits, ()
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return (), splits, (self._untraced(error),)

    def _untraced(self, error: LabError) -> Incident:
        return Incident(
            self.clock.now_ns(),
            type(error).__name__,
            error.message,
            "record without spans",
            "total times are kept, times per operation are unavailable",
        )


def _tell(runs: list[Run], incidents: Iterable[Incident]) -> None:
    """Give each run the incidents that happened in it; of runs at once, the last to begin."""
    for incident in incidents:
        during = [run for run in runs if 0 <= incident.t_ns - run.start_ns <= run.duration_ns]
        if during:
            run = max(during, key=lambda run: run.start_ns)
            kept = (*run.incidents, incident)
            runs[runs.index(run)] = dataclasses.replace(run, incidents=kept)


def _costs(clock: Clock) -> tuple[int, int]:
    """What keeping one run costs, and one region, in nanoseconds: with nothing inside them."""
    recorder = Recorder(clock)

    def run() -> None:
        start = clock.now_ns()
        recorder.ran(_NOTHING, {}, start, clock.now_ns() - start)

    class Unheard(regions.region):
        watchers: ClassVar[list[regions.Watcher]] = [recorder.left]

    def stretch() -> None:
        with Unheard("nothing", clock=clock):
            pass

    return per_call(run, clock), per_call(stretch, clock)


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
