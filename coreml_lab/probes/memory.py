"""The machine's memory: what can still be had, and the limit (a container's, if there is one)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreml_lab.probes.cgroup import MemoryLimits
from coreml_lab.probes.process import kibibytes
from coreml_lab.probes.protocol import Channel, KeptFile, Target, measured


class MemoryProbe:
    """Available memory and its limit."""

    name = "memory"
    metrics = ("system.memory.available", "system.memory.limit")
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the machine's numbers and the container's limits."""
        self._machine = _meminfo(target) if target.linux else _psutil_memory
        self._limits = MemoryLimits(target)
        self._machine()
        note = "within the container's limit" if self._limits else "of the machine"
        return tuple(measured(metric, note) for metric in self.metrics)

    def read(self, now_ns: int) -> Sequence[float]:
        """Bytes that can be had without swapping, bytes at most."""
        available, limit = self._machine()
        for left, most in self._limits.read(now_ns):
            available, limit = min(available, left), min(limit, most)
        return available, limit


def _meminfo(target: Target) -> Callable[[], tuple[float, float]]:
    file = KeptFile(target.path("proc", "meminfo"))

    def read() -> tuple[float, float]:
        text = file.read()
        return kibibytes(text, b"MemAvailable:"), kibibytes(text, b"MemTotal:")

    return read


def _psutil_memory() -> tuple[float, float]:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    memory = psutil.virtual_memory()
    return float(memory.available), float(memory.total)
