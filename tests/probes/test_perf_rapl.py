"""RAPL counters through perf, powercap's other zones, and what becomes of odd counters."""

from __future__ import annotations

import math
import os
import random

import pytest

from coreml_lab.errors import ProbeError
from coreml_lab.probes import perf
from coreml_lab.probes.counters import Growth, Scope, opened
from coreml_lab.probes.perf import perf_counters
from coreml_lab.probes.rapl import RaplSource
from tests.support.machines import SECOND, machine, target

POWER = "sys/bus/event_source/devices/power"
CAP = "sys/class/powercap"


def pmu(root, cpus="0,16"):
    files = {f"{POWER}/type": "23\n", f"{POWER}/cpumask": f"{cpus}\n"}
    for name, code in (("pkg", 2), ("ram", 3), ("psys", 5)):
        event = f"{POWER}/events/energy-{name}"
        files |= {event: f"event=0x0{code}\n", f"{event}.unit": "Joules\n"}
        files |= {f"{event}.scale": "2.3283064365386962890625e-10\n"}
    files[f"{POWER}/events/energy-odd"] = "event=0x09\n"
    files[f"{POWER}/events/energy-odd.unit"] = "Furlongs\n"
    return machine(root, files)


class Counters:
    """Descriptors of files that hold eight bytes each."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []

    def __call__(self, kind, config, cpu):
        self.asked.append((kind, config, cpu))
        path = self.folder / f"{config}-{cpu}"
        path.write_bytes((0).to_bytes(8, "little"))
        return os.open(path, os.O_RDONLY)

    def set(self, config, cpu, joules):
        path = self.folder / f"{config}-{cpu}"
        path.write_bytes(round(joules * 2**32).to_bytes(8, "little"))


def test_every_event_in_joules_is_opened_on_one_cpu_of_each_package(tmp_path):
    opening = Counters(tmp_path)
    found = perf_counters(target(pmu(tmp_path)), opening)
    assert [(event, cpu) for event, cpu, _ in found] == [
        ("pkg", 0), ("pkg", 16), ("psys", 0), ("psys", 16), ("ram", 0), ("ram", 16),
    ]  # fmt: skip
    assert opening.asked[0] == (23, 2, 0)
    opening.set(2, 0, 3.5)
    assert found[0][2]() == 3.5


def test_where_powercap_is_closed_perf_stands_in(tmp_path, monkeypatch):
    values = {}
    monkeypatch.setattr(perf, "_opener", lambda: lambda kind, config, cpu: config)
    monkeypatch.setattr(perf, "_read", lambda config, scale: values.get(config, 0.0))
    found = opened(RaplSource(), target(pmu(tmp_path, cpus="0")))
    assert [d.group for d in found.domains] == ["package", "machine", "dram"]
    assert {d.source for d in found.domains} == {"RAPL (perf)"}
    found.source.read(0)
    values.update({2: 4.0, 3: 1.0, 5: 9.0})
    assert [r.joules for r in found.source.read(SECOND)] == [4.0, 9.0, 1.0]


def test_where_both_are_closed_the_reason_is_powercaps_with_what_to_do(tmp_path, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied", "perf_event_open")

    monkeypatch.setattr(perf, "_opener", refuse)
    found = opened(RaplSource(), target(pmu(tmp_path)))
    assert "no RAPL package counter" in found.missing[0].reason


def test_an_unknown_machine_is_not_called(monkeypatch):
    monkeypatch.setattr(perf.platform, "machine", lambda: "s390x")
    with pytest.raises(ProbeError, match="s390x"):
        perf._opener()


def test_a_range_of_cpus_is_spelled_out():
    assert perf._cpus("0-2,8") == [0, 1, 2, 8]


def zone(root, path, name, microjoules):
    files = {"name": name, "energy_uj": str(microjoules), "max_energy_range_uj": "1000000000"}
    return machine(root, {f"{CAP}/{path}/{k}": f"{v}\n" for k, v in files.items()})


def test_memory_stands_beside_the_package_and_the_platform_contains_both(tmp_path):
    for path, name in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "psys"), ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        zone(tmp_path, path, name, 0)
    domains = RaplSource().open(target(tmp_path))
    assert [(d.group, d.within) for d in domains] == [
        ("package", "machine"), ("dram", "machine"), ("machine", ""),
    ]  # fmt: skip
    assert domains[2].scope is Scope.MACHINE
    assert {d.wrap for d in domains} == {1000.0}


def test_growth_follows_a_counter_round_its_end():
    growth = Growth(wrap=1000.0)
    assert [growth.of(v, i * SECOND) for i, v in enumerate((990.0, 995.0, 5.0))] == [0, 5, 15]


def test_growth_is_broken_once_by_a_reset_and_goes_on():
    growth = Growth()
    found = [growth.of(v, i * SECOND) for i, v in enumerate((50.0, 60.0, 1.0, 4.0))]
    assert found[:2] == [0.0, 10.0]
    assert math.isnan(found[2])
    assert found[3] == 13.0


def test_growth_is_broken_by_a_jump_that_nothing_can_draw():
    growth = Growth()
    growth.of(0.0, 0)
    assert math.isnan(growth.of(1e6, SECOND))
    assert growth.of(1e6 + 3, 2 * SECOND) == 3.0


def test_a_batch_of_seconds_that_comes_at_once_is_no_jump():
    growth = Growth()
    growth.of(0.0, 0)
    growth.of(0.0, 2 * SECOND)
    assert growth.of(600.0, 2 * SECOND + 1000) == 600.0


@pytest.mark.parametrize("seed", range(20))
def test_growth_is_the_sum_of_its_steps_wherever_the_counter_begins_again(seed):
    draw = random.Random(seed)
    growth, shown, total = Growth(wrap=100.0), draw.randrange(100_000), 0
    growth.of(shown * 1e-3, 0)
    for number in range(draw.randrange(1, 60)):
        step = draw.randrange(50_000)
        total += step
        shown = (shown + step) % 100_000
        found = growth.of(shown * 1e-3, (number + 1) * SECOND)
    assert found == pytest.approx(total * 1e-3, abs=1e-6)
