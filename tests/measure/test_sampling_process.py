"""The sampling process from inside: framing, the loop on a made-up clock, its ends, the backlog."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence

import pytest

from coreml_lab.clock import SYSTEM, FakeClock
from coreml_lab.errors import ProbeError
from coreml_lab.measure import sampling_process
from coreml_lab.measure.backlog import Backlog
from coreml_lab.measure.framing import Decoder, Header, Tick
from coreml_lab.measure.sampling_process import Lifeline, Orders, Outbox, next_due, serve
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Channel, Panel, Target
from tests.support.sampling import CHANNELS, HEADER, MS, NAN, put


def test_header_and_records_survive_the_pipe_in_pieces_of_any_size():
    ticks = [Tick(i * MS, (i / 2, NAN)) for i in range(5)]
    stream = HEADER.to_line() + b"".join(HEADER.pack(t.t_ns, t.values) for t in ticks)
    for size in (1, 7, 24, len(stream)):
        decoder = Decoder()
        records = [
            r for at in range(0, len(stream), size) for r in decoder.feed(stream[at : at + size])
        ]
        assert decoder.header == HEADER
        assert [HEADER.unpack(r).t_ns for r in records] == [t.t_ns for t in ticks]
        assert [HEADER.unpack(r).values[0] for r in records] == [0, 0.5, 1, 1.5, 2]
        assert all(math.isnan(HEADER.unpack(r).values[1]) for r in records)


class FakeProbe:
    """Gives the number of its reading."""

    name = "fake"
    metrics = ("fake.metric",)
    period = 0.0

    def __init__(self) -> None:
        self.readings = 0

    def open(self, target: Target) -> tuple[Channel, ...]:
        return (Channel("fake.metric", Provenance.MEASURED),)

    def read(self, now_ns: int) -> Sequence[float]:
        self.readings += 1
        return (float(self.readings),)


class ScriptedPause:
    """Waits exactly, but oversleeps where the script says so; ends after the script."""

    def __init__(self, clock: FakeClock, late_ms: Sequence[int]) -> None:
        self.clock = clock
        self.late_ms = iter(late_ms)

    def until(self, due_ns: int) -> bool:
        late = next(self.late_ms, None)
        if late is None:
            return False
        self.clock.t_ns = max(self.clock.t_ns, due_ns) + late * MS
        return True


def pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    return reading, writing


def served(late_ms: Sequence[int]) -> list[Tick]:
    reading, writing = pipe()
    clock = FakeClock(t_ns=5 * MS)
    panel = Panel(Target(1), [FakeProbe])
    serve(panel, 100 * MS, Outbox(writing), ScriptedPause(clock, late_ms), clock)
    os.close(writing)
    decoder = Decoder()
    with os.fdopen(reading, "rb") as file:
        records = decoder.feed(file.read())
    assert decoder.header is not None
    return [decoder.header.unpack(r) for r in records]


def test_ticks_lie_on_a_grid_that_does_not_drift():
    assert [t.t_ns // MS for t in served([0, 3, 0, 9, 0])] == [105, 208, 305, 414, 505]


def test_late_ticks_are_skipped_and_show_as_a_gap_with_true_stamps():
    assert [t.t_ns // MS for t in served([0, 430, 0, 0])] == [105, 635, 705, 805]


def test_the_first_reading_only_sets_where_differences_start():
    assert [t.values for t in served([0, 0])] == [(2.0,), (3.0,)]


@pytest.mark.parametrize(("now", "due"), [(0, 100), (99, 100), (100, 200), (350, 400), (400, 500)])
def test_the_next_deadline_is_always_ahead(now, due):
    assert next_due(0, 100, now) == due


def test_what_nobody_reads_is_kept_in_order_and_writing_never_blocks():
    reading, writing = pipe()
    outbox = Outbox(writing)
    sent = [i.to_bytes(4, "little") * 64 for i in range(2000)]  # 512 kB: eight pipes full
    for record in sent:
        outbox.put(record)
    assert outbox
    got = b""
    while outbox:
        got += os.read(reading, 1 << 20)
        outbox.flush()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        got += file.read()
    assert got == b"".join(sent)


def test_the_backlog_is_bounded_lets_the_oldest_go_and_keeps_records_whole():
    reading, writing = pipe()
    outbox = Outbox(writing, most=10)
    for i in range(3000):
        outbox.put(i.to_bytes(4, "little") * 64)
    got = b""
    while outbox:
        got += os.read(reading, 1 << 20)
        outbox.flush()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        got += file.read()
    numbers = [int.from_bytes(got[at : at + 4], "little") for at in range(0, len(got), 256)]
    assert len(got) % 256 == 0
    assert numbers == sorted(set(numbers))
    assert numbers[-10:] == list(range(2990, 3000))


def lifeline(stdin: int, out: int, parent: int) -> Lifeline:
    return Lifeline(parent, Outbox(out), SYSTEM, stdin)


def test_the_process_ends_when_its_input_ends():
    stdin, kept = pipe()
    reading, writing = pipe()
    rope = lifeline(stdin, writing, os.getppid())
    assert rope.until(SYSTEM.now_ns() + MS)
    os.close(kept)
    assert not rope.until(SYSTEM.now_ns() + 60_000 * MS)
    for descriptor in (stdin, reading, writing):
        os.close(descriptor)


def test_the_process_ends_when_it_has_another_parent():
    stdin, kept = pipe()
    reading, writing = pipe()
    assert not lifeline(stdin, writing, os.getppid() + 1).until(SYSTEM.now_ns() + MS)
    for descriptor in (stdin, kept, reading, writing):
        os.close(descriptor)


def test_while_it_waits_it_writes_what_the_pipe_takes():
    stdin, kept = pipe()
    reading, writing = pipe()
    outbox = Outbox(writing)
    for _ in range(40):
        outbox.put(b"x" * 4096)
    assert outbox
    os.read(reading, 1 << 20)
    os.write(kept, b"noise is not an end")
    Lifeline(os.getppid(), outbox, SYSTEM, stdin).until(SYSTEM.now_ns() + 200 * MS)
    os.read(reading, 1 << 20)
    outbox.flush()
    assert not outbox
    for descriptor in (stdin, kept, reading, writing):
        os.close(descriptor)


def test_the_main_program_takes_orders_and_ends_quietly_when_its_reader_is_gone(monkeypatch):
    stdin, kept = pipe()
    reading, writing = pipe()
    os.close(reading)
    before = signal.getsignal(signal.SIGINT)
    with os.fdopen(writing, "wb") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        sampling_process.main(Orders(os.getpid(), MS, (2.0, 8.0), os.getppid()).to_json())
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, before)
    os.close(stdin)
    os.close(kept)


def test_readers_have_places_of_their_own_and_are_told_what_was_forgotten():
    backlog = Backlog(3)
    put(backlog, 1, 2)
    ticks, place, lost = backlog.after(0)
    assert ([t.t_ns for t in ticks], place, lost) == ([1, 2], 2, 0)
    put(backlog, 3, 4, 5, 6)
    ticks, place, lost = backlog.after(place)
    assert ([t.t_ns for t in ticks], place, lost) == ([4, 5, 6], 6, 1)
    assert backlog.after(place) == ([], 6, 0)


def test_a_restarted_process_that_sees_other_sensors_is_brought_into_the_first_ones_order():
    backlog = Backlog(10)
    put(backlog, 1)
    other = Header((CHANNELS[1], Channel("new.metric", Provenance.MEASURED)), 100 * MS)
    backlog.put(other, [other.pack(2, (7.0, 8.0))])
    tick = backlog.after(1)[0][0]
    assert math.isnan(tick.values[0])
    assert tick.values[1] == 7.0


def test_a_backlog_that_never_hears_anything_says_so():
    with pytest.raises(ProbeError, match="has said nothing for 0 s"):
        Backlog(1).header(0)
