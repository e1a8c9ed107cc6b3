"""The energy counter of NVIDIA GPUs, on a made-up library."""

from __future__ import annotations

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Panel, Target
from coreml_lab.probes.counters import Scope, opened
from coreml_lab.probes.energy import EnergyProbe
from coreml_lab.probes.nvml import INTEGRATED, NvmlSource, library
from tests.support.machines import SECOND
from tests.support.nvml import LOST, NOT_SUPPORTED, FakeNvml, Gpu

LINUX = Target(1, platform="linux")


class Counter:
    """Millijoules that a test sets."""

    def __init__(self, value=0):
        self.value = value

    def __call__(self):
        return self.value


def source(*gpus, uuids=()):
    nvml = FakeNvml(gpus)
    return NvmlSource(uuids, load=lambda: nvml)


def test_joules_are_counted_from_when_it_was_opened_per_gpu():
    one, two = Counter(5_000_000), Counter(70)
    found = source(Gpu("GPU-1", energy=one), Gpu("GPU-2", energy=two))
    domains = found.open(LINUX)
    assert [d.group for d in domains] == ["gpu/0", "gpu/1"]
    assert {(d.unit, d.quantum, d.scope) for d in domains} == {("mJ", 1e-3, Scope.DEVICE)}
    assert found.driver == "580.1"
    assert [r.joules for r in found.read(0)] == [0.0, 0.0]
    one.value += 1500
    two.value += 1
    assert [r.joules for r in found.read(SECOND)] == pytest.approx([1.5, 0.001])


def test_a_gpu_is_named_by_its_uuid_as_cuda_and_nvml_write_it():
    found = source(Gpu("GPU-1"), Gpu("GPU-AB-2", energy=Counter()), uuids=["ab-2"])
    assert [d.group for d in found.open(LINUX)] == ["gpu/1"]
    with pytest.raises(ProbeError, match="no such GPU"):
        source(Gpu("GPU-1"), uuids=["other"]).open(LINUX)


def test_without_an_energy_counter_power_is_added_up_and_said_to_be():
    watts = Counter(100_000)
    found = source(Gpu(energy=NOT_SUPPORTED, power=watts))
    (domain,) = found.open(LINUX)
    assert domain.source == INTEGRATED
    assert "added up" in domain.note
    assert domain.provenance is Provenance.MEASURED
    assert domain.period == 1.0
    found.read(0)
    watts.value = 200_000
    (reading,) = found.read(SECOND // 2)
    assert reading.joules == pytest.approx(75.0)


def test_power_is_not_added_up_across_a_gap():
    found = source(Gpu(energy=NOT_SUPPORTED, power=Counter(100_000)))
    found.open(LINUX)
    found.read(0)
    (reading,) = found.read(5 * SECOND)
    assert reading.joules != reading.joules
    (reading,) = found.read(6 * SECOND)
    assert reading.joules == pytest.approx(100.0)


def test_a_gpu_that_tells_nothing_is_missing_with_the_drivers_words():
    found = opened(source(Gpu(energy=NOT_SUPPORTED, power=NOT_SUPPORTED), Gpu()), LINUX)
    assert [d.group for d in found.domains] == ["gpu/1"]
    (missing,) = found.missing
    assert missing.provenance is Provenance.UNAVAILABLE
    assert "Not Supported" in missing.reason
    assert [r.domain for r in found.source.read(0)] == ["gpu/1"]


def test_a_gpu_that_is_lost_is_an_error_of_the_reading():
    gpu = Gpu(energy=Counter())
    found = source(gpu)
    found.open(LINUX)
    gpu.energy = LOST
    with pytest.raises(ProbeError, match="GPU is lost"):
        found.read(0)


def test_a_library_that_does_not_start_says_why():
    nvml = FakeNvml(starts=9)
    with pytest.raises(ProbeError, match="Driver Not Loaded"):
        NvmlSource(load=lambda: nvml).open(LINUX)


def test_no_driver_is_a_reason(monkeypatch):
    monkeypatch.setattr("coreml_lab.probes.nvml.ctypes.CDLL", _refuse)
    with pytest.raises(ProbeError, match="driver is not here"):
        library()
    found = opened(NvmlSource(), LINUX)
    assert found.domains == ()
    assert "libnvidia-ml" in found.missing[0].reason


def _refuse(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_live_columns_are_power_energy_and_age_per_gpu():
    joules = Counter()
    probe = EnergyProbe("nvml", lambda: source(Gpu(energy=joules)), ("gpu",), always=("gpu",))
    channels = probe.open(LINUX)
    assert [c.metric for c in channels] == [
        "hw.power.gpu/0",
        "hw.energy.gpu/0",
        "coreml_lab.energy.age.gpu/0",
    ]
    assert "NVML total energy" in channels[0].note
    probe.read(0)
    joules.value = 80_000
    assert probe.read(SECOND) == pytest.approx([80.0, 80.0, 0.0])
    assert probe.read(SECOND + SECOND // 10) == pytest.approx([80.0, 80.0, 0.1])


def test_where_there_is_no_gpu_the_column_says_so():
    probe = EnergyProbe("nvml", lambda: NvmlSource(load=_absent), ("gpu",), always=("gpu",))
    panel = Panel(LINUX, [lambda: probe])
    assert [c.metric for c in panel.channels] == ["hw.power.gpu", "hw.energy.gpu"]
    assert {c.provenance for c in panel.channels} == {Provenance.UNAVAILABLE}
    assert all(v != v for v in panel.read(0))  # noqa: PLR0124 - NaN


def _absent():
    raise ProbeError("NVIDIA's driver is not here")
