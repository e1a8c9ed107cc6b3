"""What a measurement is made under, on made-up machines."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coreml_lab.metrics import Provenance
from coreml_lab.probes import context
from tests.support.machines import machine, target

ZONE = "sys/class/thermal/thermal_zone"


def test_the_battery_is_a_share_and_says_whether_it_is_plugged_in(tmp_path):
    found = SimpleNamespace(percent=80, power_plugged=False)
    charge = context.battery(target(tmp_path), lambda: found)
    assert (charge.value, charge.unit, charge.note) == (0.8, "1", "discharging")


def test_without_a_battery_it_is_unavailable_and_never_zero(tmp_path):
    charge = context.battery(target(tmp_path), lambda: None)
    assert charge.provenance is Provenance.UNAVAILABLE
    assert "no battery" in charge.note

    def refuse():
        raise OSError("nothing there")

    assert "nothing there" in context.battery(target(tmp_path), refuse).note


def test_the_hottest_zone_is_told_by_its_name(tmp_path):
    files = {"0/type": "acpitz", "0/temp": "41000", "1/type": "x86_pkg_temp", "1/temp": "63500"}
    tree = machine(tmp_path, {f"{ZONE}{k}": f"{v}\n" for k, v in files.items()})
    found = context.hottest(target(tree))
    assert (found.value, found.unit, found.note) == (63.5, "Cel", "x86_pkg_temp")
    assert "no thermal zone" in context.hottest(target(tmp_path / "empty")).note


@pytest.mark.parametrize(("number", "word"), [(0, "nominal"), (1, "fair"), (3, "critical")])
def test_a_mac_tells_its_thermal_state_in_apples_words(tmp_path, number, word):
    assert context.heat(target(tmp_path, "darwin"), lambda: number) == word


def test_a_mac_that_does_not_is_asked_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(context.supply, "thermal", lambda _: "serious")

    def refuse():
        raise OSError("no Foundation here")

    assert context.heat(target(tmp_path, "darwin"), refuse) == "serious"
    assert context.heat(target(tmp_path, "darwin")) == "serious"  # this is no Mac


def test_pressure_is_a_share_on_linux_and_a_reason_elsewhere(tmp_path):
    line = "some avg10=12.50 avg60=0.00 avg300=0.00 total=5\n"
    tree = machine(tmp_path, {"proc/pressure/memory": line})
    assert context.pressure(target(tree)).value == 0.125
    assert "no source of memory pressure" in context.pressure(target(tree, "win32")).note


def test_everything_is_told_or_has_a_reason(tmp_path):
    rows = dict(context.context(target(tmp_path)))
    assert list(rows) == ["power supply", "battery", "heat", "hottest sensor", "memory pressure"]
    for state in rows.values():
        assert isinstance(state, str) or state.note
