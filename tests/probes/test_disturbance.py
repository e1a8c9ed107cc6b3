"""Counters of what disturbs a measurement, on made-up machines."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest

from coreml_lab.probes.disturbance import read
from coreml_lab.probes.protocol import Target

TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid: int, *, own: tuple[int, int], reaped: tuple[int, int] = (0, 0), faults: int = 0):
    """A line of ``/proc/PID/stat``; the name may hold anything."""
    fields = ["S", *["0"] * 8, str(faults), "0", *map(str, (*own, *reaped)), "0"]
    return f"{pid} (a ) b) " + " ".join(fields)


@pytest.fixture
def machine(tmp_path):
    files = {
        "proc/stat": "cpu 100 5 45 1000 7 3 2 40 0 0\ncpu0 1 0 0 0\ncpu1 1 0 0 0\nintr 1",
        "proc/7/stat": stat(7, own=(30, 20), reaped=(4, 6), faults=3),
        "proc/8/stat": stat(8, own=(10, 0)),
        "proc/7/task/7/children": "8 9",
        "proc/7/task/7/schedstat": "1000 2000000000 5",
        "proc/7/task/11/schedstat": "1000 500000000 5",
        "proc/vmstat": "nr_free 5\npswpin 3\npswpout 4\n",
        "proc/self/cgroup": "0::/box",
        "sys/fs/cgroup/box/cpu.stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 1500000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3600000",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2",
        "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "1",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def on(folder, platform="linux"):
    return read(Target(7, root=str(folder), platform=platform))


def test_a_linux_machine_tells_everything(machine):
    found = on(machine)
    assert found.busy_s * TICKS == 100 + 5 + 45 + 3 + 2
    assert found.steal_s * TICKS == 40
    # Its own time, that of a child and of those it has buried; a child that is gone is left out.
    assert found.own_s * TICKS == pytest.approx(30 + 20 + 4 + 6 + 10)
    assert (found.ran_s, found.waited_s) == (2e-6, 2.5)
    assert found.limited_s == 1.5
    assert found.swapped == 7 * os.sysconf("SC_PAGESIZE")
    assert found.faults == 3
    assert found.throttled == 3
    assert found.hertz == (2.4e9, 3.6e9)
    assert found.cores == 2


def test_what_a_machine_does_not_tell_is_no_number(tmp_path):
    found = on(tmp_path)
    for value in (found.busy_s, found.own_s, found.waited_s, found.limited_s, found.swapped):
        assert math.isnan(value)
    assert math.isnan(found.throttled)
    assert found.hertz == ()
    assert (found.heat, found.power) == ("unknown", "unknown")


def test_without_a_driver_the_frequency_is_what_the_processor_pretends(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("model name: x\ncpu MHz\t\t: 2596.1\ncpu MHz : 2000.0")
    assert on(tmp_path).hertz == (2596.1e6, 2000e6)


def test_the_first_version_of_control_groups_tells_the_limit_too(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("2:cpuacct:/box\n1:cpu,x:/box")
    folder = tmp_path / "sys/fs/cgroup/cpu/box"
    folder.mkdir(parents=True)
    (folder / "cpu.stat").write_text("nr_periods 5\nthrottled_time 2500000000")
    assert on(tmp_path).limited_s == 2.5


def test_elsewhere_the_library_is_asked(tmp_path, monkeypatch):
    import psutil

    times = SimpleNamespace(user=3.0, system=2.0)

    class Everything(tuple):
        __slots__ = ()
        idle = 90.0

    monkeypatch.setattr(psutil, "cpu_times", lambda: Everything((5.0, 5.0, 90.0)))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(sin=10, sout=5))
    child = SimpleNamespace(cpu_times=lambda: times)
    process = SimpleNamespace(cpu_times=lambda: times, children=lambda **_: [child])
    monkeypatch.setattr(psutil, "Process", lambda _: process)
    found = on(tmp_path, platform="other")
    assert (found.busy_s, found.own_s, found.swapped) == (10.0, 10.0, 15.0)
    assert math.isnan(found.steal_s)


def test_this_machine_can_be_read():
    first, second = read(), read()
    assert second.t_ns > first.t_ns
    assert second.cores >= 1
    assert not second.own_s < first.own_s
