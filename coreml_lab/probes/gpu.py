"""How busy, full and hot NVIDIA's GPUs are, by the driver's management library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from coreml_lab.errors import ProbeError
from coreml_lab.probes.nvml import Nvml, library
from coreml_lab.probes.protocol import NAN, Channel, Target, affordable, measured

PERIOD = 1.0
_CORE_SENSOR = 0


class GpuProbe:
    """Utilisation, memory and temperature of every GPU; of all processes, not of one."""

    name = "gpu"
    metrics = ("hw.gpu.utilization", "hw.gpu.memory.usage", "hw.temperature.gpu")

    def __init__(self, load: Callable[[], Any] = library) -> None:
        self.period = PERIOD
        self._load = load
        self._handles: list[ctypes.c_void_p] = []

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the GPUs; none of the columns where the system cannot have any."""
        if target.platform == "darwin":
            return ()
        self._nvml = Nvml(self._load())
        count = self._nvml.count()
        if not count:
            raise ProbeError("NVIDIA's driver knows no GPU")
        self._handles = [self._nvml.handle(i) for i in range(count)]
        self.period = affordable(PERIOD, lambda: self.read(0))
        notes = ("time in which some kernel ran, of the last 1/6 to 1 s", "all processes", "")
        return tuple(
            measured(f"{metric}/{i}", note)
            for i in range(count)
            for metric, note in zip(self.metrics, notes, strict=True)
        )

    def read(self, now_ns: int) -> Sequence[float]:  # noqa: ARG002 - levels, not differences
        """A share, bytes and degrees Celsius per GPU; NaN for what one does not tell."""
        return [
            value
            for handle in self._handles
            for value in (self._busy(handle), self._used(handle), self._heat(handle))
        ]

    def _busy(self, handle: ctypes.c_void_p) -> float:
        rates = (ctypes.c_uint * 2)()  # of the GPU, of its memory
        return rates[0] / 100 if self._told("DeviceGetUtilizationRates", handle, rates) else NAN

    def _used(self, handle: ctypes.c_void_p) -> float:
        memory = (ctypes.c_ulonglong * 3)()  # total, free, used
        return float(memory[2]) if self._told("DeviceGetMemoryInfo", handle, memory) else NAN

    def _heat(self, handle: ctypes.c_void_p) -> float:
        degrees, sensor = ctypes.c_uint(), ctypes.c_uint(_CORE_SENSOR)
        call = "DeviceGetTemperature"
        told = getattr(self._nvml.calls, f"nvml{call}")(handle, sensor, ctypes.byref(degrees)) == 0
        return float(degrees.value) if told else NAN

    def _told(self, call: str, handle: ctypes.c_void_p, kept: Any) -> bool:
        """Whether the driver filled what was given."""
        return bool(getattr(self._nvml.calls, f"nvml{call}")(handle, ctypes.byref(kept)) == 0)
