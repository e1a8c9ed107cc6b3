"""What profiling costs: ResNet-50 and a vision transformer of some 300 operations, in turns.

Each round runs three things in random order: plain predictions; the same while ``cl.profile()``
watches (nothing instrumented, the sampler and regions on); and instrumented runs, with a span per
operation. A stretch lasts a second or longer, so that ten ticks of the sampler and its slow
readings fall into it, and begins with work that is not timed: a profile starts by waiting for the
sampler, and a device that has just waited is slow for a while, which is no cost of watching.
Ratios are to the plain ones of the same round, with 95 % intervals. Targets: watching
costs at most 2 % (its interval's lower end, since it must be shown to cost more to fail), and what
a recording says of its own cost (``overhead_ns``) is that much of a run or less. The ratio of
instrumented runs has no target: it is what reports tell, and is compared with that. Last come the
parts of an inference: conversion, copies, launch, the framework.

    python -m tests.benchmarks.bench_profile [NETWORK…] [--device cuda:0] [--rounds 25]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import coreml_lab as cl
from coreml_lab.explain.facts import facts
from coreml_lab.explain.timing import parts
from coreml_lab.explain.units import show
from coreml_lab.measure.intervals import quantile_interval
from coreml_lab.measure.paired import Pairs, Ratio, ratio

ROUNDS, RUNS, MOST = 25, 3, 1.02
SETTLE, STRETCH = 0.3, 1.0  # seconds, at least
TRACED = 30
NETWORKS = ("resnet50", "vit")


@dataclass
class Times:
    """Nanoseconds per run, a number per round."""

    plain: list[int] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    traced: list[int] = field(default_factory=list)

    def against_plain(self, arm: list[int]) -> Ratio:
        """The ratio of the rounds."""
        return ratio(Pairs(tuple(arm), tuple(self.plain)))


def until(work: Callable[[], Any], seconds: float, least: int) -> int:
    """Nanoseconds per run, of at least so many and so long."""
    runs, start = 0, time.perf_counter_ns()
    while runs < least or time.perf_counter_ns() - start < seconds * 1e9:
        work()
        runs += 1
    return (time.perf_counter_ns() - start) // runs


def timed(work: Callable[[], Any]) -> int:
    """Nanoseconds per run, once the machine has settled to that work."""
    until(work, SETTLE, 1)
    return until(work, STRETCH, RUNS)


def watched(model: Any, inputs: Any) -> int:
    """The same under a profile, in a region; without what follows when it is stopped."""
    profile = cl.profile(spans=False).start()

    def work() -> None:
        with cl.region("bench"):
            model.predict(inputs)

    spent = timed(work)
    profile.stop()
    return spent


def traced(model: Any, inputs: Any) -> int:
    """Instrumented runs; making the instrumented session is not part of them."""
    each = until(lambda: model.predict(inputs), SETTLE, 1)
    found = model.trace(inputs, runs=min(TRACED, max(RUNS, round(STRETCH * 1e9 / each))))
    return int(sum(run.duration_ns for run in found) // len(found))


def shown(found: Ratio) -> str:
    """A ratio with its interval."""
    return f"x {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def rounds(model: Any, inputs: Any, count: int) -> Times:
    """All three in turns."""
    order, times = random.Random(0), Times()
    for _ in range(count):
        turns: list[tuple[list[int], Callable[[], int]]] = [
            (times.plain, lambda: timed(lambda: model.predict(inputs))),
            (times.watched, lambda: watched(model, inputs)),
            (times.traced, lambda: traced(model, inputs)),
        ]
        order.shuffle(turns)
        for kept, work in turns:
            kept.append(work())
    return times


def bench(name: str, device: str | None, count: int) -> bool:
    """One network; whether its target is met."""
    model, inputs = getattr(cl.zoo, name)(), cl.zoo.inputs(name)
    model = model if device is None else model.to(device)
    for _ in range(3):
        model.predict(inputs)
    times = rounds(model, inputs, count)
    watching, spans = times.against_plain(times.watched), times.against_plain(times.traced)
    start = time.perf_counter()
    recording = cl.profile(model, inputs, runs=30)
    whole = time.perf_counter() - start
    found = facts(recording)
    ends = quantile_interval(times.plain, 0.5) or (0, 0)
    assert recording.overhead is not None
    share = recording.overhead.run_ns / (found.latency.p50.value * 1e9)
    met = watching.low is not None and watching.low <= MOST and share <= MOST - 1
    runs = len(recording.runs) + len(recording.splits) + len(recording.pace.warmup_ns)  # type: ignore[union-attr]
    print(
        f"{name} ({len(model.info.ops)} operations, {recording.plan.title}): plain "
        f"{found.latency.p50.value * 1e3:.1f} ms, in turns "
        f"{ends[0] / 1e6:.1f}-{ends[1] / 1e6:.1f}\n"
        f"  watched      {shown(watching)}  {'met' if met else 'MISSED'}; a run costs "
        f"{recording.overhead.run_ns} ns ({100 * share:.4f} %), a region "
        f"{recording.overhead.region_ns} ns, sampling {recording.overhead.sampler_cores.value:.4f}"
        f" cores\n  instrumented {shown(spans)}; reports say x {found.slowdown.value:.3f}\n"
        f"  cl.profile(runs=30) took {whole:.1f} s for {runs} runs, the work of "
        f"{runs * found.latency.p50.value:.1f} s",
        flush=True,
    )
    for part, _, time_, _ in parts(recording).rows:
        print(f"  {part:<10} {show(time_)}", flush=True)  # type: ignore[arg-type]
    for condition in recording.conditions:
        if condition.noisy:
            print(f"  noisy: {condition.name}: {show(condition.value)}", flush=True)
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--device")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    results = [bench(name, asked.device, asked.rounds) for name in asked.networks]
    sys.exit(0 if all(results) else 1)
