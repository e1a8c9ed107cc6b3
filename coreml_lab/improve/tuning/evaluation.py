"""One trial: make the file, load it, compare its results and time it, in turns with the original.

It runs in a process of its own and takes and gives plain data only. Times are ratios to the
original model, measured in turns in the same process, so that other work on the machine slows both;
trials that time hold a lock of the whole machine, so that they do not slow each other.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab import config
from coreml_lab.errors import InputError, ProbeError
from coreml_lab.improve.actions import apply, size
from coreml_lab.improve.spent import Spent, energy_of
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.measure.paired import Pairs, interleave, ratio
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Array
from coreml_lab.run import compiler

DATA = "data.npz"
LOCK = "coreml_lab_timing.lock"
WARMUP = 2


@dataclass(frozen=True)
class Task:
    """Everything a trial needs, as plain data.

    Attributes:
        package: the original model's file.
        workplace: a folder that every worker sees: made files and data are there.
        device: where the original runs.
        samples: how many samples ``data.npz`` in the workplace holds.
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
    samples: int
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
        memory: bytes at the peak beyond an idle process; None where it was not asked for.
        cpu: CPU time per inference by the original's, of all threads of the process.
        energy: joules per inference as counted; None where it was not asked for.
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


def evaluate(task: Task) -> Measured:
    """Try one configuration.

    Raises:
        LabError: where an action, loading or running fails.
    """
    package = built(task)
    data = load_samples(task)
    settings = dict(task.configuration.settings)
    batch = int(settings.pop("batch", 1))
    device = settings.pop("device", task.device)
    engine = settings.pop("engine", None)
    precision = settings.pop("precision", None)
    original = compiler.load(task.package, function=task.function or None, device=task.device)
    with config.configure(**settings, rivals=False):
        function = task.function if package == Path(task.package) else ""
        model = compiler.load(
            package, function=function or None, device=device, engine=engine, precision=precision
        )
        loss = _loss(task, model, original, data)
        many = joined(data, batch, model)
        pairs, cpu = _timed(task, model, original, many, data[0])
        drawn = counted(model, many, task.seconds) / batch if task.energy else None
    found = ratio(Pairs(tuple(max(1, t // batch) for t in pairs.arm), pairs.baseline))
    latency = float(np.median(pairs.arm)) / batch / 1e9
    held = _memory(task, package, function) if task.memory else None
    cpu = None if cpu is None else cpu / batch
    ends = found.low, found.high
    return Measured(size(package), latency, found.value, *ends, loss, held, cpu, drawn)


def counted(model: Any, inputs: Mapping[str, Array], seconds: float) -> float:
    """Joules per inference by a counter.

    Raises:
        ProbeError: where there is none: estimates are ranges, and those that overlap have no order.
    """
    found = energy_of(model, inputs, seconds)
    if found.provenance is not Provenance.MEASURED or not math.isfinite(found.value):
        why = found.note or "it is estimated from CPU time here"
        raise ProbeError(
            f"energy cannot be ranked: {why}",
            hint='objectives=("cpu_time",) ranks CPU seconds, which are measured',
        )
    return found.value


def _memory(task: Task, package: Path, function: str) -> int:
    from coreml_lab.improve.optimizing.footprint import footprint  # noqa: PLC0415 - seldom asked

    return footprint(
        package,
        Path(task.workplace) / DATA,
        function=function,
        device=task.device,
        settings=task.configuration.settings,
    )


def built(task: Task) -> Path:
    """The file of a configuration: made once, by whoever needs it first."""
    package = Path(task.package)
    if not task.configuration.actions:
        return package
    name = hashlib.sha256(task.configuration.build.encode()).hexdigest()[:16]
    target = Path(task.workplace) / f"{name}.mlpackage"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=task.workplace, prefix=".part_") as folder:
        for i, action in enumerate(task.configuration.actions):
            place = Path(folder) / str(i)
            place.mkdir()
            package = apply(action, package, place, load_samples(task)).package
        if not target.exists():  # another worker may have been faster
            package.rename(target)
    return target


def save_samples(workplace: Path, data: Sequence[Mapping[str, Array]]) -> None:
    """Write the data where every worker finds them."""
    named = {f"{i}/{name}": array for i, each in enumerate(data) for name, array in each.items()}
    np.savez(workplace / DATA, allow_pickle=False, **named)


def load_samples(task: Task) -> list[dict[str, Array]]:
    """The data the trials are made on."""
    data: list[dict[str, Array]] = [{} for _ in range(task.samples)]
    with np.load(Path(task.workplace) / DATA, allow_pickle=False) as file:
        for key in file.files:
            index, _, name = key.partition("/")
            data[int(index)][name] = file[key]
    return data


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


def error(got: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[float, float]:
    """Squared difference and squared size over all outputs that are numbers."""
    wrong = whole = 0.0
    for name, value in want.items():
        if isinstance(value, np.ndarray):
            exact = value.astype(np.float64)
            wrong += float(np.square(np.asarray(got[name], np.float64) - exact).sum())
            whole += float(np.square(exact).sum())
    return wrong, whole


def _loss(task: Task, model: Any, original: Any, data: Sequence[Mapping[str, Array]]) -> float:
    if task.metric:
        import cloudpickle  # noqa: PLC0415 - only for functions that cross a border

        metric: Callable[[Any], float] = cloudpickle.loads(task.metric)
        return float(metric(original)) - float(metric(model))
    sums = [error(model.predict(each), original.predict(each)) for each in data]
    wrong, whole = sum(w for w, _ in sums), sum(s for _, s in sums)
    return (
        math.sqrt(wrong / whole) if whole and math.isfinite(wrong) else math.inf if wrong else 0.0
    )


def _timed(
    task: Task, model: Any, original: Any, many: Mapping[str, Array], one: Mapping[str, Array]
) -> tuple[Pairs, float | None]:
    mine, its = Spent(lambda: model.predict(many)), Spent(lambda: original.predict(one))
    with machine_lock():
        found = interleave(mine, its, pairs=task.pairs, warmup=WARMUP, seconds=task.seconds)
    return found, mine.ratio(its, len(found.arm))


@contextmanager
def machine_lock() -> Iterator[None]:
    """Wait until no other trial on this machine is timing."""
    from filelock import FileLock  # noqa: PLC0415 - of the extra `tune`

    with FileLock(Path(tempfile.gettempdir()) / LOCK):
        yield
