"""placement() of files as coremltools writes them: quantized, with states, with functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from coreml_lab.program.graph import Dim
from coreml_lab.program.mil.tools import TARGET, ct, mb, quiet
from tests.support.seam_models import converted, counter, network

CHANNELS = 64


@pytest.fixture(scope="module")
def convolutional() -> Any:
    """Four convolutions and a product, in fp16."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, CHANNELS, 32, 32))], opset_version=TARGET)
    def program(x: Any) -> Any:
        weight = np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3))
        for _ in range(4):
            x = mb.conv(x=x, weight=weight.astype(np.float32), pad_type="same")
        return x

    return converted(program, compute_precision=ct.precision.FLOAT16, skip_model_load=True)


def saved(model: Any, path: Path) -> Path:
    model.save(str(path))
    return path


def quantized(model: Any, **options: Any) -> Any:
    cto = ct.optimize.coreml
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0, **options)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))


def palettized(model: Any) -> Any:
    cto = ct.optimize.coreml
    config = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        return cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))


@pytest.mark.parametrize(
    ("compressed", "reasons"),
    [
        (quantized, set()),
        (palettized, set()),
        (lambda m: quantized(m, dtype="int4", granularity="per_block", block_size=16),
         {"quantization"}),
    ],
    ids=["a scale per channel", "a table", "a scale per block"],
)  # fmt: skip
def test_compressed_weights_are_placed_by_how_they_are_stored(
    convolutional: Any, tmp_path: Path, compressed: Callable[[Any], Any], reasons: set[str]
) -> None:
    found = cl.placement(saved(compressed(convolutional), tmp_path / "net.mlpackage"))
    folded = [op for op in found.ops if not op.device]
    assert {op.op.partition("_")[0] for op in folded} == {"constexpr"}
    convs = [op for op in found.ops if op.op == "conv"]
    assert {reason.kind for op in convs for reason in op.reasons} == reasons
    assert {op.device == "ne" for op in convs} == {not reasons}


def test_smaller_weights_take_less_time_where_they_are_what_takes_it(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 2048))], opset_version=TARGET)
    def program(x: Any) -> Any:
        weight = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
        return mb.linear(x=mb.linear(x=x, weight=weight), weight=weight)

    model = converted(program, compute_precision=ct.precision.FLOAT16, skip_model_load=True)
    times = {}
    for name, made in (
        ("fp16", model), ("int8", quantized(model)), ("table of 4 bits", palettized(model)),
    ):  # fmt: skip
        found = cl.placement(saved(made, tmp_path / f"{name}.mlpackage"), "M1")
        # Both products read their weights, though they are stored once.
        first, second = (op.time.value for op in found.ops if op.op == "linear")
        assert first == second
        times[name] = first
    assert times["int8"] == pytest.approx(times["fp16"] / 2, rel=0.05)
    assert times["table of 4 bits"] == pytest.approx(times["fp16"] / 4, rel=0.05)


def test_a_state_that_is_no_multiple_of_32_keeps_its_operations_off(tmp_path: Path) -> None:
    found = cl.placement(saved(counter(), tmp_path / "counter.mlpackage"))
    barred = {op.op: reason for op in found.ops for reason in op.reasons if reason.kind == "state"}
    assert set(barred) == {"read_state", "coreml_update_state"}
    assert all("total" in reason.text for reason in barred.values())


def test_a_flexible_program_is_placed_by_its_lower_bounds_and_says_so() -> None:
    def net(x: cl.Tensor) -> cl.Tensor:
        return cl.ops.softmax(x=x)

    spec = cl.spec(Dim("n", 4, 64), 32)
    model = cl.compile(net, x=spec, precision="fp16", engine="reference", device="cpu")
    found = cl.placement(model)
    assert {reason.kind for op in found.ops for reason in op.reasons} == {"flexible shape"}
    assert list(found.estimated.assumed.values()) == [4]
    assert "Flexible dimensions are taken as" in str(found)


def test_one_of_several_functions_is_placed(tmp_path: Path, convolutional: Any) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, model in (("small", network(skip_model_load=True)), ("large", convolutional)):
        descriptor.add_function(str(saved(model, tmp_path / f"{name}.mlpackage")), "main", name)
    descriptor.default_function_name = "small"
    path = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(descriptor, str(path))
    assert "conv" not in {op.op for op in cl.placement(path).ops}
    assert "conv" in {op.op for op in cl.placement(path, function="large").ops}
    with pytest.raises(ModelError, match="no function 'other'"):
        cl.placement(path, function="other")


def test_what_is_no_model_has_no_placement(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        cl.placement(tmp_path / "absent.mlpackage")
    (tmp_path / "broken.mlmodel").write_bytes(b"no model")
    with pytest.raises(ModelError):
        cl.placement(tmp_path / "broken.mlmodel")


def test_a_classic_network_is_told_what_can_be_placed(tmp_path: Path) -> None:
    classic = ct.proto.Model_pb2.Model()
    classic.specificationVersion = 4
    classic.neuralNetwork.SetInParent()
    path = tmp_path / "classic.mlmodel"
    path.write_bytes(classic.SerializeToString())
    with pytest.raises(ModelError, match="classic neural network") as caught:
        cl.placement(path)
    assert "cl.load(path)" in caught.value.hint
