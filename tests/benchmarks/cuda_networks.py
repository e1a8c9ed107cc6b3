"""The zoo's networks on a device of PyTorch's against plain PyTorch and others, NumPy to NumPy."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from coreml_lab import clock as measuring
from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.program.graph import TensorType
from coreml_lab.run.engine import Options
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.steps.space import exact
from tests.benchmarks.rivals import on_cuda, plain

NETWORKS = ("resnet50", "mobilenet_v2", "vit", "bert")
# The whole interval of ours / theirs must lie below.
LIMIT = 1.05
PAIRS, SECONDS = 41, 12.0
# Ways that are slower than the best by more than this are timed in fewer pairs.
NEAR, FEW = 1.3, 9
Row = dict[str, Any]


class Clock:
    """Seconds that are left of those given; 0 given means no limit."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds if seconds else float("inf")

    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()


def model_of(name: str, batch: int, precision: str) -> tuple[Any, Any]:
    """A network of the zoo for a batch, and inputs for it."""
    import coreml_lab as cl
    from coreml_lab.zoo.layers import Layers

    found, net = cl.zoo.NETWORKS[name], Layers(0)
    spec = TensorType((batch, *found.input.sizes[1:]), found.input.dtype)
    model = cl.compile(
        lambda x: found.function(net, x),
        name=name,
        x=spec,
        precision=precision,
        engine="reference",
        device="cpu",
    )
    return model, np.concatenate([cl.zoo.inputs(name, seed=i)["x"] for i in range(batch)])


def block(work: Callable[[], Any], runs: int) -> Callable[[], Any]:
    """So many runs as one."""

    def several() -> None:
        for _ in range(runs):
            work()

    return several if runs > 1 else work


def against(
    ours: Callable[[], Any],
    others: Mapping[str, Any],
    seconds: float,
    *,
    most: int = PAIRS,
    turn_s: float = 0.0,
    clock: measuring.Clock = measuring.SYSTEM,
) -> Row:
    """Ours in turns with each of the others: the nearest rivals often, the rest a few times.

    Args:
        ours: one run.
        others: the same of each rival.
        seconds: the budget for each of them.
        most: pairs, where the budget lasts.
        turn_s: how long a turn lasts at least. Threads that a library keeps spinning after a run
            disturb the other's next one; in longer turns that is a smaller part.
        clock: what is measured.
    """
    quick = {}
    for way, other in others.items():
        times = []
        for _ in range(4):
            start = clock.now_ns()
            other()
            times.append((clock.now_ns() - start) / 1e9)
        quick[way] = min(times)
    found = {}
    for way, other in others.items():
        pairs = most if quick[way] <= NEAR * min(quick.values()) else FEW
        runs = max(1, round(turn_s / quick[way]))
        mine, theirs = block(ours, runs), block(other, runs)
        timed = interleave(mine, theirs, pairs=pairs, warmup=3, seconds=seconds, clock=clock)
        r = ratio(timed)
        found[way] = {
            "ratio": r.value, "low": r.low, "high": r.high, "pairs": r.pairs,
            "ours_ms": float(np.median(timed.arm)) / 1e6 / runs,
            "theirs_ms": float(np.median(timed.baseline)) / 1e6 / runs,
        }  # fmt: skip
    return found


def _allocated(device: str, peak: bool = False) -> int:
    if device == "cpu":
        return 0
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()


def measured(name: str, batch: int, precision: str, how: Mapping[str, Any]) -> Row:
    """A network against its twin; ``how`` has device, compiled and clock."""
    device, clock = how["device"], how["clock"]
    model, x = model_of(name, batch, precision)
    base, start = _allocated(device), time.perf_counter()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    program = PyTorchEngine().load(model.program, device, Options(faithful=precision == "fp16"))
    row: Row = {"part": "networks", "name": name, "batch": batch, "precision": precision}
    row |= {"load_s": time.perf_counter() - start, "weights_bytes": _allocated(device) - base}

    def ours() -> Any:
        return program.run({"x": x})["output"]

    start = time.perf_counter()
    for _ in range(4):
        got = ours()
    captured = next((g for g in program._graphs.values() if g is not None), None)
    row |= {
        "first_runs_s": time.perf_counter() - start,
        "peak_bytes": _allocated(device, peak=True) - base,
        "eager": program.eager_because,
        "way": [k for k, v in vars(program._plan.way).items() if v],
        "device_ms": captured.time() if captured else None,
        "copies": ("beside" if captured.beside else "within") if captured else "",
        "through": captured.through if captured else None,
        "launch_ms": _launch(captured) if captured else None,
    }
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        others = plain(name, x, precision, device, how["compiled"])
        if device != "cpu" and not how["compiled"]:
            others["ONNX Runtime (CUDA)"] = on_cuda(name, x, precision, folder)
        row["unavailable"] = {k: v for k, v in others.items() if isinstance(v, str)}
        others = {k: v for k, v in others.items() if k not in row["unavailable"]}
        wanted = others["eager"]()
        scale = max(float(np.abs(wanted).max()), 1e-12)
        row["apart"] = float(np.abs(got.astype(np.float64) - wanted).max()) / scale
        row["against"] = against(ours, others, min(SECONDS, max(3.0, clock.left() / 8)))
    row["spans_ms"], row["slowest"] = _spans(program, x)
    row["best"] = min(row["against"], key=lambda way: row["against"][way]["theirs_ms"])
    best = row["against"][row["best"]]
    row["met"] = best["high"] is not None and best["high"] <= LIMIT
    row["ok"] = row["apart"] <= (1e-4 if precision == "fp32" else 5e-2)
    return row


def _launch(captured: Any) -> float:
    """Milliseconds that the host takes to hand a graph over: the least of ten."""
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        captured.graph.replay()
        times.append(time.perf_counter() - start)
    torch.cuda.synchronize()
    return min(times) * 1e3


def _spans(program: Any, x: Any) -> tuple[float, list[Any]]:
    spans = program.trace({"x": x}, 3)[-1].spans
    slowest = sorted(spans, key=lambda s: -s.duration_ns)[:5]
    total = sum(s.duration_ns for s in spans) / 1e6
    return total, [(s.op, s.node, s.duration_ns / 1e3) for s in slowest]


def told(row: Row) -> None:
    """A network in a few lines."""
    at = f"{row['name']} x{row['batch']} {row['precision']}"
    device = f"{row['device_ms']:.3f} ms on the device" if row["device_ms"] else row["eager"]
    way = f", {', '.join(row['way'])}" if row["way"] else ""
    if row["launch_ms"]:
        device += f", launched in {row['launch_ms']:.3f} ms, small copies {row['copies']}"
        device += ", large inputs through other memory" if row["through"] else ""
    weights, peak = (row[k] / 2**20 for k in ("weights_bytes", "peak_bytes"))
    same = "ok" if row["ok"] else "TOO FAR"
    print(f"{at:<24} apart {row['apart']:.1e} {same}; {device}{way}")
    print(
        f"    weights {weights:.0f} MiB, peak {peak:.0f} MiB; loaded in {row['load_s']:.2f} s, "
        f"first four runs {row['first_runs_s']:.2f} s; spans {row['spans_ms']:.3f} ms"
    )
    for way, r in row["against"].items():
        low, high = (float("nan") if r[k] is None else r[k] for k in ("low", "high"))
        verdict = ("  met" if row["met"] else "  MISSED") if way == row["best"] else ""
        print(
            f"    {way:<26} ours {r['ours_ms']:8.3f} ms, theirs {r['theirs_ms']:8.3f} ms: "
            f"x {r['ratio']:.3f} [{low:.3f}, {high:.3f}] of {r['pairs']} pairs{verdict}"
        )
    for way, why in row["unavailable"].items():
        print(f"    {way:<26} unavailable: {why}")
    sys.stdout.flush()


def networks(
    cases: list[tuple[str, int, str]], reserve: float, how: Mapping[str, Any]
) -> Iterator[Row]:
    """Each case, until less than ``reserve`` seconds and those of the longest case are left."""
    longest = 0.0
    for name, batch, precision in cases:
        row: Row = {"part": "networks", "name": name, "batch": batch, "precision": precision}
        if how["clock"].left() < reserve + longest:
            print(f"{name} x{batch} {precision} not measured: the time is over", flush=True)
            yield {**row, "skipped": "the time is over"}
            continue
        start = time.monotonic()
        try:
            with exact(torch):  # for the twin, too
                row = measured(name, batch, precision, how)
            told(row)
        except Exception as error:  # noqa: BLE001 - a row, and on
            text = f"{type(error).__name__}: {error}"[:400]
            row |= {"ok": False, "error": text, "where": traceback.format_exc()[-1500:]}
            print(f"{name} x{batch} {precision} FAILED {text}", flush=True)
        longest = max(longest, time.monotonic() - start)
        if how["device"] != "cpu":
            torch.cuda.empty_cache()
        yield {**row, "seconds": time.monotonic() - start}
