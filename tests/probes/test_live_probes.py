"""Live columns of GPUs, battery and heat."""

from __future__ import annotations

import math

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.probes import Panel, Target, protocol
from coreml_lab.probes.conditions import ConditionsProbe
from coreml_lab.probes.gpu import GpuProbe
from tests.support.machines import machine, target
from tests.support.nvml import NOT_SUPPORTED, FakeNvml, Gpu

LINUX = Target(1, platform="linux")
SUPPLY = "sys/class/power_supply"


def test_each_gpu_has_its_share_its_memory_and_its_heat():
    nvml = FakeNvml((Gpu(), Gpu(busy=100, heat=NOT_SUPPORTED)))
    probe = GpuProbe(lambda: nvml)
    names = [c.metric for c in probe.open(LINUX)]
    assert names[:3] == ["hw.gpu.utilization/0", "hw.gpu.memory.usage/0", "hw.temperature.gpu/0"]
    found = dict(zip(names, probe.read(0), strict=True))
    assert found["hw.gpu.utilization/0"] == 0.37
    assert found["hw.gpu.memory.usage/1"] == 2 << 30
    assert found["hw.temperature.gpu/0"] == 41.0
    assert math.isnan(found["hw.temperature.gpu/1"])


def test_without_a_gpu_each_column_says_why_and_a_mac_has_none():
    def absent():
        raise ProbeError("NVIDIA's driver is not here")

    panel = Panel(LINUX, [lambda: GpuProbe(absent)])
    assert {c.provenance for c in panel.channels} == {Provenance.UNAVAILABLE}
    assert GpuProbe(absent).open(Target(1, platform="darwin")) == ()
    with pytest.raises(ProbeError, match="no GPU"):
        GpuProbe(lambda: FakeNvml(())).open(LINUX)


def test_a_laptop_has_columns_of_battery_and_heat(tmp_path):
    tree = machine(
        tmp_path,
        {
            f"{SUPPLY}/BAT0/type": "Battery\n",
            f"{SUPPLY}/BAT0/capacity": "64\n",
            f"{SUPPLY}/mouse/type": "Battery\n",
            f"{SUPPLY}/mouse/scope": "Device\n",
            f"{SUPPLY}/mouse/capacity": "99\n",
            "sys/class/thermal/thermal_zone0/temp": "95000\n",
            "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
            "sys/class/thermal/thermal_zone0/trip_point_0_temp": "90000\n",
        },
    )
    probe = ConditionsProbe()
    assert [c.metric for c in probe.open(target(tree))] == [
        "hw.battery.charge",
        "coreml_lab.thermal.state",
    ]
    assert probe.read(0) == [0.64, 2.0]


def test_a_server_has_neither_and_no_column_for_them(tmp_path):
    probe = ConditionsProbe()
    assert probe.open(target(tmp_path)) == ()
    assert probe.read(0) == []


def test_their_columns_are_metrics():
    assert set(GpuProbe.metrics) <= set(METRICS)
    assert {"hw.battery.charge", "coreml_lab.thermal.state"} <= set(METRICS)


def test_a_source_that_takes_long_to_read_is_read_less_often(monkeypatch):
    times = iter([0.0, 0.003, 0.0, 0.0, 0.0, 9.0])
    monkeypatch.setattr(protocol.time, "process_time", lambda: next(times))
    assert protocol.affordable(1.0, lambda: None) == pytest.approx(2.0)
    assert protocol.affordable(1.0, lambda: None) == 1.0
    assert protocol.affordable(1.0, lambda: None) == protocol.LONGEST_PERIOD
