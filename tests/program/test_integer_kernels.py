"""Networks quantized to int8, weights and activations: integer kernels on Core ML's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.mil.tools import ct, mb, quiet
from coreml_lab.run.traits import saturates
from tests.support.converting import convert

RANDOM = np.random.default_rng(0)
KERNELS = [RANDOM.integers(-127, 128, s).astype(np.int8) for s in ((8, 4, 3, 3), (6, 8, 1, 1))]
SCALES = [RANDOM.uniform(0.001, 0.02, (n, 1, 1, 1)).astype(np.float32) for n in (8, 6)]
BIAS = RANDOM.standard_normal(8).astype(np.float32)
LAST = np.float32(0.05)


def rounded(x: Any, scale: float) -> Any:
    """A value through int8 and back."""
    numbers = mb.quantize(input=x, scale=np.float32(scale), output_dtype="int8")
    return mb.dequantize(input=numbers, scale=np.float32(scale))


def saved(program: Any, folder: Path) -> Any:
    """The program in a package, loaded."""
    with quiet():
        package = convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    path = folder / "net.mlpackage"
    package.save(str(path))
    return cl.load(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two convolutions between quantizations, a relu behind one and a relu6 behind the other."""

    @mb.program(input_specs=[mb.TensorSpec((1, 4, 16, 16))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        weights = [
            mb.constexpr_blockwise_shift_scale(data=k, scale=s)
            for k, s in zip(KERNELS, SCALES, strict=True)
        ]
        y = mb.conv(x=rounded(x, 0.03125), weight=weights[0], bias=BIAS, pad_type="same")
        y = mb.conv(x=rounded(mb.relu(x=y), 0.0625), weight=weights[1], pad_type="valid")
        return rounded(mb.relu6(x=y), LAST)

    return saved(program, tmp_path_factory.mktemp("int8"))


def test_convolutions_run_as_integer_kernels(model: Any) -> None:
    import onnx

    folder: Path = cl.cache().root / f"{model.info.key}-portable"
    kinds = [n.op_type for n in onnx.load(folder / "portable.onnx").graph.node]
    assert "Relu" not in kinds
    assert kinds.count("DequantizeLinear") == 5
    spans = {
        s.node: s for s in model.trace({"x": np.ones((1, 4, 16, 16), np.float32)}, runs=1)[0].spans
    }
    assert {"dequantize_0", "relu_0"} <= set(spans["conv_0"].fused)


def test_sums_of_bytes_are_exact_on_processors_without_vnni_too(model: Any) -> None:
    # Where it makes no difference, as here perhaps, the option is all that tells.
    entry = "session.x64quantprecision"
    settings = model._executor.loaded.session.get_session_options()
    assert settings.get_session_config_entry(entry) == "1"
    plain = cl.compile(cl.ops.relu, x=cl.spec(3), engine="portable")
    settings = plain._executor.loaded.session.get_session_options()
    with pytest.raises(RuntimeError):
        settings.get_session_config_entry(entry)


def test_a_processor_without_vnni_is_known_by_its_flags(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    for flags, wanted in (
        ("fpu avx2 avx512f", True),
        ("fpu avx2 avx512_vnni", False),
        ("fpu avx2 avx_vnni", False),
    ):
        told.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert saturates("x86_64", told) is wanted
    assert saturates("AMD64", tmp_path / "none")
    assert not saturates("arm64", told)


@pytest.mark.parametrize("engine", ["portable", "openvino", "tinygrad"])
@pytest.mark.parametrize("seed", range(3))
def test_results_lie_on_the_grid_and_agree_with_the_definition(
    model: Any, seed: int, engine: str
) -> None:
    if engine != "portable":
        pytest.importorskip(engine, reason=f"{engine} is not installed")
    x = {"x": 3 * np.random.default_rng(seed).standard_normal((1, 4, 16, 16)).astype(np.float32)}
    here = cl.load(model.info.package, engine=engine)
    (got,), (wanted,) = (arm.predict(x).values() for arm in (here, model.to("cpu")))
    steps = got / LAST
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    # A sum that falls on a half is rounded one way in integers and the other in floats.
    assert (np.abs(got - wanted) > LAST / 2).mean() < 0.005
    assert got.min() >= 0
    assert got.max() <= 6 + LAST / 2


def test_a_linear_layer_keeps_its_weight_as_bytes(tmp_path: Path) -> None:
    import onnx

    weight = RANDOM.integers(-127, 128, (24, 32)).astype(np.int8)
    scale = RANDOM.uniform(0.001, 0.02, (24, 1)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 5, 32))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        stored = mb.constexpr_blockwise_shift_scale(data=weight, scale=scale)
        y = mb.linear(x=rounded(x, 0.03125), weight=stored, bias=np.ones(24, np.float32))
        return rounded(y, LAST)

    model = saved(program, tmp_path)
    (file,) = cl.cache().root.glob(f"{model.info.key}-portable*/portable.onnx")
    held = onnx.load(file).graph.initializer
    assert [i.data_type for i in held if tuple(i.dims) == (32, 24)] == [onnx.TensorProto.INT8]
    x = {"x": RANDOM.standard_normal((1, 5, 32)).astype(np.float32)}
    (got,), (wanted,) = (arm.predict(x).values() for arm in (model, model.to("cpu")))
    assert np.abs(got - wanted).max() <= 1.01 * LAST
    assert (np.abs(got - wanted) > LAST / 2).mean() < 0.03
