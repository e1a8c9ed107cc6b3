"""Classic networks against the same network as an ML Program, in turns.

ratio = classic / ML Program, the median with its 95 % interval. Target: at most 1.05. The one is
what coremltools writes of a network of the zoo with ``convert_to="neuralnetwork"``; ``old`` is the
same as converters of 2017 left it: five axes, pooling layers, and each convolution with a batch
normalization of its own behind it. Loading is from an empty cache, in a process that has imported
everything.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import coreml_lab as cl
from coreml_lab.measure.paired import ratio
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.tools import ct, proto, quiet
from tests.benchmarks.bench_engine import in_turns, shown, snr
from tests.support.torch_zoo import Twin

NETWORKS, PAIRS, TARGET, LEAST_DB = ("resnet50", "mobilenet_v2"), 90, 1.05, 90
EPSILON = 1e-5


def written(name: str, folder: Path) -> dict[str, Path]:
    """The network in each form, and the package of the ML Program."""
    example = torch.from_numpy(cl.zoo.inputs(name)["x"])
    traced = torch.jit.trace(Twin(name).eval(), example)
    paths = {}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, suffix in (("mlprogram", "mlpackage"), ("neuralnetwork", "mlmodel")):
            how = {"compute_precision": ct.precision.FLOAT32} if kind == "mlprogram" else {}
            model = ct.convert(
                traced,
                inputs=[ct.TensorType("x", example.shape)],
                outputs=[ct.TensorType("output")],
                convert_to=kind,
                skip_model_load=True,
                **how,
            )
            paths[kind] = folder / f"{name}.{suffix}"
            model.save(str(paths[kind]))
    paths["old"] = folder / f"{name}_old.mlmodel"
    paths["old"].write_bytes(aged(paths["neuralnetwork"]).SerializeToString())
    return paths


def aged(path: Path) -> Any:
    """The network with five axes, and with biases as batch normalizations of their own."""
    spec = proto.Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    spec.neuralNetwork.arrayInputShapeMapping = 0
    del spec.description.input[0].type.multiArrayType.shape[0]
    old = [*spec.neuralNetwork.layers]
    del spec.neuralNetwork.layers[:]
    for layer in old:
        spec.neuralNetwork.layers.append(layer)
        if layer.WhichOneof("layer") == "reduceMean":
            pooling = spec.neuralNetwork.layers[-1].pooling
            pooling.type, pooling.globalPooling = pooling.AVERAGE, True
        if layer.WhichOneof("layer") == "convolution" and layer.convolution.hasBias:
            spec.neuralNetwork.layers.append(normalization(spec.neuralNetwork.layers[-1]))
    return spec


def normalization(layer: Any) -> Any:
    """A convolution's bias as a batch normalization; the convolution gives it another name."""
    conv, after = layer.convolution, type(layer)()
    channels = conv.outputChannels
    after.name = f"{layer.name}_bn"
    after.output.append(layer.output[0])
    layer.output[0] += "_before"
    after.input.append(layer.output[0])
    after.batchnorm.channels, after.batchnorm.epsilon = channels, EPSILON
    after.batchnorm.gamma.floatValue.extend([1.0] * channels)
    after.batchnorm.beta.floatValue.extend(weights.array(conv.bias, [channels]))
    after.batchnorm.mean.floatValue.extend([0.0] * channels)
    after.batchnorm.variance.floatValue.extend([1 - EPSILON] * channels)
    conv.ClearField("bias")
    conv.hasBias = False
    return after


def loaded(path: Path) -> tuple[Any, float]:
    """A model that was not in the cache, and the seconds it took."""
    start = time.perf_counter()
    with cl.configure(rivals=False):
        return cl.load(path), time.perf_counter() - start


def verdict(low: float, high: float, parity: float) -> str:
    """Met or missed where the whole interval says so, else open."""
    if parity < LEAST_DB or low > TARGET:
        return "MISSED"
    return "met" if high <= TARGET else "open"


def compare(name: str, folder: Path) -> list[str]:
    """One network in its forms; the verdict on each."""
    feeds, told = cl.zoo.inputs(name), []
    paths = written(name, folder)
    program, took = loaded(paths.pop("mlprogram"))
    wanted = program.predict(feeds)["output"]
    for kind, path in paths.items():
        model, seconds = loaded(path)
        own = feeds if kind != "old" else {"x": feeds["x"][0]}
        parity = snr(wanted.ravel(), model.predict(own)["output"].ravel())
        pairs = in_turns(
            lambda m=model, f=own: m.predict(f),  # type: ignore[misc]
            lambda: program.predict(feeds),
            PAIRS,
        )
        found = ratio(pairs)
        told.append(verdict(found.low or 0, found.high or np.inf, parity))
        print(
            f"{name:<13} {kind:<14} {np.median(pairs.arm) / 1e6:7.2f} ms  {shown(found)}  "
            f"parity {parity:5.1f} dB  {len(model.program.info.ops)} operations "
            f"(ML Program {len(program.program.info.ops)})  load {seconds:.1f} s "
            f"(ML Program {took:.1f} s)  {told[-1]}",
            flush=True,
        )
    return told


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, cl.configure(cache_dir=temporary):
        names = sys.argv[1:] or NETWORKS
        said = [word for name in names for word in compare(name, Path(temporary))]
    print(f"at most {TARGET} of the ML Program's time: {', '.join(said)}")
    sys.exit(1 if "MISSED" in said else 0)
