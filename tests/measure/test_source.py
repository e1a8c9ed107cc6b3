"""Where samples come from while something is profiled: the sampler, or why there are none."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

from coreml_lab.clock import FakeClock
from coreml_lab.errors import ProbeError
from coreml_lab.measure.framing import Tick
from coreml_lab.measure.source import SharedSampler
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.records import Sample


class FakeReader:
    """A sampler's reader that has its ticks ready, some of them only after waiting."""

    sampler = SimpleNamespace(process_id=None)

    def __init__(self, *batches: list[Tick], alive: bool = True) -> None:
        self.batches = list(batches)
        self.alive = alive
        self.closed = False
        self.lost = 0

    def wait(self, _timeout: float) -> bool:
        return self.alive and bool(self.batches)

    def read(self) -> list[Tick]:
        return self.batches.pop(0) if self.batches else []

    def samples(self, tick: Tick) -> tuple[Sample, ...]:
        return (Sample(tick.t_ns, "process.cpu.cores", tick.values[0], Provenance.MEASURED),)

    def close(self) -> None:
        self.closed = True


def ticks(*stamps: int) -> list[Tick]:
    return [Tick(t, (1.0,)) for t in stamps]


def test_the_sampler_is_waited_for_until_it_covers_the_end_of_the_window():
    reader = FakeReader(ticks(5, 15), ticks(25), ticks(35))
    source = SharedSampler(FakeClock(), lambda _: reader)
    source.start()
    assert [s.t_ns for s in source.stop((10, 30))] == [15, 25]
    assert reader.closed


def test_what_is_over_between_two_readings_has_the_one_after_it():
    reader = FakeReader(ticks(5), ticks(105, 205))
    source = SharedSampler(FakeClock(), lambda _: reader)
    source.start()
    assert [s.t_ns for s in source.stop((10, 30))] == [105]


def test_what_the_sampler_has_forgotten_is_told_and_no_counter_goes_on_from_it():
    incidents = []
    reader = FakeReader(ticks(600, 700, 800))
    reader.lost = 6
    source = SharedSampler(FakeClock(), lambda _: reader, incidents.append)
    source.start()
    first, *others = source.stop((0, 750))
    assert (first.t_ns, first.provenance) == (0, Provenance.UNAVAILABLE)
    assert "forgotten" in first.note
    assert math.isnan(first.value)
    assert [s.t_ns for s in others] == [600, 700]
    assert [(i.error, i.action) for i in incidents] == [("SamplesLost", "go on")]


def test_what_was_forgotten_before_the_window_is_no_loss():
    incidents = []
    reader = FakeReader(ticks(5, 105, 205))
    reader.lost = 6
    source = SharedSampler(FakeClock(), lambda _: reader, incidents.append)
    source.start()
    assert [s.t_ns for s in source.stop((10, 300))] == [105, 205]
    assert not incidents


def test_the_work_of_the_sampling_process_is_told():
    reader = FakeReader(ticks(5))
    reader.sampler = SimpleNamespace(process_id=os.getpid())
    clock = FakeClock()
    source = SharedSampler(clock, lambda _: reader)
    source.start()
    clock.advance(1000)
    source.stop((0, 10))
    assert source.load.provenance is Provenance.MEASURED
    assert 0 <= source.load.value < 1


def test_a_sampling_process_that_is_gone_is_no_zero():
    reader = FakeReader(ticks(5))
    source = SharedSampler(FakeClock(), lambda _: reader)
    source.start()
    source.stop((0, 10))
    assert source.load.note == "the sampling process does not tell"


def test_without_a_window_there_are_no_samples():
    source = SharedSampler(FakeClock(), lambda _: FakeReader(ticks(5)))
    source.start()
    assert source.stop(None) == []


def test_a_sampler_that_cannot_start_makes_every_metric_unavailable_with_the_reason():
    def refuses(_interval):
        raise ProbeError("no more processes")

    source = SharedSampler(FakeClock(), refuses)
    source.start()
    found = source.stop((0, 10))
    others = {"executor", "device", "scheduler"}  # what the kernel itself knows
    assert {s.metric for s in found} == {n for n, m in METRICS.items() if m.panel not in others}
    assert {s.provenance for s in found} == {Provenance.UNAVAILABLE}
    assert {s.note for s in found} == {"no more processes"}
    assert all(math.isnan(s.value) for s in found)


def test_a_sampler_that_says_nothing_makes_every_metric_unavailable():
    source = SharedSampler(FakeClock(), lambda _: FakeReader(alive=False))
    source.start()
    assert {s.note for s in source.stop((0, 10))} == {"the sampler gave no reading in 2 s"}
