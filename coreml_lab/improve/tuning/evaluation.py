"""One trial: make the file, load it, compare its results and time it, in turns with the original.

It runs in a process of its own and takes and gives plain data only. Times are ratios to the
original model, measured in turns in the same process, so that other work on the machine slows both;
trials that time hold a lock of the whole machine, so that they do not slow each other.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coreml_lab import config
from coreml_lab.errors import InputError, ProbeError
from coreml_lab.improve.actions import apply, size
from coreml_lab.improve.losses import loss
from coreml_lab.improve.reference import inference
from coreml_lab.improve.spent import Spent, energy_of
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.measure.paired import Pairs, interleave, ratio
from coreml_lab.metrics import Provenance
from coreml_lab.program import frameworks, mil
from coreml_lab.program.graph import Array
from coreml_lab.records import Action
from coreml_lab.run import compiler
from coreml_lab.run.portable import PortableEngine

DATA = "data.npz"
# A user each: nobody may open the files of others in the temporary folder of a shared machine.
LOCK = f"coreml_lab_timing_{getattr(os, 'getuid', lambda: 'all')()}.lock"
PACKAGE = ".mlpackage"
WARMUP = 2


@dataclass(frozen=True)
class Task:
    """Everything a trial needs, as plain data.

    Attributes:
        package: the original model's file.
        workplace: a folder that every worker sees: made files and data are there.
        device: where the original runs.
        pairs: how many pairs of runs are timed, fewer where they take longer than ``seconds``.
        metric: a pickled function of a model, or empty.
        memory: whether memory is asked, which takes a process of its own.
        energy: whether joules are measured, for ``seconds``.
    """

    configuration: Configuration
    package: str
    function: str
    workplace: str
    device: str
    pairs: int
    seconds: float
    metric: bytes = b""
    memory: bool = False
    energy: bool = False


@dataclass(frozen=True)
class Measured:
    """What a trial found.

    Attributes:
        size: bytes of the file.
        latency: seconds per inference, median.
        ratio: latency by the original's, with its 95 % interval.
        loss: relative L2 error of the outputs on the data, or the drop of the metric.
        memory: bytes at the peak beyond an idle process, median of ``memories``, each of a process
            of its own, with ``batch`` samples at once; None where it was not asked for.
        cpu: CPU time per inference by the original's, of all threads of the process.
        energy: joules per inference as counted, gross; None where it was not asked for.
        drop: whether ``loss`` is the drop of a metric, in its unit.
        ratios: latency by the original's of each pair, in the order in which they were measured.
    """

    size: int
    latency: float
    ratio: float
    low: float | None
    high: float | None
    loss: float
    memory: int | None = None
    cpu: float | None = None
    energy: float | None = None
    memories: tuple[int, ...] = ()
    drop: bool = False
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True)
class Original:
    """The model as it was, the data, and what it makes of them: the same for every trial.

    Attributes:
        outputs: of each sample; empty where a metric takes their place.
        score: the metric's, where there is one.
    """

    model: Any
    data: list[dict[str, Array]]
    outputs: list[Mapping[str, Any]]
    score: float


def prepare() -> None:
    """Import what each trial needs, in a process of ours that is about to have some."""
    frameworks.leave_out()  # nothing is converted in trials
    # What fails here fails in the trials, too, and says there why.
    with contextlib.suppress(Exception):
        mil.ready()
        PortableEngine().available()


def evaluate(task: Task) -> Measured:
    """Try one configuration.

    Raises:
        LabError: where an action, loading or running fails.
    """
    before = original(task.workplace, task.package, task.function, task.device, task.metric)
    data = before.data
    package = built(task, data)
    settings = dict(task.configuration.settings)
    batch = int(settings.pop("batch", 1))
    device = settings.pop("device", task.device)
    engine = settings.pop("engine", None)
    precision = settings.pop("precision", None)
    with config.configure(**settings, rivals=False):
        function = task.function if package == Path(task.package) else ""
        model = compiler.load(
            package, function=function or None, device=device, engine=engine, precision=precision
        )
        lost = _loss(task, model, before)
        many = joined(data, batch, model)
        pairs, cpu = _timed(task, model, before.model, many, data[0])
        drawn = counted(model, many, task.seconds) / batch if task.energy else None
    each = Pairs(tuple(max(1, t // batch) for t in pairs.arm), pairs.baseline)
    found = ratio(each)
    latency = float(np.median(pairs.arm)) / batch / 1e9
    memories = _memories(task, package, function) if task.memory else ()
    return Measured(
        size(package),
        latency,
        found.value,
        found.low,
        found.high,
        lost,
        int(median(memories)) if memories else None,
        None if cpu is None else cpu / batch,
        drawn,
        memories,
        drop=bool(task.metric),
        ratios=tuple(a / b for a, b in zip(each.arm, each.baseline, strict=True)),
    )


def counted(model: Any, inputs: Mapping[str, Array], seconds: float) -> float:
    """Joules per inference by a counter, idle power included: what every trial has.

    Above idle some would be below resolution, and the two kinds have no order among them.

    Raises:
        ProbeError: where there is none: estimates are ranges, and those that overlap have no order.
    """
    if model.states:
        raise ProbeError(
            f"{model.name} has states: its energy is not measured",
            hint='objectives=("cpu_time",) ranks CPU seconds',
        )
    found = energy_of(model, inputs, seconds).gross
    if found.provenance is not Provenance.MEASURED or not math.isfinite(found.value):
        why = found.note or "it is estimated from CPU time here"
        raise ProbeError(
            f"energy cannot be ranked: {why}",
            hint='objectives=("cpu_time",) ranks CPU seconds, which are measured',
        )
    return found.value


def _memories(task: Task, package: Path, function: str) -> tuple[int, ...]:
    from coreml_lab.improve.optimizing.footprint import footprint  # noqa: PLC0415 - seldom asked

    return footprint(
        package,
        Path(task.workplace) / DATA,
        function=function,
        device=task.device,
        settings=task.configuration.settings,
    )


# One per process: trials of one search follow each other.
@functools.lru_cache(maxsize=1)
def original(workplace: str, package: str, function: str, device: str, metric: bytes) -> Original:
    """The original, loaded and run once in each process.

    Raises:
        LabError: where it cannot be loaded or run.
    """
    data = load_samples(Path(workplace))
    model = compiler.load(package, function=function or None, device=device)
    if metric:
        return Original(model, data, [], _scored(metric, model))
    return Original(model, data, [inference(model, each)() for each in data], 0.0)


def built(task: Task, data: Sequence[Mapping[str, Array]]) -> Path:
    """The file of a configuration: made once, by whoever needs it first.

    Actions that begin alike share the files in between: what follows fp16 does not make it again.
    """
    package, actions = Path(task.package), task.configuration.actions
    for count in range(1, len(actions) + 1):
        build = Configuration(actions[:count]).build.encode()
        target = Path(task.workplace) / f"{hashlib.sha256(build).hexdigest()[:16]}{PACKAGE}"
        if not target.exists():
            _make(actions[count - 1], package, target, data)
        package = target
    return package


def _make(action: Action, package: Path, target: Path, data: Sequence[Mapping[str, Array]]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part_") as folder:
        made = apply(action, package, Path(folder), data).package
        try:
            made.rename(target)
        except OSError:
            if not target.exists():  # else another worker was faster
                raise


def save_samples(workplace: Path, data: Sequence[Mapping[str, Array]]) -> None:
    """Write the data where every worker finds them."""
    named = {f"{i}/{name}": array for i, each in enumerate(data) for name, array in each.items()}
    np.savez(workplace / DATA, allow_pickle=False, **named)


def load_samples(workplace: Path) -> list[dict[str, Array]]:
    """The data the trials are made on."""
    data: dict[int, dict[str, Array]] = {}
    with np.load(workplace / DATA, allow_pickle=False) as file:
        for key in file.files:
            index, _, name = key.partition("/")
            data.setdefault(int(index), {})[name] = file[key]
    return [data[i] for i in sorted(data)]


def joined(data: Sequence[Mapping[str, Array]], batch: int, model: Any) -> dict[str, Array]:
    """``batch`` samples as one input along the first dimension.

    Raises:
        InputError: where the model takes no batches.
    """
    if batch == 1:
        return dict(data[0])
    if not model.batched or (model.largest_batch or batch) < batch:
        raise InputError(
            f"{model.name} takes no {batch} samples at once",
            hint="leave out batch, or compile it with a flexible first dimension",
        )
    turns = [data[i % len(data)] for i in range(batch)]
    return {name: np.concatenate([each[name] for each in turns]) for name in data[0]}


def _loss(task: Task, model: Any, before: Original) -> float:
    if task.metric:
        return before.score - _scored(task.metric, model)
    got = [inference(model, each)() for each in before.data]
    return loss(got, before.outputs, before.model.info)


def _scored(metric: bytes, model: Any) -> float:
    import cloudpickle  # noqa: PLC0415 - only for functions that cross a border

    function: Callable[[Any], float] = cloudpickle.loads(metric)
    return float(function(model))


def _timed(
    task: Task, model: Any, original: Any, many: Mapping[str, Array], one: Mapping[str, Array]
) -> tuple[Pairs, float | None]:
    mine, its = Spent(inference(model, many)), Spent(inference(original, one))
    with machine_lock():
        found = interleave(mine, its, pairs=task.pairs, warmup=WARMUP, seconds=task.seconds)
    return found, mine.ratio(its, len(found.arm))


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Wait until no other trial of this user is timing; without a lock where it cannot be had."""
    from filelock import FileLock  # noqa: PLC0415 - of the extra `tune`

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(Path(tempfile.gettempdir()) / LOCK))
        except OSError as error:
            told = f"trials are timed without waiting for each other: {error}"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
        yield
