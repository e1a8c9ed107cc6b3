"""ResNet-50 and MobileNetV2 with int8 weights and activations against themselves in fp32, in turns.

coremltools quantizes them here, on Linux: its calibration asks for predictions, which our runtime
makes in its place. Target for ResNet-50: W8A8 <= 0.45 of the fp32 latency. The weights are random,
so the signal to noise says how chaotic such a network is, not how good the engine is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.measure.paired import ratio
from coreml_lab.program.mil.tools import ct, quiet
from tests.benchmarks.bench_engine import in_turns, shown, snr

PAIRS, SAMPLES, MOST = 40, 4, 0.45
cto = ct.optimize.coreml


def quantized(name: str, folder: Path) -> Any:
    """The network with symmetric int8 weights per filter and int8 activations."""
    half = getattr(cl.zoo, name)(precision="fp16")
    model = ct.models.MLModel(str(half.program.package), skip_model_load=True)
    acts = cto.experimental.OpActivationLinearQuantizerConfig(mode="linear_symmetric")
    weights = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512)
    data = [cl.zoo.inputs(name, seed=seed) for seed in range(SAMPLES)]
    with quiet(), cl.install_runtime():
        model = cto.experimental.linear_quantize_activations(
            model, cto.OptimizationConfig(global_config=acts), data
        )
        model = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=weights))
    model.save(str(folder / "w8a8.mlpackage"))
    return cl.load(folder / "w8a8.mlpackage", engine="portable")


def compare(name: str) -> float:
    """One network; the upper end of the ratio."""
    inputs = cl.zoo.inputs(name)
    with cl.configure(engine="portable"):
        full = getattr(cl.zoo, name)()
    with tempfile.TemporaryDirectory() as folder:
        model = quantized(name, Path(folder))
        pairs = in_turns(lambda: model.predict(inputs), lambda: full.predict(inputs), PAIRS)
    found = ratio(pairs)
    noise = snr(full.predict(inputs)["output"], model.predict(inputs)["output"])
    times = [f"{np.median(side) / 1e6:6.2f} ms" for side in (pairs.arm, pairs.baseline)]
    line = f"{name:<13} W8A8 {times[0]}, fp32 {times[1]}: {shown(found)}"
    print(f"{line}  (random weights: {noise:.1f} dB)", flush=True)
    return found.high or np.inf


if __name__ == "__main__":
    high = {name: compare(name) for name in ("resnet50", "mobilenet_v2")}
    sys.exit(0 if high["resnet50"] <= MOST else 1)
