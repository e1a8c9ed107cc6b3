"""The PyTorch engine on an NVIDIA GPU: networks, scheduler, accuracy, faults, every op's samples.

    python tests/benchmarks/bench_cuda.py [FOLDER] [--seconds 460] [--device cuda:0]
        [--only networks,scheduler,accuracy,faults,ops,copies,compile]
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
* copies: ways for a large input to get into the GPU's memory.
* compile: as networks, with torch.compile and without ONNX Runtime beside the others, each in its
  own process; takes long. ``compiling`` only compiles, with the mode given by --compile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import cuda_ops
from tests.benchmarks.cuda_compile import compile_only, compiled
from tests.benchmarks.cuda_copies import copies
from tests.benchmarks.cuda_faults import faults
from tests.benchmarks.cuda_networks import NETWORKS, Clock, Row, networks
from tests.benchmarks.cuda_table import markdown, terminal

PARTS = ("networks", "scheduler", "accuracy", "faults", "ops", "copies", "compile")
# Seconds that the networks leave for the other parts.
RESERVE = 110.0
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
    where, what = asked.device, cases(asked)
    if name in {"scheduler", "accuracy"}:
        from tests.benchmarks import cuda_serving  # needs coremltools

        return getattr(cuda_serving, name)(where, clock)
    if name == "ops":
        cuda_ops.SECONDS = min(60.0 if asked.seconds else cuda_ops.SECONDS, max(5.0, clock.left()))
    how = {"device": where, "clock": clock, "compiled": asked.compile}
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "networks": lambda: networks(what, 0 if asked.only == "networks" else RESERVE, how),
        "compile": lambda: compiled(what, where, clock),
        "compiling": lambda: compile_only(what, where, asked.compile),
        "faults": lambda: faults(where),
        "ops": lambda: cuda_ops.ops(where),
        "copies": lambda: copies(where, clock),
    }
    return parts[name]()


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
