"""A sampler, a shell and a pump for tests: nothing here waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from coreml_lab.clock import FakeClock
from coreml_lab.metrics import Provenance
from coreml_lab.run.activity import Activity
from coreml_lab.widgets.cells import Cells
from coreml_lab.widgets.feed import Feed
from coreml_lab.widgets.pump import EXECUTOR, Pump

COLUMNS = (
    "process.cpu.cores",
    "system.cpu.core/0",
    "coreml_lab.power.cpu.low",
    "coreml_lab.power.cpu.high",
    "hw.power.package",
)
PROVENANCE = {
    "process.cpu.cores": (Provenance.MEASURED, "this process"),
    "system.cpu.core/0": (Provenance.MEASURED, ""),
    "coreml_lab.power.cpu.low": (Provenance.ESTIMATED, "2 to 8 W per busy core"),
    "coreml_lab.power.cpu.high": (Provenance.ESTIMATED, "2 to 8 W per busy core"),
    "hw.power.package": (Provenance.UNAVAILABLE, "no counter here"),
}


@dataclass
class FakeSource:
    """A sampler that gives what it was handed."""

    columns: tuple[str, ...] = COLUMNS
    provenance: dict = field(default_factory=lambda: dict(PROVENANCE))
    ticks: list = field(default_factory=list)
    closed: bool = False
    broken: bool = False

    def put(self, t_ns, *values):
        given = values or (0.5, 0.4, 1.0, 4.0, float("nan"))
        self.ticks.append(SimpleNamespace(t_ns=t_ns, values=given))

    def read(self):
        if self.broken:
            raise OSError("the pipe is gone")
        ticks, self.ticks = self.ticks, []
        return ticks

    def wait(self, timeout):
        return bool(self.ticks)

    def close(self):
        self.closed = True


class FakeEvents:
    """IPython's event registry, as far as it is used."""

    def __init__(self):
        self.callbacks = {"pre_run_cell": [], "post_run_cell": []}

    def register(self, name, callback):
        self.callbacks[name].append(callback)

    def unregister(self, name, callback):
        self.callbacks[name].remove(callback)

    def trigger(self, name, argument):
        for callback in tuple(self.callbacks[name]):
            callback(argument)


class FakeShell:
    """An IPython shell that runs cells of nothing."""

    def __init__(self):
        self.events = FakeEvents()
        self.user_ns = {"In": [""]}

    def begin(self, source, *, store_history=True):
        info = SimpleNamespace(raw_cell=source, store_history=store_history)
        self.events.trigger("pre_run_cell", info)
        if store_history:
            self.user_ns["In"].append(source)

    def finish(self, *, success=True):
        self.events.trigger("post_run_cell", SimpleNamespace(success=success))


@dataclass
class Bench:
    """A pump with everything it reads, and what it sent."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(t_ns=10**12))
    source: FakeSource = field(default_factory=FakeSource)
    activity: Activity = field(default_factory=Activity)
    sent: list = field(default_factory=list)
    refuse: bool = False

    def __post_init__(self):
        self.cells = Cells(self.clock)
        self.feed = Feed((*COLUMNS, *EXECUTOR), capacity=1000)
        self.pump = Pump(
            self.source, self.feed, self.activity, self.cells, self.send, clock=self.clock
        )

    def send(self, header, buffers):
        if self.refuse:
            raise ConnectionError("closed")
        self.sent.append((header, buffers))

    def tick(self, seconds=0.1):
        """Time passes, a sample is taken, the pump takes a step."""
        self.clock.advance(seconds)
        self.source.put(self.clock.now_ns())
        self.pump.step()

    def finish(self, seconds, count=1):
        """Inferences that took ``seconds`` each finish now."""
        took = round(seconds * 1e9)
        for _ in range(count):
            self.activity.finished.append((self.clock.now_ns() - took, took))
            self.activity.total += 1
