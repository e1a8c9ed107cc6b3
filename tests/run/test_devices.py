"""Devices tell what they can do, why they cannot be used, and what they do not tell."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.errors import EngineError, EngineUnavailable, UnknownParameter
from coreml_lab.records import Device
from coreml_lab.run import capabilities, devices
from coreml_lab.run.lacking import EXTRAS, lacking
from coreml_lab.run.steps import devices as torch_devices
from coreml_lab.run.tinygrad_onnx import TinygradEngine, opencl_devices

Patch = pytest.MonkeyPatch
H100 = SimpleNamespace(
    name="NVIDIA H100",
    total_memory=80 << 30,
    multi_processor_count=132,
    is_integrated=0,
    uuid="1234",
)


def torch_with(**parts: Any) -> Any:
    cuda = SimpleNamespace(get_device_properties=lambda _: H100)
    return SimpleNamespace(cuda=cuda, **parts)


def test_every_device_has_each_capability_or_the_reason_why_not() -> None:
    found = cl.devices()
    assert [d.kind for d in found][:2] == ["cpu", "coreml"]
    assert {d.kind for d in found} == set(devices.KINDS)
    for device in found:
        for capability in capabilities.ASKED:
            known = getattr(device, capability) not in (None, (), {})
            assert known != (capability in device.missing), (device.name, capability)
        assert all(device.missing.values())


def test_the_memory_of_the_cpu_is_that_of_the_machine_and_fits_together() -> None:
    cpu = cl.device("cpu")
    assert cpu.memory is not None
    assert cpu.memory_free is not None
    assert 0 < cpu.memory_free <= cpu.memory
    assert cpu.compute_units["core"] >= 1
    assert cpu.unified_memory
    assert not cpu.is_gpu
    assert not cpu.is_coreml


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Core ML")
def test_without_a_mac_the_core_ml_device_says_that_the_portable_engine_serves_it() -> None:
    device = cl.device("coreml")
    assert device.is_coreml
    assert not device.is_apple_hardware
    assert "portable engine (CPU)" in device.title
    assert "portable engine (CPU)" in repr(cl.devices())
    assert "int8" in device.dtypes


def test_an_apple_chip_is_told_by_system_and_processor(monkeypatch: Patch) -> None:
    monkeypatch.setattr(capabilities, "is_apple_hardware", lambda: True)
    mac = Device("coreml:0", "Core ML", available=True, engines=("coreml", "portable"))
    monkeypatch.setattr(capabilities, "_memory", lambda: (8 << 30, 16 << 30))
    found = capabilities.described(mac)
    assert found.is_apple_hardware
    assert found.unified_memory
    assert found.memory == 16 << 30
    assert "fp16" in found.dtypes
    assert "worker" in found.missing["compute_units"]


def test_metal_has_the_memory_that_it_recommends(monkeypatch: Patch) -> None:
    mps = SimpleNamespace(recommended_max_memory=lambda: 12 << 30)
    monkeypatch.setattr(torch_devices, "torch_module", lambda: torch_with(mps=mps))
    found = capabilities.described(
        Device("metal:0", "Apple GPU", available=True, engines=("pytorch",))
    )
    assert found.memory == 12 << 30
    assert found.is_gpu
    assert "cpu" in found.missing["memory_free"]
    monkeypatch.setattr(torch_devices, "torch_module", lambda: torch_with(mps=object()))
    found = capabilities.described(
        Device("metal:0", "Apple GPU", available=True, engines=("pytorch",))
    )
    assert found.memory is None
    assert found.missing["memory"]


def test_a_cuda_gpu_tells_its_memory_and_multiprocessors(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch_devices, "torch_module", torch_with)
    monkeypatch.setattr(torch_devices, "_free", lambda uuid: 70 << 30 if uuid == "1234" else None)
    found = capabilities.described(Device("cuda:0", "H100", available=True, engines=("pytorch",)))
    assert found.is_gpu
    assert not found.is_apple_hardware
    assert found.memory == 80 << 30
    assert found.memory_free == 70 << 30
    assert found.compute_units == {"multiprocessor": 132}
    assert found.unified_memory is False
    assert not found.missing


class Nvml:
    """A management library that knows one GPU."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.open = 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - its name
        self.open += 1
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802 - its name
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: Any, handle: Any) -> int:  # noqa: N802 - its name
        del handle
        return 0 if name.value == b"GPU-1234" and self.works else 6

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802 - its name
        del handle
        memory._obj[:] = [80, 70, 10]
        return 0


def test_free_memory_of_a_cuda_gpu_is_asked_by_its_name(monkeypatch: Patch) -> None:
    nvml = Nvml()
    monkeypatch.setattr(torch_devices.ctypes, "CDLL", lambda _: nvml)
    assert torch_devices._free("1234") == 70
    assert torch_devices._free("GPU-1234") == 70
    assert torch_devices._free("another") is None
    assert nvml.open == 0


def test_without_nvidias_library_the_free_memory_is_missing_with_the_reason(
    monkeypatch: Patch,
) -> None:
    def absent(_: str) -> Any:
        raise OSError("no such library")

    monkeypatch.setattr(torch_devices.ctypes, "CDLL", absent)
    monkeypatch.setattr(torch_devices, "torch_module", torch_with)
    found = capabilities.described(Device("cuda:0", "H100", available=True))
    assert found.memory_free is None
    assert "libnvidia-ml" in found.missing["memory_free"]


def test_a_device_that_fails_when_it_is_asked_gives_its_words(monkeypatch: Patch) -> None:
    def lost() -> Any:
        raise EngineError("the GPU fell off the bus")

    monkeypatch.setattr(torch_devices, "torch_module", lost)
    found = capabilities.described(Device("cuda:0", "H100", available=True))
    assert set(found.missing) == set(capabilities.ASKED)
    assert found.missing["memory"] == "the GPU fell off the bus"


@pytest.mark.skipif(not opencl_devices(), reason=TinygradEngine().available().reason)
def test_an_opencl_device_tells_its_units_and_memory() -> None:
    found = cl.device("opencl")
    assert found.memory
    assert found.compute_units["compute unit"] >= 1
    assert "fp32" in found.dtypes
    assert found.missing["memory_free"]


def test_the_table_has_a_row_for_each_device_and_the_reasons_below() -> None:
    there = Device("cpu", "a chip", available=True, memory=3 << 30, compute_units={"core": 1})
    absent = Device("cuda:0", "NVIDIA GPU", available=False, reason="no driver")
    lines = repr(devices.Devices((there, absent))).splitlines()
    assert len(lines) == 4
    assert "3.0 GiB" in lines[1]
    assert "1 core " in lines[1]
    assert lines[3] == "cuda:0 cannot be used: no driver"


def test_a_device_without_a_name_is_the_current_one() -> None:
    assert cl.device().name == "coreml:0"
    with cl.set_device("cpu"):
        assert cl.device().name == "cpu"


def test_a_number_that_is_not_there_is_an_unavailable_device() -> None:
    found = cl.device("opencl:99")
    assert not found.available
    assert found.reason
    with pytest.raises(UnknownParameter, match="'gpu'"):
        cl.device("gpu")


@pytest.mark.parametrize(
    "given", ["", "cuda:²", "cuda:٣", "cuda:-1", "cuda:" + "9" * 5000, 5, b"cpu"]
)
def test_what_is_no_name_of_a_device_is_one_clear_error(given: Any) -> None:
    for ask in (cl.device, cl.set_device):
        with pytest.raises(UnknownParameter, match="there is no device") as caught:
            ask(given)
        assert "coreml:0" in caught.value.hint


def test_the_device_is_set_inside_of_a_block_or_from_now_on() -> None:
    with cl.set_device("cpu") as settings:
        assert settings.device == "cpu"
        assert cl.tensor([1.0]).device == "cpu"
    assert cl.tensor([1.0]).device == "coreml:0"
    before = config.current()
    try:
        told = repr(cl.set_device("cpu"))
        assert cl.tensor([1.0]).device == "cpu"
        assert told.splitlines()[1].startswith("cpu")
        model = cl.compile(cl.ops.relu, x=cl.spec(2))
        assert model.device == "cpu"
    finally:
        cl.configure(device=before.device)


def test_a_device_that_is_not_here_changes_nothing() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        cl.set_device("opencl:99")
    assert caught.value.reason
    with pytest.raises(UnknownParameter):
        cl.set_device("abacus")
    assert config.current().device == "coreml"


@pytest.mark.skipif(not opencl_devices(), reason=TinygradEngine().available().reason)
def test_tensors_are_computed_on_the_opencl_device_that_was_set() -> None:
    with cl.set_device("opencl:0"):
        x = cl.tensor(np.array([[1.0, -2.0]], np.float32))
        assert x.device == "opencl:0"
        y = x * 2.0
        np.testing.assert_array_equal(y.numpy(), [[2.0, -4.0]])
    assert y.to_cpu().device == "cpu"


def test_what_is_not_installed_comes_with_the_exact_command() -> None:
    every = lacking(lambda _: None, lambda: ("crepe-tiny",), "/my venv/bin/python")
    assert len(every) == len(EXTRAS) + 1
    assert (
        EXTRAS["openvino"][1],
        "'/my venv/bin/python' -m pip install 'coreml-lab[openvino]'",
    ) in every
    assert every[-1][1] == "'/my venv/bin/python' -m coreml_lab models"
    assert lacking(lambda _: object(), tuple) == ()
