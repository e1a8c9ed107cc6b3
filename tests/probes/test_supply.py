"""Mains or battery, cool or hot: on machines made of files, and by what macOS prints."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from coreml_lab.probes.supply import power, thermal
from tests.support.machines import machine, target

BATTERY = {"BAT0/type": "Battery", "BAT0/status": "Discharging"}
MOUSE = {"mouse/type": "Battery", "mouse/status": "Discharging", "mouse/scope": "Device"}
MAINS = {"AC/type": "Mains", "AC/online": "1"}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, "unknown"),
        (BATTERY, "battery"),
        (MAINS | BATTERY, "mains"),
        (MAINS | {"AC/online": "0"} | BATTERY, "battery"),
        (BATTERY | {"BAT0/status": "Full"}, "mains"),
        (MOUSE, "unknown"),
        ({"BAT0/type": "Battery"}, "unknown"),
    ],
)
def test_linux_says_what_a_machine_runs_on(
    files: Mapping[str, str], found: str, tmp_path: Path
) -> None:
    tree = machine(tmp_path, {f"sys/class/power_supply/{k}": v for k, v in files.items()})
    assert power(target(tree)) == found


@pytest.mark.parametrize(
    ("zones", "found"),
    [
        ((), "unknown"),
        (("40000",), "nominal"),
        (("40000", "85000"), "serious"),
        (("101000", "40000"), "critical"),
        (("broken",), "unknown"),
    ],
)
def test_linux_compares_heat_with_the_points_at_which_it_slows_down(
    zones: Sequence[str], found: str, tmp_path: Path
) -> None:
    files = {}
    for i, heat in enumerate(zones):
        points = {"0_type": "passive", "0_temp": "80000", "1_type": "critical", "1_temp": "100000"}
        points |= {"2_type": "active", "2_temp": "30000", "3_type": "hot", "3_temp": "0"}
        zone = f"sys/class/thermal/thermal_zone{i}"
        files |= {f"{zone}/temp": heat}
        files |= {f"{zone}/trip_point_{k}": v for k, v in points.items()}
    assert thermal(target(machine(tmp_path, files))) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Now drawing from 'Battery Power'\n -InternalBattery-0 80%", "battery"),
        ("Now drawing from 'AC Power'\n", "mains"),
        ("", "unknown"),
    ],
)
def test_macos_prints_what_a_mac_runs_on(text: str, found: str, tmp_path: Path) -> None:
    assert power(target(tmp_path, "darwin"), lambda _: text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Note: No thermal warning level has been recorded\n", "nominal"),
        ("CPU_Scheduler_Limit = 100\nCPU_Speed_Limit = 100\n", "nominal"),
        ("CPU_Speed_Limit \t= 62\n", "serious"),
    ],
)
def test_macos_prints_whether_heat_slows_it_down(text: str, found: str, tmp_path: Path) -> None:
    assert thermal(target(tmp_path, "darwin"), lambda _: text) == found


@pytest.mark.parametrize("error", [OSError("gone"), subprocess.TimeoutExpired("pmset", 5)])
def test_a_program_that_fails_leaves_it_unknown(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: Sequence[str], **_: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    on = target(tmp_path, "darwin")
    assert power(on) == thermal(on) == "unknown"


def test_other_systems_are_unknown(tmp_path: Path) -> None:
    on = target(tmp_path, "win32")
    assert power(on) == thermal(on) == "unknown"
