"""coremltools' tools on our runtime: devices, structure, benchmarks, debuggers, calibration."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from coreml_lab.program.mil.tools import TARGET, ct, mb
from tests.support.loops import finished
from tests.support.seam_models import WEIGHT, converted, expected, network

pytestmark = pytest.mark.usefixtures("runtime")


def of_debugging() -> Any:
    from coremltools.models.ml_program.experimental import debugging_utils

    return debugging_utils


def test_the_only_device_is_the_cpu() -> None:
    compute_device = ct.models.compute_device
    found = ct.models.MLModel.get_available_compute_devices()
    found += compute_device.MLComputeDevice.get_all_compute_devices()
    assert [type(d) for d in found] == [compute_device.MLCPUComputeDevice] * 2


def test_the_structure_is_the_programs() -> None:
    model = network()
    load = ct.models.compute_plan.MLModelStructure.load_from_path
    block = load(model.get_compiled_model_path()).program.functions["main"].block
    names = [o.operator_name for o in block.operations if o.operator_name != "const"]
    assert names == ["linear", "relu", "softmax"]
    assert block.output_names == ["y"]
    linear = next(o for o in block.operations if o.operator_name == "linear")
    assert linear.inputs["x"].bindings[0].name == "x"
    assert [o.name for o in linear.outputs] == ["product"]


def test_the_benchmarker_measures_loads_and_predictions() -> None:
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    bench = MLModelBenchmarker(network())
    for measured in (bench.benchmark_load(3), bench.benchmark_predict(iterations=3, warmup=True)):
        result = finished(measured)
        assert len(result.samples) == 3
        assert 0 < result.statistics.minimum <= result.statistics.median


def test_the_inspector_gives_every_intermediate_result(x: Any) -> None:
    inspector = of_debugging().MLModelInspector(network())
    names = ["product", "cut", "y"]
    found = finished(inspector.retrieve_outputs({"x": x}, names))
    np.testing.assert_allclose(found["product"], x @ WEIGHT, atol=1e-5)
    np.testing.assert_allclose(found["cut"], np.maximum(x @ WEIGHT, 0), atol=1e-5)
    np.testing.assert_allclose(found["y"], expected(x), atol=1e-6)


def test_the_comparator_finds_the_operation_that_differs(x: Any) -> None:
    def close(op: Any, a: Any, b: Any) -> bool:
        return bool(np.allclose(a, b, atol=1e-4))

    for weight, wanted in ((WEIGHT, []), (WEIGHT + 1, ["linear"])):
        comparator = of_debugging().MLModelComparator(network(), network(weight))
        failing = finished(comparator.find_failing_ops({"x": x}, close))
        assert [op.type for op in failing] == wanted


def test_the_validator_finds_where_numbers_end() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8))], opset_version=TARGET)
    def program(x: Any) -> Any:
        return mb.mul(x=mb.sqrt(x=mb.tanh(x=x)), y=np.float32(2), name="y")

    for given, wanted in ((1.0, []), (-1.0, ["sqrt"])):
        validator = of_debugging().MLModelValidator(converted(program))
        inputs = {"x": np.full((1, 8), given, np.float32)}
        failing = finished(validator.find_failing_ops_with_nan_output(inputs))
        assert [op.type for op in failing] == wanted


def quantized(samples: list[dict[str, Any]]) -> tuple[Any, list[float]]:
    """The network with 8-bit activations, and the scales it was given."""
    half = network(compute_precision=ct.precision.FLOAT16)
    cto = ct.optimize.coreml
    config = cto.OptimizationConfig(
        global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cto.linear_quantize_activations(half, config, samples)
    operations = model._mil_program.functions["main"].operations
    return model, [float(o.scale.val) for o in operations if o.op_type == "quantize"]


def test_activations_are_quantized_to_the_range_of_all_samples(x: Any) -> None:
    large = {"x": x * 10}
    _, alone = quantized([dict(large)])
    _, last = quantized([{"x": x}, dict(large)])
    model, first = quantized([dict(large), {"x": x}])
    assert first
    assert first == last == alone
    np.testing.assert_allclose(model.predict({"x": x * 10})["y"], expected(x * 10), atol=0.05)


def test_without_the_runtime_only_the_last_sample_counts(runtime: Any) -> None:
    from collections import defaultdict

    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    def ranges() -> Any:
        found: Any = defaultdict(dict)
        for value in (np.array([-5.0, 5.0]), np.array([-1.0, 1.0])):
            ModelDebugger.record_intermediate_output(value, "v", found)
        return dict(found["v"])

    assert ranges() == {"rmin": -5, "rmax": 5}
    runtime.uninstall()
    # The fault of coremltools 9.0; where this fails, it has been mended there.
    assert ranges() == {"rmin": -1, "rmax": 1}
