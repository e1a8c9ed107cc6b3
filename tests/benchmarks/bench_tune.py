"""Does a search of 40 trials find what a walk through all of a space finds, in half of its time?

    python -m tests.benchmarks.bench_tune

A small network, and 180 ways to store its weights and to run it: what is sought is the smallest
file that keeps the outputs within a relative L2 error of 2 %. Both use two processes, and each
trial does the same: the file is made, loaded, compared and timed. Target: for each of three seeds
the search's best file is no larger than that of the walk, in at most half of the walk's time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.improve.tuning.result import Tuning
from coreml_lab.improve.tuning.space import space
from coreml_lab.program.graph import Array

TRIALS, LEAST, SHARE, SEEDS = 40, 160, 0.5, 3
TABLES, INTEGERS = "palettize_weights", "quantize_weights"
OVER: Mapping[str, Sequence[Any]] = {
    "actions": [None, "float16", TABLES, ("float16", TABLES), INTEGERS, ("float16", INTEGERS)],
    f"{TABLES}.nbits": [2, 3, 4, 6, 8],
    f"{TABLES}.mode": ["uniform"],
    f"{TABLES}.granularity": ["per_tensor", "per_grouped_channel"],
    f"{TABLES}.enable_per_channel_scale": [False, True],
    f"{TABLES}.weight_threshold": [64],
    f"{INTEGERS}.dtype": ["int4", "int8", "uint4", "uint8"],
    f"{INTEGERS}.granularity": ["per_tensor", "per_channel", "per_block"],
    f"{INTEGERS}.block_size": [8],
    f"{INTEGERS}.mode": ["linear_symmetric", "linear"],
    f"{INTEGERS}.weight_threshold": [64],
    "threads": [1, 2],
}


def weights(rng: np.random.Generator, *shape: int) -> Array:
    return (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)


def network() -> Any:
    """Four convolutions of 16 to 64 channels and a linear layer; x: (1, 8, 16, 16)."""
    rng = np.random.default_rng(0)
    layers = [weights(rng, o, i, 3, 3) for i, o in ((8, 16), (16, 32), (32, 32), (32, 64))]
    last = weights(rng, 16, 64)

    def computed(x: Any) -> Any:
        for weight in layers:
            x = cl.ops.relu(cl.ops.conv(x, weight=weight, pad_type="same"))
        return cl.ops.linear(cl.ops.reduce_mean(x, axes=[2, 3]), weight=last)

    return cl.compile(computed, x=cl.spec(1, 8, 16, 16), name="tuned", precision="fp32")


def run(model: Any, trials: int, seed: int) -> tuple[Tuning, float]:
    """A search, and how long it took in seconds."""
    rng = np.random.default_rng(1)
    data = [{"x": rng.random((1, 8, 16, 16)).astype(np.float32)} for _ in range(4)]
    start = time.monotonic()
    found = cl.tune(
        model, data, OVER, objectives=("size",), tolerance=0.02, n_trials=trials, seed=seed,
        parallel=2, pairs=7, seconds=0.3,
    )  # fmt: skip
    return found, time.monotonic() - start


def told(name: str, found: Tuning, seconds: float) -> int:
    best = found.best("size")
    assert best.measured is not None
    failed = sum(t.measured is None for t in found.trials)
    print(
        f"{name}: {len(found.trials)} trials ({failed} failed) in {seconds:.0f} s; best "
        f"{best.measured.size} bytes, loss {best.measured.loss:.4f}: {best.configuration}",
        flush=True,
    )
    return best.measured.size


if __name__ == "__main__":
    model = network()
    count = sum(1 for _ in space(OVER).walk())
    print(f"{count} points", flush=True)
    assert count >= LEAST
    walk, whole = run(model, count, seed=0)
    least = told("walk", walk, whole)
    met = []
    for seed in range(SEEDS):
        found, seconds = run(model, TRIALS, seed)
        size = told(f"search, seed {seed}", found, seconds)
        met.append(size <= least and seconds <= SHARE * whole)
        print(f"    size x {size / least:.3f}, time x {seconds / whole:.2f}: {met[-1]}", flush=True)
    sys.exit(0 if all(met) else 1)
