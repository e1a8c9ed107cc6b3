"""compare(): batches, memory, loading and energy of the arms."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.errors import LabError
from coreml_lab.explain import comparison_study
from coreml_lab.explain.comparison_study import Joules
from coreml_lab.measure.alone import Alone
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.counters import absent
from tests.support.comparisons import before_and_after, measured, tools
from tests.support.fakes import INFO, FakeModel


def test_a_fixed_batch_says_so_for_every_other_size():
    (arm,) = before_and_after(batches=(1, 4)).arms
    assert arm.row("throughput.1").value.value == pytest.approx(1000 / 3)
    assert arm.row("throughput.1").verdict == "more throughput"
    assert "its batch is fixed at 1" in arm.row("throughput.4").value.note
    assert arm.row("throughput.4").verdict == "not ranked"


def flexible(clock, milliseconds, high=8):
    port = dataclasses.replace(INFO.inputs[0], shape=("n", 8))
    info = dataclasses.replace(INFO, inputs=(port,), dims={"n": (1, high)})
    return FakeModel(clock, milliseconds, info=info)


def test_a_flexible_batch_is_measured_within_its_bounds():
    clock = FakeClock()
    models = {"a": flexible(clock, lambda _: 4.0), "b": flexible(clock, lambda _: 1.0)}
    (arm,) = measured(models, clock, batches=(1, 4, 16)).arms
    row = arm.row("throughput.4")
    assert (row.value.value, row.ratio.value) == (pytest.approx(4000), 4)
    assert arm.row("throughput.16").value.note == "its batch is 1 to 8"


def test_arms_that_take_other_batches_than_the_baseline_have_no_ratio():
    clock = FakeClock()
    models = {"a": flexible(clock, lambda _: 4.0, high=2), "b": flexible(clock, lambda _: 1.0)}
    row = measured(models, clock, batches=(4,)).arms[0].row("throughput.4")
    assert row.value.value == pytest.approx(4000)
    assert row.ratio.note == "the baseline does not take so many"


def seen(load, peak, device=math.nan):
    return Alone(load, 0.01, peak + 5, peak, peak - 5, device, device, "", "resident set")


def test_memory_and_loading_are_of_processes_of_their_own():
    clock = FakeClock()
    rows = {"before": (seen(3.0, 900.0), seen(1.0, 100.0)), "after": (seen(2.0, 800.0),)}
    models = {name: FakeModel(clock, info=dataclasses.replace(INFO, name=name)) for name in rows}
    asked = tools(clock, alone=lambda model, inputs, seconds: rows[model.info.name])
    found = measured(models, clock, tools=asked)
    (arm,) = found.arms
    base = found.reference
    assert (base.row("load.cold").value.value, base.row("load.warm").value.value) == (3, 1)
    assert base.row("memory.peak").value.value == 100
    assert base.row("memory.peak").ratio.note == "it is the baseline"
    row = arm.row("memory.peak")
    assert (row.value.value, row.ratio.value, row.verdict) == (800, 8, "not ranked: measured once")
    assert "coremltools" in row.value.note
    assert arm.row("load.warm").value.provenance is Provenance.UNAVAILABLE
    with pytest.raises(LabError, match="no row"):
        arm.row("memory.device")


def test_the_device_has_a_row_where_a_framework_tells():
    clock = FakeClock()
    rows = {"gpu": seen(1.0, 100.0, device=7e6), "none": seen(1.0, 100.0)}
    models = {name: FakeModel(clock, info=dataclasses.replace(INFO, name=name)) for name in rows}
    asked = tools(clock, alone=lambda model, inputs, seconds: (rows[model.info.name],))
    found = measured(models, clock, tools=asked)
    assert found.reference.row("memory.device").value.value == 7e6
    assert "process's own memory" in found.arms[0].row("memory.device").value.note


def energies(after, before):
    return counted(Joules(after, 10), Joules(before, 10)).arms[0].row("energy")


def counted(after, before):
    clock = FakeClock()
    rows = {"before": before, "after": after}
    models = {name: FakeModel(clock, info=dataclasses.replace(INFO, name=name)) for name in rows}
    asked = tools(clock, joules=lambda model, inputs, seconds: rows[model.info.name])
    return measured(models, clock, tools=asked)


def joules(value, low, high, provenance=Provenance.MEASURED):
    return Quantity(value, "J", provenance, low, high)


def test_measured_energies_are_ranked_where_their_intervals_lie_apart():
    row = energies(joules(1.0, 0.9, 1.1), joules(2.0, 1.9, 2.1))
    assert (row.ratio.value, row.verdict) == (0.5, "less energy")
    assert energies(joules(1.9, 1.7, 2.1), joules(2.0, 1.9, 2.1)).verdict == "no difference shown"


def test_energy_shares_the_error_with_the_other_rows():
    # At 95 % their intervals lie apart, at what is left of the error for each they do not.
    row = energies(joules(1.0, 0.8, 1.2), joules(1.5, 1.3, 1.7))
    assert row.verdict == "no difference shown"
    assert row.value.high > 1.3
    clock, model = FakeClock(), "before"
    models = {n: FakeModel(clock, info=dataclasses.replace(INFO, name=n)) for n in (model, "after")}
    counted, none = Joules(joules(1.0, 0.9, 1.1), 10), Joules(Quantity.unavailable("J", "no"))
    spent = {
        known: measured(models, clock, tools=tools(clock, joules=lambda *_, f=found: f)).statements
        for known, found in (("counted", counted), ("none", none))
    }
    assert spent["counted"] == spent["none"] + 1


def test_estimated_energies_are_ranges_and_never_ranked():
    found = [joules(math.nan, 1.0, 4.0, Provenance.ESTIMATED)] * 2
    row = energies(*found)
    assert (row.ratio.low, row.ratio.high) == (0.25, 4)
    assert row.verdict == "not ranked: see CPU time"
    mixed = energies(found[0], joules(2.0, 1.9, 2.1))
    assert mixed.verdict == "not ranked: it is estimated"


def test_energy_below_resolution_is_not_ranked():
    below = Quantity(math.nan, "J", Provenance.UNAVAILABLE, high=0.5, note="below resolution")
    assert energies(joules(1.0, 0.9, 1.1), below).verdict == "not ranked"


BOARD = Joules(joules(0.5, 0.48, 0.52), 10, "gpu/0", "GPU 0, a board")
PACKAGE = Joules(joules(0.8, 0.78, 0.82), 10, "package", "CPU package")


def test_joules_of_different_counters_are_not_ranked_and_say_which():
    found = counted(BOARD, PACKAGE)
    row = found.arms[0].row("energy")
    why = "counted by different counters (GPU 0, a board; CPU package)"
    assert row.verdict == f"not ranked: {why}"
    assert math.isnan(row.ratio.value)
    assert row.ratio.note == why
    assert row.value.value == 0.5
    # No interval is given, so none shares the error.
    none = counted(Joules(Quantity.unavailable("J", "no")), PACKAGE)
    assert found.statements == none.statements == counted(PACKAGE, PACKAGE).statements - 1


def test_two_boards_are_ranked_each_by_its_own_counter():
    other = dataclasses.replace(BOARD, value=joules(1.0, 0.96, 1.04), group="gpu/1")
    assert counted(BOARD, other).arms[0].row("energy").verdict == "less energy"


def test_where_counters_differ_the_totals_of_one_make_up_are_ranked():
    title = "CPU package + GPU 0, a board"
    more, less = (Joules(joules(v, v - 0.02, v + 0.02), 10, "total", title) for v in (0.9, 0.85))
    found = counted(
        dataclasses.replace(BOARD, total=more), dataclasses.replace(PACKAGE, total=less)
    )
    row = found.arms[0].row("energy")
    assert row.value.value == 0.9
    assert row.value.note == f"added up: {title}"
    assert row.ratio.value == pytest.approx(0.9 / 0.85)
    assert row.verdict == "no difference shown"
    other = dataclasses.replace(less, title="CPU package + memory")
    found = counted(
        dataclasses.replace(BOARD, total=more), dataclasses.replace(PACKAGE, total=other)
    )
    assert "different counters" in found.arms[0].row("energy").verdict


def test_joules_keep_the_counters_that_told_them_or_why_none_did(monkeypatch):
    def told(*groups, main, missing=()):
        made = {
            g: SimpleNamespace(above_idle=BOARD.value, degrees=3, group=g, title=g.upper())
            for g in groups
        }
        measurement = SimpleNamespace(missing=missing)
        found = SimpleNamespace(
            rows=tuple(made.values()), main=made.get(main), measurement=measurement
        )
        monkeypatch.setattr(comparison_study, "energy", lambda *_, **__: found)
        return comparison_study.joules(None, {}, 1.0)

    found = told("package", "dram", "total", main="package")
    assert (found.group, found.title, found.degrees) == ("package", "PACKAGE", 3)
    assert (found.total.group, found.total.counter) == ("total", "TOTAL")
    assert told("package", main="package").total is None
    refused = absent("package", "CPU", "RAPL", "may be read by root only")
    assert told(main="", missing=(refused,)).value.note == "may be read by root only"
    assert "no counter here" in told("dram", main="").value.note
