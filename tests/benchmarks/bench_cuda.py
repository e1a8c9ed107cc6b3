"""The PyTorch engine on an NVIDIA GPU: networks, scheduler, accuracy, faults, every op's samples.

    python tests/benchmarks/bench_cuda.py [FOLDER] [--seconds 460] [--device cuda:0]
        [--only networks,scheduler,accuracy,faults,ops,compile]
        [--networks vit,bert] [--batches 1,32] [--precisions fp32,fp16]

Prints each row as it is done and writes ``bench_cuda.json`` into FOLDER (default: ``$OUT``, else
here) after each, ``bench_cuda.md`` at the end. A part goes on after a failure, which becomes a row.
With --seconds, what no longer fits is left out and named. ``faults`` and ``ops`` do without
coremltools.

* networks: NumPy to NumPy at batch 1, 32 and 8, in turns with plain PyTorch on the same weights
  (eager, as a CUDA graph) and ONNX Runtime, where it has CUDA. Ratio = ours / theirs, the median
  with its 95 % interval; met: against the best of them the whole interval is at most 1.05.
* scheduler: 32 callers at once / one caller after another: at least 1.5 times the throughput.
* accuracy: every network of the zoo in fp32 on the device against the portable engine: at most
  1e-4 apart, relatively.
* faults: states, an index out of range, memory that runs out; the device works on afterwards.
* ops: each sample three times on the device (eager, captured, captured again), in fp32 against the
  NumPy body and in fp16 against the body on rounded inputs.
* compile: as networks, with torch.compile beside the others, each in its own process; takes long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import cuda_ops
from tests.benchmarks.cuda_faults import faults
from tests.benchmarks.cuda_networks import NETWORKS, Clock, Row, networks, told
from tests.benchmarks.cuda_table import markdown, terminal

PARTS = ("networks", "scheduler", "accuracy", "faults", "ops", "compile")
# Seconds that the networks leave for the other parts.
RESERVE = 110.0
# torch.compile: its modes, the seconds that one network may take, and those that must be left.
MODES, LONGEST, LEAST = ("reduce-overhead", "default"), 150.0, 45.0
BATCHES = "1,32,8"


class Kept:
    """Rows, and the file that they are written to."""

    def __init__(self, asked: argparse.Namespace, gpu: str) -> None:
        self.rows: list[Row] = []
        self.asked = asked
        self.about = {"gpu": gpu, "torch": torch.__version__, "numpy": np.__version__}

    def take(self, rows: Iterable[Row]) -> None:
        """Keep rows as they come."""
        for row in rows:
            self.rows.append(row)
            target = Path(self.asked.folder) / "bench_cuda.json"
            found = {**self.about, "rows": self.rows}
            target.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")


def cases(asked: argparse.Namespace) -> list[tuple[str, int, str]]:
    """What to measure, the most telling first."""
    names, precisions = asked.networks.split(","), asked.precisions.split(",")
    batches = [int(b) for b in asked.batches.split(",")]
    return [(n, b, p) for b in batches for n in names for p in precisions]


def part(name: str, asked: argparse.Namespace, clock: Clock) -> Iterable[Row]:
    """The rows of a part."""
    how = {"device": asked.device, "clock": clock, "compiled": asked.compile}
    if name == "networks":
        alone = asked.only == "networks"
        return networks(cases(asked), 0 if alone else RESERVE, how)
    if name == "compile":
        return compiled(asked, clock)
    if name == "faults":
        return faults(asked.device)
    if name == "ops":
        cuda_ops.SECONDS = min(60.0 if asked.seconds else cuda_ops.SECONDS, max(5.0, clock.left()))
        return cuda_ops.ops(asked.device)
    from tests.benchmarks import cuda_serving  # needs coremltools

    if name == "scheduler":
        return cuda_serving.scheduler(asked.device, clock)
    return cuda_serving.accuracy(asked.device, clock)


def compiled(asked: argparse.Namespace, clock: Clock) -> Iterator[Row]:
    """torch.compile beside the others: of its modes the first that works."""
    for name, batch, precision in cases(asked):
        row: Row = {"part": "compile", "name": name, "batch": batch, "precision": precision}
        for mode in MODES:
            if clock.left() < 2 * LEAST:
                yield {**row, "mode": mode, "skipped": "the time is over"}
                break
            found = {**row, "mode": mode, **apart(row, mode, asked.device, clock)}
            yield found
            if "best" in found:
                break


def apart(row: Row, mode: str, device: str, clock: Clock) -> Row:
    """A case with torch.compile in a process of its own, which may crash; or why it gave none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder, "--only", "networks", "--device", device]
        command += ["--networks", row["name"], "--batches", str(row["batch"])]
        command += ["--precisions", row["precision"], "--compile", mode]
        most = min(LONGEST, clock.left() - LEAST)
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=most, check=False)
            last = (ran.stderr.strip().splitlines() or ["it gave no row"])[-1]
        except subprocess.TimeoutExpired as error:
            last = str(error)
        file = Path(folder) / "bench_cuda.json"
        found = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    if found and "best" in found[0]:
        told(found[0])
        return {**found[0], "part": "compile"}
    why = found[0].get("error", last) if found else last
    at = f"{row['name']} x{row['batch']} {row['precision']}"
    print(f"{at} torch.compile, {mode}: unavailable: {why[:160]}", flush=True)
    return {"unavailable": why}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=os.environ.get("OUT", "."))
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default=BATCHES)
    parser.add_argument("--precisions", default="fp32,fp16")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--compile", default="", help="a mode of torch.compile to try, too")
    parser.add_argument("--device", default="cuda:0")
    return parser.parse_args()


def main() -> int:
    """Run the parts asked for."""
    asked = arguments()
    gpu = asked.device.startswith("cuda")
    if gpu and not torch.cuda.is_available():
        print("PyTorch finds no NVIDIA GPU here")
        return 0
    name = torch.cuda.get_device_name(0) if gpu else "CPU, to try the bench itself"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, numpy {np.__version__}")
    kept, clock = Kept(asked, name), Clock(asked.seconds)
    for what in asked.only.split(","):
        start = time.perf_counter()
        try:
            kept.take(part(what, asked, clock))
        except Exception:  # noqa: BLE001 - the other parts go on
            traceback.print_exc()
            kept.take([{"part": what, "ok": False, "error": traceback.format_exc()[-1500:]}])
        print(f"-- {what}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n{terminal(kept.rows)}")
    Path(asked.folder, "bench_cuda.md").write_text(
        markdown({**kept.about, "rows": kept.rows}), encoding="utf-8"
    )
    missed = [r for r in kept.rows if not r.get("met", True)]
    wrong = [r for r in kept.rows if not r.get("ok", True)]
    print(f"{len(kept.rows)} rows, {len(missed)} above their limit, {len(wrong)} wrong")
    return 0 if not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
