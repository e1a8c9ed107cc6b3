"""What macOS tells about a process and its memory, through libSystem (no privilege needed)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

from coreml_lab.errors import ProbeError

# struct rusage_info_v6 in XNU's bsd/sys/resource.h: a 16-byte uuid, 56 unsigned 64-bit numbers.
RUSAGE_VERSION = 6
RUSAGE_WORDS = 2 + 56
FOOTPRINT = 2 + 7
LIFETIME_MAX_FOOTPRINT = 2 + 28
ENERGY_NJ = 2 + 40


class SystemLibrary(Protocol):
    """The two calls of libSystem that are used."""

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: object) -> int:
        """Fill ``buffer`` with what the process has used; 0 for success."""
        ...

    def sysctlbyname(
        self, name: bytes, old: object, size: object, new: object, length: object
    ) -> int:
        """Fill ``old`` with a kernel variable; 0 for success."""
        ...


def library() -> SystemLibrary:
    """The C library of macOS."""
    loaded: SystemLibrary = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
    return loaded


def footprint(pid: int, system: SystemLibrary | None = None) -> Callable[[], tuple[float, float]]:
    """A function that tells a process's footprint, as Activity Monitor does: now and at most."""
    calls = library() if system is None else system
    words = (ctypes.c_uint64 * RUSAGE_WORDS)()

    def read() -> tuple[float, float]:
        if calls.proc_pid_rusage(pid, RUSAGE_VERSION, ctypes.byref(words)) != 0:
            raise ProbeError(f"proc_pid_rusage refuses process {pid}")
        return float(words[FOOTPRINT]), float(words[LIFETIME_MAX_FOOTPRINT])

    return read


def cpu_joules(pid: int, system: SystemLibrary | None = None) -> Callable[[], float]:
    """A function that tells what a process's work on the CPU has drawn, in joules.

    It is credited when a thread stops or its quantum of 10 ms ends: what was done last is counted
    10 ms later.
    """
    calls = library() if system is None else system
    words = (ctypes.c_uint64 * RUSAGE_WORDS)()

    def read() -> float:
        if calls.proc_pid_rusage(pid, RUSAGE_VERSION, ctypes.byref(words)) != 0:
            raise ProbeError(f"proc_pid_rusage refuses process {pid}")
        return float(words[ENERGY_NJ]) * 1e-9

    return read


def kernel_number(name: str, system: SystemLibrary | None = None) -> Callable[[], float]:
    """A function that reads a 32-bit number of the kernel's by its sysctl name."""
    calls = library() if system is None else system
    value, size = ctypes.c_int32(), ctypes.c_size_t(4)

    def read() -> float:
        refused = calls.sysctlbyname(
            name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
        )
        if refused:
            raise ProbeError(f"the kernel does not tell {name}")
        return float(value.value)

    return read


def kernel_text(name: str, system: SystemLibrary | None = None) -> str:
    """A short text of the kernel's by its sysctl name."""
    calls = library() if system is None else system
    value, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    refused = calls.sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0))
    if refused:
        raise ProbeError(f"the kernel does not tell {name}")
    return value.value.decode()
