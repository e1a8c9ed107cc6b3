"""Weights of classic networks: halves, and 1 to 8 bits with scales or tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError
from coreml_lab.program.mil.tools import ct, proto
from tests.support.classic import normal, save, single
from tests.support.classic import weights as floats

MODES = {
    "linear": "_linear_quantization",
    "linear_symmetric": "_linear_quantization_symmetric",
    "linear_lut": "_lookup_table_quantization_linear",
}


def params() -> Any:
    """An empty message of weights."""
    return proto.NeuralNetwork_pb2.WeightParams()


def packed(values: Any, bits: int) -> bytes:
    """Numbers of so many bits one after the other, by writing them as text."""
    text = "".join(f"{v:0{bits}b}" for v in values)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def test_floats_and_halves_are_read_as_they_are() -> None:
    message, wanted = params(), normal(3, 7, seed=1)
    message.floatValue.extend(wanted.ravel().tolist())
    np.testing.assert_array_equal(weights.array(message, (3, 7)), wanted)
    message = params()
    message.float16Value = wanted.astype(np.float16).tobytes()
    found = weights.array(message, (3, 7))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted.astype(np.float16))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("axis", [0, 1])
def test_linear_weights_are_multiples_of_a_scale_per_channel(bits: int, axis: int) -> None:
    shape = (3, 5, 2)
    stored = np.random.default_rng(bits).integers(0, 1 << bits, shape)
    scale, bias = normal(shape[axis], seed=1), normal(shape[axis], seed=2)
    message = params()
    message.rawValue = packed(stored.ravel(), bits)
    message.quantization.numberOfBits = bits
    message.quantization.linearQuantization.scale.extend(scale)
    message.quantization.linearQuantization.bias.extend(bias)
    along = [-1 if i == axis else 1 for i in range(3)]
    wanted = stored * scale.reshape(along) + bias.reshape(along)
    found = weights.array(message, shape, axis=axis)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_of_a_table_are_its_entries(bits: int) -> None:
    stored = np.random.default_rng(bits).integers(0, 1 << bits, 13)
    table = normal(1 << bits)
    message = params()
    message.rawValue = packed(stored, bits)
    message.quantization.numberOfBits = bits
    message.quantization.lookupTableQuantization.floatValue.extend(table)
    np.testing.assert_array_equal(weights.array(message, (13,)), table[stored])


@pytest.mark.parametrize(
    ("mode", "bits"),
    [
        ("linear", 16),
        ("linear", 8),
        ("linear", 3),
        ("linear_symmetric", 8),
        ("linear_lut", 8),
        ("linear_lut", 1),
    ],
)
def test_a_network_that_coremltools_quantized_computes_with_what_it_stored(
    mode: str, bits: int, tmp_path: Path
) -> None:
    kernel, up, rows = normal(6, 4, 3, 3), normal(6, 2, 3, 3, seed=1), normal(5, 72, seed=2)
    first = {"outputChannels": 6, "kernelChannels": 4, "valid": {}, "weights": floats(kernel)}
    size = {"kernelSize": [3, 3], "nGroups": 1}
    second = {"outputChannels": 2, "kernelChannels": 6, "same": {}, "isDeconvolution": True}
    third = {"inputChannels": 72, "outputChannels": 5, "weights": floats(rows)}
    spec = single(
        [
            ("convolution", first | size, ["x"], ["a"]),
            ("convolution", second | size | {"weights": floats(up)}, ["a"], ["b"]),
            ("innerProduct", third, ["b"], ["y"]),
        ],
        {"x": (1, 4, 8, 8)},
        ["y"],
    )
    from coremltools.models.neural_network.quantization_utils import _quantize_nn_spec as quantize

    quantize(spec.neuralNetwork, bits, MODES[mode])
    plain = proto.Model_pb2.Model()
    plain.CopyFrom(spec)
    if bits < 16:
        quantize(plain.neuralNetwork, None, "_dequantize_network")
    feeds = {"x": normal(1, 4, 8, 8, seed=3)}
    made, wanted = (
        cl.load(save(s, tmp_path, f"{i}.mlmodel")).predict(feeds)["y"]
        for i, s in enumerate((spec, plain))
    )
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)
    assert ct.__version__


BROKEN: dict[str, tuple[Any, str]] = {
    "too few": ({"floatValue": [1.0, 2.0]}, "2 weights"),
    "none": ({}, "0 weights"),
    "too many bits": ({"rawValue": "AAAA", "quantization": {"numberOfBits": 9}}, "9 bits"),
    "too few bytes": ({"rawValue": "AA==", "quantization": {"numberOfBits": 3}}, "2 bytes"),
    "a short table": (
        {
            "rawValue": "AAAA",
            "quantization": {"numberOfBits": 4, "lookupTableQuantization": {"floatValue": [1]}},
        },
        "16 entries",
    ),
    "scales of other channels": (
        {
            "rawValue": "AAAAAA==",
            "quantization": {"numberOfBits": 8, "linearQuantization": {"scale": [1, 2, 3]}},
        },
        "3 scales",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_do_not_fit_are_refused_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    given, told = BROKEN[name]
    shape = (2, 2) if name == "scales of other channels" else (5,)
    dense = {"inputChannels": shape[-1], "outputChannels": shape[0] if len(shape) > 1 else 1}
    spec = single(
        [("innerProduct", dense | {"weights": given}, ["x"], ["y"])],
        {"x": (1, shape[-1])},
        ["y"],
    )
    with pytest.raises(ModelError, match=rf"layer 'y' \(innerProduct\): .*{told}"):
        cl.load(save(spec, tmp_path))
    message = params()
    with pytest.raises(LayerError):
        weights.array(message, (1,))
