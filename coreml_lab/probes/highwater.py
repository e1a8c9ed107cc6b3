"""The most memory a process held since a moment of our choosing: the kernel's own high-water mark.

Linux: writing 5 to ``/proc/PID/clear_refs`` sets the mark (``VmHWM``) back to what is resident now
(Linux 4.0 and later, proc(5)). macOS: ``proc_reset_footprint_interval`` does so for the footprint
and for the Neural Engine's (``ri_interval_max_*`` of ``rusage_info_v6``; XNU's own tests use the
pair). Nothing has to be sampled, and no peak between two samples is missed.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Protocol

from coreml_lab.errors import ProbeError
from coreml_lab.probes import apple
from coreml_lab.probes.process import kibibytes
from coreml_lab.probes.protocol import NAN, KeptFile, Target

# Words of rusage_info_v6 behind the 16-byte uuid, counted in XNU's bsd/sys/resource.h.
INTERVAL_MAX_FOOTPRINT = 2 + 33
NEURAL, LIFETIME_MAX_NEURAL, INTERVAL_MAX_NEURAL = 2 + 44, 2 + 45, 2 + 46


@dataclass(frozen=True)
class Level:
    """Bytes of a process: now, and at most since the mark was set back; NaN where not told.

    Attributes:
        neural: bytes that the Neural Engine holds for it (macOS only; what it counts of Core ML
            has not been verified on hardware by this project).
    """

    now: float
    most: float
    neural: float = NAN
    neural_most: float = NAN


class Marks(Protocol):
    """A process's high-water mark."""

    @property
    def what(self) -> str:
        """What is counted, in words."""
        ...

    def level(self) -> Level:
        """What it says now."""
        ...

    def reset(self) -> str:
        """Set the mark back to what is held now; why not, or ""."""
        ...


def marks(target: Target) -> Marks:
    """The marks of a process, by what the system has."""
    if target.linux:
        return LinuxMarks(target)
    if target.platform == "darwin":
        return AppleMarks(target.pid)
    return NoMarks()


# What marks that were set back had stood at, by process.
_reached: dict[int, float] = {}


def reached(pid: int) -> float:
    """The highest that a mark of this process stood at before it was set back; 0 where none was."""
    return _reached.get(pid, 0.0)


def _note(pid: int, most: float) -> None:
    _reached[pid] = max(reached(pid), most)


class LinuxMarks:
    """``VmRSS``, ``VmHWM`` and ``clear_refs``."""

    what = "resident set of this process (VmHWM)"

    def __init__(self, target: Target) -> None:
        self._pid = target.pid
        folder = target.path("proc", str(target.pid))
        self._status = KeptFile(os.path.join(folder, "status"))  # noqa: PTH118 - as its neighbours
        self._clear = os.path.join(folder, "clear_refs")  # noqa: PTH118

    def level(self) -> Level:
        """Resident now, and at most; the kernel raises the mark late, so what is seen counts."""
        text = self._status.read()
        now, most = kibibytes(text, b"VmRSS:"), kibibytes(text, b"VmHWM:")
        return Level(now, max(now, most))

    def reset(self) -> str:
        """Write 5; containers may forbid it."""
        most = self.level().most
        try:
            handle = os.open(self._clear, os.O_WRONLY)
            try:
                os.write(handle, b"5")
            finally:
                os.close(handle)
        except OSError as error:
            return f"the high-water mark cannot be set back ({self._clear}: {error.strerror})"
        _note(self._pid, most)
        return ""


class AppleLibrary(apple.SystemLibrary, Protocol):
    """The further call of libSystem."""

    def proc_reset_footprint_interval(self, pid: int) -> int:
        """Begin a new interval; 0 for success."""
        ...


class AppleMarks:
    """The physical footprint, as Activity Monitor shows it, and the Neural Engine's."""

    what = "physical footprint of this process"

    def __init__(self, pid: int, system: AppleLibrary | None = None) -> None:
        self._calls = apple.library() if system is None else system
        self._pid = pid
        self._words = (ctypes.c_uint64 * apple.RUSAGE_WORDS)()

    def level(self) -> Level:
        """Footprints now, and at most in this interval.

        Raises:
            ProbeError: where the kernel refuses.
        """
        words = self._words
        if self._calls.proc_pid_rusage(self._pid, apple.RUSAGE_VERSION, ctypes.byref(words)) != 0:
            raise ProbeError(f"proc_pid_rusage refuses process {self._pid}")
        now, neural = float(words[apple.FOOTPRINT]), float(words[NEURAL])
        return Level(
            now,
            max(now, float(words[INTERVAL_MAX_FOOTPRINT])),
            neural,
            max(neural, float(words[INTERVAL_MAX_NEURAL])),
        )

    def reset(self) -> str:
        """Begin a new interval; the call is in libproc, but in no public header."""
        call = getattr(self._calls, "proc_reset_footprint_interval", None)
        if call is None:
            return "this macOS has no proc_reset_footprint_interval"
        return "" if call(self._pid) == 0 else "proc_reset_footprint_interval was refused"


class NoMarks:
    """A system that keeps no mark."""

    what = "memory of this process"

    def level(self) -> Level:
        """Nothing is known."""
        return Level(NAN, NAN)

    def reset(self) -> str:
        """There is nothing to set back."""
        return "this system keeps no high-water mark that can be set back"
