"""Machines made of files, for probes to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coreml_lab.probes import Probe, Target

SECOND = 1_000_000_000
NOBODY = (1 << 22) - 1  # above the largest process number in use


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """A folder tree that stands for a machine; existing files keep their identity."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def target(root: Path, platform: str = "linux", pid: int = 7) -> Target:
    return Target(pid, root=str(root), platform=platform)


def values(probe: Probe, now_ns: int) -> dict[str, float]:
    return dict(zip(probe.metrics, probe.read(now_ns), strict=True))


STATUS = "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
STAT = "7 (a) odd) name) S 1 7 7 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 3 0 100 0 0"


def stat(user: int, system: int) -> str:
    return STAT.format(user=user, system=system)
