"""RAPL counters through ``perf_event_open``, which may be open where powercap is closed.

It takes CAP_PERFMON, or ``kernel.perf_event_paranoid`` at 0 or below.
The PMU ``power`` names its events, their unit and scale, and one CPU of each package in sysfs
(Linux' ``Documentation/admin-guide/perf`` and ``tools/perf/design.txt``); a counter is eight bytes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterator
from functools import partial

from coreml_lab.errors import ProbeError
from coreml_lab.probes.protocol import Target, read_text

PERF = "RAPL (perf)"
FOLDER = ("sys", "bus", "event_source", "devices", "power")
# The number of the system call, by machine.
SYSCALL = {"x86_64": 298, "AMD64": 298, "aarch64": 241}
# struct perf_event_attr, first version: type, size, config, and 48 bytes that stay 0.
ATTRIBUTES = struct.Struct("=IIQ48x")
CLOSE_ON_EXEC = 8
ALL_PROCESSES = -1

# Opens a counter of a type and configuration on a CPU; the file descriptor.
Open = Callable[[int, int, int], int]
Found = tuple[str, int, Callable[[], float]]


def perf_counters(target: Target, open_event: Open | None = None) -> list[Found]:
    """Event name (``pkg``, ``ram``, ``psys``), a CPU of the package, and what reads it in joules.

    Raises:
        ProbeError: where the kernel has no such counters, or does not open them.
        OSError: the same.
    """
    folder = target.path(*FOLDER)
    kind = int(read_text(f"{folder}/type"))
    opening = open_event if open_event is not None else _opener()
    found: list[Found] = [
        (event, cpu, partial(_read, opening(kind, config, cpu), scale))
        for event, config, scale in _events(folder)
        for cpu in _cpus(read_text(f"{folder}/cpumask"))
    ]
    if not found:
        raise ProbeError("perf names no energy counter")
    return found


def _events(folder: str) -> Iterator[tuple[str, int, float]]:
    """Name, configuration and joules per count."""
    for name in sorted(os.listdir(f"{folder}/events")):  # noqa: PTH208 - as the paths of probes
        event = name.removeprefix("energy-")
        if event == name or "." in event:
            continue
        if read_text(f"{folder}/events/{name}.unit") != "Joules":
            continue
        config = int(read_text(f"{folder}/events/{name}").partition("event=")[2], 16)
        yield event, config, float(read_text(f"{folder}/events/{name}.scale"))


def _cpus(text: str) -> list[int]:
    """``0,16`` or ``0-1`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def _read(descriptor: int, scale: float) -> float:
    return int.from_bytes(os.read(descriptor, 8), "little") * scale


def _opener() -> Open:
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise ProbeError(f"perf is not called on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)

    def open_event(kind: int, config: int, cpu: int) -> int:
        wanted = ctypes.create_string_buffer(ATTRIBUTES.pack(kind, ATTRIBUTES.size, config))
        opened = libc.syscall(number, wanted, ALL_PROCESSES, cpu, -1, CLOSE_ON_EXEC)
        if opened < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "perf_event_open")
        return int(opened)

    return open_event
