"""profile(): what a model, or the code in a ``with`` block, does and how long it takes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, overload

from coreml_lab import config
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import CacheError, InputError, LabError
from coreml_lab.measure import noise, regions
from coreml_lab.measure.effort import SECONDS, Effort, Keep
from coreml_lab.measure.given import runnable
from coreml_lab.measure.model_memory import WithPeak
from coreml_lab.measure.recorder import Around, Recorder, Subject, inference
from coreml_lab.measure.source import SharedSampler, Source
from coreml_lab.measure.starts import starts
from coreml_lab.measure.telling import OPERATIONS, STARTS, Progress, Teller, silent
from coreml_lab.probes import disturbance
from coreml_lab.probes.disturbance import Reading
from coreml_lab.program.cache import Cache
from coreml_lab.records import Recording
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.split import learned

Machine = Callable[[], Reading]


class Profile(contextlib.AbstractContextManager["Profile"]):
    """Watches every model that runs, in any thread: in a ``with`` block, or from start to stop.

        with cl.profile() as p:                p = cl.profile().start()
            model.predict(inputs)              ...  # work on, also in other cells
        p.recording                            p.stop()

    Attributes:
        recordings: one per model that ran, the one that took most time first.
    """

    def __init__(
        self,
        *,
        spans: bool = True,
        clock: Clock = SYSTEM,
        source: Source | None = None,
        machine: Machine = disturbance.read,
    ) -> None:
        self.recordings: tuple[Recording, ...] = ()
        self._spans = spans
        self._clock = clock
        self._source = source if source is not None else WithPeak(SharedSampler(clock), clock)
        self._machine = machine
        self._recorder: Recorder | None = None
        self._before: Reading | None = None

    @property
    def running(self) -> bool:
        """Whether it is watching."""
        return self._recorder is not None

    @property
    def recording(self) -> Recording:
        """The recording of the model that took most time.

        Raises:
            LabError: while the profile is still running, or where no model ran in it.
        """
        if self._recorder is not None:
            raise LabError(
                "the profile is still running",
                hint="look at it after the with block, after p.stop(), or at p.snapshot()",
            )
        if not self.recordings:
            raise LabError(
                "no model ran inside the profile",
                hint="call model.predict(...) or compute a tensor inside the with block",
            )
        return self.recordings[0]

    def start(self) -> Self:
        """Begin to watch, in the background; ``stop()`` ends it.

        Raises:
            LabError: where it is running already.
        """
        if self._recorder is not None:
            raise LabError("this profile is already running", hint="use a new cl.profile()")
        self._source.start()
        self._before = self._machine()
        self._recorder = recorder = Recorder(self._clock)
        ACTIVITY.watchers.append(recorder.ran)
        regions.WATCHERS.append(recorder.left)
        return self

    def stop(self, *, spans: bool | None = None) -> tuple[Recording, ...]:
        """Stop watching; the recordings. Each model then runs some more, for its operations.

        Args:
            spans: whether it does; as the profile was made where nothing is said.
        """
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return self.recordings
        ACTIVITY.watchers.remove(recorder.ran)
        regions.WATCHERS.remove(recorder.left)
        around = self._around(recorder)
        # Kept before the instrumented runs begin: whoever interrupts those loses nothing.
        self.recordings = recorder.finish(around, spans=False)
        if self._spans if spans is None else spans:
            self.recordings = recorder.finish(around, spans=True)
            for recording in self.recordings:
                _learn(recording)
        for recording in reversed(self.recordings):
            ACTIVITY.recorded(recording)
        return self.recordings

    def snapshot(self) -> tuple[Recording, ...]:
        """The recordings so far, without samples and operations; watching goes on."""
        if self._recorder is None:
            return self.recordings
        return self._recorder.finish(Around(), spans=False)

    def _around(self, recorder: Recorder) -> Around:
        after = self._machine()
        samples = self._source.stop(recorder.window)
        before = self._before or after
        return Around(samples, noise.conditions(before, after), self._source.load)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(spans=None if kind is None else False)

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
    runs: int | None = ...,
    warmup: int | None = ...,
    spans: bool = ...,
    precision: float = ...,
    seconds: float | None = ...,
    cold: int = ...,
    progress: Progress | None = ...,
) -> Profile: ...


@overload
def profile(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    runs: int | None = ...,
    warmup: int | None = ...,
    spans: bool = ...,
    precision: float = ...,
    seconds: float | None = ...,
    cold: int = ...,
    progress: Progress | None = ...,
) -> Recording: ...


def profile(
    model: Subject | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    runs: int | None = None,
    warmup: int | None = None,
    spans: bool = True,
    precision: float = 0.02,
    seconds: float | None = None,
    cold: int = 0,
    progress: Progress | None = None,
) -> Recording | Profile:
    """Measure a model's runs, or, without a model, everything that runs meanwhile.

    Without a model: ``with cl.profile() as p:``, or ``p = cl.profile().start()`` and ``p.stop()``.

    Args:
        model: what to run; leave it out to watch what runs anyway.
        inputs: name -> array, what to run it on; states begin as zeros and go on from run to run.
        runs: how many inferences are timed, uninstrumented; where nothing is said, from 30 to
            10,000: as many as it takes to know their median.
        warmup: how many are run before, and not recorded; where nothing is said, until they do not
            get faster any more.
        spans: whether some more follow, for the parts of an inference and, instrumented, for the
            time of each operation. These times are kept in the compile cache: plans of
            ``engine="hybrid"`` go by them.
        precision: the median is known when its 95 % interval reaches no further than this, in
            parts of it, to either side.
        seconds: after so long no run is begun; 10 where ``runs`` does not say how many.
        cold: how often the model is loaded anew, with and without what is cached on disk, for the
            time of loading and of the first run.
        progress: called with what is being done and the share that is done, 0 to 1, now and then
            between the runs.

    Raises:
        LabError: for fewer than one run, or a model without inputs.
    """
    if model is None:
        return Profile(spans=spans)
    if inputs is None:
        raise InputError(
            "profile(model) needs inputs", hint="cl.profile(model, {'x': array}, runs=50)"
        )
    limit = math.inf if runs is not None else SECONDS
    runnable(model, "profile")
    effort = Effort(runs, warmup, precision, limit if seconds is None else seconds)
    tell = silent if progress is None else progress
    return record(model, inputs, effort, spans=spans, cold=cold, progress=tell)


def record(
    model: Subject,
    inputs: Mapping[str, Any],
    effort: Effort,
    *,
    spans: bool = True,
    cold: int = 0,
    progress: Progress = silent,
    clock: Clock = SYSTEM,
    source: Source | None = None,
    machine: Machine = disturbance.read,
) -> Recording:
    """``profile`` of a model, with the clock and what is read of the machine handed in.

    An interrupt leaves what was recorded so far on the exception, as ``error.recording``.
    """
    source = source if source is not None else WithPeak(SharedSampler(clock), clock)
    source.start()
    recorder = Recorder(clock)
    try:
        progress("warming up", 0.0)
        work = inference(model, inputs)
        warm = effort.warm_up(work, clock)
        before = machine()
        keep = _keeping(recorder, model, inputs, Teller(effort, progress, clock.now_ns()))
        ended = effort.measure(work, keep, clock)
        found = noise.conditions(before, machine())
    except BaseException as error:
        around = Around(source.stop(recorder.window))
        _keep(error, recorder.finish(around, spans=False), effort.runs)
        raise
    around = Around(source.stop(recorder.window), found, source.load, warm.until(ended))
    try:
        if cold:
            progress("cold and warm starts", STARTS)
            begun = tuple(starts(model, inputs, cold))
            around = dataclasses.replace(around, starts=begun)
        progress("parts and operations", OPERATIONS)
        recording = recorder.finish(around, spans=spans)[0]
    except KeyboardInterrupt as interrupt:
        _keep(interrupt, recorder.finish(around, spans=False), effort.runs)
        raise
    _learn(recording)
    ACTIVITY.recorded(recording)
    progress("done", 1.0)
    return recording


def _keeping(recorder: Recorder, model: Subject, inputs: Mapping[str, Any], teller: Teller) -> Keep:
    """What is done between two runs; nothing is told where nobody listens."""

    def keep(start_ns: int, spent_ns: int) -> None:
        recorder.ran(model, inputs, start_ns, spent_ns)

    def told(start_ns: int, spent_ns: int) -> None:
        keep(start_ns, spent_ns)
        teller.ran(start_ns + spent_ns)

    return keep if teller.progress is silent else told


def _learn(recording: Recording) -> None:
    """Keep the times of operations for the planner of hybrid runs."""
    settings = config.current()
    with contextlib.suppress(CacheError):  # a cache that cannot be written still serves
        learned.learn(Cache(settings.cache_dir, settings.cache_limit), recording)


def _keep(error: BaseException, recordings: tuple[Recording, ...], wanted: int | None) -> None:
    if recordings:
        error.recording = recordings[0]  # type: ignore[attr-defined]
        done = f"{_plain(recordings[0])} of {wanted}" if wanted else str(_plain(recordings[0]))
        error.add_note(f"{done} runs were recorded before this: sys.last_value.recording")


def _plain(recording: Recording) -> int:
    return sum(not run.instrumented for run in recording.runs)
