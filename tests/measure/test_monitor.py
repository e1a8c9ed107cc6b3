"""Sharing one sampler, and the stream of samples for people."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import coreml_lab as cl
from coreml_lab.errors import ProbeError
from coreml_lab.measure.framing import Tick
from coreml_lab.measure.monitor import Monitor
from coreml_lab.measure.sampler import shared
from coreml_lab.records import Sample
from tests.support.loops import finished
from tests.support.sampling import PATIENCE, until


def test_all_users_of_an_interval_share_one_process_until_the_last_lets_go():
    one, other = shared(0.05), shared(0.05)
    try:
        assert one.sampler is other.sampler
        assert one.wait(PATIENCE)
        assert one.failure is None
        one.close()
        one.close()
        assert other.sampler.alive
    finally:
        one.close()
        other.close()
    assert not other.sampler.alive
    fresh = shared(0.05)
    assert fresh.sampler is not other.sampler
    fresh.close()


def test_a_forgotten_reader_lets_the_sampler_go():
    reader = shared(0.05)
    sampler = reader.sampler
    del reader
    gc.collect()
    assert not sampler.alive


def test_the_sampling_process_ends_with_a_kernel_that_is_killed():
    code = (
        "from coreml_lab.measure.sampler import shared; import time;"
        "r = shared(0.05); print(r.sampler.process_id, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as kernel:
        assert kernel.stdout is not None
        pid = int(kernel.stdout.readline())
        kernel.kill()
    until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # where nobody collects orphans they stay as zombies
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_forked_copy_of_the_kernel_has_a_sampler_of_its_own_and_leaves_ours_alone():
    code = (
        "import os; from coreml_lab.measure.sampler import shared\n"
        "ours = shared(0.05)\n"
        "if os.fork() == 0:\n"
        "    theirs = shared(0.05)\n"
        "    good = theirs.sampler is not ours.sampler and theirs.wait(30)\n"
        "    ours.close(); ours.sampler.stop(); theirs.close()\n"
        "    os._exit(0 if good else 1)\n"
        "status = os.waitstatus_to_exitcode(os.wait()[1])\n"
        "ours.read(); raise SystemExit(status if ours.wait(30) else 2)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False, timeout=90)
    assert done.returncode == 0


def test_a_kernel_that_exits_normally_leaves_neither_process_nor_complaint():
    code = (
        "from coreml_lab.measure.sampler import shared;"
        "r = shared(0.05); r.wait(30); print(r.sampler.process_id)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=True, text=True
    )
    assert done.stderr == ""
    until(lambda: not _runs(int(done.stdout)))


def test_the_monitor_gives_every_metric_of_a_tick_then_the_next_tick():
    with cl.monitor(0.05) as stream:
        first = next(stream)
        width = len(stream.columns)
        rest = [next(stream) for _ in range(2 * width - 1)]
    rows = [first, *rest]
    assert all(isinstance(row, Sample) for row in rows)
    assert [r.metric for r in rows[:width]] == [r.metric for r in rows[width:]]
    assert len({r.t_ns for r in rows[:width]}) == 1
    assert rows[width].t_ns > first.t_ns


def test_a_whole_tick_can_be_had_at_once():
    with cl.monitor(0.05) as stream:
        tick = stream.tick()
        assert [s.metric for s in tick] == list(stream.columns)
        next(stream)
        assert len(stream.tick()) == len(stream.columns) - 1  # what is left of the tick begun
    with pytest.raises(ProbeError, match="closed"):
        stream.tick()


def test_the_monitor_ends_when_it_is_closed():
    stream = cl.monitor(0.05)
    seen = []
    for sample in stream:
        seen.append(sample)
        stream.close()
    assert len(seen) == 1


def test_the_monitor_is_an_async_iterator_that_leaves_the_loop_free():
    async def watch() -> tuple[list[Sample], int]:
        turns = 0

        async def work() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        worker = asyncio.ensure_future(work())
        rows = []
        async with cl.monitor(0.05) as stream:
            async for sample in stream:
                rows.append(sample)
                if len({r.t_ns for r in rows}) == 3:
                    break
        worker.cancel()
        async for _ in stream:
            rows.clear()
        return rows, turns

    rows, turns = finished(watch())
    assert len({r.t_ns for r in rows}) == 3
    assert turns > 3


def test_two_monitors_at_once_both_see_the_samples():
    one, other = cl.monitor(0.05), cl.monitor(0.05)
    results: dict[str, float] = {}
    threads = [
        threading.Thread(target=lambda n=n, m=m: results.update({n: next(m).t_ns}))
        for n, m in (("one", one), ("other", other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    one.close()
    assert next(other).t_ns > 0
    other.close()
    assert set(results) == {"one", "other"}


def test_a_forgotten_monitor_lets_the_sampler_go():
    stream = cl.monitor(0.05)
    sampler = stream._source.sampler
    del stream
    gc.collect()
    assert not sampler.alive


class DeadSource:
    """A source whose sampler is gone for good."""

    closed = False
    failure = ProbeError("gave up")
    columns: tuple[str, ...] = ()

    def read(self) -> list[Tick]:
        return []

    def wait(self, timeout: float) -> bool:
        return False

    def samples(self, tick: Tick) -> tuple[Sample, ...]:
        return ()

    def close(self) -> None:
        self.closed = True


def test_a_monitor_whose_sampler_is_gone_says_why():
    with pytest.raises(ProbeError, match="gave up"):
        next(Monitor(DeadSource()))
