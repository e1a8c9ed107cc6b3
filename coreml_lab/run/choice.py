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

from coreml_lab.errors import LabError, UnsupportedOp
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array
from coreml_lab.run.devices import cpu_name
from coreml_lab.run.engine import Loaded, package_version

FILE = "choice.json"
# Of how they are compared: a choice that was made otherwise is not taken.
FORMAT = "3"
PACKAGES = ("onnxruntime", "openvino", "tinygrad", "torch")
TURN = 8
SECONDS = 0.5
WARMUP = 2
# ONNX Runtime's threads look out for more work for some 40 ms after a run. On two cores, OpenVINO
# takes a third longer meanwhile: where it always came next, it could not be found to be faster.
REST = 0.06
# Less than this is no reason to leave the first engine, which is the better known one.
WORTH_IT = 0.95
# It must also have won this share of the runs: 13 of 16 by chance has a probability of 1 %.
WON = 0.8
# Largest difference of the results, relative to the first engine's largest value.
AGREEMENT = 1e-3


@dataclass(frozen=True)
class Choice:
    """The engine to take and, in a sentence, why.

    ``lasting``: whether it would be so the next time, too; memory may have been short.
    """

    engine: str
    why: str
    lasting: bool = True


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
    told = "\0".join((FORMAT, program, device, settings, *engines, *versions, *machine))
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
    """Run each in turns with the best so far; a rival must agree with the first, too.

    The inputs, which are simulated, are the same for all. Times are medians of at most 16 runs of
    each, or of as many as half a second holds.
    """
    try:
        known = first[1].run(inputs)
    except KeyboardInterrupt:  # of a model inside of it, it is an error of ours, too
        raise
    except LabError as error:
        why = f"{first[0]} fails on simulated inputs ({error.message}), nothing is compared"
        return Choice(first[0], f"{first[0]}: {why}", lasting=False)
    best, told, lasting = first, list[str](), True
    for name, load in rivals:
        best, why, sure = _compared(best, name, load, inputs, known)
        told.append(why)
        lasting = lasting and sure
    why = "; ".join(told) or "no other engine runs this program here"
    return Choice(best[0], f"{best[0]}: {why}", lasting)


def _compared(
    best: tuple[str, Loaded],
    name: str,
    load: Callable[[], Loaded],
    inputs: Mapping[str, Array],
    known: Mapping[str, Array],
) -> tuple[tuple[str, Loaded], str, bool]:
    """The faster one, why, and whether it would be so the next time; ``known`` is what is right."""
    try:
        rival = name, load()
        apart = _difference(known, rival[1].run(inputs))
        if apart <= AGREEMENT:
            return *_between(best, rival, inputs), True
    except KeyboardInterrupt:
        raise
    except LabError as error:
        return best, f"{name} cannot run it ({error.message})", isinstance(error, UnsupportedOp)
    if apart < np.inf:
        return best, f"the results of {name} differ by {apart:.1e}", True
    why = f"the results of {name} have another shape, or are not finite elsewhere"
    return best, why, True


def _between(
    best: tuple[str, Loaded], rival: tuple[str, Loaded], inputs: Mapping[str, Array]
) -> tuple[tuple[str, Loaded], str]:
    """The faster one, and how they compare."""
    runs = _in_turns(best[1], rival[1], inputs)
    ours, theirs = (median(times) for times in zip(*runs, strict=True))
    told = f"{ours * 1e3:.3g} ms on {best[0]}, {theirs * 1e3:.3g} ms on {rival[0]}, measured"
    won = sum(there < here for here, there in runs) / len(runs)
    return (rival if theirs < ours * WORTH_IT and won >= WON else best), told


def _difference(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """The largest difference, relative to the largest value of each output.

    NaN and infinities must be the same at the same places: nothing is as far apart as those.
    """
    worst = 0.0
    for name, array in first.items():
        if name not in second or second[name].shape != array.shape:
            return np.inf
        a, b = array.astype(np.float64), second[name].astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return np.inf
        if finite.any():
            a, b = a[finite], b[finite]
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)))
    return worst


def _in_turns(
    first: Loaded, second: Loaded, inputs: Mapping[str, Array]
) -> list[tuple[float, float]]:
    """Seconds of runs, first and second; there and back, so that a drift meets both alike."""
    end = time.monotonic() + SECONDS
    runs = list(zip(_turn(first, inputs), _turn(second, inputs), strict=False))
    if time.monotonic() < end:
        back, again = _turn(second, inputs), _turn(first, inputs)
        runs += zip(again, back, strict=False)
    return runs


def _turn(loaded: Loaded, inputs: Mapping[str, Array]) -> list[float]:
    """Seconds of some runs, after a rest from what ran before, and runs to wake up."""
    time.sleep(REST)
    for _ in range(WARMUP):
        loaded.run(inputs)
    times, end = [_timed(loaded, inputs)], time.monotonic() + SECONDS / 4
    while len(times) < TURN and time.monotonic() < end:
        times.append(_timed(loaded, inputs))
    return times


def _timed(loaded: Loaded, inputs: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    loaded.run(inputs)
    return time.perf_counter() - start
