"""Package energy counters, and the estimate where there is none."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from coreml_lab.errors import InputError, ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Panel, Target
from coreml_lab.probes.modelled import ModelledProbe, parse_watts
from coreml_lab.probes.sources import package_probe
from tests.support.machines import NOBODY, SECOND, machine, stat, target

RAPL = "sys/class/powercap/intel-rapl:0"


def package(root: Path, microjoules: int, zone: str = RAPL, name: str = "package-0") -> Path:
    return machine(
        root,
        {
            f"{zone}/name": f"{name}\n",
            f"{zone}/energy_uj": f"{microjoules}\n",
            f"{zone}/max_energy_range_uj": "1000000000\n",
        },
    )


def test_package_power_is_energy_over_time_and_survives_the_wrap_around(tmp_path):
    tree = package(tmp_path, 990_000_000)
    probe = package_probe()
    probe.open(target(tree))
    assert probe.read(0)[1] == 0.0
    package(tree, 995_000_000)
    assert probe.read(SECOND) == pytest.approx((5.0, 5.0, 0.0))
    package(tree, 15_000_000)  # the counter went round at 1000 J
    assert probe.read(3 * SECOND) == pytest.approx((10.0, 25.0, 0.0))


def test_packages_are_added_up_and_parts_and_the_platform_are_not_counted_twice(tmp_path):
    package(tmp_path, 0)
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:1", "package-1")
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:0:0", "core")
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:2", "psys")
    probe = package_probe()
    channels = probe.open(target(tmp_path))
    probe.read(0)
    for zone, name in (("0", "package-0"), ("1", "package-1"), ("0:0", "core"), ("2", "psys")):
        package(tmp_path, 4_000_000, f"sys/class/powercap/intel-rapl:{zone}", name)
    assert "2 counters" in channels[0].note
    assert probe.read(SECOND)[0] == pytest.approx(8.0)


def test_an_energy_counter_that_has_not_moved_is_no_reading_rather_than_no_power(tmp_path):
    probe = package_probe()
    probe.open(target(package(tmp_path, 5)))
    probe.read(0)
    assert math.isnan(probe.read(SECOND)[0])


def test_a_jump_no_package_can_draw_is_dropped(tmp_path):
    tree = package(tmp_path, 0)
    probe = package_probe()
    probe.open(target(tree))
    probe.read(0)
    package(tree, 900_000_000)
    assert math.isnan(probe.read(SECOND // 10)[0])


def test_a_counter_for_root_only_says_how_to_open_it(tmp_path, monkeypatch):
    tree = package(tmp_path, 5)
    opened = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    panel = Panel(target(tree), [package_probe])
    assert all(c.provenance is Provenance.UNAVAILABLE for c in panel.channels)
    assert "root only" in panel.channels[0].note
    assert "chmod a+r" in panel.channels[0].note


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(ProbeError, match="no RAPL package counter"):
        package_probe().open(target(tmp_path))
    with pytest.raises(ProbeError, match="Linux only"):
        package_probe().open(target(tmp_path, "darwin"))


def test_the_estimate_is_an_interval_of_cpu_time_and_says_that_it_is_one(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    tree = machine(tmp_path, {f"proc/{NOBODY}/stat": stat(0, 0)})
    probe = ModelledProbe()
    channels = probe.open(Target(NOBODY, (2.0, 8.0), str(tree), "linux"))
    probe.read(0)
    machine(tree, {f"proc/{NOBODY}/stat": stat(ticks // 2, 0)})
    assert probe.read(SECOND) == (1.0, 4.0)
    assert {c.provenance for c in channels} == {Provenance.ESTIMATED}
    assert "2 to 8 W" in channels[0].note


def test_watts_are_given_as_an_interval():
    assert parse_watts("1.5-5") == (1.5, 5.0)
    assert parse_watts("0-3") == (0.0, 3.0)


@pytest.mark.parametrize("text", ["5", "8-2", "5-5", "a-b", "", "2-", "-1-4", "2-inf", "nan-3"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="core_watts") as caught:
        parse_watts(text)
    assert "2-8" in caught.value.hint
