"""The native engine: Core ML itself, on a Mac, in a worker process."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coreml_lab.errors import (
    EngineError,
    EngineUnavailable,
    OutOfMemory,
    ProbeError,
    Timeout,
    UnknownParameter,
)
from coreml_lab.plain import from_plain, to_plain
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Node
from coreml_lab.program.program import Program
from coreml_lab.records import Placement
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Availability, Options, package_version
from coreml_lab.run.native import ENTRY

if TYPE_CHECKING:
    from coreml_lab.run.native.link import Link, Progress, Watch
    from coreml_lab.run.native.messages import Load, Planned, StateSlot
    from coreml_lab.run.native.program import CoreMLProgram

# The worker's modules and the probes are loaded where they are used: off a Mac, never.

UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
HINTS: dict[str, tuple[str, ...]] = {
    "reshapeFrequency": ("Frequent", "Infrequent"),
    "specializationStrategy": ("Default", "FastPrediction"),
    "allowLowPrecisionAccumulationOnGPU": ("True", "False"),
}
OLDEST = 12
PATIENCE = 10.0
LOG = logging.getLogger(__name__)
SUFFIX = ".mlmodelc"
COMPILED = f"model{SUFFIX}"
# In every folder that Core ML's compiler makes, and in none that is made here.
CORE_MLS_OWN = "coremldata.bin"
PLAN = "plan.json"
# What cannot be taken up again: a prediction has its results, a compiler its folder.
ENDED_AT_A_DEADLINE = frozenset({"predicting", "compiling"})


@dataclass(frozen=True)
class Host:
    """The system underneath: Core ML is part of macOS, and changes with its builds."""

    system: str
    version: str = ""
    build: str = ""
    chip: str = ""

    @staticmethod
    @functools.cache
    def here() -> Host:
        """This machine."""
        if sys.platform != "darwin":
            return Host(platform.system())
        from coreml_lab.probes import apple  # noqa: PLC0415 - see above

        def told(name: str, otherwise: str) -> str:
            try:
                return apple.kernel_text(name)
            except (ProbeError, OSError):
                return otherwise

        build = told("kern.osversion", platform.release())
        chip = told("machdep.cpu.brand_string", platform.machine())
        return Host("macOS", platform.mac_ver()[0], build, chip)

    @property
    def mac(self) -> bool:
        """Whether it is macOS."""
        return self.system == "macOS"


@dataclass(frozen=True)
class Limits:
    """How long Core ML may take and how much it may hold.

    Attributes:
        build: seconds for compiling, planning and loading, each; 0 means no limit.
        memory: bytes of the worker process; 0 means three quarters of the machine's.
    """

    build: float = 900.0
    memory: float = 0.0


@dataclass(frozen=True)
class CoreMLEngine:
    """Runs programs with Core ML, on the processors it chooses among those allowed."""

    cache: Cache | None = None
    limits: Limits = Limits()
    host: Host = field(default_factory=Host.here)
    entry: str = ENTRY
    progress: Callable[[Progress], None] = field(default_factory=lambda: Announcer())  # noqa: PLW0108 - it is made below
    name: str = "coreml"

    @property
    def devices(self) -> tuple[str, ...]:
        """Core ML's own device, where there is Core ML."""
        return ("coreml:0",) if self.host.mac else ()

    def title(self, device: str) -> str:  # noqa: ARG002 - it drives one device
        """What it is; which processors work is Core ML's choice."""
        return f"Core ML, {self.host.system} {self.host.version}".strip()

    def available(self) -> Availability:
        """Whether this is a Mac that has coremltools; asking starts no process."""
        if not self.host.mac:
            return Availability(False, f"this is {self.host.system}, not macOS")
        if int(self.host.version.partition(".")[0] or 0) < OLDEST:
            return Availability(False, f"macOS {self.host.version} is older than {OLDEST}")
        if importlib.util.find_spec("coremltools") is None:
            return Availability(False, "coremltools is not installed")
        version = f"coremltools {package_version('coremltools')}, macOS {self.host.version}"
        return Availability(True, version=version)

    def supports(self, node: Node) -> bool:  # noqa: ARG002 - MIL is Core ML's own language
        """Every operation is Core ML's own; its version decides when the model is compiled."""
        return True

    def load(self, program: Program, device: str, options: Options) -> CoreMLProgram:
        """Compile the package, or take what was compiled from the cache; load it in the worker."""
        from coreml_lab.run.native.process import worker  # noqa: PLC0415 - see above
        from coreml_lab.run.native.program import CoreMLProgram  # noqa: PLC0415

        self._check(program, options)
        units, hints = checked_units(options.compute_units), checked_hints(options.hints)
        home = _Home(self, program, units)
        with worker(self.entry).session() as link:
            compiled = home.compiled(link)
            planned = home.plan(link, compiled)
        loaded = CoreMLProgram(
            worker(self.entry),
            _request(program, compiled, units, hints),
            planned,
            info=program.info,
            home=home,
            watch=self.watch,
            device=device,
        )
        _SLOTS[program] = loaded.slots
        return loaded

    def _check(self, program: Program, options: Options) -> None:
        state = self.available()
        reason = state.reason or _beyond(program, options)
        if reason:
            raise EngineUnavailable(
                f"the native engine cannot be used: {reason}",
                reason=reason,
                hint="engine='portable' runs Core ML programs on any machine",
            )

    def watch(self, stage: str) -> Watch:
        """How long to wait for a stage, and how much the worker may hold meanwhile.

        A prediction takes what it takes, unless it is asked for within a time.
        """
        from coreml_lab.run.native.link import Watch  # noqa: PLC0415 - see above

        brief = stage == "predicting"
        seconds = 0.0 if brief else self.limits.build
        most = self.limits.memory or three_quarters()
        lasting = stage not in ENDED_AT_A_DEADLINE
        return Watch(stage, seconds, most, brief, self.progress, lasting)


def _beyond(program: Program, options: Options) -> str:
    """Why Core ML cannot do what is asked, if it cannot: it runs packages as they are."""
    if options.faithful:
        return "it rounds as its hardware does, not each result on demand"
    known = {n for p in program.info.outputs for n in (p.name, p.source)}
    if program.package.suffix == SUFFIX and not (program.package / CORE_MLS_OWN).exists():
        return "this compiled model was not made by Core ML's own compiler"
    if "graph" in vars(program) and not known.issuperset(program.graph.outputs):
        return "it gives a package's own outputs, not the results inside"
    return ""


@functools.cache
def three_quarters() -> float:
    """Of the machine's memory, in bytes; 0 where it does not tell."""
    from coreml_lab.probes.memory import MemoryProbe  # noqa: PLC0415 - see above
    from coreml_lab.probes.protocol import Target  # noqa: PLC0415

    probe = MemoryProbe()
    try:
        probe.open(Target(os.getpid()))
        return 0.75 * probe.read(0)[1]
    except (ProbeError, OSError):
        return 0.0


class Announcer:
    """Tells of long waits: the dashboard at once, the log after 10 s, 20 s, 40 s and so on."""

    def __init__(self) -> None:
        self._due = PATIENCE

    def __call__(self, progress: Progress) -> None:
        """What is waited for, how long already, and what it holds; no stage: it is over."""
        if not progress.stage:
            ACTIVITY.stage = ""
            return
        if progress.seconds < PATIENCE:
            self._due = PATIENCE
        held = f", holding {progress.memory / 2**30:.2g} GiB" * (progress.memory > 0)
        ACTIVITY.stage = f"Core ML is {progress.stage}: {progress.seconds:.0f} s{held}"
        if progress.seconds >= self._due:
            self._due *= 2
            LOG.warning("%s", ACTIVITY.stage)


class _Home:
    """Where one program's compiled form and plan are kept, and how they are made."""

    def __init__(self, engine: CoreMLEngine, program: Program, units: str) -> None:
        self._engine = engine
        self._package = program.package
        self._function, self._name = program.info.function, program.info.name
        self._units = units
        tools, host = package_version("coremltools"), engine.host
        causes = (program.key, tools, host.version, host.build, units)
        self._key = _digest(*causes) + "-coreml"
        # A cache may serve several machines: what is compiled serves them all, a plan does not.
        self._plan_key = _digest(*causes, host.chip) + "-coreml-plan"
        self._own: Path | None = None

    def compiled(self, link: Link, limit: Limit = NO_LIMIT) -> Path:
        """The ``.mlmodelc`` folder; it is made again where the cache has lost it."""
        cache = self._engine.cache
        if self._package.suffix == SUFFIX:
            return self._package
        if cache is not None:
            folder = cache.get(self._key) or cache.put(
                self._key, lambda f: self._compile(link, f, limit), title=self._name
            )
            return folder / COMPILED
        if self._own is None:
            folder = Path(tempfile.mkdtemp(prefix="coreml-lab-"))
            weakref.finalize(self, _remove, folder, os.getpid())
            self._compile(link, folder, limit)
            self._own = folder
        return self._own / COMPILED

    def _compile(self, link: Link, folder: Path, limit: Limit) -> None:
        from coreml_lab.run.native.messages import Compile  # noqa: PLC0415 - see above

        request = Compile(str(self._package), str(folder / COMPILED))
        link.ask(request, self._engine.watch("compiling"), limit)

    def plan(self, link: Link, compiled: Path) -> Planned:
        """Core ML's plan for the operations; where it gives none, the reason."""
        from coreml_lab.run.native.messages import MakePlan, Planned  # noqa: PLC0415 - see above

        cache, key = self._engine.cache, self._plan_key
        known = cache.use(key, _read_plan) if cache is not None else None
        if known is not None:
            return known
        lasting = True
        try:
            request = MakePlan(str(compiled), self._units, self._function)
            found: Planned = link.ask(request, self._engine.watch("planning"))
        except EngineError as error:
            # The plan is a convenience: without it the program still runs. A plan that took too
            # much is not asked for at every load.
            lasting = isinstance(error, Timeout | OutOfMemory)
            found = Planned(reason=f"Core ML's plan is not known: {error.message}")
        if cache is not None and lasting:
            cache.put(key, lambda f: _write_plan(f, found), title=self._name)
        return found


def _request(program: Program, compiled: Path, units: str, hints: dict[str, str]) -> Load:
    from coreml_lab.run.native.messages import Load  # noqa: PLC0415 - see above

    info, handle = program.info, next(_HANDLES)
    ports, source = (info.inputs, info.outputs, info.labels), str(program.package)
    slots = _SLOTS.get(program)
    return Load(handle, str(compiled), source, units, info.function, hints, *ports, slots)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves it to its parent
        shutil.rmtree(folder, ignore_errors=True)


def _digest(*causes: str) -> str:
    return hashlib.sha256("\0".join(causes).encode()).hexdigest()[:32]


def _read_plan(folder: Path) -> Planned:
    from coreml_lab.run.native.messages import Planned  # noqa: PLC0415 - see above

    known = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    return Planned(from_plain(tuple[Placement, ...], known["placements"]), known["reason"])


def _write_plan(folder: Path, found: Planned) -> None:
    text = json.dumps({"placements": to_plain(found.placements), "reason": found.reason})
    (folder / PLAN).write_text(text, encoding="utf-8")


_HANDLES = itertools.count(1)
# The states of programs that were loaded once: their packages may go, what is compiled stays.
_SLOTS: weakref.WeakKeyDictionary[Program, tuple[StateSlot, ...]] = weakref.WeakKeyDictionary()


def checked_units(units: str) -> str:
    """The name of a set of compute units.

    Raises:
        UnknownParameter: where Core ML has none of that name.
    """
    if units not in UNITS:
        raise UnknownParameter(f"there are no compute units {units!r}", hint=" or ".join(UNITS))
    return units


def checked_hints(hints: Mapping[str, object]) -> dict[str, str]:
    """Optimization hints as Core ML's binding takes them.

    Raises:
        UnknownParameter: for a hint or a value that Core ML does not have.
    """
    for name, value in hints.items():
        if str(value) not in HINTS.get(name, ()):
            known = "; ".join(f"{k}: {' or '.join(v)}" for k, v in HINTS.items())
            raise UnknownParameter(f"there is no optimization hint {name}={value!r}", hint=known)
    return {name: str(value) for name, value in hints.items()}
