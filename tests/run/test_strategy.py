"""strategy(): set, read, taken back; the conditions it meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter
from coreml_lab.program.graph import Dim
from coreml_lab.records import Device
from coreml_lab.run import compiler, selection
from coreml_lab.run.hybrid import HybridEngine, Seat
from coreml_lab.run.split import conditions, strategy
from tests.support.machines import machine, target
from tests.support.splits import Engine


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Custom strategies of one test do not reach the next."""
    monkeypatch.setattr(strategy, "STRATEGIES", dict(strategy.STRATEGIES))


def test_a_strategy_holds_from_now_on_or_inside_a_block() -> None:
    assert strategy.current() is strategy.BALANCED
    cl.strategy("performance")
    assert strategy.current() is strategy.PERFORMANCE
    with cl.strategy("battery") as inside:
        assert inside is strategy.current() is strategy.BATTERY
    assert strategy.current() is strategy.PERFORMANCE


def test_without_an_argument_it_is_shown_and_stays() -> None:
    cl.strategy("battery")
    assert repr(cl.strategy()) == str(strategy.BATTERY)
    assert strategy.current() is strategy.BATTERY


def test_a_custom_strategy_holds_its_thresholds() -> None:
    mine = cl.Strategy("mine", energy=0.5, smallest=10)
    with cl.strategy(mine):
        assert strategy.current() is mine
        assert "GPUs from 10 results on" in repr(cl.strategy())
    cl.configure(strategy="mine")
    assert strategy.current() is mine


def test_a_block_or_a_plan_leaves_a_strategy_of_the_same_name_as_it_was() -> None:
    model = cl.compile(cl.ops.tanh, x=cl.spec(4))
    mine = cl.Strategy(energy=0.5)
    cl.strategy(mine)
    with cl.strategy(cl.Strategy(gain=3.0)) as other:
        assert strategy.current() is other
        assert cl.plan(model, cl.Strategy(gain=2.0)).strategy.gain == 2.0
        assert strategy.current() is other
    assert strategy.current() is mine
    cl.plan(model, cl.Strategy("another"))
    assert strategy.current() is mine
    assert "another" not in strategy.STRATEGIES
    cl.configure(strategy="custom")
    assert strategy.current() is mine


def test_to_show_the_strategy_of_a_block_does_not_set_it() -> None:
    with cl.strategy("battery"):
        assert repr(cl.strategy()) == str(strategy.BATTERY)
        with cl.strategy() as shown:
            assert shown is strategy.BATTERY
    assert strategy.current() is strategy.BALANCED


def test_a_strategy_may_be_given_as_a_setting() -> None:
    mine = cl.Strategy("mine", energy=0.5)
    with cl.configure(strategy=mine):
        assert strategy.current() is mine
    with cl.configure(strategy=5), pytest.raises(UnknownParameter, match="no strategy 5"):
        strategy.current()


@pytest.mark.parametrize("given", ["fast", cl.Strategy("battery", energy=0.1)])
def test_unknown_names_and_built_in_ones_with_other_thresholds_are_refused(given: Any) -> None:
    with pytest.raises(UnknownParameter, match="strategy"):
        cl.strategy(given)
    assert strategy.current() is strategy.BALANCED


@pytest.mark.parametrize("wrong", [{"energy": -1}, {"memory": 0}, {"memory": 2}, {"gain": 0.5}])
def test_impossible_thresholds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UnknownParameter, match="nothing is negative"):
        cl.Strategy("mine", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"energy": float("nan")}, "energy=nan"),
        ({"energy": "1"}, "energy='1'"),
        ({"gain": float("inf")}, "gain=inf"),
        ({"smallest": None}, "smallest=None"),
        ({"name": ""}, "name=''"),
    ],
)
def test_thresholds_that_are_no_numbers_are_refused_at_once(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnknownParameter, match=said) as caught:
        cl.Strategy(**wrong)
    assert caught.value.hint


def test_settings_with_an_unknown_strategy_say_which_there_are() -> None:
    cl.configure(strategy="quick")
    with pytest.raises(UnknownParameter, match="there is no strategy 'quick'"):
        strategy.current()


def test_conditions_come_from_the_machines_own_files(tmp_path: Path) -> None:
    files = {
        "proc/pressure/memory": "some avg10=25.00 avg60=0 avg300=0 total=1\n",
        "proc/meminfo": "MemTotal: 8000 kB\nMemAvailable: 4000 kB\n",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
    }
    found = conditions.read(target(machine(tmp_path, files)))
    assert found.power == "battery"
    assert found.thermal == "unknown"
    assert found.pressure == 0.25
    assert found.free == {"cpu": 4_096_000, "coreml:0": 4_096_000}
    assert found.homes == {"coreml:0": "cpu"}


def test_a_machine_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    found = conditions.read(target(tmp_path))
    assert found == strategy.Conditions()


def test_the_free_memory_of_gpus_is_what_their_devices_tell(monkeypatch: Any) -> None:
    told = {"cuda:0": 123, "cuda:1": None}
    monkeypatch.setattr(
        selection.devices,
        "device",
        lambda name: Device(
            name, "a GPU", available=True, memory_free=told[name], unified_memory=name[-1] == "1"
        ),
    )
    seats = tuple(Seat(Engine("e", (d,)), d) for d in ("cpu", *told))
    engine = selection.informed(HybridEngine(seats), compiler.cache())
    assert isinstance(engine, HybridEngine)
    assert engine.conditions.free["cuda:0"] == 123
    assert "cuda:1" not in engine.conditions.free
    assert engine.conditions.free["cpu"] > 0
    assert engine.conditions.homes == {"coreml:0": "cpu", "cuda:1": "cpu"}


def test_who_was_asked_for_keeps_what_it_can_run_however_little_is_gained() -> None:
    engine = HybridEngine((Seat(Engine("e"), "cpu"),), keeps="e")
    aim = strategy.Strategy("mine", gain=2.0, smallest=9)
    kept = selection.informed(engine, compiler.cache(), aim)
    assert isinstance(kept, HybridEngine)
    assert (kept.strategy.gain, kept.strategy.smallest) == (1.0, 0)


def test_the_plan_of_a_model_follows_the_strategy_that_is_asked_for() -> None:
    model = cl.compile(cl.ops.tanh, x=cl.spec(Dim("n", 1, 8), 4))
    assert "strategy performance" in str(cl.plan(model, "performance"))
    with cl.strategy("battery"):
        assert "strategy battery" in str(cl.plan(model))
    assert strategy.current() is strategy.BALANCED
