"""Energy of an Apple chip's parts: the channels of IOReport's group "Energy Model".

A private interface, called through ctypes as macOS' own tools do, without privilege. What is known
of it (XNU's ``IOReportTypes.h``; all-smi #410, #412, #424; zeus-apple-silicon; macmon):

* Channels are matched by their exact names: adding up what merely contains "CPU" counts cores and
  clusters twice. Each names its own unit.
* ``RawElements`` of a channel carries at offset 24 the time, in ticks, at which the driver made the
  number. On macOS 27 those of CPU, Neural Engine and memory come in batches some 2.1 s apart.
* The group can be absent (virtual machines): the call then gives NULL, and using that ends the
  process. So a child process tries first (``safely``).

The numbers are a model in the chip's firmware. The layout is written against the documented
interface and tested on a double; it has not been seen on a Mac by its authors.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import FIRMWARE, Domain, Growth, Reading, Scope
from coreml_lab.probes.ioreport_calls import Subscription, Value
from coreml_lab.probes.protocol import Target

SOURCE = "IOReport, Energy Model"
UNITS = {"mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9}
# macOS 27 publishes what is counted in millijoules about this often.
BATCH = 2.1
TRIAL_SECONDS = 20.0
# CPU and memory never draw nothing (mactop's own test); GPU and Neural Engine do when they rest.
ALWAYS_DRAW = frozenset({"cpu", "dram"})
SILENT = {"ane": "; on an M5 with macOS 27 it was seen to stay at 0 in use (mactop #72)"}

# Group, title, and the names of its channels from coarse to fine: only one level is counted.
_LEVELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("cpu", "CPU of the chip", (r"CPU Energy", r"DIE_\d+_CPU Energy")),
    ("gpu", "GPU of the chip", (r"GPU Energy", r"DIE_\d+_GPU Energy")),
    ("ane", "Neural Engine", (r"ANE", r"ANE\d+", r"ANE\d+_\d+")),
    ("dram", "memory", (r"DRAM", r"DRAM\d+", r"DRAM\d+_\d+")),
)


class Reports(Protocol):
    """A subscription to the group."""

    def sample(self) -> Sequence[Value]:
        """Every channel's value now, always in the same order."""
        ...


Subscribe = Callable[[], Reports]


def subscribe() -> Reports:
    """The group of this Mac."""
    return Subscription()


def safely(subscribe_in: str = "coreml_lab.probes.ioreport") -> None:
    """Let a child process read the counters once: a crash there is a reason here.

    Raises:
        ProbeError: where it fails, crashes or does not end.
    """
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.append({root!r}); from {subscribe_in} import trial; trial()"
    command = [sys.executable, "-I", "-S", "-c", code]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, our own interpreter
            command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProbeError(f"the process that tried IOReport failed: {error}") from error
    if done.returncode < 0:
        raise ProbeError(f"IOReport ended the process that tried it (signal {-done.returncode})")
    if done.returncode:
        told = done.stderr.strip().splitlines()
        raise ProbeError(told[-1] if told else "IOReport cannot be read")


def trial() -> None:
    """What the child does: subscribe, read, print what is there."""
    try:
        print(json.dumps([value.name for value in subscribe().sample()]))  # noqa: T201 - its result
    except ProbeError as error:
        raise SystemExit(error.message) from error


class IOReportSource:
    """CPU, GPU, Neural Engine and memory of an Apple chip, for all processes."""

    name = "IOReport"

    def __init__(
        self, subscribe: Subscribe = subscribe, trial: Callable[[], None] = safely
    ) -> None:
        self._subscribe = subscribe
        self._trial = trial
        self._counters: list[tuple[int, Domain, float, Growth]] = []
        self._count = 0

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Find the channels; a part of the chip that has none is missing, with the reason."""
        if target.platform != "darwin":
            raise ProbeError("IOReport is a part of macOS")
        self._trial()
        self._reports = self._subscribe()
        values = self._reports.sample()
        self._count = len(values)
        found: list[Domain] = []
        self._counters = []
        for group, title, levels in _LEVELS:
            places = _level(values, levels)
            if not places:
                found.append(_none(group, title))
            for number, place in enumerate(places):
                domain = _domain(group, title, values[place], number)
                found.append(domain)
                if domain.available:
                    factor = UNITS[values[place].unit]
                    self._counters.append((place, domain, factor, Growth()))
        return tuple(found)

    def read(self, now_ns: int) -> Sequence[Reading]:
        """One reading per channel that is counted."""
        values = self._reports.sample()
        if len(values) != self._count:
            raise ProbeError("IOReport's channels have changed")
        return [
            Reading(
                domain.name,
                growth.of(values[place].amount * factor, now_ns),
                now_ns,
                values[place].published_ns,
            )
            for place, domain, factor, growth in self._counters
        ]


def _level(values: Sequence[Value], levels: Sequence[str]) -> list[int]:
    """Places of the channels of the coarsest level there is: the finer ones are its parts."""
    for pattern in levels:
        found = [i for i, value in enumerate(values) if re.fullmatch(pattern, value.name)]
        if found:
            return found
    return []


def _domain(group: str, title: str, value: Value, number: int) -> Domain:
    unit = UNITS.get(value.unit)
    fine = unit is not None and unit < 1e-6  # noqa: PLR2004 - nJ: made when it is asked for
    return Domain(
        f"{group}/{value.name}/{number}",
        title,
        group,
        Scope.MACHINE if group == "dram" else Scope.DEVICE,
        Provenance.MEASURED if unit else Provenance.UNAVAILABLE,
        f"{SOURCE}: {value.name}",
        unit=value.unit,
        quantum=unit or 0.0,
        period=0.0 if fine else BATCH,
        stamped=value.published_ns is not None,
        always_draws=group in ALWAYS_DRAW,
        note=f"{FIRMWARE}; all processes" + SILENT.get(group, ""),
        reason="" if unit else f"channel {value.name} counts in {value.unit!r}, an unknown unit",
    )


def _none(group: str, title: str) -> Domain:
    return Domain(
        group,
        title,
        group,
        Scope.DEVICE,
        Provenance.UNAVAILABLE,
        SOURCE,
        reason=f"macOS has no channel for it ({', '.join(_names(group))})",
    )


def _names(group: str) -> Iterator[str]:
    for name, _, levels in _LEVELS:
        if name == group:
            yield from (level.replace(r"\d+", "0") for level in levels)
