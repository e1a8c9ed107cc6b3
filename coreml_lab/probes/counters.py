"""What an energy counter is: its domain, how finely and how often it tells, and what it is worth.

Energy is in joules, as a number that only grows from when the counter was opened. A counter that
has not moved says nothing yet: it never stands for zero joules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes.protocol import NAN, Target

# Above it a machine slept, or the counter was reset: no one package or board draws as much.
MOST_WATTS = 2000.0
# What is published at once may have been gathered for this long, in seconds.
LONGEST_BATCH = 5.0
FIRMWARE = "modelled by firmware"


class Scope(StrEnum):
    """Whose energy a counter tells."""

    PROCESS = "process"
    DEVICE = "device"
    PACKAGE = "package"
    MACHINE = "machine"


@dataclass(frozen=True)
class Domain:
    """One counter, or the reason why there is none.

    Attributes:
        name: unique among all counters: ``gpu/0``, ``package/0``, ``ane/ANE0``.
        title: what a person calls it.
        group: counters of one group are shown as one row, added up: ``package``, ``gpu/0``.
        scope: whose energy it is.
        provenance: *measured* by a counter or sensor, or *estimated* by us.
        source: where it is read.
        unit: the counter's own.
        quantum: its smallest step, in joules.
        period: seconds between publications as documented; 0 where each reading is up to date.
        settle: seconds to rest before a reading, until what was done has been counted.
        stamped: whether readings carry the time at which they were published.
        wrap: joules after which it begins again at 0.
        watts: of an estimate from CPU time, what a busy core draws at least and at most.
        always_draws: whether it cannot stand still while there is work: one that does is not
            published.
        within: the group whose energy contains this one's; such a row is not added to a total.
        note: what to know about its numbers.
        reason: why there are none; empty where there are.
    """

    name: str
    title: str
    group: str
    scope: Scope
    provenance: Provenance
    source: str
    unit: str = "J"
    quantum: float = 0.0
    period: float = 0.0
    settle: float = 0.0
    stamped: bool = False
    wrap: float = math.inf
    watts: tuple[float, float] | None = None
    always_draws: bool = False
    within: str = ""
    note: str = ""
    reason: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be read."""
        return not self.reason


def absent(group: str, title: str, source: str, reason: str) -> Domain:
    """A counter that is not here, and why."""
    scope = Scope.DEVICE if group.startswith("gpu") else Scope.MACHINE
    return Domain(group, title, group, scope, Provenance.UNAVAILABLE, source, reason=reason)


@dataclass(frozen=True)
class Reading:
    """What a counter says.

    Attributes:
        joules: energy since it was opened; NaN where it was reset, or the machine slept.
        t_ns: when it was read.
        published_ns: when the driver says that the number was made; None where it does not.
        most: upper edge where the counter is an estimate, ``joules`` being the lower one.
    """

    domain: str
    joules: float
    t_ns: int
    published_ns: int | None = None
    most: float | None = None


class EnergySource(Protocol):
    """Reads some counters, again and again."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Find the counters; those that are not here have a reason.

        Raises:
            OSError: where the machine refuses.
            ProbeError: the same, with a reason of the source's own.
        """
        ...

    def read(self, now_ns: int) -> Sequence[Reading]:
        """One reading for each counter that is here, in the order of ``open``."""
        ...


@dataclass(frozen=True)
class Opened:
    """A source with the counters that can be read; ``missing`` are the others."""

    source: EnergySource
    domains: tuple[Domain, ...]
    missing: tuple[Domain, ...] = ()


def opened(source: EnergySource, target: Target) -> Opened:
    """Open a source; one that cannot be has a reason instead of counters."""
    try:
        found = source.open(target)
    except (OSError, ProbeError) as error:
        why = absent(source.name, source.name, source.name, reason(error))
        return Opened(source, (), (why,))
    here = tuple(d for d in found if d.available)
    return Opened(source, here, tuple(d for d in found if not d.available))


def reason(error: OSError | ProbeError) -> str:
    """Why something cannot be read, with what to do."""
    if isinstance(error, ProbeError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def only(found: Opened, groups: Iterable[str]) -> Opened:
    """The same source, of which only some groups count."""
    wanted = frozenset(groups)
    return replace(found, domains=tuple(d for d in found.domains if d.group in wanted))


class Growth:
    """Joules that only grow, from a counter that goes round, is reset, or jumps in a sleep.

    A reading after a jump is NaN once: what lies on its two sides cannot be compared.
    """

    def __init__(self, wrap: float = math.inf) -> None:
        self._wrap = wrap
        self._last = NAN
        self._moved_ns = 0
        self._grown = 0.0

    def of(self, joules: float, now_ns: int) -> float:
        """Energy since the first reading, in joules."""
        if self._last != self._last:
            self._last, self._moved_ns = joules, now_ns
            return self._grown
        step = joules - self._last
        if step == 0:
            return self._grown
        if step < 0:
            step += self._wrap
        passed = max((now_ns - self._moved_ns) * 1e-9, LONGEST_BATCH)
        self._last, self._moved_ns = joules, now_ns
        if step > MOST_WATTS * passed:  # infinite where a counter without an end went back
            return NAN
        self._grown += step
        return self._grown
