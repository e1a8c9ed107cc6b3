"""Networks of the zoo on every engine of this machine's CPU against the same library used plainly.

    python -m tests.benchmarks.bench_devices [--networks vit,bert] [--batches 1,8,32]
        [--engines portable,pytorch,openvino] [--seconds 30] [--cpu]

NumPy to NumPy, fp32, in turns of a tenth of a second or more; per network, batch and engine: ours
/ theirs, the median with its 95 % interval. What plain users write: the network in PyTorch (eager,
torch.compile), the file that PyTorch exports of it in ONNX Runtime or OpenVINO (asked for fp32).
Target: against the best of its library the whole interval is at most 1.05, results within 1e-4.
Prints each row as it is done. --seconds limits each comparison; with fewer than six pairs there is
no interval, and none is shown. --cpu: one thread each, and its CPU time in place of time: what
other programs on the machine take does not count.

fp16 has no rows: on the CPU, all of these engines compute fp16 programs in fp32. GPUs have benches
of their own, ``bench_cuda`` and ``bench_opencl``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_lab.clock import SYSTEM, SystemClock
from coreml_lab.run.engine import Options
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.portable import PortableEngine
from coreml_lab.run.pytorch import PyTorchEngine
from tests.benchmarks.cuda_networks import LIMIT, NETWORKS, against, model_of
from tests.benchmarks.rivals import Work, exported, onnx_runtime, plain

ENGINES: dict[str, Any] = {
    "portable": PortableEngine(),
    "pytorch": PyTorchEngine(),
    "openvino": OpenVINOEngine(),
}
APART = 1e-4
# Pairs at most, and seconds that a turn lasts at least.
MOST, TURN = 201, 0.1


class CpuClock(SystemClock):
    """CPU time of this process in place of time."""

    def now_ns(self) -> int:
        """Nanoseconds that the process has computed for."""
        return time.process_time_ns()


CPU = CpuClock()


def openvino(file: Path, x: Any, threads: int) -> Work:
    """OpenVINO, in fp32; ``threads`` as above."""
    import openvino as ov

    core = ov.Core()
    how: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    how |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = core.compile_model(core.read_model(file), "CPU", how)
    return lambda: compiled(x)[0]


def others(engine: str, name: str, x: Any, folder: str, threads: int) -> dict[str, Any]:
    """What plain users of the engine's library write; a reason where it does not work."""
    if engine == "pytorch":
        ways = plain(name, x, "fp32", "cpu", compiled="default")
        return {way: run for way, run in ways.items() if "CUDA" not in way}
    try:
        file = exported(name, x, folder)
        make = onnx_runtime if engine == "portable" else openvino
        return {"PyTorch's export": make(file, x, threads)}
    except Exception as error:  # noqa: BLE001 - told in the row
        return {"PyTorch's export": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"}


def measure(name: str, batch: int, engine: str, seconds: float, *, cpu: bool) -> bool:
    """Print a row; whether it met the targets."""
    threads = 1 if cpu else 0
    if cpu:
        torch.set_num_threads(1)
    torch.compiler.reset()  # all calls are one code to it: it would give up on the ninth
    model, x = model_of(name, batch, "fp32")
    device = "cpu" if engine == "pytorch" else "coreml:0"
    program = ENGINES[engine].load(model.program, device, Options(threads=threads))

    def ours() -> Any:
        return program.run({"x": x})["output"]

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        ways = others(engine, name, x, folder, threads)
        able = {way: run for way, run in ways.items() if not isinstance(run, str)}
        title = f"{name:<13} x{batch:<3}{engine:<9}"
        for way in ways.keys() - able.keys():
            print(f"{title} {way}: unavailable: {ways[way]}", flush=True)
        if not able:
            return True
        wanted = next(iter(able.values()))()
        for _ in range(3):  # an engine may go another way from its second run on
            result = ours()
        apart = float(np.abs(result - wanted).max() / np.abs(wanted).max())
        found = against(ours, able, seconds, most=MOST, turn_s=TURN, clock=CPU if cpu else SYSTEM)
    best = min(found, key=lambda way: found[way]["theirs_ms"])
    r = found[best]
    met = r["high"] is not None and r["high"] <= LIMIT and apart <= APART
    low, high = (float("nan") if r[k] is None else r[k] for k in ("low", "high"))
    rest = ", ".join(f"{w} {f['theirs_ms']:.1f} ms" for w, f in found.items() if w != best)
    print(
        f"{title} ours {r['ours_ms']:8.1f} ms, {best} {r['theirs_ms']:8.1f} ms: x {r['ratio']:.3f} "
        f"[{low:.3f}, {high:.3f}] of {r['pairs']} pairs, apart {apart:.0e}: "
        f"{'met' if met else 'open' if r['ratio'] <= LIMIT else 'MISSED'}"
        f"{f' ({rest})' if rest else ''}",
        flush=True,
    )
    return r["ratio"] <= LIMIT and apart <= APART


def main() -> int:
    """Every case asked for; 1 where a median lies above the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cpu", action="store_true")
    asked = parser.parse_args()
    results = [
        measure(name, int(batch), engine, asked.seconds, cpu=asked.cpu)
        for batch in asked.batches.split(",")
        for name in asked.networks.split(",")
        for engine in asked.engines.split(",")
        if ENGINES[engine].available().available
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
