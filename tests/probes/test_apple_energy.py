"""Energy of an Apple chip and of a process on it, on made-up libraries."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Target, ioreport
from coreml_lab.probes.counters import Scope, opened
from coreml_lab.probes.energy import EnergyProbe
from coreml_lab.probes.ioreport import IOReportSource, safely
from coreml_lab.probes.ioreport_calls import Subscription, Value
from coreml_lab.probes.process_energy import AppleProcessSource
from tests.support.ioreport import Channel, FakeIOReport, FakeSystem
from tests.support.machines import SECOND

MAC = Target(7, platform="darwin")
M4 = ("PCPU", "ECPU0", "CPU Energy", "GPU Energy", "GPU SRAM", "ANE", "DRAM", "DRAM DTL")


def trusted():
    """A trial that succeeds."""


class Reports:
    """Values that a test sets."""

    def __init__(self, *values):
        self.values = list(values)

    def sample(self):
        return list(self.values)


def source(*values):
    reports = Reports(*values)
    return reports, IOReportSource(lambda: reports, trusted)


def channels(*names, unit="mJ"):
    return [Value(n, "nJ" if n == "GPU Energy" else unit, 0, 0) for n in names]


def test_channels_are_matched_by_exact_name_so_that_nothing_counts_twice():
    _, found = source(*channels(*M4))
    names = [d.name for d in found.open(MAC)]
    assert names == ["cpu/CPU Energy/0", "gpu/GPU Energy/0", "ane/ANE/0", "dram/DRAM/0"]


def test_an_ultra_counts_both_of_its_dies():
    names = ("DIE_0_CPU Energy", "DIE_1_CPU Energy", "GPU Energy", "GPU Energy", "ANE0", "ANE0_0")
    _, found = source(*channels(*names, "ANE1", "ANE1_0"))
    groups = [d.group for d in found.open(MAC) if d.available]
    assert groups == ["cpu", "cpu", "gpu", "gpu", "ane", "ane"]


def test_a_part_of_the_chip_without_a_channel_is_missing_with_the_names_that_were_sought():
    _, found = source(*channels("CPU Energy", "GPU Energy"))
    missing = opened(found, MAC).missing
    assert [d.group for d in missing] == ["ane", "dram"]
    assert "ANE0_0" in missing[0].reason


def test_each_channel_counts_in_its_own_unit_and_carries_the_drivers_time():
    reports, found = source(Value("CPU Energy", "mJ", 100, 5), Value("GPU Energy", "nJ", 0, 5))
    cpu, gpu, *_ = found.open(MAC)
    assert (cpu.quantum, cpu.period, cpu.stamped) == (1e-3, ioreport.BATCH, True)
    assert (gpu.quantum, gpu.period) == (1e-9, 0.0)
    assert cpu.note.startswith("modelled by firmware")
    found.read(0)
    reports.values = [Value("CPU Energy", "mJ", 350, 77), Value("GPU Energy", "nJ", 4_000, 99)]
    readings = found.read(SECOND)
    assert [r.joules for r in readings] == pytest.approx([0.25, 4e-6])
    assert [r.published_ns for r in readings] == [77, 99]


def test_an_unknown_unit_is_a_reason_not_a_guess():
    _, found = source(Value("ANE", "furlong", 1, 1))
    ane = next(d for d in found.open(MAC) if d.group == "ane")
    assert ane.provenance is Provenance.UNAVAILABLE
    assert "'furlong'" in ane.reason


def test_channels_that_change_are_no_reading():
    reports, found = source(*channels(*M4))
    found.open(MAC)
    reports.values.pop()
    with pytest.raises(ProbeError, match="channels have changed"):
        found.read(0)


def test_elsewhere_there_is_no_ioreport():
    with pytest.raises(ProbeError, match="macOS"):
        IOReportSource(Reports, trusted).open(Target(1, platform="linux"))


# -- the calls -------------------------------------------------------------------------------------


def test_a_sample_gives_names_units_amounts_and_stamps_in_nanoseconds():
    fake = FakeIOReport([Channel("CPU Energy", "mJ", 12, 24), Channel("ANE", "mJ", 3, None)])
    taken = Subscription(fake).sample()
    assert taken == [Value("CPU Energy", "mJ", 12, 1000), Value("ANE", "mJ", 3, None)]


def test_what_is_sampled_is_released():
    fake = FakeIOReport([Channel("ANE")])
    found = Subscription(fake)
    found.sample()
    found.sample()
    assert not [thing for thing in fake.alive.values() if thing == tuple(fake.channels)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"group": False}, "no group 'Energy Model'"),
        ({"subscribes": False}, "refuses the subscription"),
        ({"samples": False}, "gives no sample"),
    ],
)
def test_what_macos_refuses_is_a_reason_and_never_used(settings, words):
    with pytest.raises(ProbeError, match=words):
        Subscription(FakeIOReport([Channel("ANE")], **settings)).sample()


def test_a_virtual_machine_without_the_group_leaves_every_part_missing():
    fake = FakeIOReport(group=False)
    found = opened(IOReportSource(lambda: Subscription(fake), trusted), MAC)
    assert found.domains == ()
    assert "usual in virtual machines" in found.missing[0].reason


# -- tried in a child process first ----------------------------------------------------------------


def test_a_crash_in_the_trial_is_a_reason_and_the_counters_are_left_alone():
    def crash():
        raise ProbeError("IOReport ended the process that tried it (signal 11)")

    touched = []
    found = opened(IOReportSource(lambda: touched.append(1), crash), MAC)
    assert "signal 11" in found.missing[0].reason
    assert touched == []


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (SimpleNamespace(returncode=-11, stderr=""), "signal 11"),
        (SimpleNamespace(returncode=1, stderr="x\nIOReport has no group"), "has no group"),
        (SimpleNamespace(returncode=1, stderr=""), "cannot be read"),
    ],
)
def test_how_the_child_ended_is_told(monkeypatch, done, words):
    monkeypatch.setattr(ioreport.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ProbeError, match=words):
        safely()


def test_a_child_that_does_not_end_is_given_up(monkeypatch):
    def late(*_, **__):
        raise subprocess.TimeoutExpired("python", 20)

    monkeypatch.setattr(ioreport.subprocess, "run", late)
    with pytest.raises(ProbeError, match="failed"):
        safely()


def test_the_child_really_runs_and_here_finds_no_ioreport():
    with pytest.raises(ProbeError, match="IOReport is not here"):
        safely()


# -- a process -------------------------------------------------------------------------------------


def test_the_energy_of_a_process_and_its_worker_are_added_up():
    system = FakeSystem({7: 1_000_000_000, 8: 500})
    found = AppleProcessSource([8], system)
    (domain,) = found.open(MAC)
    assert (domain.scope, domain.settle, domain.within) == (Scope.PROCESS, 0.01, "cpu")
    assert "the one that runs Core ML" in domain.note
    found.read(0)
    system.nanojoules = {7: 1_250_000_000, 8: 250_000_500}
    assert found.read(SECOND)[0].joules == pytest.approx(0.5)


def test_a_mac_that_does_not_count_says_so():
    with pytest.raises(ProbeError, match="pervasive_energy is 0"):
        AppleProcessSource((), FakeSystem({7: 1}, pervasive=0)).open(MAC)
    with pytest.raises(ProbeError, match="refuses process 7"):
        AppleProcessSource((), FakeSystem()).open(MAC)
    with pytest.raises(ProbeError, match="only macOS"):
        AppleProcessSource((), FakeSystem()).open(Target(7, platform="linux"))


# -- live ------------------------------------------------------------------------------------------


def live(*values):
    reports, found = source(*values)
    parts = ("cpu", "gpu", "ane", "dram")
    probe = EnergyProbe("ioreport", lambda: found, parts, always=parts, platforms=("darwin",))
    return reports, probe


def test_batches_hold_the_last_power_and_tell_its_age():
    reports, probe = live(Value("ANE", "mJ", 0, 0))
    columns = [c.metric for c in probe.open(MAC)]
    at = columns.index("hw.power.ane")
    probe.read(0)
    reports.values = [Value("ANE", "mJ", 4200, 2 * SECOND)]
    assert probe.read(2 * SECOND)[at : at + 3] == pytest.approx([2.1, 4.2, 0.0])
    assert probe.read(3 * SECOND)[at : at + 3] == pytest.approx([2.1, 4.2, 1.0])


def test_a_counter_that_is_published_without_growing_drew_nothing_and_one_that_is_not_is_stale():
    reports, probe = live(Value("ANE", "mJ", 0, 0))
    at = [c.metric for c in probe.open(MAC)].index("hw.power.ane")
    probe.read(0)
    reports.values = [Value("ANE", "mJ", 0, SECOND)]
    assert probe.read(SECOND)[at] == 0.0  # the driver says so, of a part that may rest
    stale = probe.read(60 * SECOND)[at]
    assert stale != stale  # noqa: PLR0124 - NaN
    assert probe.read(60 * SECOND)[at + 2] == pytest.approx(59.0)


def test_a_cpu_that_is_published_without_growing_is_a_broken_counter_and_no_zero():
    reports, probe = live(Value("CPU Energy", "mJ", 0, 0))
    at = [c.metric for c in probe.open(MAC)].index("hw.power.cpu")
    probe.read(0)
    reports.values = [Value("CPU Energy", "mJ", 0, SECOND)]
    watts = probe.read(SECOND)[at]
    assert watts != watts  # noqa: PLR0124 - NaN


def test_parts_without_a_channel_keep_their_columns_and_say_why():
    _, probe = live(Value("CPU Energy", "mJ", 0, 0))
    found = {c.metric: c for c in probe.open(MAC)}
    assert found["hw.power.ane"].provenance is Provenance.UNAVAILABLE
    assert "no channel" in found["hw.power.ane"].note
    assert len(probe.read(0)) == len(found)


def test_on_other_systems_the_chip_has_no_columns():
    _, probe = live(Value("CPU Energy", "mJ", 0, 0))
    assert probe.open(Target(1, platform="linux")) == ()
    assert probe.read(0) == ()
