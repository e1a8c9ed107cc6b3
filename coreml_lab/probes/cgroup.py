"""The container's memory limits: what Linux control groups (version 1 and 2) allow a process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from coreml_lab.probes.protocol import KeptFile, Target, read_text

_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number near 2**63
_STAT_EVERY_NS = (
    1_000_000_000  # memory.stat makes some kernels add up all cores: once a second is enough
)


@dataclass(frozen=True)
class _Version:
    limit: str
    usage: str
    inactive: bytes


_V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file")
_V2 = _Version("memory.max", "memory.current", b"inactive_file")


class MemoryLimits:
    """Every limit on a process, from its own control group up to the root; may be empty."""

    def __init__(self, target: Target) -> None:
        self._groups = list(_limited_groups(target)) if target.linux else []

    def __bool__(self) -> bool:
        return bool(self._groups)

    def read(self, now_ns: int) -> Iterator[tuple[float, float]]:
        """Bytes left and bytes allowed, for each limit."""
        for group in self._groups:
            yield group.left(now_ns), group.limit


class _Group:
    """One control group with a limit; file cache not in use counts as free, as on the machine."""

    def __init__(self, folder: str, version: _Version, limit: float) -> None:
        self.limit = limit
        self._key = version.inactive
        self._usage = KeptFile(os.path.join(folder, version.usage))  # noqa: PTH118
        self._stat = KeptFile(os.path.join(folder, "memory.stat"))  # noqa: PTH118
        self._inactive = 0.0
        self._stat_due_ns = 0

    def left(self, now_ns: int) -> float:
        """Bytes that can still be had."""
        if now_ns >= self._stat_due_ns:
            self._stat_due_ns = now_ns + _STAT_EVERY_NS
            self._inactive = _stat_value(self._stat.read(), self._key)
        used = max(0.0, float(self._usage.read()) - self._inactive)
        return max(0.0, self.limit - used)


def _stat_value(text: bytes, key: bytes) -> float:
    for line in text.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name == key:
            return float(value)
    return 0.0


def _limited_groups(target: Target) -> Iterator[_Group]:
    for folder, version in _folders(target):
        # Not every level has the file, or lets us read it: no limit is known from that one.
        with contextlib.suppress(OSError, ValueError):
            limit = float(read_text(os.path.join(folder, version.limit)))  # noqa: PTH118
            if limit < _UNLIMITED:
                yield _Group(folder, version, limit)


def _folders(target: Target) -> Iterator[tuple[str, _Version]]:
    """The folders of the process's control groups, lowest first.

    Inside a container the path may be the host's while only the container's own group is mounted,
    at the mount's root: so the walk goes all the way up.
    """
    try:
        lines = read_text(target.path("proc", str(target.pid), "cgroup")).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, version = target.path("sys", "fs", "cgroup"), _V2
        elif "memory" in controllers.split(","):
            mount, version = target.path("sys", "fs", "cgroup", "memory"), _V1
        else:
            continue
        parts = [part for part in path.split("/") if part not in {"", ".."}]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(mount, *parts[:depth]), version  # noqa: PTH118
