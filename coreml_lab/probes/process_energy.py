"""Energy of some processes' CPU work: Apple's own counter, or an interval from CPU time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes import apple
from coreml_lab.probes.counters import FIRMWARE, Domain, Growth, Reading, Scope
from coreml_lab.probes.process import cpu_seconds
from coreml_lab.probes.protocol import Target

PROCESS = "process"
# Until the work of the last quantum has been credited.
QUANTUM_SECONDS = 0.01


class AppleProcessSource:
    """``ri_energy_nj`` of processes of this user: CPU only, without GPU, Neural Engine, memory."""

    name = "process energy"

    def __init__(self, also: Sequence[int] = (), system: apple.SystemLibrary | None = None) -> None:
        self._also = tuple(also)
        self._system = system
        self._reads: list[tuple[Callable[[], float], Growth]] = []

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Find the counter of each process."""
        if target.platform != "darwin":
            raise ProbeError("only macOS counts the energy of a process")
        if apple.kernel_number("kern.pervasive_energy", self._system)() == 0:
            raise ProbeError(
                "this Mac does not count the energy of processes (kern.pervasive_energy is 0)",
                hint="usual in virtual machines",
            )
        pids = (target.pid, *self._also)
        self._reads = [(apple.cpu_joules(pid, self._system), Growth()) for pid in pids]
        for read, _ in self._reads:
            read()
        return (_counted(len(pids)),)

    def read(self, now_ns: int) -> Sequence[Reading]:
        """All processes together."""
        joules = sum(growth.of(read(), now_ns) for read, growth in self._reads)
        return [Reading(PROCESS, joules, now_ns)]


def _counted(processes: int) -> Domain:
    whose = "this process" if processes == 1 else "this process and the one that runs Core ML"
    return Domain(
        PROCESS,
        "CPU work of the process",
        PROCESS,
        Scope.PROCESS,
        Provenance.MEASURED,
        "proc_pid_rusage, ri_energy_nj",
        unit="nJ",
        quantum=1e-9,
        settle=QUANTUM_SECONDS,
        always_draws=True,
        within="cpu",
        note=f"{FIRMWARE}; {whose}",
    )


class ModelledSource:
    """CPU seconds of processes times what a busy core is said to draw, at least and at most.

    It knows nothing of idle power, memory, GPU or Neural Engine.
    """

    name = "CPU time x watts"

    def __init__(self, also: Sequence[int] = ()) -> None:
        self._also = tuple(also)
        self._bounds = (0.0, 0.0)
        self._seconds: list[Callable[[], float]] = []
        self._start = 0.0

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Take the bounds."""
        self._bounds = target.core_watts
        pids = (target.pid, *self._also)
        self._seconds = [
            cpu_seconds(Target(pid, root=target.root, platform=target.platform)) for pid in pids
        ]
        self._start = self._total()
        low, high = self._bounds
        return (
            Domain(
                PROCESS,
                "CPU work of the process",
                PROCESS,
                Scope.PROCESS,
                Provenance.ESTIMATED,
                self.name,
                watts=self._bounds,
                note=f"{low:g} to {high:g} W per busy core; no counter was read",
            ),
        )

    def read(self, now_ns: int) -> Sequence[Reading]:
        """Joules since it was opened, at least and at most."""
        seconds = self._total() - self._start
        low, high = self._bounds
        return [Reading(PROCESS, seconds * low, now_ns, most=seconds * high)]

    def _total(self) -> float:
        return sum(read() for read in self._seconds)


def own(core_watts: tuple[float, float] = (2.0, 8.0)) -> Target:
    """This process, as what is watched."""
    return Target(os.getpid(), core_watts)
