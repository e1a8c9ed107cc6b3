"""Starting the process that runs Core ML; it never outlives the one that started it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import coreml_lab
from coreml_lab.errors import EngineUnavailable
from coreml_lab.run.native.arena import shared_folder

TEMPORARY = "tmp"


@dataclass(frozen=True)
class Started:
    """A worker process and what leads to it.

    Attributes:
        life: nothing is written to it: where it is closed, and at the latest when this process is
            gone, the worker's guard ends the worker, whatever it is at.
        folder: what is shared with it, and its temporary files.
        log: what it says on its standard error.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    life: io.FileIO
    folder: Path
    log: Path


def start(entry: str) -> Started:
    """A fresh interpreter that runs a worker module.

    Raises:
        EngineUnavailable: where the system has no process, file or room for it.
    """
    try:
        return _started(entry)
    except OSError as error:
        raise EngineUnavailable(
            f"the Core ML worker cannot be started: {error}",
            reason=f"its process cannot be started: {error}",
            hint="end programs that you do not need, and free space for temporary files",
        ) from error


def _started(entry: str) -> Started:
    with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
        folder = shared_folder()
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / TEMPORARY).mkdir()
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        always.callback(theirs.close)
        ending, life = os.pipe()
        always.callback(os.close, ending)
        held = io.FileIO(life, "w")
        undo.callback(held.close)
        log = folder / "stderr"
        process = _spawned(entry, theirs.fileno(), ending, folder, log)
        undo.pop_all()
    return Started(process, Connection(ours.detach()), held, folder, log)


def _spawned(entry: str, line: int, life: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """An interpreter in a session of its own: kernel interrupts do not reach it."""
    roots = [str(Path(coreml_lab.__file__).parents[1]), *filter(None, sys.path)]
    own = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(roots)),
        # What a compiler leaves that is ended goes with the folder.
        "TMPDIR": str(folder / TEMPORARY),
    }
    with log.open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
            [sys.executable, "-P", "-m", entry, str(line), str(folder), str(life)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(line, life),
            start_new_session=True,
            env={**os.environ, **own},
        )
