"""profile(): what a model, or the code in a ``with`` block, does and how long it takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, overload

from coreml_lab import config
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import CacheError, InputError, LabError, ProbeError
from coreml_lab.measure.framing import Tick
from coreml_lab.measure.recorder import Recorder, Subject
from coreml_lab.measure.sampler import Reader, shared
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.program.cache import Cache
from coreml_lab.records import Recording, Sample
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.split import learned

# Seconds to wait for the sampler's first reading, and at the end for each that is on its way.
START_WAIT = 2.0
END_WAIT = 0.5


class Source(Protocol):
    """Where samples come from while something is being profiled."""

    def start(self) -> None:
        """Begin; returns once there are readings."""
        ...

    def stop(self, window: tuple[int, int] | None) -> Sequence[Sample]:
        """End; the readings inside the window."""
        ...


class Profile(contextlib.AbstractContextManager["Profile"]):
    """Watches every model that runs between entering and leaving it.

    Attributes:
        recordings: one per model that ran, the one that took most time first.
    """

    def __init__(
        self, *, spans: bool = True, clock: Clock = SYSTEM, source: Source | None = None
    ) -> None:
        self.recordings: tuple[Recording, ...] = ()
        self._spans = spans
        self._clock = clock
        self._source = source if source is not None else SharedSampler(clock)
        self._recorder: Recorder | None = None

    @property
    def recording(self) -> Recording:
        """The recording of the model that took most time.

        Raises:
            LabError: while the block is still running, or where no model ran in it.
        """
        if self._recorder is not None:
            raise LabError("the profile is still running", hint="look at it after the with block")
        if not self.recordings:
            raise LabError(
                "no model ran inside the profile",
                hint="call model.predict(...) or compute a tensor inside the with block",
            )
        return self.recordings[0]

    def __enter__(self) -> Self:
        if self._recorder is not None:
            raise LabError("this profile is already running", hint="use a new cl.profile()")
        self._source.start()
        self._recorder = Recorder(self._clock)
        ACTIVITY.watchers.append(self._recorder.ran)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        ACTIVITY.watchers.remove(recorder.ran)
        samples = self._source.stop(recorder.window)
        # Kept before the instrumented runs begin: whoever interrupts those loses nothing.
        self.recordings = recorder.finish(samples, spans=False)
        if self._spans and kind is None:
            self.recordings = recorder.finish(samples, spans=True)
            for recording in self.recordings:
                _learn(recording)

    def __repr__(self) -> str:
        if self._recorder is not None:
            return "Profile(running)"
        rows = (f"{r.program.name}: {_plain(r)} runs" for r in self.recordings)
        return f"Profile({', '.join(rows) or 'nothing ran'})"


@overload
def profile(
    model: None = None,
    inputs: None = None,
    *,
    runs: int = ...,
    warmup: int = ...,
    spans: bool = ...,
) -> Profile: ...


@overload
def profile(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    runs: int = ...,
    warmup: int = ...,
    spans: bool = ...,
) -> Recording: ...


def profile(
    model: Subject | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    runs: int = 50,
    warmup: int = 3,
    spans: bool = True,
) -> Recording | Profile:
    """Measure a model's runs, or, without a model, everything that runs inside a ``with`` block.

    Args:
        model: what to run; leave it out to write ``with cl.profile() as p:``.
        inputs: name -> array, what to run it on.
        runs: how many inferences are timed, uninstrumented.
        warmup: how many are run before, and not recorded.
        spans: whether a few more, instrumented ones follow, for the time of each operation. These
            times are kept in the compile cache: plans of ``engine="hybrid"`` go by them.

    Raises:
        LabError: for fewer than one run, or a model without inputs.
    """
    if model is None:
        return Profile(spans=spans)
    if inputs is None:
        raise InputError(
            "profile(model) needs inputs", hint="cl.profile(model, {'x': array}, runs=50)"
        )
    return record(model, inputs, runs=runs, warmup=warmup, spans=spans)


def record(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    runs: int,
    warmup: int,
    spans: bool,
    clock: Clock = SYSTEM,
    source: Source | None = None,
) -> Recording:
    """``profile`` of a model, with the clock and the source of samples handed in.

    An interrupt leaves what was recorded so far on the exception, as ``error.recording``.
    """
    if runs < 1 or warmup < 0:
        raise LabError(f"runs={runs}, warmup={warmup}: nothing to measure", hint="runs=50")
    source = source if source is not None else SharedSampler(clock)
    source.start()
    recorder = Recorder(clock)
    try:
        for _ in range(warmup):
            model.predict(inputs)
        for _ in range(runs):
            start = clock.now_ns()
            model.predict(inputs)
            recorder.ran(model, inputs, start, clock.now_ns() - start)
    except BaseException as error:
        _keep(error, recorder.finish(source.stop(recorder.window), spans=False), runs)
        raise
    samples = source.stop(recorder.window)
    try:
        recording = recorder.finish(samples, spans=spans)[0]
    except KeyboardInterrupt as interrupt:
        _keep(interrupt, recorder.finish(samples, spans=False), runs)
        raise
    _learn(recording)
    return recording


def _learn(recording: Recording) -> None:
    """Keep the times of operations for the planner of hybrid runs."""
    settings = config.current()
    with contextlib.suppress(CacheError):  # a cache that cannot be written still serves
        learned.learn(Cache(settings.cache_dir, settings.cache_limit), recording)


def _keep(error: BaseException, recordings: tuple[Recording, ...], wanted: int) -> None:
    if recordings:
        error.recording = recordings[0]  # type: ignore[attr-defined]
        done = _plain(recordings[0])
        error.add_note(
            f"{done} of {wanted} runs were recorded before this: sys.last_value.recording"
        )


def _plain(recording: Recording) -> int:
    return sum(not run.instrumented for run in recording.runs)


class SharedSampler:
    """The process's sampler as a source; where it gives nothing, every metric says why."""

    def __init__(self, clock: Clock, join: Callable[[float], Reader] | None = None) -> None:
        self._clock = clock
        self._join = join if join is not None else shared
        self._reader: Reader | None = None
        self._why = ""

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

    def stop(self, window: tuple[int, int] | None) -> Sequence[Sample]:
        """Let the sampler go; the readings inside the window."""
        reader, self._reader = self._reader, None
        if reader is None:
            return self._missing()
        try:
            ticks = self._ticks(reader, window)
            if not ticks and self._why:
                return self._missing()
            return [sample for tick in ticks for sample in reader.samples(tick)]
        finally:
            reader.close()

    @staticmethod
    def _ticks(reader: Reader, window: tuple[int, int] | None) -> list[Tick]:
        """The ticks inside the window; those of its end may still be on their way."""
        if window is None:
            return []
        start, end = window
        ticks = reader.read()
        while (not ticks or ticks[-1].t_ns < end) and reader.wait(END_WAIT):
            ticks += reader.read()
        return [tick for tick in ticks if start <= tick.t_ns <= end]

    def _missing(self) -> list[Sample]:
        now = self._clock.now_ns()
        return [
            Sample(now, name, math.nan, Provenance.UNAVAILABLE, self._why)
            for name, metric in METRICS.items()
            if metric.panel not in {"executor", "device", "scheduler"}
        ]
