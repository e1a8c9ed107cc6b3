"""Activations estimated by liveness against what allocators and the kernel say, per network.

The estimate is made of the values' sizes; beside it what ONNX Runtime's arena and PyTorch's memory
events told of one inference, and what the process's resident set rose by in a first one (Linux, a
process of its own). Targets: on convolutional networks the estimate is 0.9 to 1.6 times what ONNX
Runtime's arena holds (which folds an addition into the convolution before it, and then needs one
value less), 0.4 to 1.6 times on a transformer, whose operations are several kernels there, with
results in between; and no more than what the process needs.
"""

from __future__ import annotations

import sys

import numpy as np

import coreml_lab as cl
from coreml_lab.explain.footprint import footprint

HIGH = 1.6
LOW = {"mobilenet_v2": 0.9, "resnet50": 0.9, "bert": 0.4}


def row(name: str, device: str, *, processes: bool) -> tuple[bool, str]:
    """One network on one device."""
    model = getattr(cl.zoo, name)()
    rng = np.random.default_rng(0)
    feeds = {k: rng.standard_normal(t.sizes).astype(t.dtype) for k, t in model.inputs.items()}
    found = footprint(model.to(device), feeds, processes=processes, seconds=300)
    ratio = found.estimate.value / found.activations.value
    line = (
        f"{name:<13} {found.plan.engine:<9} estimate {found.estimate.value / 1e6:6.2f} MB"
        f"  allocator {found.activations.value / 1e6:6.2f} MB  x {ratio:.2f}"
    )
    met = device != "coreml" or LOW[name] <= ratio <= HIGH
    if processes:
        weights, rest = found.weights.value / 1e6, found.workspace.value / 1e6
        line += f"  process +{found.running.value / 1e6:.0f} MB"
        line += f" (weights {weights:.0f}, workspace {rest:.0f})"
        met &= found.estimate.value <= found.running.value
    return met, f"{line}  {'met' if met else 'MISSED'}"


def main() -> int:
    """Every network, on both engines."""
    met = []
    for name in LOW:
        for device in ("coreml", "cpu"):
            kept, line = row(name, device, processes=device == "coreml")
            met.append(kept)
            print(line, flush=True)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
