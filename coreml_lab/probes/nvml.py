"""Energy of NVIDIA GPUs: the total-energy counter of NVIDIA's management library (NVML).

``nvmlDeviceGetTotalEnergyConsumption`` counts millijoules of the whole board since the driver was
loaded, on Volta and later; it moves every 20 to 100 ms and needs no privilege. Older GPUs tell
their power only, which is then added up here, and said so. The library comes with the driver and
is called directly: the sampling process starts without site-packages.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Domain, Growth, Reading, Scope
from coreml_lab.probes.protocol import NAN, Target

SOURCE = "NVML total energy"
INTEGRATED = "NVML power, added up"
PERIOD = 0.1
# Power is a mean over this long on Ampere and later.
POWER_MEAN = 1.0
# Between two readings further apart than this, power is not known.
LONGEST_GAP_NS = 1_000_000_000
_TEXT = 96


def library() -> Any:
    """The driver's library.

    Raises:
        ProbeError: where there is none.
    """
    try:
        return ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError as error:
        raise ProbeError("NVIDIA's driver is not here (libnvidia-ml)") from error


class Nvml:
    """The few calls that are used, with errors in words."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        code = calls.nvmlInit_v2()
        if code:
            raise ProbeError(f"NVIDIA's management library does not start: {self._why(code)}")

    def count(self) -> int:
        """How many GPUs there are."""
        number = ctypes.c_uint()
        self.ask("DeviceGetCount_v2", ctypes.byref(number))
        return number.value

    def handle(self, index: int) -> ctypes.c_void_p:
        """A GPU by its number."""
        found = ctypes.c_void_p()
        self.ask("DeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(found))
        return found

    def text(self, call: str, *of: Any) -> str:
        """A short text: a name, a UUID, a version."""
        kept = ctypes.create_string_buffer(_TEXT)
        self.ask(call, *of, kept, ctypes.c_uint(_TEXT))
        return kept.value.decode(errors="replace")

    def energy(self, handle: ctypes.c_void_p) -> float:
        """Joules since the driver was loaded."""
        number = ctypes.c_ulonglong()
        self.ask("DeviceGetTotalEnergyConsumption", handle, ctypes.byref(number))
        return number.value * 1e-3

    def power(self, handle: ctypes.c_void_p) -> float:
        """Watts."""
        number = ctypes.c_uint()
        self.ask("DeviceGetPowerUsage", handle, ctypes.byref(number))
        return number.value * 1e-3

    def ask(self, call: str, *arguments: Any) -> None:
        """Make a call.

        Raises:
            ProbeError: where it is refused.
        """
        code = getattr(self.calls, f"nvml{call}")(*arguments)
        if code:
            raise ProbeError(f"{call}: {self._why(code)}")

    def _why(self, code: int) -> str:
        told = self.calls.nvmlErrorString
        told.restype = ctypes.c_char_p
        text = told(code)
        return text.decode(errors="replace") if text else f"error {code}"


class _Gpu:
    """One GPU's counter, or its power added up."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self.index = index
        self._nvml = nvml
        self.handle = nvml.handle(index)
        self.name = nvml.text("DeviceGetName", self.handle)
        self.uuid = nvml.text("DeviceGetUUID", self.handle)
        self._growth = Growth()
        self._watts, self._t_ns, self._joules = NAN, 0, 0.0
        self.counts = True
        try:
            nvml.energy(self.handle)
        except ProbeError:
            self.counts = False

    def domain(self) -> Domain:
        """What its numbers are; the reason where it tells neither energy nor power."""
        group = f"gpu/{self.index}"
        found = Domain(
            group,
            f"GPU {self.index}, {self.name}",
            group,
            Scope.DEVICE,
            Provenance.MEASURED,
            SOURCE,
            unit="mJ",
            quantum=1e-3,
            period=PERIOD,
            always_draws=True,
            note="the whole board, all processes",
        )
        if self.counts:
            return found
        try:
            self._nvml.power(self.handle)
        except ProbeError as error:
            return _refused(found, error)
        return _integrated(found)

    def read(self, now_ns: int) -> Reading:
        """Joules since it was opened."""
        group = f"gpu/{self.index}"
        if self.counts:
            joules = self._growth.of(self._nvml.energy(self.handle), now_ns)
            return Reading(group, joules, now_ns)
        return Reading(group, self._added(self._nvml.power(self.handle), now_ns), now_ns)

    def _added(self, watts: float, now_ns: int) -> float:
        """The trapezoid between two readings of power; NaN across a gap."""
        passed, before = now_ns - self._t_ns, self._watts
        self._watts, self._t_ns = watts, now_ns
        if before != before:  # noqa: PLR0124 - NaN: the first reading
            return self._joules
        if passed > LONGEST_GAP_NS:
            return NAN
        self._joules += (watts + before) / 2 * passed * 1e-9
        return self._joules


def _refused(found: Domain, error: ProbeError) -> Domain:
    why = f"this GPU tells neither energy nor power: {error.message}"
    return replace(found, provenance=Provenance.UNAVAILABLE, reason=why)


def _integrated(found: Domain) -> Domain:
    note = "this GPU has no energy counter: its power draw, a mean of up to 1 s, is added up"
    return replace(found, source=INTEGRATED, unit="mW", quantum=0.0, period=POWER_MEAN, note=note)


class NvmlSource:
    """The counters of some GPUs, named by UUID as CUDA tells it; of all where none is named."""

    name = "NVML"

    def __init__(self, uuids: Sequence[str] = (), load: Callable[[], Any] = library) -> None:
        self._wanted = {_bare(uuid) for uuid in uuids}
        self._load = load
        self._gpus: list[_Gpu] = []
        self.driver = ""

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Find the GPUs."""
        if target.platform == "darwin":
            raise ProbeError("macOS has no driver for NVIDIA GPUs")
        nvml = Nvml(self._load())
        self.driver = nvml.text("SystemGetDriverVersion")
        gpus = [_Gpu(nvml, i) for i in range(nvml.count())]
        if self._wanted:
            gpus = [gpu for gpu in gpus if _bare(gpu.uuid) in self._wanted]
        if not gpus:
            raise ProbeError("NVIDIA's driver knows no such GPU")
        domains = tuple(gpu.domain() for gpu in gpus)
        self._gpus = [g for g, d in zip(gpus, domains, strict=True) if d.available]
        return domains

    def read(self, now_ns: int) -> Sequence[Reading]:
        """One reading per GPU."""
        return [gpu.read(now_ns) for gpu in self._gpus]


def _bare(uuid: str) -> str:
    """NVML writes ``GPU-`` before what CUDA tells."""
    return uuid.removeprefix("GPU-").lower()
