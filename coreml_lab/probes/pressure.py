"""Memory pressure: how much the machine is held up by a lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreml_lab.errors import ProbeError
from coreml_lab.probes import apple
from coreml_lab.probes.protocol import Channel, KeptFile, Target, measured

_MACOS_LEVEL = "kern.memorystatus_vm_pressure_level"


class PressureProbe:
    """Linux' pressure stall information, or macOS' pressure level."""

    name = "pressure"
    metrics = ("coreml_lab.memory.pressure",)
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the system's own figure."""
        if target.linux:
            self._read, note = _stall(target), "share of the last 10 s, updated every 2 s"
        elif target.platform == "darwin":
            self._read = apple.kernel_number(_MACOS_LEVEL)
            note = "pressure level: 1 normal, 2 warning, 4 critical"
        else:
            raise ProbeError(f"no source of memory pressure is known for {target.platform}")
        self._read()
        return (measured(self.metrics[0], note),)

    def read(self, now_ns: int) -> Sequence[float]:  # noqa: ARG002 - a level, not a difference
        """The pressure now."""
        return (self._read(),)


def _stall(target: Target) -> Callable[[], float]:
    path = target.path("proc", "pressure", "memory")
    try:
        file = KeptFile(path)
        file.read()
    except OSError as error:
        raise ProbeError(
            f"this kernel does not report stalls in {path}: {error.strerror}",
            hint="it needs Linux 4.20 or later with psi=1",
        ) from error
    return lambda: parse_stall(file.read())


def parse_stall(text: bytes) -> float:
    """The ``some avg10`` figure of a pressure file, as a share."""
    start = text.index(b"avg10=") + len(b"avg10=")
    return float(text[start : text.index(b" ", start)]) / 100
