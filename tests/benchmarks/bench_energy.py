"""Joules per image of ResNet-50 on an NVIDIA GPU, by the board's own energy counter.

    python -m tests.benchmarks.bench_energy [--device cuda:0] [--seconds 200] [--batch 32]
        [--precision fp32] [--repeats 4] [--folder FOLDER]

Needs PyTorch with CUDA and coremltools (for the zoo); the counter is read from libnvidia-ml, which
comes with the driver. Prints a table and writes into FOLDER (default: ``$OUT``, else ``.bench``)

* ``bench_energy.json``: everything,
* ``bench_energy.md``: the table for docs/energy.md,
* ``nvml_counter.jsonl``: the counter's publications during 20 s, to be played again by tests.

The run: the idle board before anything is on it, how often the counter moves and what a reading
costs; then ``repeats`` measurements of their own, each of idle and active blocks in turns
(``measure.energy``); at last the idle board with the program on it. Target: the repeats' joules per
image agree within 5 %.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import LabError
from coreml_lab.measure.energy import Measurement, measure
from coreml_lab.measure.energy_estimate import Block, power
from coreml_lab.measure.energy_watch import Keep, Point, Watch, in_a_thread
from coreml_lab.probes import Target
from coreml_lab.probes.counters import Opened, opened
from coreml_lab.probes.nvml import Nvml, NvmlSource, library

AGREEMENT = 0.05
IDLE, SETTLE, COST_CALLS = 10.0, 8.0, 200
RECORDED_NS = 20_000_000_000
Work = Callable[[], object]


@dataclass(frozen=True)
class Stage:
    """What the bench runs on: a counter and a clock; tests hand in made-up ones."""

    source: Opened
    clock: Clock = SYSTEM
    keep: Keep = in_a_thread

    def polled(self) -> tuple[Watch, AbstractContextManager[object]]:
        """A watch of the counter, and what keeps it polled."""
        watch = Watch([self.source], self.clock)
        return watch, self.keep(watch)


# -- parts -----------------------------------------------------------------------------------------


def idle(stage: Stage, seconds: float) -> dict[str, float]:
    """Watts of the board while nothing is done, and how often its counter moves."""
    watch, polling = stage.polled()
    with polling:
        start = stage.clock.now_ns()
        stage.clock.sleep(seconds)
        end = stage.clock.now_ns()
    (domain,) = stage.source.domains
    points = watch.points(domain.name)
    found = power(points, Block(start, end, 0), domain)
    gaps = [(b.t_ns - a.t_ns) * 1e-6 for a, b in pairwise(points)]
    return {
        "watts": float("nan") if found is None else found.watts,
        "publications": len(points),
        "gap_ms": median(gaps) if gaps else float("nan"),
    }


def reading_cost(stage: Stage) -> float:
    """Milliseconds of one reading, the median."""
    times = []
    for _ in range(COST_CALLS):
        start = time.perf_counter()
        stage.source.source.read(stage.clock.now_ns())
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def repeat(stage: Stage, work: Work, seconds: float) -> Measurement:
    """One measurement of its own."""
    return measure(work, [stage.source], seconds=seconds, clock=stage.clock, keep=stage.keep)


def row(found: Measurement, batch: int, relaxed_watts: float) -> dict[str, Any]:
    """A measurement as joules per image."""
    (group,) = found.groups
    e = group.estimate
    if e.marginal is None or e.gross is None or e.active is None or e.idle is None:
        raise LabError(f"nothing was measured: {e.reason}", hint="give it more seconds")

    def per_image(value: float) -> float:
        return value / batch

    relaxed = e.gross.mean - relaxed_watts * e.gross.mean / e.active.mean
    return {
        "above_idle": per_image(e.marginal.mean),
        "low": per_image(e.marginal.mean - e.marginal.half),
        "high": per_image(e.marginal.mean + e.marginal.half),
        "gross": per_image(e.gross.mean),
        "gross_half": per_image(e.gross.half),
        "above_relaxed_idle": per_image(relaxed),
        "active_watts": e.active.mean,
        "idle_watts": e.idle.mean,
        "resolution": per_image(e.floor),
        "batch_ms": found.call_s * 1e3,
        "pairs": e.pairs,
        "block_s": found.block_s,
        "gap_ms": group.pace.period * 1e3,
    }


def spread(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """How far the repeats lie apart: the largest over the smallest, less 1."""
    values = [r[key] for r in rows]
    return max(values) / min(values) - 1


def bench(
    stage: Stage, load: Callable[[], Work], *, seconds: float, repeats: int, batch: int
) -> dict[str, Any]:
    """Everything, in order; prints as it goes."""
    print(f"counter read in {(cost := reading_cost(stage)):.3f} ms (median of {COST_CALLS})")
    before = idle(stage, IDLE)
    print(f"idle board: {before['watts']:.1f} W; the counter moves every {before['gap_ms']:.0f} ms")
    work = load()
    rows, timeline = [], []
    for number in range(repeats):
        if number:
            stage.clock.sleep(SETTLE / 4)
        found = repeat(stage, work, seconds / repeats)
        rows.append(row(found, batch, before["watts"]))
        print(told(number, rows[-1]), flush=True)
        timeline = timeline or recorded(next(iter(found.timelines.values())))
    stage.clock.sleep(SETTLE)
    after = idle(stage, IDLE)
    print(f"idle board with the program on it: {after['watts']:.1f} W")
    apart = {key: spread(rows, key) for key in ("above_idle", "gross")}
    return {
        "reading_ms": cost,
        "idle_before": before,
        "idle_after": after,
        "rows": rows,
        "apart": apart,
        "ok": max(apart.values()) <= AGREEMENT,
        "timeline": timeline,
    }


def recorded(points: Sequence[Point]) -> list[dict[str, float]]:
    """The first seconds of a timeline, from 0."""
    if not points:
        return []
    first = points[0]
    return [
        {"t_ns": p.t_ns - first.t_ns, "joules": round(p.joules - first.joules, 3)}
        for p in points
        if p.t_ns - first.t_ns <= RECORDED_NS
    ]


# -- what is told ----------------------------------------------------------------------------------


def told(number: int, r: Mapping[str, Any]) -> str:
    """A repeat in one line."""
    return (
        f"{number + 1}: {r['above_idle'] * 1e3:.2f} [{r['low'] * 1e3:.2f}, {r['high'] * 1e3:.2f}] "
        f"mJ per image above idle, {r['gross'] * 1e3:.2f} mJ gross; {r['active_watts']:.0f} W at "
        f"work, {r['idle_watts']:.0f} W idle in turns; {r['batch_ms']:.2f} ms per batch, "
        f"{r['pairs']} pairs of {r['block_s']:.2f} s"
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The table for docs/energy.md."""
    about, rows = found["about"], found["rows"]
    head = (
        f"**{about['network']}, batch {about['batch']}, {about['precision']}, engine pytorch on "
        f"{about['gpu']}**, measured on {about['date']}: driver {about['driver']}, PyTorch "
        f"{about['torch']}, CUDA {about['cuda']}. From NumPy arrays to NumPy arrays, so copies to "
        f"and from the GPU are part of it; energy of the GPU's board alone (NVML total energy)."
    )
    columns = (
        "repeat", "above idle, mJ per image [95 %]", "gross, mJ per image",
        "above the relaxed board, mJ per image", "power at work", "power idle, in turns",
        "time per batch", "pairs",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"]
    lines += [
        f"| {i + 1} | {r['above_idle'] * 1e3:.2f} [{r['low'] * 1e3:.2f}, {r['high'] * 1e3:.2f}] "
        f"| {r['gross'] * 1e3:.2f} | {r['above_relaxed_idle'] * 1e3:.2f} "
        f"| {r['active_watts']:.0f} W | {r['idle_watts']:.0f} W | {r['batch_ms']:.2f} ms "
        f"| {r['pairs']} |"
        for i, r in enumerate(rows)
    ]
    foot = (
        f"The repeats lie {found['apart']['above_idle']:.1%} apart above idle and "
        f"{found['apart']['gross']:.1%} gross (largest over smallest). The relaxed board, before "
        f"anything was on it, drew {found['idle_before']['watts']:.1f} W; with the program on it "
        f"and {SETTLE:g} s of rest {found['idle_after']['watts']:.1f} W; between two active blocks "
        f"{fmean(r['idle_watts'] for r in rows):.1f} W: a program on it keeps its clocks up. The "
        f"counter moved every {found['idle_before']['gap_ms']:.0f} ms; one reading took "
        f"{found['reading_ms']:.2f} ms."
    )
    return "\n".join([head, "", *lines, "", foot, ""])


def write(found: dict[str, Any], folder: Path) -> None:
    """The three files."""
    folder.mkdir(parents=True, exist_ok=True)
    timeline = found.pop("timeline")
    about = (
        f"# {found['about']['gpu']}, driver {found['about']['driver']}, {found['about']['date']}"
    )
    lines = [about, *(json.dumps(p) for p in timeline)]
    (folder / "nvml_counter.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "bench_energy.md").write_text(markdown(found), encoding="utf-8")
    (folder / "bench_energy.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


# -- the real thing --------------------------------------------------------------------------------


def resnet(device: str, batch: int, precision: str) -> Work:
    """One batch through our engine, from NumPy to NumPy."""
    import numpy as np

    import coreml_lab as cl
    from coreml_lab.program.graph import TensorType
    from coreml_lab.run.engine import Options
    from coreml_lab.run.pytorch import PyTorchEngine
    from coreml_lab.zoo.layers import Layers

    start = time.perf_counter()
    known, net = cl.zoo.NETWORKS["resnet50"], Layers(0)
    spec = TensorType((batch, *known.input.sizes[1:]), known.input.dtype)
    model = cl.compile(
        lambda x: known.function(net, x),
        name="resnet50",
        x=spec,
        precision=precision,
        engine="reference",
        device="cpu",
    )
    x = np.concatenate([cl.zoo.inputs("resnet50", seed=i)["x"] for i in range(batch)])
    options = Options(faithful=precision == "fp16")
    program = PyTorchEngine().load(model.program, device, options)
    for _ in range(4):  # captured as a CUDA graph, in the fastest layout
        program.run({"x": x})
    print(f"resnet50 x{batch} {precision} is on {device} after {time.perf_counter() - start:.0f} s")
    return lambda: program.run({"x": x})


def about(device: str, source: NvmlSource, asked: argparse.Namespace) -> dict[str, Any]:
    """Where, when and with what."""
    import torch

    return {
        "network": "ResNet-50 (seeded weights)",
        "batch": asked.batch,
        "precision": asked.precision,
        "gpu": torch.cuda.get_device_name(device),
        "driver": source.driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "seconds": asked.seconds,
        "repeats": asked.repeats,
    }


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=200.0, help="of all repeats together")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16"))
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("OUT", ".bench")))
    return parser.parse_args(arguments)


def uuids_of(device: str, count: int) -> tuple[str, ...]:
    """The GPU's own name among several; a single one is left alone until it has been seen idle."""
    if importlib.util.find_spec("torch") is None:
        raise LabError("PyTorch is not installed", hint='pip install "coreml-lab[torch]"')
    if count == 1:
        return ()
    import torch

    try:
        return (str(torch.cuda.get_device_properties(device).uuid),)
    except (RuntimeError, AssertionError) as error:
        raise LabError(f"PyTorch finds no {device}: {error}", hint="see nvidia-smi") from error


def main() -> int:
    """Measure; 0 also where there is no NVIDIA GPU."""
    asked = parsed()
    try:
        source = NvmlSource(uuids_of(asked.device, Nvml(library()).count()))
    except LabError as error:
        print(f"left out: {error.message}")
        return 0
    found = opened(source, Target(os.getpid()))
    if not found.domains:
        print(f"left out: {found.missing[0].reason}")
        return 0
    print(f"{found.domains[0].title}, driver {source.driver}")
    result = bench(
        Stage(found),
        lambda: resnet(asked.device, asked.batch, asked.precision),
        seconds=asked.seconds,
        repeats=asked.repeats,
        batch=asked.batch,
    )
    result["about"] = {**about(asked.device, source, asked), "source": found.domains[0].source}
    write(result, asked.folder)
    print(markdown(result))
    print(f"repeats within {AGREEMENT:.0%}: {'yes' if result['ok'] else 'MISSED'}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
