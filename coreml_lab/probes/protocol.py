"""What a probe is: it reads one part of the machine and says what its numbers are worth."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coreml_lab.metrics import Provenance

NAN = math.nan
_ENOUGH = 1 << 16
# What the readings of one slow source may take of a core, unless they became too rare to watch.
SHARE_OF_A_CORE, LONGEST_PERIOD = 0.0015, 5.0


@dataclass(frozen=True)
class Target:
    """What to watch: one process, and the machine it runs on.

    Attributes:
        pid: the process; its children are not counted.
        core_watts: lower and upper bound of what a busy core draws, for the estimate.
        root: the folder that stands for ``/``; tests put a made-up machine there.
        platform: as ``sys.platform``.
    """

    pid: int
    core_watts: tuple[float, float] = (2.0, 8.0)
    root: str = "/"
    platform: str = sys.platform

    @property
    def linux(self) -> bool:
        """Whether the machine tells about itself in ``/proc`` and ``/sys``."""
        return self.platform.startswith("linux")

    def path(self, *parts: str) -> str:
        """A path on the watched machine."""
        return os.path.join(self.root, *parts)  # noqa: PTH118 - pathlib doubles the sampler's start


@dataclass(frozen=True)
class Channel:
    """One column of samples: its metric, how its numbers come to be, and why there are none."""

    metric: str
    provenance: Provenance
    note: str = ""


class Probe(Protocol):
    """Reads one part of the machine, again and again."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names it gives, known before it is opened."""
        ...

    @property
    def period(self) -> float:
        """Seconds between readings; 0 means at every tick."""
        ...

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the sensors; the columns that ``read`` will fill, in order.

        Raises:
            OSError: where the machine refuses; every metric is then unavailable for that reason.
            ProbeError: the same, with a reason of the probe's own.
        """
        ...

    def read(self, now_ns: int) -> Sequence[float]:
        """One value per column, NaN where there is none; differences are since the last call."""
        ...


def measured(metric: str, note: str = "") -> Channel:
    """A column that comes from a counter or sensor."""
    return Channel(metric, Provenance.MEASURED, note)


def unavailable(metric: str, reason: str) -> Channel:
    """A column that stays empty, and why."""
    return Channel(metric, Provenance.UNAVAILABLE, reason)


class KeptFile:
    """A file of the operating system's, kept open and read from its start each time."""

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        """What it says now."""
        return os.pread(self.descriptor, _ENOUGH, 0)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def read_text(path: str) -> str:
    """The whole of a small file, without white space around it."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib doubles the sampler's start
        return file.read().strip()


def affordable(period: float, read: Callable[[], object]) -> float:
    """Seconds between readings that take little of a core, as one reading shows; at least a period.

    A call into a driver can take milliseconds of it: 3 ms for the energy counter of an H200.
    """
    before = time.process_time()
    read()
    cost = time.process_time() - before
    return max(period, min(LONGEST_PERIOD, cost / SHARE_OF_A_CORE))


class Rate:
    """How fast a counter grows per second, since it was last asked (NaN the first time)."""

    def __init__(self) -> None:
        self._value = NAN
        self._t_ns = 0

    def of(self, value: float, now_ns: int) -> float:
        """Growth per second; NaN where time stood still or the counter went back."""
        grown, passed = value - self._value, (now_ns - self._t_ns) * 1e-9
        self._value, self._t_ns = value, now_ns
        return grown / passed if passed > 0 and grown >= 0 else NAN
