"""NVIDIA's management library as tests make it up: what it says, and how it refuses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_SUPPORTED = 3
LOST = 15
WHY = {NOT_SUPPORTED: b"Not Supported", LOST: b"GPU is lost", 9: b"Driver Not Loaded"}


@dataclass
class Gpu:
    """One GPU: millijoules and milliwatts as functions, an error code where it has none."""

    uuid: str = "GPU-aaaa"
    name: str = "NVIDIA Made-up 100"
    energy: Callable[[], int] | int = lambda: 0
    power: Callable[[], int] | int = lambda: 75_000
    heat: Callable[[], int] | int = lambda: 41
    busy: int = 37


class _Told:
    """``nvmlErrorString``: its result type is set as ctypes wants it."""

    restype: Any = None

    def __call__(self, code: int) -> bytes:
        return WHY.get(code, b"")


@dataclass
class FakeNvml:
    """The calls that are used."""

    gpus: Sequence[Gpu] = (Gpu(),)
    starts: int = 0
    asked: list[str] = field(default_factory=list)
    nvmlErrorString: _Told = field(default_factory=_Told)  # noqa: N815 - its name

    def nvmlInit_v2(self) -> int:  # noqa: N802 - its name
        return self.starts

    def nvmlSystemGetDriverVersion(self, text: Any, length: Any) -> int:  # noqa: N802
        text.value = b"580.1"
        return 0

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:  # noqa: N802
        number._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetName(self, handle: ctypes.c_void_p, text: Any, length: Any) -> int:  # noqa: N802
        text.value = self._gpu(handle).name.encode()
        return 0

    def nvmlDeviceGetUUID(self, handle: ctypes.c_void_p, text: Any, length: Any) -> int:  # noqa: N802
        text.value = self._gpu(handle).uuid.encode()
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, number: Any) -> int:  # noqa: N802
        return self._tell(self._gpu(handle).energy, number)

    def nvmlDeviceGetPowerUsage(self, handle: Any, number: Any) -> int:  # noqa: N802
        return self._tell(self._gpu(handle).power, number)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, number: Any) -> int:  # noqa: N802
        return self._tell(self._gpu(handle).heat, number)

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:  # noqa: N802
        rates._obj[:] = (self._gpu(handle).busy, 5)
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj[:] = (80 << 30, 78 << 30, 2 << 30)
        return 0

    def _gpu(self, handle: ctypes.c_void_p) -> Gpu:
        return self.gpus[(handle.value or 0) - 1]

    @staticmethod
    def _tell(value: Callable[[], int] | int, number: Any) -> int:
        if isinstance(value, int):
            return value
        number._obj.value = value()
        return 0
