"""The sampler as the kernel sees it: a process that is started, read, and restarted when it dies.

``shared()`` reads the one sampler of this process; ``monitor()`` is the same as a stream.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import coreml_lab
from coreml_lab import config
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError, ProbeError
from coreml_lab.measure.backlog import Backlog
from coreml_lab.measure.framing import Decoder, Header, Tick
from coreml_lab.measure.monitor import Monitor
from coreml_lab.measure.sampling_process import BACKLOG_RECORDS, Orders
from coreml_lab.metrics import Provenance
from coreml_lab.probes.modelled import parse_watts
from coreml_lab.records import Incident, Sample
from coreml_lab.run.activity import ACTIVITY

SHORTEST, LONGEST = 0.01, 3600.0  # seconds between samples
MOST_FAILURES = 5  # starts in a row that gave no sample
START_TIMEOUT = 30.0
STOP_TIMEOUT = 2.0
BACKOFF = 0.1
NO_READING = "no reading at this moment"

# Started without site-packages, and ours after the standard library: fast, and nothing shadows it.
_BOOT = (
    "import sys; sys.path += sys.argv[2:]; "
    "from coreml_lab.measure.sampling_process import main; main(sys.argv[1])"
)

Process = subprocess.Popen[bytes]


def launch(orders: Orders) -> Process:
    """Start the sampling process; a session of its own keeps kernel interrupts away from it."""
    folders = [Path(coreml_lab.__file__).parent.parent]
    psutil = importlib.util.find_spec("psutil")
    if psutil is not None and psutil.origin is not None:
        folders.append(Path(psutil.origin).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", _BOOT, orders.to_json(), *map(str, folders)]
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


class Sampler:
    """Samples of a process and its machine, taken from outside it; an hour at 10 Hz is kept.

    Attributes:
        interval: seconds between samples.
    """

    def __init__(
        self,
        interval: float = 0.1,
        *,
        pid: int | None = None,
        core_watts: str = "2-8",
        clock: Clock = SYSTEM,
        report: Callable[[Incident], None] = ACTIVITY.report,
        start_process: Callable[[Orders], Process] = launch,
    ) -> None:
        if not SHORTEST <= interval <= LONGEST:
            raise InputError(
                f"interval={interval!r} is not a time between samples",
                hint=f"give seconds, from {SHORTEST:g} to {LONGEST:g}",
            )
        self.interval = float(interval)
        self.backlog = Backlog(BACKLOG_RECORDS)
        self._pid = pid
        self._watts = parse_watts(core_watts)
        self._clock = clock
        self._report = report
        self._start_process = start_process
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._process: Process | None = None
        self._thread: threading.Thread | None = None
        self._owner = 0
        self._own_reader: Reader | None = None

    @property
    def alive(self) -> bool:
        """Whether the sampling process runs."""
        return self.process_id is not None

    @property
    def process_id(self) -> int | None:
        """The sampling process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def failure(self) -> ProbeError | None:
        """Why no samples will come any more; None while they may."""
        return self.backlog.failure

    @property
    def header(self) -> Header:
        """What the columns are, as the sampling process tells it; waits for that.

        Raises:
            ProbeError: where it does not start.
        """
        return self.backlog.header(START_TIMEOUT)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a tick."""
        return tuple(channel.metric for channel in self.header.channels)

    @property
    def provenance(self) -> Mapping[str, tuple[Provenance, str]]:
        """How each column comes to be, and why where there is none."""
        return {c.metric: (c.provenance, c.note) for c in self.header.channels}

    def start(self) -> Sampler:
        """Start the sampling process; returns at once, the first tick comes an interval later.

        Raises:
            ProbeError: where no process can be started.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self
            self._owner = os.getpid()
            self._stopping.clear()
            self.backlog.fail(None)
            try:
                process = self._process = self._start_process(self._orders())
            except OSError as error:
                raise ProbeError(
                    f"the sampling process cannot be started: {error}",
                    hint="are there too many processes?",
                ) from error
            self._thread = threading.Thread(
                target=self._keep, args=(process,), name="coreml_lab sampler", daemon=True
            )
            self._thread.start()
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the sampling process; what was read stays readable."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or os.getpid() != self._owner:  # a forked copy owns nothing
                return
            self._stopping.set()
            process = self._process
        atexit.unregister(self.stop)
        if process is not None and process.stdin is not None:
            process.stdin.close()
        # The garbage collector may have called from the very thread that is to end.
        if thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)
            if thread.is_alive() and process is not None:
                process.kill()
                thread.join(STOP_TIMEOUT)
        self.backlog.fail(ProbeError("the sampler was stopped", hint="start it again: start()"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reader(self) -> Reader:
        """A reader of its own, beginning with the next tick."""
        return Reader(self)

    def read(self) -> list[Tick]:
        """The ticks since the last call; where several read, each takes a ``reader()``."""
        if self._own_reader is None:
            self._own_reader = Reader(self, since=0)
        return self._own_reader.read()

    def samples(self, tick: Tick) -> tuple[Sample, ...]:
        """A tick as rows, each with how it came to be."""
        return tuple(
            Sample(tick.t_ns, c.metric, value, Provenance.UNAVAILABLE, NO_READING)
            if value != value and c.provenance is not Provenance.UNAVAILABLE  # noqa: PLR0124 - NaN
            else Sample(tick.t_ns, c.metric, value, c.provenance, c.note)
            for c, value in zip(self.header.channels, tick.values, strict=True)
        )

    def _orders(self) -> Orders:
        pid = os.getpid() if self._pid is None else self._pid
        return Orders(pid, round(self.interval * 1e9), self._watts, os.getpid())

    def _keep(self, process: Process) -> None:
        """Take what comes; when the process dies, start another and say so."""
        failures = 0
        running: Process | None = process
        while running is not None:
            before = self.backlog.count
            why = self._drain(running)
            failures = 0 if self.backlog.count > before else failures + 1
            running = self._another(why, failures)

    def _drain(self, process: Process) -> str:
        """Keep records until the stream ends; how it ended."""
        decoder = Decoder()
        garbled = ""
        try:
            while data := _output(process):
                records = decoder.feed(data)
                if decoder.header is not None:
                    self.backlog.put(decoder.header, records)
        except (ValueError, KeyError, TypeError) as error:
            process.kill()
            garbled = f", having written what is not a sample ({error})"
        return bury(process) + garbled

    def _another(self, why: str, failures: int) -> Process | None:
        """Another process after one that died; None where it is not wanted, or does not help."""
        message = f"the sampling process ended: {why}"
        while failures < MOST_FAILURES:
            self._stopping.wait(BACKOFF * failures**2)
            with self._lock:
                if self._stopping.is_set():
                    return None
                try:
                    self._process = self._start_process(self._orders())
                except OSError as error:
                    failures, message = failures + 1, f"{message}; {error}"
                    continue
            self._tell(message, "restart", "restarted")
            return self._process
        hint = "close what keeps the machine busy, then open the monitor or dashboard again"
        gave_up = f"no samples after {MOST_FAILURES} starts"
        if not self._stopping.is_set():
            self.backlog.fail(ProbeError(f"{message}; {gave_up}", hint=hint))
            self._tell(message, "give up", gave_up)
        return None

    def _tell(self, message: str, action: str, outcome: str) -> None:
        self._report(Incident(self._clock.now_ns(), "SamplerDied", message, action, outcome))


def _output(process: Process) -> bytes:
    """The next piece of what it writes; empty at the end."""
    return process.stdout.read(1 << 16) if process.stdout is not None else b""


def bury(process: Process) -> str:
    """Wait for a process whose output has ended, close its pipes; how it ended, in words."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        code = process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    complaint = b""
    if process.stderr is not None:
        complaint = process.stderr.read().strip()
        process.stderr.close()
    if process.stdout is not None:
        process.stdout.close()
    last = complaint.splitlines()[-1].decode(errors="replace") if complaint else ""
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"{how}: {last}" if last else how


class Reader:
    """One user's place in a sampler's stream; several read the same sampler, each at its own pace.

    Attributes:
        lost: ticks that were forgotten before they were read: more than an hour's at 10 Hz.
        closed: whether the sampler was let go.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        since: int | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self.sampler = sampler
        self.lost = 0
        self.closed = False
        self._place = sampler.backlog.count if since is None else since
        # Also called when the reader is forgotten, or at exit.
        self._release = None if release is None else weakref.finalize(self, release)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a tick."""
        return self.sampler.columns

    @property
    def provenance(self) -> Mapping[str, tuple[Provenance, str]]:
        """How each column comes to be, and why where there is none."""
        return self.sampler.provenance

    @property
    def failure(self) -> ProbeError | None:
        """Why no samples will come any more; None while they may."""
        return self.sampler.failure

    def read(self) -> list[Tick]:
        """The ticks since the last call; does not wait."""
        ticks, self._place, lost = self.sampler.backlog.after(self._place)
        self.lost += lost
        return ticks

    def wait(self, timeout: float) -> bool:
        """Wait for a tick that was not read yet; False where none came in ``timeout`` seconds."""
        return self.sampler.backlog.wait(self._place, timeout)

    def samples(self, tick: Tick) -> tuple[Sample, ...]:
        """A tick as rows, each with how it came to be."""
        return self.sampler.samples(tick)

    def close(self) -> None:
        """Let the sampler go; the last user of a shared one stops it."""
        self.closed = True
        if self._release is not None:
            self._release()


class _Shared:
    """The samplers of this process that have users, by interval and estimate."""

    lock = threading.RLock()
    running: dict[tuple[float, str], Sampler] = {}  # noqa: RUF012 - the one registry
    users: dict[Sampler, int] = {}  # noqa: RUF012


def _after_fork() -> None:
    _Shared.lock, _Shared.running, _Shared.users = threading.RLock(), {}, {}


os.register_at_fork(after_in_child=_after_fork)


def shared(interval: float | None = None) -> Reader:
    """A reader of this process's own sampler, which runs while it has readers.

    Args:
        interval: seconds between samples, as configured where not given; each has its sampler.
    """
    settings = config.current()
    key = (settings.interval if interval is None else float(interval), settings.core_watts)
    with _Shared.lock:
        sampler = _Shared.running.get(key)
        if sampler is None or sampler.failure is not None:
            sampler = Sampler(key[0], core_watts=key[1]).start()
            _Shared.running[key] = sampler
        _Shared.users[sampler] = _Shared.users.get(sampler, 0) + 1
    return Reader(sampler, release=lambda: _release(key, sampler))


def _release(key: tuple[float, str], sampler: Sampler) -> None:
    with _Shared.lock:
        left = _Shared.users.pop(sampler, 1) - 1
        if left:
            _Shared.users[sampler] = left
            return
        if _Shared.running.get(key) is sampler:
            del _Shared.running[key]
    sampler.stop()


def monitor(interval: float | None = None) -> Monitor:
    """The live stream of samples, for ``for``, ``async for`` and ``with``.

    Args:
        interval: seconds between ticks; the configured 0.1 s where not given.
    """
    return Monitor(shared(interval))
