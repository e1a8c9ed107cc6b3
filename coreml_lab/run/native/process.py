"""The kernel's end of the Core ML worker: starts it, asks it, watches it and outlives it."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import coreml_lab
from coreml_lab.errors import (
    EngineCrashed,
    EngineError,
    EngineUnavailable,
    LabError,
    OutOfMemory,
    ProbeError,
    Timeout,
)
from coreml_lab.probes.process import memory
from coreml_lab.probes.protocol import NAN, Target
from coreml_lab.run.native import ENTRY
from coreml_lab.run.native.arena import Reader, Writer, shared_folder
from coreml_lab.run.native.messages import DropState, Failed, Forget, Ready, Reply, Request, Unload

SLICE = 0.1
# How long an interrupted prediction may take to end by itself; after that the worker is ended.
GRACE = 0.5
START = 120.0
FORGETTING = 60.0
# The sentence in the printed form of an NSError's dictionary.
DESCRIPTION = re.compile(r'NSLocalizedDescription = "(.*?)";', re.DOTALL)


@dataclass(frozen=True)
class Progress:
    """How far a long wait is: what is waited for, for how long, and what the worker holds.

    The last word has no stage.
    """

    stage: str
    seconds: float
    memory: float


def unheard(_: Progress) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Watch:
    """What is waited for and how far: 0 seconds or bytes mean no limit."""

    stage: str
    seconds: float = 0.0
    memory: float = 0.0
    brief: bool = False
    progress: Callable[[Progress], None] = unheard


class Link:
    """One worker process and the line to it; only the thread in ``Worker.session`` uses it."""

    def __init__(self, entry: str, generation: int) -> None:
        self.generation = generation
        self.folder = shared_folder()
        self.inputs = Writer(self.folder, "inputs")
        self.outputs = Reader()
        self._log = self.folder / "stderr"
        self._numbers = itertools.count(1)
        self._looked = False
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = _start(entry, theirs.fileno(), self.folder, self._log)
        self._connection = Connection(ours.detach())
        self.memory = _memory_of(self.process.pid)
        watch = Watch("starting", START)
        try:
            ready = self._guarded(0, watch)
        except BaseException:
            self.end()
            raise
        assert isinstance(ready, Ready)  # noqa: S101 - the first word is always this one
        self.ready = ready

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self.process.poll() is None

    def ask(self, request: Request, watch: Watch) -> Any:
        """The reply to a request.

        Raises:
            EngineCrashed: where the process is gone; the next session starts a new one.
            Timeout: where it took too long; the process is ended.
            OutOfMemory: where it held too much, likewise, or said so itself.
            EngineError: where Core ML refused.
        """
        number = self._post(request, watch)
        try:
            reply = self._guarded(number, watch)
        except KeyboardInterrupt:
            self._interrupted(number, watch)
            raise
        finally:
            if self._looked:
                self._looked = False
                watch.progress(Progress("", 0, 0))
        if isinstance(reply, Failed):
            raise _error(reply, watch)
        return reply

    def _post(self, request: Request, watch: Watch) -> int:
        number = next(self._numbers)
        try:
            self._connection.send((number, request))
        except OSError as error:
            raise self._crashed(watch) from error
        except BaseException:
            self.end()  # half a message was sent: the line is of no use any more
            raise
        return number

    def _guarded(self, number: int, watch: Watch) -> Reply:
        try:
            return self._reply(number, watch)
        except (EOFError, OSError) as error:
            raise self._crashed(watch) from error

    def _reply(self, number: int, watch: Watch) -> Reply:
        begin = time.monotonic()
        while True:
            if self._connection.poll(SLICE):
                found, reply = self._connection.recv()
                if found == number:
                    answer: Reply = reply
                    return answer
            else:
                self._look(time.monotonic() - begin, watch)

    def _look(self, seconds: float, watch: Watch) -> None:
        """End a worker that takes too long or holds too much."""
        (held, _), self._looked = self.memory(), True
        watch.progress(Progress(watch.stage, seconds, held))
        if watch.seconds and seconds > watch.seconds:
            self.end()
            raise Timeout(
                f"Core ML was still {watch.stage} after {seconds:.3g} s: its worker was ended",
                hint="cl.configure(worker_timeout=…, deadline=…) sets the limits; 0 means none",
            )
        if watch.memory and held > watch.memory:
            self.end()
            raise OutOfMemory(
                f"Core ML held {held / 2**30:.3g} GiB while {watch.stage}, more than the "
                f"{watch.memory / 2**30:.3g} GiB allowed: its worker was ended",
                hint="cl.configure(worker_memory=…), other compute units, or compressed weights",
            )

    def _interrupted(self, number: int, watch: Watch) -> None:
        """Pass over the reply of a short wait if it comes soon; else end the worker."""
        try:
            if watch.brief:
                self._reply(number, replace(watch, seconds=GRACE))
                return
        except (LabError, OSError, EOFError):
            pass
        except KeyboardInterrupt:
            pass  # asked twice: now, then
        self.end()

    def _crashed(self, watch: Watch) -> EngineCrashed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code, words = self.process.poll(), _last_line(self._log)
        self.end()
        return EngineCrashed(
            f"the Core ML worker {_ended(code)} while {watch.stage}" + (f": {words}" * bool(words)),
            hint="run it again: a new worker is started; cl.load(…, engine='portable') avoids it",
        )

    def end(self) -> None:
        """End the process and remove what was shared with it."""
        self.process.kill()
        self.process.wait()
        self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Worker:
    """A worker process at a time; where it is gone, a new one takes its place."""

    def __init__(self, entry: str) -> None:
        self._entry = entry
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._generations = itertools.count(1)
        # What was dropped since the last session, and when made: objects die in any thread.
        self._later: deque[tuple[int, Unload | DropState]] = deque()

    @contextlib.contextmanager
    def session(self) -> Iterator[Link]:
        """The line to a living worker, for one thread at a time.

        Raises:
            EngineUnavailable: where Core ML cannot be had on this machine.
            EngineCrashed: where the worker does not start.
        """
        with self._lock:
            link = self._current()
            if link.ready.refusal:
                raise EngineUnavailable(
                    f"Core ML cannot be used: {link.ready.refusal}",
                    reason=link.ready.refusal,
                    hint="cl.doctor() tells what works here",
                )
            if self._later:
                link = self._swept(link)
            yield link

    def _current(self) -> Link:
        if self._link is None or not self._link.alive:
            self.stop()
            self._link = Link(self._entry, next(self._generations))
        return self._link

    def _swept(self, link: Link) -> Link:
        """Let the worker forget what was dropped; one that dies of it is replaced."""
        waiting = [self._later.popleft() for _ in range(len(self._later))]
        dropped = tuple(what for generation, what in waiting if generation == link.generation)
        try:
            if dropped:
                link.ask(Forget(dropped), Watch("forgetting", FORGETTING))
        except EngineError:
            return self._current()
        return link

    def later(self, generation: int, dropped: Unload | DropState) -> None:
        """Let the worker of that generation forget something before the next request."""
        self._later.append((generation, dropped))

    @property
    def pid(self) -> int | None:
        """The process that is there now, if any."""
        link = self._link
        return link.process.pid if link is not None and link.alive else None

    def memory(self) -> tuple[float, float]:
        """The bytes its process holds, now and at most; NaN where there is none."""
        link = self._link
        return link.memory() if link is not None and link.alive else (NAN, NAN)

    def stop(self) -> None:
        """End the process; the next session starts another."""
        with self._lock:
            if self._link is not None:
                self._link.end()
            self._link = None


_WORKERS: dict[tuple[int, str], Worker] = {}


def worker(entry: str = ENTRY) -> Worker:
    """The worker that this process shares; one that was forked has its own."""
    return _WORKERS.setdefault((os.getpid(), entry), Worker(entry))


@atexit.register
def _stop_ours() -> None:
    for (pid, _), each in list(_WORKERS.items()):
        if pid == os.getpid():
            each.stop()


def _start(entry: str, descriptor: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A fresh interpreter in a session of its own: kernel interrupts do not reach it."""
    roots = [str(Path(coreml_lab.__file__).parents[1]), *filter(None, sys.path)]
    with log.open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
            [sys.executable, "-P", "-m", entry, str(descriptor), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(descriptor,),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(roots))},
        )


def _memory_of(pid: int) -> Callable[[], tuple[float, float]]:
    """What a process holds, in bytes, now and at most; NaN where the system does not tell."""
    try:
        reading = memory(Target(pid))
    except (ProbeError, OSError):
        return lambda: (NAN, NAN)

    def read() -> tuple[float, float]:
        try:
            return reading()
        except (ProbeError, OSError, ValueError):
            return NAN, NAN  # it ended meanwhile

    return read


def _ended(code: int | None) -> str:
    if code is None:
        return "closed its line"
    if code >= 0:
        return f"ended with status {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _last_line(log: Path) -> str:
    """What the process said last on its standard error."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return (fatal or lines or [""])[-1].strip()
    return ""


def _error(failed: Failed, watch: Watch) -> EngineError:
    if failed.kind == "memory":
        return OutOfMemory(
            f"Core ML ran out of memory while {watch.stage}: {failed.message}",
            hint="a smaller batch, or compressed weights",
        )
    described = DESCRIPTION.search(failed.message)
    return EngineError(
        f"Core ML, while {watch.stage}: {described[1] if described else failed.message}",
        hint="cl.load(…, engine='portable') runs it without Core ML",
    )
