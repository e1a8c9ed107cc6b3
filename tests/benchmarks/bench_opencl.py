"""The tinygrad engine on OpenCL against tinygrad's own ONNX runner, as its users write it.

    python -m tests.benchmarks.bench_opencl [NETWORK…]

Both read the same ONNX file, NumPy to NumPy, captured by TinyJit, in turns; networks of the zoo at
batch 1 in fp32 (default: mobilenet_v2). Ratio = ours / theirs, the median with its 95 % interval.
Target: the whole interval at most 1.05, results within 1e-4. Kernels are compiled once by each: the
first runs take minutes where a processor plays the GPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.measure.paired import interleave, ratio

DEVICE, BACKEND = "opencl:0", "CL"
PAIRS, LIMIT, APART = 25, 1.05, 1e-4


def plain(file: Path, x: Any) -> Callable[[], Any]:
    """tinygrad's runner on a file, replayed."""
    from tinygrad.engine.jit import TinyJit
    from tinygrad.helpers import Context
    from tinygrad.nn.onnx import OnnxRunner
    from tinygrad.tensor import Tensor

    using: Any = Context
    with using(DEV=BACKEND):
        runner = OnnxRunner(file)

    @TinyJit
    def step(given: Any) -> Any:
        (result,) = runner({"x": given}).values()
        return result.realize()

    def once() -> Any:
        with using(DEV=BACKEND):
            return step(Tensor(x).realize()).numpy()

    return once


def measure(name: str) -> bool:
    """Print one network; whether it met the targets."""
    model = getattr(cl.zoo, name)().to(DEVICE)
    x = cl.zoo.inputs(name)["x"]
    with tempfile.TemporaryDirectory() as folder:
        theirs = plain(model.export_onnx(Path(folder) / "network.onnx"), x)

        def ours() -> Any:
            return model.predict({"x": x})["output"]

        for whose, work in (("ours", ours), ("its own", theirs)):  # compile, capture, replay
            start = time.perf_counter()
            for _ in range(4):
                result = work()
            spent = time.perf_counter() - start
            print(f"  {name}, {whose}: first four runs {spent:.1f} s", flush=True)
        apart = float(np.abs(ours() - result).max() / np.abs(result).max())
        pairs = interleave(ours, theirs, pairs=PAIRS, warmup=2)
    found = ratio(pairs)
    mine, other = (sorted(t)[len(t) // 2] / 1e6 for t in (pairs.arm, pairs.baseline))
    low, high = (float("nan") if v is None else v for v in (found.low, found.high))
    met = high <= LIMIT and apart <= APART
    print(
        f"{name} x1 fp32 on {cl.device(DEVICE).title}: ours {mine:.1f} ms, tinygrad's own runner "
        f"{other:.1f} ms: x {found.value:.3f} [{low:.3f}, {high:.3f}] of {found.pairs} pairs, "
        f"apart {apart:.1e}: {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main(names: list[str]) -> int:
    """Each network; 0 when the targets are met, or where there is no OpenCL."""
    device = cl.device(DEVICE)
    if not device.available:
        print(f"unavailable: {device.reason}")
        return 0
    results = [measure(name) for name in names or ["mobilenet_v2"]]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
