"""The tinygrad engine on OpenCL against tinygrad's own ONNX runner, as its users write it.

    python -m tests.benchmarks.bench_opencl [NETWORK…] [--batches 1,8] [--pairs 25]

Both read the same ONNX file, NumPy to NumPy, captured by TinyJit, in turns; networks of the zoo in
fp32 (default: mobilenet_v2 at batch 1). Ratio = ours / theirs, the median with its 95 % interval.
Target: the whole interval at most 1.05, results within 1e-4. Kernels are compiled once by each: the
first runs take minutes where a processor plays the GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.program.graph import TensorType
from coreml_lab.zoo.layers import Layers

DEVICE, BACKEND = "opencl:0", "CL"
LIMIT, APART = 1.05, 1e-4


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


def measure(name: str, batch: int, most: int) -> bool:
    """Print one network in so many pairs; whether it met the targets."""
    found = cl.zoo.NETWORKS[name]
    kind = TensorType((batch, *found.input.sizes[1:]), found.input.dtype)
    layers = Layers(0)
    model = cl.compile(lambda x: found.function(layers, x), x=kind, name=name, device=DEVICE)
    x = np.repeat(cl.zoo.inputs(name)["x"], batch, axis=0)
    with tempfile.TemporaryDirectory() as folder:
        theirs = plain(model.export_onnx(Path(folder) / "network.onnx"), x)

        def ours() -> Any:
            return model.predict({"x": x})["output"]

        for whose, work in (("ours", ours), ("its own", theirs)):  # compile, capture, replay
            start = time.perf_counter()
            for _ in range(4):
                result = work()
            spent = time.perf_counter() - start
            print(f"  {name} x{batch}, {whose}: first four runs {spent:.1f} s", flush=True)
        apart = float(np.abs(ours() - result).max() / np.abs(result).max())
        pairs = interleave(ours, theirs, pairs=most, warmup=1)
    share = ratio(pairs)
    mine, other = (sorted(t)[len(t) // 2] / 1e6 for t in (pairs.arm, pairs.baseline))
    low, high = (float("nan") if v is None else v for v in (share.low, share.high))
    met = high <= LIMIT and apart <= APART
    print(
        f"{name} x{batch} fp32 on {cl.device(DEVICE).title}: ours {mine:.1f} ms, "
        f"tinygrad's own runner {other:.1f} ms: "
        f"x {share.value:.3f} [{low:.3f}, {high:.3f}] of {share.pairs} pairs, "
        f"apart {apart:.1e}: {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main() -> int:
    """Each network; 0 when the targets are met, or where there is no OpenCL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2"])
    parser.add_argument("--batches", default="1")
    parser.add_argument("--pairs", type=int, default=25)
    asked = parser.parse_args()
    device = cl.device(DEVICE)
    if not device.available:
        print(f"unavailable: {device.reason}")
        return 0
    cases = [(name, int(n)) for n in asked.batches.split(",") for name in asked.networks]
    results = [measure(*case, asked.pairs) for case in cases]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
