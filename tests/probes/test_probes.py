"""Every probe, and the panel that reads them together."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import METRICS, Provenance, metric
from coreml_lab.probes import PROBES, Channel, Panel, Target
from coreml_lab.probes.protocol import Rate
from tests.support.machines import NOBODY, SECOND, target


def test_every_metric_a_probe_gives_is_in_the_table():
    for make in PROBES:
        probe = make()
        assert probe.name
        assert all(name in METRICS for name in probe.metrics)


def test_a_row_of_the_table_is_found_for_one_core():
    assert metric("system.cpu.core/3") is METRICS["system.cpu.core"]


def test_a_machine_that_tells_nothing_is_unavailable_with_reasons_and_never_zero(tmp_path):
    panel = Panel(target(tmp_path, pid=NOBODY), PROBES)
    assert {c.provenance for c in panel.channels} == {Provenance.UNAVAILABLE}
    assert all(c.note for c in panel.channels)
    assert all(math.isnan(v) for v in panel.read(0))
    assert len(panel.read(SECOND)) == len(panel.channels)


def test_this_machine_is_read():
    panel = Panel(Target(os.getpid()), PROBES)
    panel.read(0)
    row = {c.metric: v for c, v in zip(panel.channels, panel.read(SECOND), strict=True)}
    assert row["process.cpu.time"] > 0
    assert row["process.memory.peak"] >= row["process.memory.usage"] > 1 << 20
    assert 0 < row["system.memory.available"] <= row["system.memory.limit"]


class Fake:
    """A probe that says what it is told to."""

    name = "fake"
    metrics: tuple[str, ...] = ("fake.metric",)

    def __init__(self, readings: Sequence[float | Exception], period: float = 0.0) -> None:
        self.readings = list(readings)
        self.period = period

    def open(self, target: Target) -> tuple[Channel, ...]:
        return (Channel("fake.metric", Provenance.MEASURED),)

    def read(self, now_ns: int) -> Sequence[float]:
        reading = self.readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return (reading,)


def test_a_slow_probe_is_read_once_per_period_and_its_value_stands_meanwhile(tmp_path):
    panel = Panel(target(tmp_path), [lambda: Fake([1.0, 2.0], period=1.0)])
    seen = [panel.read(t * SECOND // 10)[0] for t in (0, 5, 9, 10, 19)]
    assert seen == [1.0, 1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("odd"), ProbeError("refused")])
def test_a_sensor_that_fails_once_leaves_a_gap_and_comes_back(tmp_path, error):
    panel = Panel(target(tmp_path), [lambda: Fake([1.0, error, 3.0])])
    assert panel.read(0) == [1.0]
    assert math.isnan(panel.read(1)[0])
    assert panel.read(2) == [3.0]


def test_a_probe_that_cannot_be_opened_does_not_hide_its_neighbour(tmp_path):
    class Broken(Fake):
        metrics = ("broken.metric",)

        def open(self, target: Target) -> tuple[Channel, ...]:
            raise ProbeError("no such sensor", hint="buy one")

    panel = Panel(target(tmp_path), [lambda: Broken([]), lambda: Fake([5.0])])
    assert [c.note for c in panel.channels] == ["no such sensor (buy one)", ""]
    assert panel.read(0)[1] == 5.0


def test_a_rate_is_growth_over_true_time_and_nothing_where_the_counter_went_back():
    rate = Rate()
    assert math.isnan(rate.of(10.0, 0))
    assert rate.of(11.0, 2 * SECOND) == 0.5
    assert math.isnan(rate.of(5.0, 3 * SECOND))
    assert math.isnan(rate.of(6.0, 3 * SECOND))
