"""Energy of CPU packages and memory from RAPL counters (Intel, AMD), as Linux shows them.

In powercap each package is a zone with a counter in microjoules that goes round at
``max_energy_range_uj``; since Linux 5.10 only root may read it (CVE-2020-8694). Zones named core
and uncore are parts of the package and left out; dram is beside it; psys is the whole machine,
which contains the others and so is never added to them. Where powercap is closed, perf may be
open (``probes/perf``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Domain, Growth, Reading, Scope
from coreml_lab.probes.perf import PERF, perf_counters
from coreml_lab.probes.protocol import KeptFile, Target, read_text

POWERCAP = "RAPL (powercap)"
PACKAGE, DRAM, MACHINE = "package", "dram", "machine"
PERIOD = 1e-3
MICRO = 1e-6
# Zone or event name -> the group it belongs to, what people call it, and what contains it.
GROUPS = {
    "package": (PACKAGE, "CPU package", Scope.PACKAGE, MACHINE),
    "pkg": (PACKAGE, "CPU package", Scope.PACKAGE, MACHINE),
    "dram": (DRAM, "memory", Scope.MACHINE, MACHINE),
    "ram": (DRAM, "memory", Scope.MACHINE, MACHINE),
    "psys": (MACHINE, "whole machine", Scope.MACHINE, ""),
}


@dataclass(frozen=True)
class Counter:
    """One counter: its domain, and a function that reads it in joules, not yet unwrapped."""

    domain: Domain
    joules: Callable[[], float]


class RaplSource:
    """All packages, their memory and the platform; the whole machine's, not one process's."""

    name = "RAPL"

    def __init__(self) -> None:
        self._counters: list[tuple[Counter, Growth]] = []

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Find the counters in powercap, else in perf."""
        if not target.linux:
            raise ProbeError("RAPL counters are read on Linux only")
        found = _either(target)
        self._counters = [(c, Growth(c.domain.wrap)) for c in found]
        return tuple(c.domain for c in found)

    def read(self, now_ns: int) -> Sequence[Reading]:
        """One reading per counter."""
        return [
            Reading(counter.domain.name, growth.of(counter.joules(), now_ns), now_ns)
            for counter, growth in self._counters
        ]


def _either(target: Target) -> list[Counter]:
    """Powercap's counters, or perf's; the reason of powercap where both are closed."""
    try:
        return _powercap(target)
    except ProbeError as closed:
        try:
            found = perf_counters(target)
        except (OSError, ProbeError):
            raise closed from None
        return [c for event, cpu, read in found for c in _from_perf(event, cpu, read)]


def _from_perf(event: str, cpu: int, read: Callable[[], float]) -> list[Counter]:
    if event not in GROUPS:
        return []
    return [Counter(_domain(event, str(cpu), PERF, quantum=2.0**-32), read)]


def _powercap(target: Target) -> list[Counter]:
    folder = target.path("sys", "class", "powercap")
    try:
        names = sorted(n for n in os.listdir(folder) if n.startswith("intel-rapl:"))  # noqa: PTH208
    except OSError:
        names = []
    zones = [(n, read_text(os.path.join(folder, n, "name"))) for n in names]  # noqa: PTH118
    if not any(kind.startswith("package") for _, kind in zones):
        raise ProbeError(
            f"no RAPL package counter in {folder}: usual in virtual machines and containers"
        )
    return [
        _zone(os.path.join(folder, zone), zone, kind)  # noqa: PTH118
        for zone, kind in zones
        if kind.partition("-")[0] in GROUPS
    ]


def _zone(folder: str, zone: str, kind: str) -> Counter:
    path = os.path.join(folder, "energy_uj")  # noqa: PTH118
    try:
        file = KeptFile(path)
    except PermissionError as error:
        raise ProbeError(
            f"{path} may be read by root only (Linux 5.10 and later)",
            hint="as administrator, until the next start: chmod a+r "
            "/sys/class/powercap/intel-rapl*/energy_uj, or "
            "sysctl kernel.perf_event_paranoid=0 for the same counters through perf",
        ) from error
    wrap = int(read_text(os.path.join(folder, "max_energy_range_uj"))) * MICRO  # noqa: PTH118
    number = zone.partition(":")[2]
    domain = _domain(kind.partition("-")[0], number, POWERCAP, quantum=MICRO)
    return Counter(replace(domain, unit="µJ", wrap=wrap), lambda: int(file.read()) * MICRO)


def _domain(kind: str, number: str, source: str, *, quantum: float) -> Domain:
    group, title, scope, within = GROUPS[kind]
    return Domain(
        f"{group}/{number}",
        title,
        group,
        scope,
        Provenance.MEASURED,
        source,
        quantum=quantum,
        period=PERIOD,
        always_draws=True,
        within=within,
        note="all processes of the machine",
    )
