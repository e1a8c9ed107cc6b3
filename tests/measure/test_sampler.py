"""The sampler on real sampling processes: started, stopped, killed, restarted, given up."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from coreml_lab.errors import InputError, ProbeError
from coreml_lab.measure import sampler as sampler_module
from coreml_lab.measure.framing import Decoder, Tick
from coreml_lab.measure.sampler import MOST_FAILURES, NO_READING, Sampler, launch
from coreml_lab.measure.sampling_process import Orders
from coreml_lab.metrics import METRICS, Provenance, metric
from coreml_lab.records import Incident
from tests.support.sampling import HEADER, MS, NAN, PATIENCE, put, python, until


@pytest.fixture
def incidents() -> list[Incident]:
    return []


@pytest.fixture
def running(incidents: list[Incident]) -> Iterator[Sampler]:
    with Sampler(0.02, report=incidents.append) as sampler:
        yield sampler


def test_columns_are_known_metrics_with_provenance_and_a_reason_where_there_is_none(running):
    assert {"process.cpu.cores", "system.cpu.core/0", "process.memory.usage"} <= set(
        running.columns
    )
    for name in running.columns:
        assert metric(name).name in METRICS
        provenance, note = running.provenance[name]
        assert note or provenance is not Provenance.UNAVAILABLE
    assert running.provenance["coreml_lab.power.cpu.low"][0] is Provenance.ESTIMATED


def test_ticks_come_with_growing_stamps_of_this_machines_clock(running):
    until(lambda: running.backlog.count >= 5)
    ticks = running.read()
    stamps = [t.t_ns for t in ticks]
    assert stamps == sorted(set(stamps))
    assert 0 < time.monotonic_ns() - stamps[-1] < PATIENCE * 1e9
    assert all(len(t.values) == len(running.columns) for t in ticks)


def test_a_tick_becomes_rows_that_say_how_they_came_to_be(running):
    until(lambda: running.backlog.count)
    tick = running.read()[0]
    rows = {s.metric: s for s in running.samples(tick)}
    assert rows["process.memory.usage"].provenance is Provenance.MEASURED
    assert rows["process.memory.usage"].value > 1 << 20
    for row in rows.values():
        assert math.isnan(row.value) == (row.provenance is Provenance.UNAVAILABLE)
        assert row.note or not math.isnan(row.value)


def test_a_metric_without_a_reading_this_time_is_unavailable_this_time():
    sampler = Sampler()
    put(sampler.backlog, 1)
    rows = sampler.samples(Tick(1, (NAN, NAN)))
    assert [(r.provenance, r.note) for r in rows] == [
        (Provenance.UNAVAILABLE, NO_READING),
        (Provenance.UNAVAILABLE, "no counter"),
    ]


def test_several_readers_each_see_every_tick(running):
    often, once = running.reader(), running.reader()
    assert often.wait(PATIENCE)
    seen = often.read()
    until(lambda: running.backlog.count >= 10)
    running.stop()
    assert seen
    assert [t.t_ns for t in seen + often.read()] == [t.t_ns for t in once.read()]
    assert often.lost == once.lost == 0
    assert often.columns == once.columns
    assert often.provenance == running.provenance


def test_a_stopped_sampling_process_leaves_a_gap_that_its_stamps_show(running, incidents):
    until(lambda: running.backlog.count >= 2)
    os.kill(running.process_id, signal.SIGSTOP)
    stopped = time.monotonic_ns()
    time.sleep(0.3)
    resumed = time.monotonic_ns()
    before = running.backlog.count
    os.kill(running.process_id, signal.SIGCONT)
    until(lambda: running.backlog.count >= before + 3)
    stamps = [t.t_ns for t in running.read()]
    # A tick may have been on its way when the signal came.
    assert sum(stopped + 50 * MS < t < resumed for t in stamps) == 0
    assert max(b - a for a, b in pairwise(stamps)) >= 200 * MS
    assert incidents == []


def test_a_killed_sampling_process_is_restarted_with_an_incident(running, incidents):
    until(lambda: running.backlog.count >= 2)
    killed = running.process_id
    os.kill(killed, signal.SIGKILL)
    until(lambda: incidents)
    count = running.backlog.count
    until(lambda: running.backlog.count > count)
    assert running.alive
    assert running.process_id != killed
    assert (incidents[0].error, incidents[0].action) == ("SamplerDied", "restart")
    assert incidents[0].outcome == "restarted"
    assert "SIGKILL" in incidents[0].message


def test_an_interrupt_of_the_kernels_group_does_not_reach_the_sampling_process(running):
    until(lambda: running.backlog.count)
    pid = running.process_id
    assert os.getpgid(pid) != os.getpgrp()
    os.kill(pid, signal.SIGINT)
    count = running.backlog.count
    until(lambda: running.backlog.count > count + 2)
    assert running.process_id == pid


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "BACKOFF", 0.0)


def test_a_process_that_dies_again_and_again_is_given_up_with_its_last_words(incidents, no_backoff):
    start = python("raise SystemExit('no such module')")
    with Sampler(report=incidents.append, start_process=start) as sampler:
        until(lambda: sampler.failure)
        with pytest.raises(ProbeError, match="exit status 1: no such module"):
            _ = sampler.columns
        until(lambda: len(incidents) == MOST_FAILURES)
        assert not sampler.alive
    assert [i.action for i in incidents] == ["restart"] * (MOST_FAILURES - 1) + ["give up"]


def test_a_process_that_writes_something_else_is_ended_and_replaced(incidents, no_backoff):
    start = python("print('hello', flush=True); input()")
    with Sampler(report=incidents.append, start_process=start) as sampler:
        until(lambda: sampler.failure)
    assert "what is not a sample" in incidents[0].message


def test_a_machine_that_cannot_start_processes_gives_one_error():
    def refuse(_: Orders) -> subprocess.Popen[bytes]:
        raise OSError(11, "Resource temporarily unavailable")

    with pytest.raises(ProbeError, match="cannot be started") as caught:
        Sampler(start_process=refuse).start()
    assert caught.value.hint


def test_a_restart_that_is_refused_is_tried_again_and_then_given_up(incidents, no_backoff):
    calls: list[Orders] = []

    def once(orders: Orders) -> subprocess.Popen[bytes]:
        calls.append(orders)
        if len(calls) > 1:
            raise OSError(11, "Resource temporarily unavailable")
        return python("pass")(orders)

    with Sampler(report=incidents.append, start_process=once) as sampler:
        until(lambda: sampler.failure)
    assert len(calls) == MOST_FAILURES
    assert [i.action for i in incidents] == ["give up"]


def test_a_process_that_does_not_listen_is_killed_by_stop(monkeypatch):
    monkeypatch.setattr(sampler_module, "STOP_TIMEOUT", 0.2)
    line = HEADER.to_line()
    record = HEADER.pack(1, (1.0, NAN))
    start = python(
        "import sys, time",
        f"sys.stdout.buffer.write({line!r} + {record!r}); sys.stdout.buffer.flush()",
        "time.sleep(600)",
    )
    sampler = Sampler(start_process=start).start()
    until(lambda: sampler.backlog.count)
    sampler.stop()
    until(lambda: not sampler.alive)
    assert [t.t_ns for t in sampler.read()] == [1]


def test_a_sampler_that_gave_up_can_be_started_again(incidents, no_backoff):
    starts = iter([python("pass")] * MOST_FAILURES + [launch])

    def start(orders: Orders) -> subprocess.Popen[bytes]:
        return next(starts)(orders)

    with Sampler(0.02, report=incidents.append, start_process=start) as sampler:
        until(lambda: len(incidents) == MOST_FAILURES)
        until(lambda: sampler.start().backlog.count)
        assert sampler.failure is None


def test_stopping_and_starting_again_keeps_what_was_read():
    sampler = Sampler(0.02).start()
    assert sampler.start() is sampler
    until(lambda: sampler.backlog.count >= 2)
    sampler.stop()
    sampler.stop()
    assert not sampler.alive
    kept = sampler.backlog.count
    with sampler:
        until(lambda: sampler.backlog.count > kept)
        assert sampler.failure is None


def test_nothing_is_lost_while_the_kernel_does_not_read():
    """As during native code that holds the interpreter's lock, for longer than a pipe lasts."""
    with launch(Orders(os.getpid(), MS, (2.0, 8.0), os.getpid())) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        capacity = narrow(process.stdout.fileno())
        time.sleep(0.5)
        woke = time.monotonic_ns()
        decoder = Decoder()
        stamps: list[int] = []
        while not stamps or stamps[-1] < woke:
            records = decoder.feed(process.stdout.read(1 << 16))
            assert decoder.header is not None
            stamps += [decoder.header.unpack(r).t_ns for r in records]
        process.stdin.close()
        while process.stdout.read(1 << 16):
            pass
    assert process.returncode == 0
    unread = sum(stamp < woke for stamp in stamps)
    assert unread * decoder.header.record.size > 2 * capacity
    assert stamps == sorted(set(stamps))


def narrow(descriptor: int) -> int:
    """Make a pipe hold a page, where the system can; how many bytes it holds."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
    return 16384


def test_the_sampling_process_imports_nothing_heavy():
    code = (
        "import sys, coreml_lab.measure.sampling_process;"
        "import json; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout
    heavy = {"numpy", "coremltools", "onnxruntime", "asyncio", "psutil", "subprocess"}
    assert not heavy & set(json.loads(output))


@pytest.mark.parametrize("interval", [0, -1, 1e9, NAN])
def test_an_interval_nobody_can_keep_is_refused(interval):
    with pytest.raises(InputError, match="interval") as caught:
        Sampler(interval)
    assert "0.01" in caught.value.hint
