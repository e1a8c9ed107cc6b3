"""Which of several engines runs a program faster: measured once, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from coreml_lab.errors import LabError
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array
from coreml_lab.run.devices import cpu_name
from coreml_lab.run.engine import Loaded, package_version

FILE = "choice.json"
PACKAGES = ("onnxruntime", "openvino", "tinygrad", "torch")
ROUNDS = 15
SECONDS = 0.5
WARMUP = 2
# Less than this is no reason to leave the first engine, which is the better known one.
WORTH_IT = 0.95
# It must also have won this share of the rounds: 12 of 15 by chance has a probability of 2 %.
WON = 0.8
# Largest difference of the results, relative to the first engine's largest value.
AGREEMENT = 1e-3


@dataclass(frozen=True)
class Choice:
    """The engine to take and, in a sentence, why."""

    engine: str
    why: str


def key(program: str, device: str, engines: Sequence[str], settings: str) -> str:
    """Everything that decides who is faster: a choice is not that of another machine or version.

    Args:
        program: the program's own key.
        device: where it runs.
        engines: those that are compared.
        settings: of running, as text.
    """
    versions = [f"{name} {package_version(name)}" for name in PACKAGES]
    machine = (cpu_name(), platform.system(), platform.machine())
    told = "\0".join((program, device, settings, *engines, *versions, *machine))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def remembered(cache: Cache, key: str) -> Choice | None:
    """What was measured before, if it was."""
    return cache.use(
        f"{key}-choice",
        lambda folder: Choice(**json.loads((folder / FILE).read_text(encoding="utf-8"))),
    )


def remember(cache: Cache, key: str, choice: Choice, title: str = "") -> None:
    """Keep a choice for the next time the program is loaded."""
    text = json.dumps({"engine": choice.engine, "why": choice.why})
    cache.put(f"{key}-choice", lambda f: _write(f, text), title=title)


def _write(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text, encoding="utf-8")


def fastest(
    first: tuple[str, Loaded],
    rivals: Sequence[tuple[str, Callable[[], Loaded]]],
    inputs: Mapping[str, Array],
) -> Choice:
    """Run each in turns on the same (simulated) inputs; a rival must agree with the first, too.

    Times are medians of at most 15 rounds or half a second.
    """
    name, loaded = first
    best = Choice(name, f"{name}: no other engine runs this program here")
    for rival, load in rivals:
        try:
            best = _between(best, (name, loaded), (rival, load()), inputs)
        except LabError as error:
            best = Choice(best.engine, f"{best.engine}: {rival} cannot run it ({error.message})")
    return best


def _between(
    best: Choice,
    first: tuple[str, Loaded],
    second: tuple[str, Loaded],
    inputs: Mapping[str, Array],
) -> Choice:
    apart = _difference(first[1].run(inputs), second[1].run(inputs))
    if not apart <= AGREEMENT:
        why = f"the results of {second[0]} differ by {apart:.1e}"
        return Choice(best.engine, f"{best.engine}: {why}")
    rounds = _in_turns(first[1], second[1], inputs)
    ours, theirs = (median(times) for times in zip(*rounds, strict=True))
    told = f"{ours * 1e3:.3g} ms on {first[0]}, {theirs * 1e3:.3g} ms on {second[0]}, measured"
    won = sum(there < here for here, there in rounds) / len(rounds)
    if theirs < ours * WORTH_IT and won >= WON:
        return Choice(second[0], f"{second[0]}: {told}")
    return Choice(best.engine, f"{best.engine}: {told}")


def _difference(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """The largest difference, relative to the largest value of each output."""
    worst = 0.0
    for name, array in first.items():
        a, b = array.astype(np.float64), second[name].astype(np.float64)
        if a.shape != b.shape:
            return np.inf
        if a.size:
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)))
    return worst


def _in_turns(
    first: Loaded, second: Loaded, inputs: Mapping[str, Array]
) -> list[tuple[float, float]]:
    """Seconds of each round, first and second."""
    rounds = []
    end = time.monotonic() + SECONDS
    for index in range(WARMUP + ROUNDS):
        times = (_timed(first, inputs), _timed(second, inputs))
        if index >= WARMUP:
            rounds.append(times)
            if time.monotonic() > end:
                break
    return rounds


def _timed(loaded: Loaded, inputs: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    loaded.run(inputs)
    return time.perf_counter() - start
