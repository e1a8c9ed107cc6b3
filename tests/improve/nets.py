"""Small models to improve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.program.graph import Array, Dim


def weights(*shape: int) -> Array:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def mixed(channels: int = 4) -> Any:
    """Two convolutions and two linear layers; x: (1, channels, 8, 8)."""

    def network(x: Any) -> Any:
        y = cl.ops.relu(cl.ops.conv(x, weight=weights(16, channels, 3, 3), pad_type="same"))
        y = cl.ops.conv(y, weight=weights(16, 16, 3, 3), pad_type="same")
        y = cl.ops.reduce_mean(cl.ops.relu(y), axes=[2, 3])
        y = cl.ops.relu(cl.ops.linear(y, weight=weights(32, 16), bias=weights(32, 1)[:, 0]))
        return cl.ops.linear(y, weight=weights(8, 32))

    return cl.compile(network, x=cl.spec(1, channels, 8, 8), name="mixed")


def flexible() -> Any:
    """A linear layer over 1 to 16 rows; x: (rows, 8)."""

    def network(x: Any) -> Any:
        return cl.ops.relu(cl.ops.linear(x, weight=weights(16, 8)))

    return cl.compile(network, x=cl.spec(Dim("rows", 1, 16), 8), name="flexible")


def classifier(folder: Path) -> Any:
    """Two linear layers, written there; its outputs are a label and a dictionary; x: (1, 64)."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as in its own examples

    @mb.program(input_specs=[mb.TensorSpec((1, 64))], opset_version=ct.target.iOS17)
    def network(x: Any) -> Any:
        y = mb.relu(x=mb.linear(x=x, weight=weights(64, 64)))
        return mb.softmax(x=mb.linear(x=y, weight=8 * weights(10, 64)), axis=-1, name="chances")

    made = ct.convert(
        network,
        classifier_config=ct.ClassifierConfig([f"c{i}" for i in range(10)]),
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    path = folder / "classifier.mlpackage"
    made.save(str(path))
    return cl.load(path)


def snr(want: Array, got: Array) -> float:
    """Signal to noise in dB; 400 where nothing differs."""
    noise = float(np.square(want.astype(np.float64) - got).sum())
    return (
        10 * np.log10(float(np.square(want.astype(np.float64)).sum()) / noise) if noise else 400.0
    )
