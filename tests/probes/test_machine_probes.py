"""Cores, memory and pressure of a machine made of files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.probes import Channel
from coreml_lab.probes.cpu import CpuProbe
from coreml_lab.probes.memory import MemoryProbe
from coreml_lab.probes.pressure import PressureProbe
from tests.support.machines import machine, target, values

BEFORE = """cpu  100 0 100 800 0 0 0 0 0 0
cpu0 100 0 100 300 0 0 0 0 0 0
cpu1 0 0 0 500 0 0 0 0 0 0
intr 1 2 3
"""
AFTER = """cpu  160 0 140 860 20 0 0 20 0 0
cpu0 160 0 140 300 0 0 0 0 0 0
cpu1 0 0 0 560 20 0 0 20 0 0
intr 1 2 3
"""


def test_busy_cores_leave_out_idle_waiting_and_stolen_time(tmp_path):
    tree = machine(tmp_path, {"proc/stat": BEFORE})
    probe = CpuProbe()
    names = [c.metric for c in probe.open(target(tree))]
    machine(tree, {"proc/stat": AFTER})
    row = dict(zip(names, probe.read(0), strict=True))
    assert row == {"system.cpu.cores": 1.0, "system.cpu.core/0": 1.0, "system.cpu.core/1": 0.0}


def test_no_tick_since_the_last_reading_is_no_reading(tmp_path):
    probe = CpuProbe()
    probe.open(target(machine(tmp_path, {"proc/stat": BEFORE})))
    assert all(math.isnan(v) for v in probe.read(0))


def test_a_core_that_went_offline_has_no_reading(tmp_path):
    tree = machine(tmp_path, {"proc/stat": BEFORE})
    probe = CpuProbe()
    probe.open(target(tree))
    machine(tree, {"proc/stat": "\n".join(AFTER.splitlines()[:2]) + "\n"})
    assert math.isnan(probe.read(0)[2])


def test_cores_are_read_through_psutil_where_there_is_no_proc(tmp_path):
    probe = CpuProbe()
    channels = probe.open(target(tmp_path, "darwin"))
    assert len(channels) == len(probe.read(0)) > 1


MEMINFO = f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {4 << 20} kB\n"
GIB = 1 << 30


def memory(root: Path) -> tuple[tuple[Channel, ...], dict[str, float]]:
    probe = MemoryProbe()
    channels = probe.open(target(root))
    return channels, values(probe, 0)


def test_without_a_container_the_machine_is_the_limit(tmp_path):
    tree = machine(tmp_path, {"proc/meminfo": MEMINFO, "proc/7/cgroup": "0::/user/me\n"})
    _, row = memory(tree)
    assert row == {"system.memory.available": 4 * GIB, "system.memory.limit": 8 * GIB}


def test_a_container_of_version_2_limits_memory_and_counts_idle_cache_as_free(tmp_path):
    group = "sys/fs/cgroup/box"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/7/cgroup": "0::/box/inner\n",
        "sys/fs/cgroup/box/inner/memory.max": "max\n",
        f"{group}/memory.max": f"{GIB}\n",
        f"{group}/memory.current": f"{GIB // 2}\n",
        f"{group}/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
    }
    channels, row = memory(machine(tmp_path, files))
    assert row == {"system.memory.available": 3 * GIB // 4, "system.memory.limit": GIB}
    assert "container" in channels[0].note


def test_a_container_of_version_1_limits_memory_even_where_only_its_root_is_mounted(tmp_path):
    group = "sys/fs/cgroup/memory"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/7/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n",
        f"{group}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{group}/memory.usage_in_bytes": f"{2 * GIB}\n",
        f"{group}/memory.stat": "cache 5\n",
    }
    _, row = memory(machine(tmp_path, files))
    assert row == {"system.memory.available": 0, "system.memory.limit": 2 * GIB}


def test_a_limit_of_version_1_near_two_to_the_63_is_no_limit(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/7/cgroup": "4:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert memory(machine(tmp_path, files))[1]["system.memory.limit"] == 8 * GIB


def test_machine_memory_is_read_through_psutil_where_there_is_no_proc(tmp_path):
    probe = MemoryProbe()
    probe.open(target(tmp_path, "darwin"))
    assert 0 < probe.read(0)[0] <= probe.read(0)[1]


def test_pressure_is_the_share_of_the_last_ten_seconds(tmp_path):
    text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0 total=0\n"
    probe = PressureProbe()
    probe.open(target(machine(tmp_path, {"proc/pressure/memory": text})))
    assert probe.read(0) == (0.125,)


def test_a_kernel_without_pressure_files_says_so(tmp_path):
    with pytest.raises(ProbeError, match="does not report stalls") as caught:
        PressureProbe().open(target(tmp_path))
    assert "psi=1" in caught.value.hint


def test_a_system_without_a_known_source_of_pressure_says_so(tmp_path):
    with pytest.raises(ProbeError, match="plan9"):
        PressureProbe().open(target(tmp_path, "plan9"))
