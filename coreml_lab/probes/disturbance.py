"""What can disturb a measurement, read twice: counters of the machine, the kernel and this process.

Read before and after what is measured; ``measure.noise`` judges the difference. A reading takes
about a millisecond, and starts no process on Linux.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from coreml_lab.probes import supply
from coreml_lab.probes.protocol import NAN, Target, read_text

STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
FREQUENCIES = ("sys", "devices", "system", "cpu", "cpu[0-9]*", "cpufreq", "scaling_cur_freq")
THROTTLES = ("sys", "devices", "system", "cpu", "cpu[0-9]*", "thermal_throttle")


@dataclass(frozen=True)
class Reading:
    """Counters at one moment, in SI units; NaN where this system does not tell.

    Attributes:
        t_ns: when, monotonic.
        busy_s: CPU seconds that all cores together have been busy.
        steal_s: CPU seconds that the hypervisor gave to others.
        own_s: CPU seconds of this process and its children.
        ran_s: seconds that this process's threads ran, by the scheduler's own clock.
        waited_s: seconds that they were ready, and waited for a core.
        limited_s: seconds that the container's CPU limit held its threads back.
        swapped: bytes moved to and from swap by the whole machine.
        faults: pages that this process had to wait for a disk for.
        throttled: how often a core was slowed down because of heat.
        hertz: the cores' frequencies.
        heat: ``nominal``, ``serious``, ``critical`` or ``unknown``.
        power: ``mains``, ``battery`` or ``unknown``.
        cores: how many there are.
    """

    t_ns: int
    busy_s: float = NAN
    steal_s: float = NAN
    own_s: float = NAN
    ran_s: float = NAN
    waited_s: float = NAN
    limited_s: float = NAN
    swapped: float = NAN
    faults: float = NAN
    throttled: float = NAN
    hertz: tuple[float, ...] = field(default=())
    heat: str = supply.UNKNOWN
    power: str = supply.UNKNOWN
    cores: int = 1


def read(target: Target | None = None) -> Reading:
    """The counters now."""
    target = target or Target(os.getpid())
    now, cores = time.monotonic_ns(), os.cpu_count() or 1
    heat, power = supply.thermal(target), supply.power(target)
    if target.linux:
        return _linux(target, now, heat, power)
    busy, own, swapped, faults = _psutil(target)
    return Reading(
        now,
        busy_s=busy,
        own_s=own,
        swapped=swapped,
        faults=faults,
        heat=heat,
        power=power,
        cores=cores,
    )


def _linux(target: Target, now: int, heat: str, power: str) -> Reading:
    busy, steal, cores = _cpu(target)
    return Reading(
        now,
        busy,
        steal,
        _own(target),
        *_scheduled(target),
        _limited(target),
        _swapped(target),
        _faults(target),
        _throttled(target),
        _hertz(target),
        heat,
        power,
        cores,
    )


def _ticks() -> float:
    return float(os.sysconf("SC_CLK_TCK"))


def _lines(target: Target, *parts: str) -> list[str]:
    try:
        return read_text(target.path(*parts)).splitlines()
    except OSError:
        return []


def _cpu(target: Target) -> tuple[float, float, int]:
    """Busy and stolen CPU seconds of all cores, and how many there are."""
    lines = [line.split() for line in _lines(target, "proc", "stat") if line.startswith("cpu")]
    if not lines:
        return NAN, NAN, 1
    times = dict(zip(STATES, map(int, lines[0][1:]), strict=False))
    busy = sum(times.get(name, 0) for name in ("user", "nice", "system", "irq", "softirq"))
    return busy / _ticks(), times.get("steal", 0) / _ticks(), max(1, len(lines) - 1)


def _own(target: Target) -> float:
    """CPU seconds of the process and of its children, which include the sampler's and workers'."""
    pid = str(target.pid)
    found = [
        child
        for file in glob.glob(target.path("proc", pid, "task", "*", "children"))  # noqa: PTH207 - as the paths of probes
        for child in _words(file)
    ]
    times = [_stat(target, each) for each in (pid, *found)]
    return sum(t for t in times if t == t) if times[0] == times[0] else NAN  # noqa: PLR0124 - is not NaN


def _words(path: str) -> list[str]:
    try:
        return read_text(path).split()
    except OSError:
        return []


def _stat(target: Target, pid: str) -> float:
    lines = _lines(target, "proc", pid, "stat")
    if not lines:
        return NAN
    fields = lines[0].rpartition(")")[2].split()  # the name before it may hold anything
    # Its own, and those of children that have ended.
    return sum(map(int, fields[11:15])) / _ticks()


def _scheduled(target: Target) -> tuple[float, float]:
    """Seconds that its threads ran, and that they stood in a queue for a core (``schedstat``)."""
    files = glob.glob(target.path("proc", str(target.pid), "task", "*", "schedstat"))  # noqa: PTH207
    found = [words for file in files if len(words := _words(file)) > 1]
    if not found:
        return NAN, NAN
    return sum(int(w[0]) for w in found) / 1e9, sum(int(w[1]) for w in found) / 1e9


def _limited(target: Target) -> float:
    """Seconds without a core because of the container's limit; control groups of both versions."""
    for line in _lines(target, "proc", "self", "cgroup"):
        _, names, path = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        home = ("sys", "fs", "cgroup", *(["cpu"] if names else []))
        # Inside of a container its own group may be what lies at the top.
        for folder in dict.fromkeys((path.strip("/"), "")):
            found = _numbers(_lines(target, *home, *folder.split("/"), "cpu.stat"))
            if "throttled_usec" in found:
                return found["throttled_usec"] / 1e6
            if "throttled_time" in found:
                return found["throttled_time"] / 1e9
    return NAN


def _swapped(target: Target) -> float:
    found = _numbers(_lines(target, "proc", "vmstat"))
    if "pswpin" not in found:
        return NAN
    return (found["pswpin"] + found.get("pswpout", 0.0)) * os.sysconf("SC_PAGESIZE")


def _numbers(lines: Iterable[str]) -> dict[str, float]:
    """Lines of a name and a number."""
    found = {}
    for line in lines:
        name, _, text = line.partition(" ")
        with contextlib.suppress(ValueError):
            found[name] = float(text)
    return found


def _faults(target: Target) -> float:
    lines = _lines(target, "proc", str(target.pid), "stat")
    return float(lines[0].rpartition(")")[2].split()[9]) if lines else NAN


def _throttled(target: Target) -> float:
    """Counted per core and for the package, where the processor does."""
    found = []
    for name in ("core_throttle_count", "package_throttle_count"):
        for path in glob.glob(target.path(*THROTTLES, name)):  # noqa: PTH207
            found += [int(word) for word in _words(path) if word.isdigit()]
    return float(sum(found)) if found else NAN


def _hertz(target: Target) -> tuple[float, ...]:
    """The driver's own numbers; in virtual machines what the processor pretends to run at."""
    paths = sorted(glob.glob(target.path(*FREQUENCIES)))  # noqa: PTH207
    found = [float(word) * 1e3 for path in paths for word in _words(path) if word.isdigit()]
    if found:
        return tuple(found)
    lines = _lines(target, "proc", "cpuinfo")
    told = [line.partition(":")[2] for line in lines if line.startswith("cpu MHz")]
    return tuple(float(text) * 1e6 for text in told)


def _psutil(target: Target) -> tuple[float, float, float, float]:
    """Busy seconds, own seconds, bytes swapped and page faults, where there is no ``/proc``."""
    import psutil  # noqa: PLC0415 - only where there is no /proc

    times, swap = psutil.cpu_times(), psutil.swap_memory()
    try:
        process = psutil.Process(target.pid)
        own = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    except psutil.Error:
        own = []
    seconds = sum(t.user + t.system for t in own) if own else NAN
    return sum(times) - times.idle, seconds, float(swap.sin + swap.sout), NAN
