"""Energy counters as columns of samples: power, energy so far, and how old the number is.

Between two publications the last power stands, and the age says for how long; a counter that has
not moved for much longer than it usually does gives no reading, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coreml_lab.errors import ProbeError
from coreml_lab.probes.counters import MOST_WATTS, Domain, EnergySource, Reading, opened
from coreml_lab.probes.protocol import NAN, Channel, Target, affordable, unavailable

# A counter that stood still for this many periods, and this many seconds, is stale.
STALE_PERIODS, STALE_SECONDS = 5.0, 10.0


@dataclass
class _Course:
    """What is known of a group of counters: they are added up where all have moved."""

    domains: tuple[Domain, ...]
    joules: float = NAN
    watts: float = NAN
    moved_ns: int = 0
    marks: dict[str, int | None] = field(default_factory=dict)

    def take(self, readings: Sequence[Reading], now_ns: int) -> tuple[float, float, float]:
        """Watts, joules and seconds since the last publication."""
        joules = sum(r.joules for r in readings)
        marks = {r.domain: r.published_ns for r in readings}
        stamps = [stamp for stamp in marks.values() if stamp is not None]
        at = max(stamps) if stamps else now_ns
        if self.joules != self.joules or joules != joules:  # noqa: PLR0124 - the first, or a reset
            self.watts, self.joules, self.moved_ns = NAN, joules, at
        elif joules != self.joules or marks != self.marks:
            self._move(joules, at)
        self.marks = marks
        age = max(0, now_ns - self.moved_ns) * 1e-9
        longest = max(STALE_SECONDS, STALE_PERIODS * max(d.period for d in self.domains))
        return (self.watts if age <= longest else NAN), self.joules, age

    def _move(self, joules: float, at: int) -> None:
        passed = (at - self.moved_ns) * 1e-9
        watts = (joules - self.joules) / passed if passed > 0 else NAN
        # Published, and no more than before: true of a part that rests, of others a broken counter.
        least = 1e-9 if self.domains[0].always_draws else 0.0
        self.watts = watts if least <= watts < MOST_WATTS else NAN
        self.joules, self.moved_ns = joules, at


class EnergyProbe:
    """The groups of one source that are shown live.

    Args:
        name: what people call it.
        make: makes the source, where it may be.
        groups: their names; those of a source that are not named are left out.
        period: seconds between readings; 0 means at every tick.
        always: groups that have columns even where nothing can be read, to say why.
        platforms: where it may be, as ``sys.platform``; everywhere where none is named. Elsewhere
            it has no columns at all.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], EnergySource],
        groups: Sequence[str],
        *,
        period: float = 0.0,
        always: Sequence[str] = (),
        platforms: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.period = period
        self._make = make
        self._groups = frozenset(groups)
        self._always = always
        self._platforms = tuple(platforms)
        self._source: EnergySource | None = None
        self._courses: dict[str, _Course] = {}
        self._nothing: tuple[float, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns that are there even where nothing can be read, to say why."""
        return tuple(name for part in self._always for name in columns(part)[:-1])

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Find the counters."""
        if self._platforms and not target.platform.startswith(self._platforms):
            return ()
        source = self._make()
        found = opened(source, target)
        if not found.domains:
            raise ProbeError(found.missing[0].reason if found.missing else "there is no counter")
        shown: dict[str, list[Domain]] = {}
        for domain in found.domains:
            if _kind(domain.group) in self._groups:
                shown.setdefault(domain.group, []).append(domain)
        self._courses = {group: _Course(tuple(domains)) for group, domains in shown.items()}
        kinds = {_kind(group) for group in shown}
        reasons = {_kind(d.group): d.reason for d in found.missing}
        lacking = [
            unavailable(name, reasons.get(part, f"{source.name} does not tell it here"))
            for part in self._always
            if part not in kinds
            for name in columns(part)[:-1]
        ]
        self._nothing = (NAN,) * len(lacking)
        self._source = source
        if self.period:
            self.period = affordable(self.period, lambda: source.read(0))
        return (*(c for group, d in shown.items() for c in _channels(group, d)), *lacking)

    def read(self, now_ns: int) -> Sequence[float]:
        """Watts, joules and age per group."""
        if self._source is None:
            return ()
        readings = self._source.read(now_ns)
        values: list[float] = []
        for course in self._courses.values():
            names = {d.name for d in course.domains}
            values += course.take([r for r in readings if r.domain in names], now_ns)
        return [*values, *self._nothing]


def columns(part: str) -> tuple[str, str, str]:
    """The metrics of one group: power, energy, age."""
    kind = "process" if part == "process" else "hw"
    end = "" if part == "process" else f".{part}"
    return f"{kind}.power{end}", f"{kind}.energy{end}", f"coreml_lab.energy.age.{part}"


def _kind(group: str) -> str:
    """``gpu`` of ``gpu/1``."""
    return group.partition("/")[0]


def _channels(part: str, domains: Sequence[Domain]) -> list[Channel]:
    first = domains[0]
    several = f", {len(domains)} counters" if len(domains) > 1 else ""
    note = f"{first.source}{several}; {first.note}" if first.note else f"{first.source}{several}"
    return [Channel(name, first.provenance, note) for name in columns(part)]
