"""Energy of the CPU package from RAPL counters (Intel, AMD), as Linux shows them in powercap."""

from __future__ import annotations

import os
from collections.abc import Sequence

from coreml_lab.errors import ProbeError
from coreml_lab.probes.protocol import NAN, Channel, KeptFile, Rate, Target, measured, read_text

_MOST_WATTS = 2000.0  # above it the machine slept or the counter was reset


class RaplProbe:
    """Joules and watts of all CPU packages together; the whole machine's, not one process's."""

    name = "rapl"
    metrics = ("hw.power.package", "hw.energy.package")
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the packages' counters."""
        if not target.linux:
            raise ProbeError("RAPL counters are read on Linux only")
        folder = target.path("sys", "class", "powercap")
        self._zones = [_Zone(os.path.join(folder, name)) for name in _packages(folder)]  # noqa: PTH118
        self._rate = Rate()
        self._last = NAN
        power, energy = self.metrics
        note = f"RAPL, {len(self._zones)} package(s), all processes"
        return measured(power, note), measured(energy, note)

    def read(self, now_ns: int) -> Sequence[float]:
        """Watts since the last reading, joules since the probe was opened."""
        joules = sum(zone.joules() for zone in self._zones)
        watts = self._rate.of(joules, now_ns)
        fresh = (
            joules != self._last
        )  # a running package always draws: no growth means not published yet
        self._last = joules
        return watts if fresh and watts < _MOST_WATTS else NAN, joules


class _Zone:
    """One package's counter; it starts again from zero at ``range``."""

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, "energy_uj")  # noqa: PTH118
        try:
            self._file = KeptFile(path)
        except PermissionError as error:
            raise ProbeError(
                f"{path} may be read by root only (Linux 5.10 and later)",
                hint=f"as administrator: chmod a+r {path}",
            ) from error
        self._range = int(read_text(os.path.join(folder, "max_energy_range_uj")))  # noqa: PTH118
        self._last = int(self._file.read())
        self._grown = 0

    def joules(self) -> float:
        """Energy since it was opened."""
        now = int(self._file.read())
        self._grown += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now
        return self._grown * 1e-6


def _packages(folder: str) -> list[str]:
    """Names of the package zones: core, uncore and dram are parts; psys would count twice."""
    try:
        names = sorted(n for n in os.listdir(folder) if n.startswith("intel-rapl:"))  # noqa: PTH208
    except OSError:
        names = []
    found = [n for n in names if read_text(os.path.join(folder, n, "name")).startswith("package")]  # noqa: PTH118
    if not found:
        raise ProbeError(
            f"no RAPL package counter in {folder}: usual in virtual machines and containers"
        )
    return found
