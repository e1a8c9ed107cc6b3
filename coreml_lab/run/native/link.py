"""The line to one process that runs Core ML: asks it, watches it, and ends it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coreml_lab.errors import EngineCrashed, EngineError, LabError, OutOfMemory, ProbeError, Timeout
from coreml_lab.probes.process import memory
from coreml_lab.probes.protocol import NAN, Target
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.native.arena import Reader, Writer
from coreml_lab.run.native.messages import Failed, Parcel, Ready, Reply, Request
from coreml_lab.run.native.start import TEMPORARY, start

SLICE = 0.1
# How long an interrupted prediction may take to end by itself; after that the worker is ended.
GRACE = 0.5
START = 120.0
# A prediction that had this share of its caller's time is too slow; one that had less came late.
FAIR = 0.9
# How long a process that was killed is waited for: one that a driver holds cannot be reaped.
REAP = 5.0
# The sentence in the printed form of an NSError's dictionary.
DESCRIPTION = re.compile(r'NSLocalizedDescription = "(.*?)";', re.DOTALL)
LIMITS = "cl.configure(worker_timeout=…, deadline=…) sets the limits; 0 means none"


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
    """What is waited for and how far: 0 seconds or bytes mean no limit.

    Attributes:
        brief: whether it is waited for a moment longer where it is interrupted.
        lasting: whether it goes on where a caller's time is over, so that the next one finds it
            done: else what takes longer than every deadline would begin anew for each of them.
    """

    stage: str
    seconds: float = 0.0
    memory: float = 0.0
    brief: bool = False
    progress: Callable[[Progress], None] = unheard
    lasting: bool = False


@dataclass(frozen=True)
class Errand:
    """A request that was sent, when, and who takes the reply."""

    number: int
    watch: Watch
    begin: float
    done: Callable[[Any], None]


def _nobody(_: Any) -> None:
    """Nobody takes it, or is told of it, but the one who asks."""


# Every line of this process, and of the one it was forked from.
_LINES: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """One worker process and the line to it; only the thread in ``Worker.session`` uses it.

    It is still starting when it is made: ``settle`` waits for it.
    """

    def __init__(self, entry: str, generation: int) -> None:
        self.generation = generation
        self.ready = Ready("")
        self._owner = os.getpid()
        self._parts = start(entry)
        self.process = self._parts.process
        self.folder = self._parts.folder
        _LINES.add(self)
        self.inputs = Writer(self.folder, "inputs")
        self.outputs = Reader()
        self._connection = self._parts.connection
        self._numbers = itertools.count(1)
        self._looked = False
        self.memory = _memory_of(self.process.pid)
        starting = Watch("starting", START, lasting=True)
        # What an earlier caller had no time to wait for: its reply comes first.
        self._open: Errand | None = Errand(0, starting, time.monotonic(), self._came)

    def _came(self, ready: Ready) -> None:
        self.ready = ready

    @property
    def alive(self) -> bool:
        """Whether the process is there, and this process's own: a forked child has none."""
        return self._owner == os.getpid() and self.process.poll() is None

    def put(self, batch: Iterable[Mapping[str, Any]]) -> Parcel:
        """Arrays where the worker can read them.

        Raises:
            EngineCrashed: where the folder for them was removed; the process is ended.
            EngineError: where the disk is full.
        """
        try:
            return self.inputs.put(batch)
        except FileNotFoundError as error:
            raise self._removed() from error
        except OSError as error:
            raise EngineError(
                f"the inputs cannot be handed to the Core ML worker: {error}",
                hint="free space in the folder for temporary files",
            ) from error

    def views(self, parcel: Parcel) -> list[dict[str, Any]]:
        """Arrays of the worker's, in the memory that both share.

        Raises:
            EngineCrashed: as ``put`` does.
        """
        try:
            return self.outputs.views(parcel)
        except FileNotFoundError as error:
            raise self._removed() from error

    def settle(self, limit: Limit = NO_LIMIT) -> None:
        """Wait for what an earlier caller had no time to wait for; a refusal was that one's.

        Raises:
            EngineError: as ``ask`` does.
        """
        if self._open is not None:
            errand, self._open = self._open, None
            self._awaited(errand, limit)

    def ask(
        self,
        request: Request,
        watch: Watch,
        limit: Limit = NO_LIMIT,
        done: Callable[[Any], None] = _nobody,
        refused: Callable[[Failed], None] = _nobody,
    ) -> Any:
        """The reply to a request.

        Args:
            request: what to do.
            watch: how long it may take, and how much the worker may hold.
            limit: how long the caller has time.
            done: takes the reply, too, and also one that comes when the caller is gone.
            refused: is told of a refusal before it is raised.

        Raises:
            EngineCrashed: where the process is gone, or the folder that it shares; the next session
                starts a new one.
            Timeout: where it took too long; the process is ended, unless the watch is lasting, or
                it was the waiting before that took the time.
            OutOfMemory: where it held too much, likewise, or said so itself.
            EngineError: where Core ML refused.
        """
        self.settle(limit)
        number = self._post(request, watch)
        reply = self._awaited(Errand(number, watch, time.monotonic(), done), limit)
        if isinstance(reply, Failed):
            refused(reply)
            # Cleaners of temporary files take old folders: without it each request fails.
            whole = (self.folder / TEMPORARY).is_dir()
            raise _error(reply, watch) if whole else self._removed()
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

    def _awaited(self, errand: Errand, limit: Limit) -> Reply:
        try:
            reply = self._reply(errand, limit)
        except (EOFError, OSError) as error:
            raise self._crashed(errand.watch) from error
        except KeyboardInterrupt:
            self._interrupted(errand)
            raise
        finally:
            if self._looked:
                self._looked = False
                errand.watch.progress(Progress("", 0, 0))
        if not isinstance(reply, Failed):
            errand.done(reply)
        return reply

    def _reply(self, errand: Errand, limit: Limit) -> Reply:
        while True:
            if self._connection.poll(min(SLICE, limit.left)):
                found, reply = self._connection.recv()
                if found == errand.number:
                    answer: Reply = reply
                    return answer
            else:
                self._look(errand, limit)

    def _look(self, errand: Errand, limit: Limit) -> None:
        """End a worker that takes too long or holds too much."""
        watch, seconds = errand.watch, time.monotonic() - errand.begin
        (held, _), self._looked = self.memory(), True
        watch.progress(Progress(watch.stage, seconds, held))
        if not (self.alive or self._connection.poll()):
            # Its end of the line may be open still, in a child that was forked as it was made.
            raise EOFError
        late = watch.brief and seconds < FAIR * limit.seconds
        if 0 < watch.seconds < seconds or (limit.over and not (watch.lasting or late)):
            self.end()
            told = f"Core ML was still {watch.stage} after {seconds:.3g} s: its worker was ended"
            raise Timeout(told, ended=True, hint=LIMITS)
        if 0 < watch.memory < held:
            self.end()
            raise OutOfMemory(
                f"Core ML held {held / 2**30:.3g} GiB while {watch.stage}, more than the "
                f"{watch.memory / 2**30:.3g} GiB allowed: its worker was ended",
                hint="cl.configure(worker_memory=…), other compute units, or compressed weights",
            )
        if limit.over:
            most = limit.seconds if late else watch.seconds
            self._open = replace(errand, watch=replace(watch, seconds=most))
            told = f"Core ML was still {watch.stage} when {limit.seconds:.3g} s were over"
            raise Timeout(f"{told}: it goes on, and the next run waits for it", hint=LIMITS)

    def _interrupted(self, errand: Errand) -> None:
        """Pass over the reply of a short wait if it comes soon; else end the worker."""
        try:
            if errand.watch.brief:
                watch = replace(errand.watch, seconds=GRACE)
                self._reply(replace(errand, watch=watch, begin=time.monotonic()), NO_LIMIT)
                return
        except (LabError, OSError, EOFError):
            pass
        except KeyboardInterrupt:
            pass  # asked twice: now, then
        self.end()

    def _crashed(self, watch: Watch) -> EngineCrashed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(REAP)
        code, words = self.process.poll(), _last_line(self._parts.log)
        self.end()
        return EngineCrashed(
            f"the Core ML worker {_ended(code)} while {watch.stage}" + (f": {words}" * bool(words)),
            hint="run it again: a new worker is started; cl.load(…, engine='portable') avoids it",
        )

    def _removed(self) -> EngineCrashed:
        self.end()
        return EngineCrashed(
            f"the folder shared with the Core ML worker was removed: {self.folder}",
            hint="run it again: a new worker is started; leave coreml-lab-* to itself where "
            "temporary files are cleaned away",
        )

    def end(self) -> None:
        """End the process and remove what was shared with it."""
        self.kill()
        self._close()

    def kill(self) -> None:
        """``end``, but for the line: another thread may be waiting at it."""
        if self._owner != os.getpid():
            return  # it serves the process that this one was forked from
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(REAP)
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self) -> None:
        """Let go of another process's worker: an end kept here would hide that one's death."""
        self.process.returncode = 0  # it is no child of ours, and nothing to wait for
        self._close()

    def _close(self) -> None:
        self._connection.close()
        self._parts.life.close()


def _leave_all() -> None:
    for each in list(_LINES):
        each.leave()


os.register_at_fork(after_in_child=_leave_all)


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
