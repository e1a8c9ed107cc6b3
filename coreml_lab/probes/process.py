"""The watched process: its CPU time and its memory (its own only, not its children's)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from coreml_lab.errors import ProbeError
from coreml_lab.probes import apple
from coreml_lab.probes.protocol import NAN, Channel, KeptFile, Rate, Target, measured, unavailable

_WHOLE_PROCESS = 2  # CPUCLOCK_SCHED of the kernel's clock ids: all threads, in nanoseconds


class ProcessProbe:
    """CPU and memory of one process, from outside it."""

    name = "process"
    metrics = (
        "process.cpu.cores",
        "process.cpu.time",
        "process.memory.usage",
        "process.memory.peak",
    )
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the process; raises where it is not there."""
        self._cpu_seconds = cpu_seconds(target)
        self._memory = memory(target)
        self._rate = Rate()
        self._cpu_seconds()
        self._highest = 0.0
        usage, peak = self._memory()
        cores, cpu_time, held, highest = self.metrics
        return (
            measured(cores, "this process, without its children"),
            measured(cpu_time, "this process, without its children"),
            _present(held, usage, _MEMORY_NOTE.get(target.platform, "resident set")),
            _present(highest, peak, ""),
        )

    def read(self, now_ns: int) -> Sequence[float]:
        """Busy cores, CPU seconds, bytes now, bytes at most."""
        seconds = self._cpu_seconds()
        usage, peak = self._memory()
        # The process may set its mark back, to watch a cell: the most so far stays the most.
        self._highest = max(self._highest, peak) if peak == peak else peak  # noqa: PLR0124 - is not NaN
        return self._rate.of(seconds, now_ns), seconds, usage, self._highest


_MEMORY_NOTE = {"darwin": "physical footprint"}


def _present(metric: str, value: float, note: str) -> Channel:
    return measured(metric, note) if value == value else unavailable(metric, _NO_FIELD)  # noqa: PLR0124 - is not NaN


_NO_FIELD = "this system does not tell it about a process"


def cpu_seconds(target: Target) -> Callable[[], float]:
    """A function that tells how many CPU seconds the process has used."""
    if not target.linux:
        return _psutil_process(target.pid)[0]
    clock_id = ~target.pid << 3 | _WHOLE_PROCESS
    try:
        time.clock_gettime_ns(clock_id)
    except OSError:
        return from_stat(target)
    return lambda: time.clock_gettime_ns(clock_id) * 1e-9


def from_stat(target: Target) -> Callable[[], float]:
    """The same from ``/proc/PID/stat``: only 10 ms fine, but every Linux has it."""
    file = KeptFile(target.path("proc", str(target.pid), "stat"))
    ticks = os.sysconf("SC_CLK_TCK")

    def read() -> float:
        text = file.read()
        fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold anything
        return (int(fields[11]) + int(fields[12])) / ticks

    return read


def memory(target: Target) -> Callable[[], tuple[float, float]]:
    """A function that tells the bytes in use, and the most there were."""
    if target.platform == "darwin":
        return apple.footprint(target.pid)
    if not target.linux:
        return _psutil_process(target.pid)[1]
    file = KeptFile(target.path("proc", str(target.pid), "status"))

    def read() -> tuple[float, float]:
        text = file.read()
        resident = kibibytes(text, b"VmRSS:")
        peak = kibibytes(text, b"VmHWM:")
        # The kernel raises the high-water mark late: what is seen now was reached.
        return resident, max(peak, resident) if peak == peak else NAN  # noqa: PLR0124 - is not NaN

    return read


def kibibytes(text: bytes, key: bytes) -> float:
    """The bytes a line ``key  123 kB`` of ``/proc`` stands for; NaN where it has no such line."""
    at = text.find(key)
    if at < 0:
        return NAN
    at += len(key)
    return int(text[at : text.index(b"kB", at)]) * 1024.0


def _psutil_process(
    pid: int,
) -> tuple[Callable[[], float], Callable[[], tuple[float, float]]]:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    try:
        process = psutil.Process(pid)
    except psutil.Error as error:
        raise ProbeError(f"process {pid} cannot be watched: {error}") from error

    def seconds() -> float:
        try:
            times = process.cpu_times()
        except psutil.Error as error:
            raise ProbeError(str(error)) from error
        return float(times.user + times.system)

    def occupied() -> tuple[float, float]:
        try:
            return float(process.memory_info().rss), NAN
        except psutil.Error as error:
            raise ProbeError(str(error)) from error

    return seconds, occupied
