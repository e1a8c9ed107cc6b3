"""Processes around the Core ML worker: forks, exits, and what is left behind: nothing."""

from __future__ import annotations

import errno
import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineCrashed, EngineError, EngineUnavailable, Timeout
from coreml_lab.program.graph import Dim
from coreml_lab.run.native.process import Worker
from tests.support.native import Double
from tests.support.sampling import until

pytestmark = [
    pytest.mark.slow,  # a new worker imports coremltools: seconds
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

ROOT = Path(cl.__file__).parents[1]
SMALL = {"x": np.ones(10, np.float32)}
LARGE = {"x": np.ones(1 << 20, np.float32)}
# Another kernel, whose worker hangs in a prediction.
KERNEL = """
import os, sys, threading, time
from pathlib import Path
import numpy as np
import coreml_lab as cl
from coreml_lab.run import compiler
from tests.support.native import Double

double = Double(Path(os.environ["SEAM_DOUBLE"]))
portable = compiler.engines
compiler.engines = lambda: (double.engine(), *portable()[1:])
x = {"x": np.ones(3, np.float32)}
model = cl.compile(lambda x: {"y": cl.ops.mul(x, 2.0)}, x=cl.spec(3), engine="coreml")
model.predict(x)
double.fail("predict-hang")
threading.Thread(target=model.predict, args=(x,), daemon=True).start()
while double.pending:
    time.sleep(0.05)
print(double.worker.pid, double.worker._link.folder, flush=True)
"""
LEAVE = "sys.exit()"
# It is ended from outside, while a child that it forked goes on.
STAY = """
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""


def compiled() -> Any:
    flexible = cl.spec(Dim("n", 1, 1 << 21))
    return cl.compile(lambda x: {"y": cl.ops.mul(x, 2.0)}, x=flexible, engine="coreml")


def works(model: Any, inputs: dict[str, Any] = SMALL) -> None:
    np.testing.assert_array_equal(model.predict(inputs)["y"], inputs["x"] * 2)


def in_child(work: Callable[[], Any], seconds: float = 120.0) -> int:
    """What the work comes to in a forked child: 0 for done, -1 where it never ends."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - its parent is told
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def gone(pid: int) -> bool:
    """Whether a process is there no more; one that nobody has reaped is gone, too."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return told.strip()[:1] in {"", "Z"}


def kernel(tmp_path: Path, ending: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "SEAM_DOUBLE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KERNEL + ending]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> list[str]:
    """A line that another kernel says."""
    assert process.stdout is not None
    return process.stdout.readline().split()


def test_a_forked_child_that_predicts_leaves_its_parents_worker_alone(mac: Double) -> None:
    model = compiled()
    works(model)
    link = mac.worker._link
    assert link is not None
    assert in_child(lambda: works(model)) == 0
    assert link.folder.is_dir()
    for inputs in (SMALL, LARGE, SMALL):
        works(model, inputs)
    assert mac.worker._link is link


def test_a_child_that_is_forked_while_another_thread_predicts_is_not_held_up(mac: Double) -> None:
    model = compiled()
    works(model)
    before = len(mac.calls("predict"))
    mac.fail("predict-slow")
    other = threading.Thread(target=works, args=(model,))
    other.start()
    until(lambda: len(mac.calls("predict")) > before)
    assert in_child(lambda: works(model)) == 0
    other.join()
    works(model)


def test_a_child_has_no_end_of_its_parents_line(mac: Double) -> None:
    works(compiled())
    link = mac.worker._link
    assert link is not None
    line, life = link._connection, link._parts.life
    assert (line.closed, life.closed) == (False, False)

    def look() -> None:
        assert line.closed
        assert life.closed
        assert (mac.worker.pid, mac.worker.generation) == (None, 0)
        mac.worker.stop()

    assert in_child(look) == 0
    assert link.alive
    assert link.folder.is_dir()


def test_what_is_compiled_without_a_cache_stays_when_a_child_lets_go_of_it(double: Double) -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(3), engine="portable")
    loaded = [double.engine().load(model.program, "coreml:0", model.options)]
    folder = Path(loaded[0]._home.compiled(None)).parent

    home = weakref.ref(loaded[0]._home)

    def let_go() -> None:
        loaded.clear()
        assert home() is None

    assert in_child(let_go) == 0
    assert folder.is_dir()


def test_the_interpreter_exits_while_a_daemon_thread_is_in_a_prediction_that_hangs(
    tmp_path: Path,
) -> None:
    with kernel(tmp_path, LEAVE) as process:
        pid, folder = told(process)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
    until(lambda: gone(int(pid)))
    assert not Path(folder).exists()


def test_a_worker_that_hangs_is_ended_when_its_kernel_is_killed(tmp_path: Path) -> None:
    with kernel(tmp_path, STAY) as process:
        pid, folder = told(process)
        (child,) = told(process)
        process.kill()
    try:
        until(lambda: gone(int(pid)))
        until(lambda: not Path(folder).exists())
        assert not gone(int(child))
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_guard_ends_its_own_process_group_only(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    watched = [
        "import sys, time; from pathlib import Path; from coreml_lab.run.worker import guarded"
    ]
    watched += ["guarded(int(sys.argv[1]), Path(sys.argv[2])); print('guarded', flush=True)"]
    watched += ["time.sleep(600)"]
    ending, life = os.pipe()
    command = [sys.executable, "-c", "; ".join(watched), str(ending), str(folder)]
    with subprocess.Popen(
        command, pass_fds=(ending,), start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as process:
        assert told(process) == ["guarded"]
        os.close(ending)
        assert process.poll() is None
        os.close(life)
        assert process.wait(30) == -signal.SIGKILL
    assert not folder.exists()


def test_a_worker_that_cannot_be_started_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    open_files = lambda: len(list(Path("/dev/fd").iterdir()))  # noqa: E731 - one line
    gc.collect()
    before = open_files()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for _ in range(3):
        with (
            pytest.raises(EngineUnavailable, match=r"cannot be started: .*unavailable"),
            Worker("absent").session(),
        ):
            pass
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert open_files() <= before


def test_a_worker_that_refuses_is_not_kept(mac: Double) -> None:
    refusing = Worker("coreml_lab.run.worker")
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="no native part"), refusing.session():
            pass
        assert refusing.pid is None
    assert refusing._link is None
    refusing.stop()
    assert refusing._refusal == ""


def test_what_a_compiler_leaves_goes_with_the_worker_that_is_ended(
    mac: Double, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works(compiled())
    cl.cache().clear()
    mac.worker.stop()
    shared = tmp_path / "temporary"
    shared.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    monkeypatch.setenv("TMPDIR", str(shared))
    mac.fail("compiled-hang")
    with cl.configure(worker_timeout=6.0), pytest.raises(Timeout, match="still compiling"):
        compiled()
    (made,) = mac.calls("compiled")[-1]
    assert not Path(made).exists()
    assert [f for f in shared.rglob("*") if f.suffix == ".mlmodelc"] == []
    mac.worker.stop()


def test_a_full_disk_is_one_error_and_what_was_begun_makes_room_again(mac: Double) -> None:
    model = compiled()
    works(model)
    link = mac.worker._link
    assert link is not None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        for _ in range(3):
            with pytest.raises(EngineError, match=r"cannot be handed .* too large"):
                model.predict(LARGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [f for f in link.folder.iterdir() if f.name.startswith("inputs")] == []
    for inputs in (SMALL, LARGE):
        works(model, inputs)


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_a_worker_whose_folder_was_cleaned_away_is_replaced(mac: Double, part: str) -> None:
    cl.configure(recover=True)
    mac.worker.stop()  # a new one has little room
    model = compiled()
    works(model)
    link, before = mac.worker._link, mac.worker.pid
    assert link is not None
    if part == "outputs":  # the inputs have room in a file that both hold already
        link.inputs._room(8 * LARGE["x"].nbytes)
    shutil.rmtree(link.folder)
    works(model, LARGE)
    assert [(i.error, i.action, i.outcome) for i in model.incidents] == [
        ("EngineCrashed", "Restart", "recovered")
    ]
    assert "folder shared with the Core ML worker was removed" in model.incidents[0].message
    assert mac.worker.pid not in (None, before)


def test_results_in_a_folder_that_is_gone_are_one_error(
    mac: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = compiled()
    link = mac.worker._link
    assert link is not None

    def gone(_: Any) -> Any:
        raise FileNotFoundError(errno.ENOENT, "no such file")

    monkeypatch.setattr(link.outputs, "views", gone)
    with pytest.raises(EngineCrashed, match="was removed") as caught:
        model.predict(SMALL)
    assert "a new worker is started" in caught.value.hint
    works(model)
