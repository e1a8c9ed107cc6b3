"""Energy counters for tests: made-up ones with every fault, and recorded ones played again.

Time passes in small steps (``Steps``), and whoever listens is called at each: that is what polls
a counter in a test, where the product has a thread.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_lab.clock import FakeClock
from coreml_lab.errors import ProbeError
from coreml_lab.measure.energy_watch import Watch
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Target
from coreml_lab.probes.counters import Domain, Growth, Opened, Reading, Scope, opened

MS = 1_000_000


@dataclass
class Steps(FakeClock):
    """A clock that moves in steps and tells its listeners."""

    step_ns: int = 5 * MS
    listeners: list[Callable[[], Any]] = field(default_factory=list)

    def advance(self, seconds: float) -> None:
        """Move forward, step by step."""
        end = self.t_ns + round(seconds * 1e9)
        while self.t_ns < end:
            self.t_ns = min(end, self.t_ns + self.step_ns)
            for listener in tuple(self.listeners):
                listener()

    @contextlib.contextmanager
    def polling(self, watch: Watch) -> Iterator[None]:
        """What keeps a watch polled in tests."""
        watch.poll()
        self.listeners.append(watch.poll)
        try:
            yield
        finally:
            self.listeners.remove(watch.poll)


@dataclass
class FakeSource:
    """One counter of a machine that draws ``watts()``.

    Attributes:
        period: seconds between publications; ``batches`` publishes at these times instead.
        quantum: joules per step of what is shown.
        wrap: joules after which it begins again at 0.
        stall_after, reset_at: seconds after which it stands still, or begins again.
        lag: seconds by which it is behind when it publishes.
        stamped: whether it tells when it published.
    """

    clock: Steps
    watts: Callable[[], float]
    name: str = "fake"
    group: str = "package"
    period: float = 0.1
    quantum: float = 1e-3
    wrap: float = math.inf
    stall_after: float = math.inf
    reset_at: float = math.inf
    fail_at: float = math.inf
    stamped: bool = False
    settle: float = 0.0
    provenance: Provenance = Provenance.MEASURED
    scope: Scope = Scope.PACKAGE
    within: str = ""
    always_draws: bool = False
    reason: str = ""
    note: str = ""
    true_joules: float = 0.0

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Begin to count."""
        del target
        self._growth = Growth(self.wrap)
        self._last_ns = self.clock.now_ns()
        self._shown, self._stamp = 0.0, self._last_ns
        self._base = 0.0
        self._next_ns = self._last_ns + round(self.period * 1e9)
        self.clock.listeners.insert(0, self._flow)
        domain = Domain(
            f"{self.group}/{self.name}",
            self.group,
            self.group,
            self.scope,
            self.provenance,
            "fake counter",
            unit="mJ",
            quantum=self.quantum,
            period=self.period,
            settle=self.settle,
            stamped=self.stamped,
            wrap=self.wrap,
            within=self.within,
            always_draws=self.always_draws,
            note=self.note,
            reason=self.reason,
        )
        return (domain,)

    def read(self, now_ns: int) -> Sequence[Reading]:
        """What is shown now."""
        if now_ns * 1e-9 >= self.fail_at:
            raise ProbeError("the counter is gone")
        shown = self._visible() if self.period == 0 else self._shown
        joules = self._growth.of(shown, now_ns)
        stamp = self._stamp if self.stamped else None
        return [Reading(f"{self.group}/{self.name}", joules, now_ns, stamp)]

    def _visible(self) -> float:
        counted = math.floor((self.true_joules - self._base) / self.quantum) * self.quantum
        return counted % self.wrap if math.isfinite(self.wrap) else counted

    def _flow(self) -> None:
        now = self.clock.now_ns()
        self.true_joules += self.watts() * (now - self._last_ns) * 1e-9
        self._last_ns = now
        if now * 1e-9 >= self.reset_at and self._base == 0:
            self._base = self.true_joules
        while self.period and now >= self._next_ns:
            if self._next_ns * 1e-9 < self.stall_after:
                self._shown, self._stamp = self._visible(), self._next_ns
            self._next_ns += round(self.period * 1e9)


@dataclass
class Machine:
    """A machine at work: idle watts, watts more while it works, and a clock."""

    clock: Steps = field(default_factory=Steps)
    base: Callable[[float], float] = lambda _: 2.0
    extra: float = 6.0
    call: float = 0.01
    busy: bool = False
    calls: int = 0
    stop_at: int | None = None

    def watts(self) -> float:
        """What it draws now."""
        return self.base(self.clock.now_ns() * 1e-9) + self.extra * self.busy

    def work(self) -> None:
        """One inference."""
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.busy = True
        self.clock.advance(self.call)
        self.busy = False

    def counter(self, **settings: Any) -> Opened:
        """A counter of it, opened."""
        return opened(FakeSource(self.clock, self.watts, **settings), Target(1))

    @property
    def joules(self) -> float:
        """What an inference truly takes above idle."""
        return self.extra * self.call


@dataclass
class Replay:
    """A recorded counter of one domain: lines ``{"t_ns": …, "joules": …, "published_ns": …}``."""

    path: Path
    domain: Domain
    name: str = "replay"

    def open(self, target: Target) -> tuple[Domain, ...]:
        """Read the recording."""
        del target
        lines = self.path.read_text(encoding="utf-8").splitlines()
        self._rows = [json.loads(line) for line in lines if not line.startswith("#")]
        self._growth = Growth(self.domain.wrap)
        return (self.domain,)

    def read(self, now_ns: int) -> Sequence[Reading]:
        """The last line that is not in the future."""
        row = self._rows[0]
        for later in self._rows:
            if later["t_ns"] > now_ns:
                break
            row = later
        joules = self._growth.of(row["joules"], now_ns)
        return [Reading(self.domain.name, joules, now_ns, row.get("published_ns"))]
