"""GPUs as PyTorch tells of them: name and memory, or the reason why one cannot be used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineUnavailable
from coreml_lab.run import pytorch
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.steps import devices as torch_devices

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


class FakeTorch:
    """PyTorch, save for its view of NVIDIA's GPUs."""

    def __init__(self, count: int, version: str | None = "13.0") -> None:
        self.version = SimpleNamespace(cuda=version)
        self.__version__ = "2.11.0"
        self.cuda = SimpleNamespace(
            is_available=lambda: count > 0,
            device_count=lambda: count,
            get_device_properties=self._properties,
        )

    @staticmethod
    def _properties(which: int | str) -> Any:
        i = int(str(which).removeprefix("cuda:"))
        return SimpleNamespace(
            name=f"NVIDIA H{i}00", total_memory=(i + 1) * 2**30, multi_processor_count=132
        )


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(fake: FakeTorch) -> None:
        count = max(1, fake.cuda.device_count())
        monkeypatch.setattr(torch_devices, "nvidia_gpus", lambda: count)
        monkeypatch.setattr(pytorch, "nvidia_gpus", lambda: count)
        monkeypatch.setattr(torch_devices, "torch_module", lambda: fake)

    return use


def test_every_gpu_is_listed_with_its_name_and_memory(nvidia: Any) -> None:
    nvidia(FakeTorch(2))
    found = [d for d in cl.devices() if d.name.startswith("cuda")]
    assert [(d.name, d.title, d.available) for d in found] == [
        ("cuda:0", "NVIDIA H000, 1 GiB", True),
        ("cuda:1", "NVIDIA H100, 2 GiB", True),
    ]
    assert found[1].memory == 2 * 2**30
    assert PyTorchEngine().devices == ("cpu", "cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("fake", "reason"),
    [(FakeTorch(0), "no usable NVIDIA GPU"), (FakeTorch(0, None), "built without CUDA")],
)
def test_a_gpu_that_pytorch_cannot_use_has_a_reason(
    nvidia: Any, fake: FakeTorch, reason: str
) -> None:
    nvidia(fake)
    (found,) = torch_devices.cuda()
    assert not found.available
    assert reason in found.reason
    with pytest.raises(EngineUnavailable, match=reason):
        cl.compile(lambda x: x + 1.0, x=cl.spec(2), device="cuda")
