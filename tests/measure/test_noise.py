"""Whether a machine was quiet: two readings, judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coreml_lab.measure.noise import conditions
from coreml_lab.metrics import Provenance
from coreml_lab.probes.disturbance import Reading

QUIET = Reading(
    t_ns=0,
    busy_s=100.0,
    steal_s=1.0,
    own_s=10.0,
    ran_s=10.0,
    waited_s=0.5,
    limited_s=0.0,
    swapped=4096.0,
    faults=1.0,
    throttled=2.0,
    hertz=(3e9, 3e9),
    heat="nominal",
    power="mains",
    cores=4,
)


def after(**changes):
    """A second later; this process worked for all of it on two cores, and nobody else did."""
    worked = replace(QUIET, t_ns=10**9, busy_s=102.0, own_s=12.0, ran_s=12.0)
    return replace(worked, **changes)


def noisy(**changes):
    return [c for c in conditions(QUIET, after(**changes)) if c.noisy]


def test_a_quiet_machine_disturbs_nothing():
    found = conditions(QUIET, after())
    assert not noisy()
    assert {c.value.provenance for c in found} == {Provenance.MEASURED}
    assert found[0].name == "work of other programs"
    assert found[0].value.value == 0


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"busy_s": 103.0}, "work of other programs", 1.0),
        ({"steal_s": 1.2}, "taken by the hypervisor", 0.05),
        ({"waited_s": 0.6}, "waiting for a core", 0.05),
        ({"limited_s": 0.25}, "held back by the container's CPU limit", 0.25),
        ({"hertz": (2.4e9, 2.4e9)}, "change of the cores' frequency", -0.2),
        ({"throttled": 5.0}, "slowed down because of heat", 3.0),
        ({"swapped": 12288.0}, "moved to and from swap", 8192.0),
    ],
)
def test_a_disturbance_is_told_with_its_figure(changes, name, value):
    (found,) = noisy(**changes)
    assert found.name == name
    assert found.value.value == pytest.approx(value)


def test_little_of_it_is_no_disturbance():
    little = {"busy_s": 102.1, "steal_s": 1.01, "waited_s": 0.51, "hertz": (3.1e9, 3.1e9)}
    assert not noisy(**little)


def test_more_work_of_its_own_than_the_machine_counted_is_no_negative_load():
    found = conditions(QUIET, after(busy_s=101.9))
    assert found[0].value.value == 0


def test_heat_and_battery_are_told_in_words():
    found = noisy(heat="serious", power="battery")
    assert [c.name for c in found] == ["heat", "battery"]
    assert "serious" in found[0].value.note


def test_what_is_not_known_is_unavailable_and_no_disturbance():
    found = conditions(Reading(0), Reading(10**9))
    assert {c.value.provenance for c in found} == {Provenance.UNAVAILABLE}
    assert not any(c.noisy for c in found)
    assert {c.value.note for c in found} == {"this system does not tell"}


def test_runs_of_a_few_ticks_are_too_short_for_other_programs_and_the_hypervisor():
    found = conditions(QUIET, after(t_ns=10**8, busy_s=200.0))
    assert found[0].value.note == found[1].value.note == "the runs were too short to tell"
    assert not found[0].noisy
