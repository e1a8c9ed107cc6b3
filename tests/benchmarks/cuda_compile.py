"""torch.compile beside the others on an NVIDIA GPU: each case in a process of its own.

What it compiles it keeps on disk. All cases are compiled first, several at once, so that a measured
process finds its kernels there; nothing is timed meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from coreml_lab.run.steps.space import exact
from tests.benchmarks.cuda_networks import Clock, Row, model_of, told
from tests.benchmarks.rivals import HALF, twin

# torch.compile: its modes, the seconds that one network may take, and those that must be left.
MODES, LONGEST, LEAST = ("reduce-overhead", "default"), 150.0, 25.0
# How many compile at once, and the threads of each.
AT_ONCE, THREADS = max(1, (os.cpu_count() or 1) * 5 // 8), 2
Case = tuple[str, int, str]


def compiled(cases: Sequence[Case], device: str, clock: Clock) -> Iterator[Row]:
    """Each case with torch.compile beside the others: of its modes the first that works."""
    if device != "cpu":
        yield _prepared(cases, device, clock)
    for name, batch, precision in cases:
        row: Row = {"part": "compile", "name": name, "batch": batch, "precision": precision}
        for mode in MODES:
            if clock.left() < 2 * LEAST:
                yield {**row, "mode": mode, "skipped": "the time is over"}
                break
            found = {**row, "mode": mode, **_apart(row, mode, device, clock)}
            yield found
            if "best" in found:
                break


def compile_only(cases: Sequence[Case], device: str, mode: str) -> Iterator[Row]:
    """Have torch.compile compile, and keep nothing but what it leaves on disk."""
    for name, batch, precision in cases:
        _, x = model_of(name, batch, precision)
        call = twin(name, batch, HALF if precision == "fp16" else torch.float32, device)
        with torch.inference_mode(), exact(torch):
            torch.compile(call, mode=mode)(torch.from_numpy(x).to(device))
        yield {"part": "compiling", "name": name, "batch": batch, "precision": precision}


def _command(folder: str, part: str, row: Case, device: str, mode: str) -> list[str]:
    bench = Path(__file__).with_name("bench_cuda.py")
    command = [sys.executable, str(bench), folder, "--only", part, "--device", device]
    name, batch, precision = row
    command += ["--networks", name, "--batches", str(batch), "--precisions", precision]
    return [*command, "--compile", mode]


def _prepared(cases: Sequence[Case], device: str, clock: Clock) -> Row:
    """Compile all cases, several at once."""
    start, most = time.monotonic(), min(2 * LONGEST, clock.left() / 2)
    given = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(THREADS)}

    def one(case: Case) -> str:
        left = most - (time.monotonic() - start)
        with tempfile.TemporaryDirectory() as folder:
            command = _command(folder, "compiling", case, device, MODES[0])
            try:
                ran = subprocess.run(
                    command, capture_output=True, env=given, timeout=max(1.0, left), check=False
                )
            except subprocess.TimeoutExpired:
                return "over the time"
        return "" if ran.returncode == 0 else f"ended with {ran.returncode}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = {str(c): why for c, why in zip(cases, pool.map(one, cases), strict=True) if why}
    spent = time.monotonic() - start
    print(f"compiled {len(cases) - len(failed)} of {len(cases)} cases in {spent:.0f} s", flush=True)
    return {"part": "compiling", "seconds": spent, "failed": failed}


def _apart(row: Row, mode: str, device: str, clock: Clock) -> Row:
    """A case with torch.compile in a process of its own, which may crash; or why it gave none."""
    start, case = time.monotonic(), (row["name"], row["batch"], row["precision"])
    # More threads are processes, which start up while something is timed.
    given = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        most = min(LONGEST, clock.left() - LEAST)
        try:
            ran = subprocess.run(
                _command(folder, "networks", case, device, mode),
                capture_output=True, text=True, env=given, timeout=most, check=False,
            )  # fmt: skip
            last = (ran.stderr.strip().splitlines() or ["it gave no row"])[-1]
        except subprocess.TimeoutExpired as error:
            last = str(error)
        file = Path(folder) / "bench_cuda.json"
        found = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    spent = {"process_s": time.monotonic() - start}
    if found and "best" in found[0]:
        told(found[0])
        return {**found[0], **spent, "part": "compile"}
    why = found[0].get("error", last) if found else last
    print(f"{case[0]} x{case[1]} {case[2]} torch.compile, {mode}: unavailable: {why[:160]}")
    return {"unavailable": why, **spent}
