"""coremltools' own compute plans on our runtime: estimates in its classes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter
from coreml_lab.interop import plan as plans
from coreml_lab.metrics import Provenance
from coreml_lab.program.mil.tools import TARGET, ct, mb, quiet
from tests.support.loops import finished
from tests.support.seam_models import converted, network

pytestmark = pytest.mark.usefixtures("runtime")
NE = "MLNeuralEngineComputeDevice"


def convolutions(*after: Callable[[Any], Any], channels: int = 64) -> Any:
    """Four convolutions of the published size, and what comes behind them."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, channels, 32, 32))], opset_version=TARGET)
    def program(x: Any) -> Any:
        weight = np.ones((channels, channels, 3, 3), np.float32)
        for _ in range(4):
            x = mb.conv(x=x, weight=weight, pad_type="same")
        for function in after:
            x = function(x)
        return x

    return converted(program, compute_precision=ct.precision.FLOAT16)


def loaded(model: Any, units: Any = ct.ComputeUnit.ALL) -> Any:
    path = model.get_compiled_model_path()
    return ct.models.compute_plan.MLComputePlan.load_from_path(path, compute_units=units)


def operations(plan: Any, function: str = "main") -> list[Any]:
    block = plan.model_structure.program.functions[function].block
    return [op for op in block.operations if op.operator_name != "const"]


def preferred(plan: Any, function: str = "main") -> dict[str, str]:
    """Type of operation -> the class of the device that it prefers."""
    usage = plan.get_compute_device_usage_for_mlprogram_operation
    return {
        op.operator_name: type(usage(op).preferred_compute_device).__name__
        for op in operations(plan, function)
    }


def test_convolutions_are_planned_for_the_neural_engine_with_its_cores() -> None:
    plan = loaded(convolutions())
    assert set(preferred(plan).values()) == {NE}
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operations(plan)[1])
    assert usage.preferred_compute_device.total_core_count == 16
    assert len(usage.supported_compute_devices) == 3


def test_compute_units_bound_the_plan() -> None:
    model = convolutions()
    plan = loaded(model, ct.ComputeUnit.CPU_ONLY)
    assert set(preferred(plan).values()) == {"MLCPUComputeDevice"}
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operations(plan)[1])
    assert len(usage.supported_compute_devices) == 1
    assert NE not in preferred(loaded(model, ct.ComputeUnit.CPU_AND_GPU)).values()
    with pytest.raises(RuntimeError, match="Unknown compute units"):
        type(model.__proxy__).get_compute_plan(model.get_compiled_model_path(), "NE_ONLY")


def test_a_program_for_an_old_system_has_a_plan_of_the_cpus_alone() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(10, 20)), mb.TensorSpec(shape=(10, 20))])
    def program(x: Any, y: Any) -> Any:
        return mb.add(x=x, y=y), mb.sub(x=x, y=y)

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        model = ct.convert(program, convert_to="mlprogram")
    plan = loaded(model, ct.ComputeUnit.CPU_ONLY)
    assert {"add", "sub"} <= set(preferred(plan))
    for op in operations(plan):
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation=op)
        assert isinstance(
            usage.preferred_compute_device, ct.models.compute_device.MLCPUComputeDevice
        )
        assert usage.supported_compute_devices
        assert 0 <= plan.get_estimated_cost_for_mlprogram_operation(operation=op).weight <= 1


def test_every_operation_but_constants_has_a_device_and_the_costs_are_shares() -> None:
    plan = loaded(convolutions(lambda x: mb.softmax(x=x)))
    costs = [plan.get_estimated_cost_for_mlprogram_operation(op).weight for op in operations(plan)]
    assert all(0 < cost <= 1 for cost in costs)
    assert sum(costs) == pytest.approx(1)
    for op in plan.model_structure.program.functions["main"].block.operations:
        if op.operator_name == "const":
            assert plan.get_compute_device_usage_for_mlprogram_operation(op) is None
            assert plan.get_estimated_cost_for_mlprogram_operation(op) is None


def test_a_plan_is_what_placement_says() -> None:
    model = convolutions(lambda x: mb.cumsum(x=x), lambda x: mb.softmax(x=x))
    path = model.get_compiled_model_path()
    ours = {op.node: op for op in cl.placement(path).ops}
    plan = loaded(model)
    for op in operations(plan):
        usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
        names = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", NE: "ne"}
        assert (
            names[type(usage.preferred_compute_device).__name__] == ours[op.outputs[0].name].device
        )


def test_the_chip_is_the_one_that_the_runtime_was_installed_for() -> None:
    wide = convolutions(lambda x: mb.sin(x=x))

    def on_engine() -> bool:
        plan = loaded(wide)
        (sine,) = (op for op in operations(plan) if op.operator_name == "sin")
        usage = plan.get_compute_device_usage_for_mlprogram_operation(sine)
        return NE in [type(d).__name__ for d in usage.supported_compute_devices]

    assert on_engine()
    with cl.install_runtime(chip="M1"):
        assert not on_engine()
    assert on_engine()
    with pytest.raises(UnknownParameter, match="no chip 'M9'"):
        cl.install_runtime(chip="M9")


def test_it_is_marked_as_an_estimate_where_that_can_be_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plans._say.cache_clear()
    model = network()
    with caplog.at_level(logging.WARNING, "coreml_lab"):
        plan, _ = loaded(model), loaded(model)
    assert [record.getMessage() for record in caplog.records] == [plans.SAID % "M4"]
    assert plan.__proxy__.provenance is Provenance.ESTIMATED
    assert "estimated for M4" in repr(plan.__proxy__)


def test_every_function_of_a_model_is_planned(tmp_path: Path) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, model in (("small", network()), ("large", convolutions())):
        model.save(str(tmp_path / f"{name}.mlpackage"))
        descriptor.add_function(str(tmp_path / f"{name}.mlpackage"), "main", name)
    descriptor.default_function_name = "small"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    compiled = ct.models.utils.compile_model(str(tmp_path / "both.mlpackage"))
    plan = ct.models.compute_plan.MLComputePlan.load_from_path(compiled)
    assert NE not in preferred(plan, "small").values()
    assert NE in preferred(plan, "large").values()


def test_what_is_inside_a_branch_goes_where_the_branch_goes() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8))], opset_version=TARGET)
    def program(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1]), y=np.float32(0))
        return mb.cond(pred=positive, _true_fn=lambda: mb.exp(x=x), _false_fn=lambda: mb.sin(x=x))

    plan = loaded(converted(program))
    (branch,) = (op for op in operations(plan) if op.operator_name == "cond")
    inner = [
        op for block in branch.blocks for op in block.operations if op.operator_name != "const"
    ]
    assert {op.operator_name for op in inner} >= {"exp", "sin"}
    for op in (branch, *inner):
        usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
        assert type(usage.preferred_compute_device).__name__ == "MLCPUComputeDevice"


def test_a_classic_network_has_no_plan(tmp_path: Path) -> None:
    classic = ct.proto.Model_pb2.Model()
    classic.specificationVersion = 4
    classic.neuralNetwork.SetInParent()
    path = tmp_path / "classic.mlmodelc"
    path.mkdir()
    (path / "model.mlmodel").write_bytes(classic.SerializeToString())
    with pytest.raises(RuntimeError, match="NSLocalizedDescription"):
        ct.models.compute_plan.MLComputePlan.load_from_path(str(path))
    with pytest.raises(RuntimeError, match="no compiled model"):
        ct.models.compute_plan.MLComputePlan.load_from_path(str(tmp_path / "absent.mlmodelc"))


def test_the_benchmarker_shares_measured_time_out_by_the_plan() -> None:
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    found = finished(MLModelBenchmarker(network()).benchmark_operation_execution(iterations=3))
    for info in found:
        if info.spec.type != "const":
            assert len(info.measurement.samples) == 3
            assert info.measurement.statistics.average > 0
            assert info.compute_device_usage is not None


def test_a_plan_can_be_applied_to_its_model() -> None:
    from coremltools.models.ml_program.experimental import compute_plan_utils

    model = convolutions()
    applied = compute_plan_utils.apply_compute_plan(model, loaded(model))
    blocks = applied.get_spec().mlProgram.functions["main"].block_specializations
    operations = [op for b in blocks.values() for op in b.operations if op.type == "conv"]
    lists = [op.attributes["IntendedBackend"].immediateValue.list.values for op in operations]
    names = [[str(v.immediateValue.tensor.strings.values[0]) for v in each] for each in lists]
    assert names == [["ane"]] * 4
    x = np.ones((1, 64, 32, 32), np.float32) / 64
    (ours,), (theirs,) = (list(m.predict({"x": x}).values()) for m in (model, applied))
    np.testing.assert_array_equal(ours, theirs)
