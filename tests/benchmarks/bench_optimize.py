"""What the optimizer's own choices bring: three networks before and after, on the same data.

    python -m tests.benchmarks.bench_optimize [crepe] [resnet50] [bert] [vit]

* crepe: the trained CREPE-tiny (a CNN that hears pitches), frames in batches of 128, which are 1.3
  seconds of sound at its usual hop; the metric is the share heard within 50 cents of simulated
  tones with overtones, vibrato and noise: 640 while it searches, then 5,120 others. Loss: points of
  it.
* resnet50: ResNet-50 with seeded weights; loss is the relative L2 error of the scores.
* bert, vit: transformers of the zoo with seeded weights, a sentence of 128 words and a picture;
  likewise.

Targets (requirement R20): a CNN and a transformer at 0.625 of the time (+60 % speed) and 0.5 of the
memory, ResNet-50 at 1 / 2.2 of the time and 0.3 of the file; <= 0.5 points lost. The goal is time x
memory; engines are the portable one and OpenVINO. Where there is no energy counter, CPU seconds are
told: they rank nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.improve.optimizing.ledger import Entry, Optimized
from coreml_lab.program.graph import Array

RATE, FRAME, BATCH = 16_000, 1024, 128
# How many tones decide while it searches, and how many others judge what was found.
SEARCHED, TONES = 640, 5120
# Cents of CREPE's 360 bins above 10 Hz (its paper, section 2).
CENTS = np.linspace(0, 7180, 360) + 1997.3794084376191
LATENCY, MEMORY, POINTS = 0.625, 0.5, 0.005
GOAL = "latency+memory"


@dataclass(frozen=True)
class Case:
    """A network, the data it is judged by, and what it shall reach."""

    model: Any
    data: Sequence[dict[str, Array]]
    tolerance: float
    metric: Callable[[Any], float] | None = None
    latency: float = LATENCY
    memory: float | None = MEMORY
    size: float | None = None


def tones(count: int, seed: int) -> tuple[Array, Array]:
    """Frames of tones as CREPE takes them (zero mean, unit variance), and their pitches in Hz."""
    rng = np.random.default_rng(seed)
    pitch = np.exp(rng.uniform(np.log(60), np.log(1200), count))
    t = np.arange(FRAME) / RATE - FRAME / RATE / 2
    wave = np.zeros((count, FRAME))
    vibrato = 1 + 0.002 * np.sin(2 * np.pi * 5 * t + rng.uniform(0, 6, (count, 1)))
    for n in range(1, 7):
        strength = rng.uniform(0.1, 1, (count, 1)) / n
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        wave += strength * np.sin(2 * np.pi * n * pitch[:, None] * t * vibrato + phase)
    wave += rng.normal(0, 0.05, wave.shape)
    wave -= wave.mean(1, keepdims=True)
    return (wave / wave.std(1, keepdims=True)).astype(np.float32), pitch


def heard(model: Any, count: int = SEARCHED, seed: int = 5) -> float:
    """The share of pitches within 50 cents, by the mean of the bins around the strongest."""
    frames, pitch = tones(count, seed)
    right = 0
    for start in range(0, count, BATCH):
        found = model.predict({"frames": frames[start : start + BATCH]})["probabilities"]
        near = np.clip(found.argmax(1)[:, None] + np.arange(-4, 5), 0, 359)
        weight = np.take_along_axis(found, near, 1)
        cents = (CENTS[near] * weight).sum(1) / weight.sum(1)
        hertz = 10 * 2 ** (cents / 1200)
        off = 1200 * np.log2(hertz / pitch[start : start + BATCH])
        right += int((np.abs(off) <= 50).sum())
    return right / count


def crepe() -> Case:
    data = [{"frames": tones(BATCH, seed)[0]} for seed in range(4)]
    return Case(cl.load(cl.models.path("crepe-tiny")), data, POINTS, heard)


def resnet50() -> Case:
    data = [cl.zoo.inputs("resnet50", seed=seed) for seed in range(4)]
    return Case(cl.zoo.resnet50(), data, 0.6, latency=1 / 2.2, memory=None, size=0.3)


def bert() -> Case:
    data = [cl.zoo.inputs("bert", seed=seed) for seed in range(4)]
    return Case(cl.zoo.bert(), data, 0.1)


def vit() -> Case:
    data = [cl.zoo.inputs("vit", seed=seed) for seed in range(4)]
    return Case(cl.zoo.vit(), data, 0.1)


def told(entry: Entry) -> None:
    loss = "" if entry.evidence is None else f", loss {entry.evidence.loss:.4f}"
    print(f"    {entry.title}: {entry.verdict}: {entry.reason}{loss}", flush=True)


def one(name: str, case: Case, goal: str) -> Optimized:
    """Optimize for one goal, with a line per candidate."""
    print(f"{name}, for {goal}", flush=True)
    start = time.process_time()
    found = cl.optimize(
        case.model, case.data, goal=goal, tolerance=case.tolerance, metric=case.metric,
        progress=told, seconds=20.0, pairs=15, engines=("openvino",),
    )  # fmt: skip
    print(f"    ({time.process_time() - start:.0f} CPU seconds of search)")
    return found


def row(name: str, case: Case, found: Optimized) -> bool:
    """Print what was reached; whether that is the target."""
    before, after = found.before, found.after
    size, high = after.size / before.size, after.high or np.inf
    reached = [high <= case.latency]
    line = f"{name}: time x {after.ratio:.3f} [{after.low:.3f}, {high:.3f}] "
    line += f"(<= {case.latency:.3f}), file x {size:.3f}"
    if case.size is not None:
        reached.append(size <= case.size)
        line += f" (<= {case.size})"
    if before.memory and after.memory is not None:
        memory = after.memory / before.memory
        line += f", memory x {memory:.3f}"
        if case.memory is not None:
            reached.append(memory <= case.memory)
            line += f" (<= {case.memory})"
    if after.cpu is not None:
        line += f", CPU time x {after.cpu:.3f}"
    if case.metric:
        lost = heard(case.model, TONES, 7) - heard(found.model, TONES, 7)
        reached.append(lost <= case.tolerance)
        loss = f"{100 * lost:.2f} points of {TONES} other tones"
    else:
        loss = f"{-20 * np.log10(max(after.loss, 1e-9)):.1f} dB"
    print(found)
    print(f"{line}, loss {loss}: {'met' if all(reached) else 'MISSED'}", flush=True)
    return all(reached)


CASES: dict[str, Callable[[], Case]] = {
    "crepe": crepe,
    "resnet50": resnet50,
    "bert": bert,
    "vit": vit,
}

if __name__ == "__main__":
    results = []
    for chosen in sys.argv[1:] or CASES:
        case = CASES[chosen]()
        results.append(row(chosen, case, one(chosen, case, GOAL)))
    sys.exit(0 if all(results) else 1)
