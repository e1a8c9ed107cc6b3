"""A model loaded and run in a process of its own: how long loading takes, and what memory it needs.

In this process arms share libraries, allocators and what earlier runs left behind; a new process
has nothing of that. It imports the engine's library first, so that neither times nor bytes contain
it. ``cold`` is with an empty compile cache, ``warm`` with the one that the cold run filled.

``python -m coreml_lab.measure.alone`` is the process: orders as JSON on its standard input, the
answer as JSON on its standard output; inputs lie in an ``.npz`` file. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab
from coreml_lab import config
from coreml_lab.errors import EngineError, LabError, Timeout
from coreml_lab.probes.highwater import marks
from coreml_lab.probes.protocol import NAN, Target
from coreml_lab.run import compiler, memory
from coreml_lab.run.model import Model

ENTRY = "coreml_lab.measure.alone"
INPUTS = "inputs.npz"
RUNS = 5
LIBRARIES = {
    "portable": "onnxruntime",
    "openvino": "openvino",
    "pytorch": "torch",
    "tinygrad": "tinygrad",
}
# Settings that decide how a program is loaded.
SETTINGS = ("packed", "threads", "precision", "recover", "worker_memory", "worker_timeout")


@dataclass(frozen=True)
class Orders:
    """What to load, how, and on what to run it."""

    package: str
    function: str | None
    precision: str
    device: str
    engine: str
    compute_units: str
    hints: Mapping[str, Any]
    settings: Mapping[str, Any]
    folder: str
    runs: int = RUNS


@dataclass(frozen=True)
class Alone:
    """What was seen; bytes are of the process, above what it held with the libraries imported.

    Attributes:
        load_s: loading the program.
        first_s: its first inference.
        load_peak: the most while loading.
        run_peak: the most while running.
        held: what is held when all runs are done.
        device_live, device_peak: what the device's framework says it holds; NaN: it does not.
        refused: why the mark could not be set back; then ``run_peak`` may be loading's.
        what: what is counted.
    """

    load_s: float
    first_s: float
    load_peak: float
    run_peak: float
    held: float
    device_live: float
    device_peak: float
    refused: str
    what: str


def alone(model: Model, inputs: Mapping[str, Any], *, seconds: float = 120.0) -> Iterator[Alone]:
    """Load and run it twice, each time in a new process: with an empty cache, then with that one.

    Raises:
        LabError: where it cannot be loaded again: its file is gone, it has an engine of one's own.
        Timeout: where it takes too long.
        EngineError: where the process failed; with its last words.
    """
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="coreml-lab-") as name:
        folder = Path(name)
        orders = _orders(model, folder)
        arrays: dict[str, Any] = {k: np.asarray(v) for k, v in model.feeds(inputs).items()}
        np.savez(folder / INPUTS, **arrays)
        for _ in ("cold", "warm"):
            yield _run(orders, deadline)


def _orders(model: Model, folder: Path) -> Orders:
    named = {engine.name for engine in compiler.engines()} | {"hybrid"}
    if model.plan.engine not in named:
        raise LabError(
            f"{model.plan.engine} is an engine of one's own: it cannot be loaded by name"
        )
    package = Path(model.info.package)
    if not package.exists():
        raise LabError(f"its file is gone: {package}")
    options, settings = model.options, config.current()
    return Orders(
        str(package),
        model.info.function or None,
        compiler.FAITHFUL if options.faithful else "widened",
        model.plan.device,
        model.plan.engine,
        options.compute_units,
        dict(options.hints),
        {name: getattr(settings, name) for name in SETTINGS},
        str(folder),
    )


def _run(orders: Orders, deadline: float) -> Alone:
    roots = [str(Path(coreml_lab.__file__).parents[1]), *filter(None, sys.path)]
    process = subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
        [sys.executable, "-P", "-m", ENTRY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(roots))},
    )
    with process:
        try:
            left = max(1.0, deadline - time.monotonic())
            told, errors = process.communicate(json.dumps(asdict(orders)).encode(), timeout=left)
        except subprocess.TimeoutExpired as error:
            raise Timeout(
                f"loading {orders.package} alone took longer than the {left:.3g} s that were left",
                hint="a larger budget",
            ) from error
        finally:
            process.kill()  # also when interrupted: nobody waits for it any more
    return _answer(told, errors, process.returncode)


def _answer(told: bytes, errors: bytes, code: int) -> Alone:
    """The last line of what the process said.

    Raises:
        EngineError: where it said nothing of the kind.
    """
    with contextlib.suppress(ValueError, TypeError, IndexError):
        row = json.loads(told.splitlines()[-1])
        if set(row) == {f.name for f in fields(Alone)}:
            known: dict[str, Any] = {k: NAN if v is None else v for k, v in row.items()}
            return Alone(**known)
    words = errors.decode(errors="replace").strip().splitlines()
    last = words[-1] if words else f"it ended with {code}"
    raise EngineError(f"the process that loads it alone failed: {last}")


def main(text: str) -> str:
    """Load, run, and tell."""
    orders = Orders(**json.loads(text))
    config.configure(cache_dir=str(Path(orders.folder) / "cache"), **orders.settings)
    library = LIBRARIES.get(orders.engine)
    if library is not None:
        importlib.import_module(library)
    with np.load(Path(orders.folder) / INPUTS, allow_pickle=False) as arrays:
        feeds = {name: np.array(arrays[name]) for name in arrays.files}
    found = measured(orders, feeds)
    plain = {k: None if v != v else v for k, v in asdict(found).items()}  # noqa: PLR0124 - is not NaN
    return json.dumps(plain)


def measured(orders: Orders, feeds: Mapping[str, Any]) -> Alone:
    """What loading and running takes in this process."""
    mark = marks(Target(os.getpid()))
    refused = mark.reset()
    before = mark.level().now
    model, load_s = _timed(
        lambda: compiler.load(
            orders.package,
            function=orders.function,
            precision=orders.precision,
            device=orders.device,
            engine=orders.engine,
            compute_units=orders.compute_units,
            hints=orders.hints,
        )
    )
    load_peak = mark.level().most
    refused = mark.reset() or refused
    state = model.make_state() if model.states else None
    _, first_s = _timed(lambda: model.run(feeds, state))
    for _ in range(orders.runs):
        model.run(feeds, state)
    level = mark.level()
    live, peak = _on_device(orders.device)
    return Alone(
        load_s,
        first_s,
        load_peak - before,
        level.most - before,
        level.now - before,
        live,
        peak,
        refused,
        mark.what,
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic_ns()
    result = work()
    return result, (time.monotonic_ns() - start) / 1e9


def _on_device(device: str) -> tuple[float, float]:
    """What a GPU's framework, or Core ML's own process, says of itself."""
    for found in memory.memory().devices:
        measured = found.live.provenance.value == "measured"
        if found.device == device and device != "cpu" and measured:
            return found.live.value, found.peak.value
    return NAN, NAN


if __name__ == "__main__":
    # Engines may print: the answer is the last line.
    sys.stdout.write("\n" + main(sys.stdin.read()) + "\n")
