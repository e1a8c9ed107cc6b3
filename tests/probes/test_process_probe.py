"""The watched process, on Linux, on macOS through a double, and elsewhere."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Target, apple
from coreml_lab.probes.pressure import PressureProbe
from coreml_lab.probes.process import ProcessProbe, from_stat
from tests.support.machines import NOBODY, SECOND, STATUS, machine, stat, target, values

MIB = 1 << 20


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


def test_the_peak_stays_where_the_process_sets_its_own_mark_back(tmp_path):
    files = {f"proc/{NOBODY}/status": STATUS, f"proc/{NOBODY}/stat": stat(0, 0)}
    tree = machine(tmp_path, files)
    probe = ProcessProbe()
    probe.open(target(tree, pid=NOBODY))
    assert values(probe, 0)["process.memory.peak"] == 2048 * 1024
    machine(tree, {f"proc/{NOBODY}/status": STATUS.replace("2048 kB", "1024 kB")})
    assert values(probe, SECOND)["process.memory.peak"] == 2048 * 1024


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
        if name == b"kern.osversion":
            old.value = b"25B78"  # type: ignore[attr-defined]
            return -1 if self.refuse else 0
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


def test_on_macos_the_build_is_a_text_of_the_kernels():
    assert apple.kernel_text("kern.osversion", FakeSystem()) == "25B78"
    with pytest.raises(ProbeError, match="osversion"):
        apple.kernel_text("kern.osversion", FakeSystem(refuse=True))


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
