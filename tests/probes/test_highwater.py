"""The kernel's high-water mark: what it says, that it can be set back, and why not."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.probes import apple, highwater
from coreml_lab.probes.highwater import AppleMarks, LinuxMarks, NoMarks, marks, reached
from coreml_lab.probes.protocol import Target
from tests.support.touching import touch


def machine(tmp_path, resident, most):
    folder = tmp_path / "proc" / "7"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text(f"VmHWM:\t {most} kB\nVmRSS:\t {resident} kB\n")
    (folder / "clear_refs").write_text("")
    return Target(7, root=str(tmp_path), platform="linux")


def test_linux_tells_what_is_resident_and_the_most(tmp_path):
    level = LinuxMarks(machine(tmp_path, 100, 300)).level()
    assert (level.now, level.most) == (102_400, 307_200)


def test_what_is_seen_now_counts_where_the_kernel_raises_its_mark_late(tmp_path):
    assert LinuxMarks(machine(tmp_path, 400, 300)).level().most == 409_600


def test_a_five_is_written_and_what_had_been_reached_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(highwater, "_reached", {})
    found = LinuxMarks(machine(tmp_path, 100, 300))
    assert found.reset() == ""
    assert (tmp_path / "proc" / "7" / "clear_refs").read_text() == "5"
    assert reached(7) == 307_200
    assert reached(8) == 0


def test_a_mark_that_cannot_be_set_back_says_why(tmp_path):
    target = machine(tmp_path, 100, 300)
    (tmp_path / "proc" / "7" / "clear_refs").unlink()
    why = LinuxMarks(target).reset()
    assert "cannot be set back" in why
    assert "No such file" in why


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this machine has no /proc")
def test_here_the_mark_follows_what_is_really_held():
    found = marks(Target(os.getpid()))
    if found.reset():
        pytest.skip("this container does not let the mark be set back")
    before = found.level()
    touch(32 << 20)
    after = found.level()
    assert after.most - before.now > 30e6
    assert found.reset() == ""
    assert found.level().most < after.most - 20e6


class Darwin:
    """libSystem as a table of words."""

    def __init__(self, words, refuse=0):
        self.words, self.refuse, self.reset_of = words, refuse, None

    def proc_pid_rusage(self, pid, flavor, buffer):
        assert flavor == 6
        place = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint64))
        for index, value in self.words.items():
            place[index] = value
        return self.refuse

    def proc_reset_footprint_interval(self, pid):
        self.reset_of = pid
        return 0


def test_macos_tells_the_footprint_and_the_neural_engines_since_the_interval_began():
    # Words of rusage_info_v6 behind the uuid: phys 7, interval max 33, neural 44 and 46.
    system = Darwin({9: 100, 35: 300, 46: 40, 48: 70})
    level = AppleMarks(7, system).level()
    assert (level.now, level.most, level.neural, level.neural_most) == (100, 300, 40, 70)
    assert AppleMarks(7, system).reset() == ""
    assert system.reset_of == 7
    assert apple.RUSAGE_WORDS == 58


def test_macos_that_refuses_or_lacks_the_call_says_so():
    with pytest.raises(ProbeError, match="refuses process 7"):
        AppleMarks(7, Darwin({}, refuse=-1)).level()

    class Older:
        proc_pid_rusage = Darwin({}).proc_pid_rusage

    assert "no proc_reset_footprint_interval" in AppleMarks(7, Older()).reset()


def test_other_systems_keep_no_mark():
    found = marks(Target(7, platform="win32"))
    assert isinstance(found, NoMarks)
    assert "no high-water mark" in found.reset()
    assert found.level().now != found.level().now
