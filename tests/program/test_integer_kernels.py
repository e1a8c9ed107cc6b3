"""Networks quantized to int8, weights and activations: integer kernels on Core ML's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.mil.tools import ct, mb, quiet
from coreml_lab.run.onnx_file import OnnxFile
from coreml_lab.run.traits import EXACTLY, opened_exactly, saturates
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


def test_what_cannot_be_exact_in_integers_is_computed_in_floats() -> None:
    def refusing(entry: tuple[str, str]) -> str:
        if entry == EXACTLY[0]:
            raise RuntimeError("Attempt to replace the existing tensor")
        return "opened"

    assert opened_exactly(refusing) == ("opened", EXACTLY[1])
    assert opened_exactly(lambda _: "opened") == ("opened", EXACTLY[0])


def test_a_file_whose_convolutions_share_a_weight_is_exact(tmp_path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    kernels = RANDOM.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)
    held = {"step": np.float32(0.02), "zero": np.uint8(128), "k": kernels, "s": np.float32(0.01)}
    nodes, at = [], "x"
    for i in range(2):
        nodes += [
            helper.make_node("QuantizeLinear", [at, "step", "zero"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "step", "zero"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", ["k", "s"], [f"w{i}"]),
            helper.make_node("Conv", [f"d{i}", f"w{i}"], [at := f"y{i}"]),
        ]
    ports = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4, 5, 5]) for n in ("x", at)
    ]
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()]
    graph = helper.make_graph(nodes, "shared", ports[:1], ports[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(made, tmp_path / "shared.onnx")
    x = wanted = RANDOM.standard_normal((1, 4, 5, 5)).astype(np.float32)
    for _ in range(2):
        rounded = np.clip(np.rint(wanted / 0.02), -128, 127) * 0.02
        wanted = np.einsum("oi,bihw->bohw", kernels[:, :, 0, 0] * 0.01, rounded)
    (got,) = OnnxFile(tmp_path / "shared.onnx").run({"x": x}).values()
    # The first sums that fall on a half are rounded one way or the other.
    assert (np.abs(got - wanted) > 0.05).mean() < 0.05


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
