"""The whole machine's processors: how many cores are busy, and each core's share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreml_lab.probes.protocol import NAN, Channel, KeptFile, Target, measured

MOST_CORES = 64  # columns; a larger machine still counts whole in the total

Times = tuple[float, float]  # busy and total, in any one unit, both growing


class CpuProbe:
    """Busy share of every core, from the kernel's own accounting."""

    name = "cpu"
    metrics = ("system.cpu.cores", "system.cpu.core")
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Count the cores."""
        self._times = _proc_stat(target) if target.linux else _psutil_times
        self._last = self._times()
        total, core = self.metrics
        self._columns = sorted(key for key in self._last if key >= 0)[:MOST_CORES]
        note = "time stolen by the hypervisor is not counted as busy"
        return (measured(total, note), *(measured(f"{core}/{k}", note) for k in self._columns))

    def read(self, now_ns: int) -> Sequence[float]:  # noqa: ARG002 - the counters carry their own time
        """Busy cores of the machine, then each core's busy share."""
        before, self._last = self._last, self._times()
        shares = {key: _share(before.get(key), times) for key, times in self._last.items()}
        cores = sum(1 for key in self._last if key >= 0)
        return (shares[_ALL] * cores, *(shares.get(key, NAN) for key in self._columns))


_ALL = -1


def _share(before: Times | None, after: Times) -> float:
    if before is None or after[1] <= before[1]:
        return NAN
    # Idle time may step back a little when a core wakes; a share stays a share.
    return min(1.0, max(0.0, (after[0] - before[0]) / (after[1] - before[1])))


def _proc_stat(target: Target) -> Callable[[], dict[int, Times]]:
    file = KeptFile(target.path("proc", "stat"))
    return lambda: parse_stat(file.read())


def parse_stat(text: bytes) -> dict[int, Times]:
    """Busy and total ticks by core (-1: all), from the ``cpu`` lines of ``/proc/stat``."""
    result: dict[int, Times] = {}
    for line in text.split(b"\n"):
        if not line.startswith(b"cpu"):
            break
        label, *fields = line.split()
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
        busy = user + nice + system + irq + softirq  # guests' time is in user already
        result[int(label[3:] or _ALL)] = (busy, busy + idle + iowait + steal)
    return result


def _psutil_times() -> dict[int, Times]:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    cores = {i: (sum(t) - t.idle, sum(t)) for i, t in enumerate(psutil.cpu_times(percpu=True))}
    return {_ALL: (sum(b for b, _ in cores.values()), sum(t for _, t in cores.values())), **cores}
