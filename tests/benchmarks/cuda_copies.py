"""Ways for a large array to get into a GPU's memory: what they take, and how it varies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_lab.run.steps.pinned import PIECE, Border
from tests.benchmarks.cuda_networks import Clock, Row

# Megabytes: batches of 8 and of 32 images in fp32.
SIZES, TURNS = (4.8, 19.3), 100
Way = Callable[[], object]


def copies(device: str, clock: Clock) -> Iterator[Row]:
    """Each way in turns with the others, waited for each time; percentiles in milliseconds."""
    print(
        f"cores {os.cpu_count()}, usable {_usable()}, PyTorch's threads {torch.get_num_threads()}"
    )
    for size in SIZES:
        row: Row = {"part": "copies", "name": f"{size} MB", "cores": _usable()}
        if clock.left() < 10:
            yield {**row, "skipped": "the time is over"}
            continue
        ways = _ways(np.ones(int(size * 1e6 / 4), np.float32), device)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if device != "cpu":
                    torch.cuda.current_stream().synchronize()
                took[name].append((time.perf_counter() - start) * 1e3)
        for name, times in took.items():
            found = dict(
                zip(("p50", "p90", "p99"), np.percentile(times, (50, 90, 99)), strict=True)
            )
            words = ", ".join(f"{k} {v:.2f}" for k, v in found.items())
            print(f"copies {size:>5} MB {name:<24} {words} ms", flush=True)
            yield {**row, "way": name, **found, "ok": True}


def _ways(array: Any, device: str) -> dict[str, Way]:
    inside = torch.zeros(array.shape, device=device)
    border = Border.of(torch, inside) if device != "cpu" else Border.between(
        torch, inside, torch.zeros(array.shape)
    ).cut()  # fmt: skip
    given = torch.from_numpy(array)
    parts = [given[at : at + PIECE // 4] for at in range(0, len(given), PIECE // 4)]

    def pieces(copy: Callable[[Any, Any], object]) -> None:
        for (there, outside), part in zip(border.pieces, parts, strict=True):
            copy(outside, part)
            there.copy_(outside, non_blocking=True)

    def numpy_copy(target: Any, source: Any) -> None:
        np.copyto(target.numpy(), source.numpy())

    def team(target: Any, source: Any) -> None:
        target.copy_(source)

    def four(target: Any, source: Any) -> None:
        # PyTorch gives 32,768 elements to a thread: fewer threads have larger elements.
        even = len(source) // 4 * 4
        target[:even].view(torch.complex128).copy_(source[:even].view(torch.complex128))
        target[even:] = source[even:]

    return {
        "pieces by one thread": lambda: pieces(numpy_copy),
        "pieces by many threads": lambda: pieces(team),
        "pieces by four threads": lambda: pieces(four),
        "CUDA's driver": lambda: inside.copy_(given, non_blocking=True),
        "through other memory": lambda: _through(border, given),
        "as the engine does": lambda: border.enter(array),
    }


def _through(border: Border, given: Any) -> None:
    border.outside.copy_(given)
    border.inside.copy_(border.outside.to(border.inside.device, non_blocking=True))


def _usable() -> float:
    """Cores that this process may use: of its affinity, and of its control group."""
    try:
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        quota = float(most) / float(period)
    except (OSError, ValueError):
        quota = float("inf")
    return min(float(len(os.sched_getaffinity(0))), quota)
