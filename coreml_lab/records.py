"""What crosses the layers: frozen plain data.

A field that is added needs a default, since files written before lack it (see ``plain``).
Times are monotonic nanoseconds (``time.monotonic_ns``), durations nanoseconds, sizes bytes,
everything else SI base units.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_lab.circumstances import Condition, Overhead, Pace, Region, Split, Stage, Start, worst
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError, ModelError
from coreml_lab.metrics import Provenance
from coreml_lab.plain import ANY_NUMBER, from_json, from_plain, to_plain, write_atomically
from coreml_lab.samples import Sample as Sample  # noqa: PLC0414 - where others look for it
from coreml_lab.samples import Samples, merged

# It changes only where a reader of the old one would misread the new; a new field needs no new one.
SCHEMA = 2
# What ``load`` reads without being told that more is fine.
MOST_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Device:
    """A place where programs can run, or the reason why not.

    Attributes:
        name: ``cpu``, ``coreml:0``, ``metal:0``, ``cuda:0`` or ``opencl:0``.
        title: the hardware that does the work, by its own name.
        reason: why it cannot be used; empty where it is ``available``.
        engines: those that drive it.
        memory: bytes it has in all; within the limit of a container, if there is one.
        memory_free: bytes of it that can be had now.
        dtypes: element types it computes in; others are widened.
        compute_units: kind -> how many: cores, multiprocessors, compute units.
        unified_memory: whether it works in the memory of the CPU.
        is_gpu: whether it is a graphics processor; OpenCL drives other kinds, too.
        is_apple_hardware: whether the work is done by an Apple chip.
        missing: capability that is not known -> why, and what to do for it.
    """

    name: str
    title: str
    available: bool
    reason: str = ""
    engines: tuple[str, ...] = ()
    memory: int | None = None
    memory_free: int | None = None
    dtypes: tuple[str, ...] = ()
    compute_units: Mapping[str, int] = field(default_factory=dict, hash=False)
    unified_memory: bool | None = None
    is_gpu: bool = False
    is_apple_hardware: bool = False
    missing: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def kind(self) -> str:
        """``cpu``, ``coreml``, ``metal``, ``cuda`` or ``opencl``."""
        return self.name.partition(":")[0]

    @property
    def is_coreml(self) -> bool:
        """Whether Core ML programs run here as Core ML's own; ``title`` says on what."""
        return self.kind == "coreml"


@dataclass(frozen=True)
class OpInfo:
    """One operation of a program, as listings and reports name it.

    Attributes:
        work: equal for operations that do the same work: a digest of types and parameters; empty
            where that is only known when it runs.
    """

    name: str
    op: str
    shape: tuple[int | str, ...]
    dtype: str
    weight_bytes: int = 0
    where: str = ""
    work: str = ""


@dataclass(frozen=True)
class PortInfo:
    """An input or output: sizes are numbers or the name of a flexible dimension.

    Attributes:
        kind: ``tensor``, ``image``, ``dictionary`` (probabilities by label) or ``label``.
        colour: of an image: ``RGB``, ``BGR``, ``GRAYSCALE`` or ``GRAYSCALE_FLOAT16``.
        optional: whether it may be left out; every element is then ``default``.
        default_shape: the shape the model's author gave a flexible input as its usual one.
        enumerated: the only shapes an input may have; empty where it has none such.
        source: the tensor behind a dictionary or label.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    kind: str = "tensor"
    colour: str = ""
    optional: bool = False
    default: float | int | None = field(default=None, metadata=ANY_NUMBER)
    default_shape: tuple[int, ...] = ()
    enumerated: tuple[tuple[int, ...], ...] = ()
    source: str = ""


@dataclass(frozen=True)
class ProgramInfo:
    """What a program is, without its weights."""

    name: str
    key: str
    package: str
    precision: str
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    ops: tuple[OpInfo, ...]
    size_bytes: int
    function: str = ""
    # Bounds of the flexible dimensions that shapes name: (low, high); high 0 means no bound.
    dims: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # Every function of the file, and the classes of a classifier.
    functions: tuple[str, ...] = ()
    labels: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Where Core ML plans to run an operation: an intention of its, nothing that was seen.

    Attributes:
        device: ``cpu``, ``gpu`` or ``ne`` (the Neural Engine).
        supported: every device that could run it.
        weight: the share of the whole program's time that Core ML expects of it, 0 to 1; None
            where it does not say.
    """

    node: str
    op: str
    device: str
    supported: tuple[str, ...] = ()
    weight: float | None = None


@dataclass(frozen=True)
class PlanInfo:
    """Who runs a program: engine, device and the title both are shown under.

    ``placements`` is what the framework itself plans for the operations, where it tells.
    """

    engine: str
    device: str
    title: str
    reason: str = ""
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True)
class OpSpan:
    """Time one operation took in one run.

    ``node`` is the MIL name of the operation; where the engine fused several, of the one that does
    the work, and ``fused`` names the others. An engine's own work that belongs to no operation
    (layout changes) has ``op`` in brackets, such as ``[ReorderInput]``. ``memory`` is what the
    engine's allocator had in use while it ran, in bytes above what it held before the run (weights
    are not in it); None where the engine does not tell.
    """

    node: str
    op: str
    engine: str
    device: str
    start_ns: int
    duration_ns: int
    bytes: int
    provenance: Provenance
    fused: tuple[str, ...] = ()
    memory: int | None = None


@dataclass(frozen=True)
class Incident:
    """Something went wrong and was dealt with: nothing is silent."""

    t_ns: int
    error: str
    message: str
    action: str
    outcome: str


@dataclass(frozen=True)
class Run:
    """One inference, wall time; ``instrumented`` runs carry ``spans`` and are slower.

    ``region`` is the number of the innermost region of the user's code that it ran in.
    """

    index: int
    start_ns: int
    duration_ns: int
    spans: tuple[OpSpan, ...] = ()
    incidents: tuple[Incident, ...] = ()
    instrumented: bool = False
    region: int | None = None


@dataclass(frozen=True)
class Action:
    """Something that can be done to a model, as data: a name and its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """Everything that was seen: the plain record between measuring and explaining.

    Attributes:
        overhead_ns: what recording one run adds to it, measured (not part of any duration).
        samples: any sequence of them; kept in columns, as ``Samples``.
        incidents: all of that time, of other models, too; a run has its own.
        epoch_ns: nanoseconds since 1970 when the monotonic clock stood at 0, where it is known.
        stages: how long the steps of loading took, the first run included.
        starts: starts from nothing, with and without what is cached on disk, where asked for.
        pace: why so many runs were made.
        splits: where the time of some more uninstrumented inferences went.
        regions: stretches of the user's code; runs name theirs.
        conditions: what the machine did meanwhile.
        overhead: what measuring itself costs, beyond ``overhead_ns``.
        live: the model and inputs it came from, in the process that made it; never saved.
    """

    environment: Mapping[str, str]
    program: ProgramInfo
    plan: PlanInfo
    runs: tuple[Run, ...]
    samples: Sequence[Sample] = field(default=(), metadata={"plain": Samples})
    incidents: tuple[Incident, ...] = ()
    overhead_ns: int | None = None
    epoch_ns: int | None = None
    schema: int = SCHEMA
    stages: tuple[Stage, ...] = ()
    starts: tuple[Start, ...] = ()
    pace: Pace | None = None
    splits: tuple[Split, ...] = ()
    regions: tuple[Region, ...] = ()
    conditions: tuple[Condition, ...] = ()
    overhead: Overhead | None = None
    live: Any = field(default=None, repr=False, compare=False, metadata={"transient": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", Samples.of(self.samples))

    @property
    def spans(self) -> tuple[OpSpan, ...]:
        """All spans of all runs, in order."""
        return tuple(span for run in self.runs for span in run.spans)

    @property
    def every_incident(self) -> tuple[Incident, ...]:
        """The incidents, each once, in the order of time: those of runs are among the others."""
        known = set(self.incidents)
        others = (i for run in self.runs for i in run.incidents if i not in known)
        return tuple(sorted((*self.incidents, *others), key=lambda incident: incident.t_ns))

    def to_json(self) -> str:
        """The recording as JSON text: NaN as null, samples as compressed columns in base64."""
        return json.dumps(to_plain(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Recording:
        """The recording that ``to_json`` wrote, now or in an earlier version.

        Nothing in the text is executed, and what it asks for is bounded by its own length and by
        ``samples.MOST_ROWS``.

        Raises:
            ModelError: where the text is not a recording of a schema that this version reads.
        """
        try:
            data = from_json(text)
            if (schema := data.get("schema")) is None:
                raise ValueError("it names no schema")  # noqa: TRY301 - told as any other
            if type(schema) is not int or not 1 <= schema <= SCHEMA:
                raise ModelError(
                    f"recording of schema {str(schema)[:40]}; this version reads 1 to {SCHEMA}",
                    hint="record again, or open it with the version that wrote it",
                )
            # Schema 1 had its samples row by row, which Samples reads, too.
            found: Recording = from_plain(Recording, {**data, "schema": SCHEMA})
        except (ValueError, AttributeError, RecursionError, MemoryError, OverflowError) as error:
            raise ModelError(
                f"not a recording: {error}", hint="give a file that Recording.save() wrote"
            ) from error
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to ``path``, whole or not at all."""
        return write_atomically(Path(path), self.to_json().encode())

    @staticmethod
    def load(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> Recording:
        """Read what ``save`` wrote.

        Raises:
            ModelError: where the file is missing, larger than ``most_bytes`` or not a recording.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(most_bytes + 1)
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                f"cannot read the recording {path}: {error}", hint="check the path"
            ) from error
        if len(data) > most_bytes:
            raise ModelError(
                f"the recording {path} is larger than {most_bytes / 2**20:g} MiB",
                hint="if you trust it: Recording.load(path, most_bytes=2**30)",
            )
        return Recording.from_json(text)

    def replay(
        self, speed: float | None = None, *, clock: Clock = SYSTEM
    ) -> Iterator[Run | Sample | Incident]:
        """Runs (at their end), samples and incidents in the order in which they became known.

        Args:
            speed: 1 for the time it took then, 10 for ten times as fast, None for at once.
            clock: what waits.

        Raises:
            InputError: for a speed that is not above 0.
        """
        if speed is not None and not speed > 0:
            raise InputError(f"speed={speed}: time goes forward", hint="1, 10, or None for at once")
        return self._replayed(speed, clock)

    def _replayed(self, speed: float | None, clock: Clock) -> Iterator[Run | Sample | Incident]:
        ends = sorted(self.runs, key=lambda run: run.start_ns + run.duration_ns)
        known: list[Iterable[tuple[int, Run | Sample | Incident]]] = [
            ((run.start_ns + run.duration_ns, run) for run in ends),
            ((sample.t_ns, sample) for sample in Samples.joined([Samples.of(self.samples)])),
            ((i.t_ns, i) for i in self.every_incident),
        ]
        begun, first = clock.now_ns(), None
        for t_ns, event in heapq.merge(*known, key=lambda pair: pair[0]):
            first = t_ns if first is None else first
            if speed is not None:
                # From the beginning each time, so that what the receiver takes adds up to nothing.
                late = begun + (t_ns - first) / speed - clock.now_ns()
                if late > 0:
                    clock.sleep(late / 1e9)
            yield event

    def merge(self, other: Recording) -> Recording:
        """Both recordings' runs and samples, in time order; the program must be the same.

        Of the machine's conditions the worse is kept; how loading went is the first one's.
        """
        if other.program.key != self.program.key:
            raise ModelError(
                "recordings of two different programs cannot be merged",
                hint="compare them instead: cl.diff_recordings",
            )
        by = 1 + max((region.index for region in self.regions), default=-1)
        later = [
            dataclasses.replace(run, region=None if run.region is None else run.region + by)
            for run in other.runs
        ]
        runs = sorted((*self.runs, *later), key=lambda run: run.start_ns)
        return dataclasses.replace(
            self,
            runs=tuple(dataclasses.replace(run, index=i) for i, run in enumerate(runs)),
            samples=merged(Samples.of(self.samples), Samples.of(other.samples)),
            incidents=tuple(sorted((*self.incidents, *other.incidents), key=lambda i: i.t_ns)),
            starts=(*self.starts, *other.starts),
            pace=None,
            splits=(*self.splits, *other.splits),
            regions=(*self.regions, *(region.moved(by) for region in other.regions)),
            conditions=worst((*self.conditions, *other.conditions)),
        )
