"""Each probe on a machine made of files, and the panel that reads them together."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from coreml_lab.errors import InputError, ProbeError
from coreml_lab.metrics import METRICS, Provenance, metric
from coreml_lab.probes import PROBES, Channel, Panel, Probe, Target, apple
from coreml_lab.probes.cpu import CpuProbe
from coreml_lab.probes.memory import MemoryProbe
from coreml_lab.probes.modelled import ModelledProbe, parse_watts
from coreml_lab.probes.pressure import PressureProbe
from coreml_lab.probes.process import ProcessProbe, from_stat
from coreml_lab.probes.protocol import Rate
from coreml_lab.probes.rapl import RaplProbe

SECOND = 1_000_000_000
NOBODY = (1 << 22) - 1  # above the largest process number in use


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """A folder tree that stands for a machine; existing files keep their identity."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def target(root: Path, platform: str = "linux", pid: int = 7) -> Target:
    return Target(pid, root=str(root), platform=platform)


def values(probe: Probe, now_ns: int) -> dict[str, float]:
    return dict(zip(probe.metrics, probe.read(now_ns), strict=True))


# -- every probe ---------------------------------------------------------------------------------


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


# -- the panel -----------------------------------------------------------------------------------


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


# -- the process ---------------------------------------------------------------------------------

STATUS = "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
STAT = "7 (a) odd) name) S 1 7 7 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 3 0 100 0 0"


def stat(user: int, system: int) -> str:
    return STAT.format(user=user, system=system)


def test_process_memory_is_the_resident_set_and_its_high_water_mark(tmp_path):
    files = {f"proc/{NOBODY}/status": STATUS, f"proc/{NOBODY}/stat": stat(0, 0)}
    probe = ProcessProbe()
    probe.open(target(machine(tmp_path, files), pid=NOBODY))
    assert values(probe, 0)["process.memory.usage"] == 1024 * 1024
    assert values(probe, 0)["process.memory.peak"] == 2048 * 1024


def test_the_peak_is_never_below_what_is_in_use(tmp_path):
    text = STATUS.replace("1024 kB", "4096 kB")
    tree = machine(tmp_path, {f"proc/{NOBODY}/status": text, f"proc/{NOBODY}/stat": stat(0, 0)})
    probe = ProcessProbe()
    probe.open(target(tree, pid=NOBODY))
    assert values(probe, 0)["process.memory.peak"] == 4096 * 1024


def test_a_process_without_a_memory_line_has_no_memory_rather_than_none_used(tmp_path):
    files = {f"proc/{NOBODY}/status": "Name:\tx\n", f"proc/{NOBODY}/stat": stat(0, 0)}
    probe = ProcessProbe()
    channels = probe.open(target(machine(tmp_path, files), pid=NOBODY))
    assert channels[2].provenance is Provenance.UNAVAILABLE
    assert channels[2].note
    assert math.isnan(values(probe, 0)["process.memory.usage"])


def test_cpu_time_is_read_from_stat_where_the_kernel_gives_no_clock(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    files = {f"proc/{NOBODY}/status": STATUS, f"proc/{NOBODY}/stat": stat(0, 0)}
    tree = machine(tmp_path, files)
    probe = ProcessProbe()
    probe.open(target(tree, pid=NOBODY))
    assert math.isnan(values(probe, 0)["process.cpu.cores"])
    machine(tree, {f"proc/{NOBODY}/stat": stat(ticks, ticks // 2)})
    row = values(probe, SECOND)
    assert row["process.cpu.time"] == 1.5
    assert row["process.cpu.cores"] == 1.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
def test_clock_and_stat_agree_about_this_process():
    me = Target(os.getpid())
    probe = ProcessProbe()
    probe.open(me)
    coarse = from_stat(me)()
    assert probe.read(0)[1] == pytest.approx(coarse, abs=0.05)


def test_another_process_is_watched_from_outside():
    command = [sys.executable, "-c", "print(sum(range(10**6)), flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        probe = ProcessProbe()
        probe.open(Target(child.pid))
        row = values(probe, 0)
        child.kill()
    assert row["process.cpu.time"] > 0
    assert row["process.memory.usage"] > 1 << 20


# -- the cores -----------------------------------------------------------------------------------

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


# -- the machine's memory ------------------------------------------------------------------------

MIB = 1 << 20
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


# -- pressure ------------------------------------------------------------------------------------


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


# -- macOS, through a double of its system library -----------------------------------------------


class FakeSystem:
    """Answers as libSystem does for one process of 3 MiB, 5 MiB at most."""

    def __init__(self, refuse: bool = False) -> None:
        self.refuse = refuse

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: object) -> int:
        assert flavor == apple.RUSAGE_VERSION
        words = buffer._obj  # type: ignore[attr-defined]
        assert ctypes.sizeof(words) == 464
        words[9], words[30] = 3 * MIB, 5 * MIB
        return -1 if self.refuse else 0

    def sysctlbyname(
        self, name: bytes, old: object, size: object, new: object, length: object
    ) -> int:
        assert name == b"kern.memorystatus_vm_pressure_level"
        old._obj.value = 2  # type: ignore[attr-defined]
        return -1 if self.refuse else 0


def test_on_macos_memory_is_the_footprint_and_pressure_the_kernels_level(tmp_path, monkeypatch):
    monkeypatch.setattr(apple, "library", FakeSystem)
    process, pressure = ProcessProbe(), PressureProbe()
    me = Target(os.getpid(), root=str(tmp_path), platform="darwin")
    channels = process.open(me)
    pressure.open(me)
    assert channels[2].note == "physical footprint"
    assert process.read(0)[2:] == (3 * MIB, 5 * MIB)
    assert process.read(0)[1] > 0
    assert pressure.read(0) == (2.0,)


def test_macos_refusing_is_a_reason_not_a_number():
    refusing = FakeSystem(refuse=True)
    with pytest.raises(ProbeError, match="process 7"):
        apple.footprint(7, refusing)()
    with pytest.raises(ProbeError, match="vm_pressure_level"):
        apple.kernel_number("kern.memorystatus_vm_pressure_level", refusing)()


def test_elsewhere_psutil_tells_memory_but_no_peak(tmp_path):
    probe = ProcessProbe()
    channels = probe.open(Target(os.getpid(), root=str(tmp_path), platform="freebsd"))
    assert channels[3].provenance is Provenance.UNAVAILABLE
    assert probe.read(0)[2] > MIB
    assert math.isnan(probe.read(0)[3])


def test_elsewhere_a_process_that_is_not_there_is_a_reason(tmp_path):
    with pytest.raises(ProbeError, match="cannot be watched"):
        ProcessProbe().open(Target(NOBODY, root=str(tmp_path), platform="freebsd"))


def test_elsewhere_a_process_that_ends_is_a_reason(tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    probe = ProcessProbe()
    probe.open(Target(os.getpid(), root=str(tmp_path), platform="freebsd"))

    def gone(*_: object) -> None:
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil.Process, "memory_info", gone)
    with pytest.raises(ProbeError):
        probe.read(0)
    monkeypatch.setattr(psutil.Process, "cpu_times", gone)
    with pytest.raises(ProbeError):
        probe.read(0)


# -- power ---------------------------------------------------------------------------------------

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
    probe = RaplProbe()
    probe.open(target(tree))
    assert probe.read(0)[1] == 0.0
    package(tree, 995_000_000)
    assert probe.read(SECOND) == pytest.approx((5.0, 5.0))
    package(tree, 15_000_000)  # the counter went round at 1000 J
    assert probe.read(3 * SECOND) == pytest.approx((10.0, 25.0))


def test_packages_are_added_up_and_parts_and_the_platform_are_not_counted_twice(tmp_path):
    package(tmp_path, 0)
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:1", "package-1")
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:0:0", "core")
    package(tmp_path, 0, "sys/class/powercap/intel-rapl:2", "psys")
    probe = RaplProbe()
    channels = probe.open(target(tmp_path))
    probe.read(0)
    for zone, name in (("0", "package-0"), ("1", "package-1"), ("0:0", "core"), ("2", "psys")):
        package(tmp_path, 4_000_000, f"sys/class/powercap/intel-rapl:{zone}", name)
    assert "2 package(s)" in channels[0].note
    assert probe.read(SECOND)[0] == pytest.approx(8.0)


def test_an_energy_counter_that_has_not_moved_is_no_reading_rather_than_no_power(tmp_path):
    probe = RaplProbe()
    probe.open(target(package(tmp_path, 5)))
    probe.read(0)
    assert math.isnan(probe.read(SECOND)[0])


def test_a_jump_no_package_can_draw_is_dropped(tmp_path):
    tree = package(tmp_path, 0)
    probe = RaplProbe()
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
    panel = Panel(target(tree), [RaplProbe])
    assert all(c.provenance is Provenance.UNAVAILABLE for c in panel.channels)
    assert "root only" in panel.channels[0].note
    assert "chmod a+r" in panel.channels[0].note


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(ProbeError, match="no RAPL package counter"):
        RaplProbe().open(target(tmp_path))
    with pytest.raises(ProbeError, match="Linux only"):
        RaplProbe().open(target(tmp_path, "darwin"))


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
