"""compare(): arms in turns, ratios, verdicts, and how far the numbers are apart."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.clock import FakeClock
from coreml_lab.errors import EngineUnavailable, LabError
from coreml_lab.explain import comparison_arms
from coreml_lab.explain.comparison import compare, measure
from coreml_lab.metrics import Provenance
from coreml_lab.records import Device, PlanInfo
from tests.support import fakes
from tests.support.comparisons import X, before_and_after, compared, measured, tools
from tests.support.fakes import INFO, FakeModel


def test_the_last_device_is_the_baseline_and_the_ratio_is_arm_over_baseline():
    (arm,) = compared().arms
    assert (arm.device, arm.ratio.value) == ("coreml", 0.5)
    assert (arm.latency.value, arm.baseline_latency.value) == pytest.approx((2e-3, 4e-3))
    assert arm.verdict == "less time"


def test_another_baseline_can_be_named():
    found = compared(baseline="coreml")
    assert found.baseline.device == "coreml:0"
    assert found.arms[0].ratio.value == 2
    assert found.arms[0].verdict == "more time"


def test_arms_bear_the_titles_of_their_plans():
    found = str(compared())
    assert "Core ML program, portable engine (CPU)" in found
    assert "baseline: NumPy reference (CPU)" in found


def test_no_verdict_is_given_where_the_interval_contains_one():
    (arm,) = compared(arm=lambda call: 3.0 if call % 2 else 5.0).arms
    assert arm.verdict == "no difference shown"


def test_too_few_pairs_are_called_that():
    (arm,) = compared(pairs=3).arms
    assert arm.verdict == "not resolved: 3 pairs are too few"


def test_slow_arms_are_measured_as_often_as_a_minute_allows():
    (arm,) = compared(base=lambda _: 9000.0, pairs=100).arms
    assert arm.ratio.pairs < 10


def test_the_page_says_how_it_was_measured_and_what_it_does_not_say():
    notes = compared().page.notes
    assert "sign test" in notes[0]
    assert "Nothing here is a statement about Core ML on Apple hardware" in notes[-1]


def test_equal_engines_are_pointed_out():
    clock = FakeClock()
    twin = FakeModel(clock, device="coreml")
    model = FakeModel(clock, device="coreml", siblings={"cpu": twin})
    found = measure(model, X, ("coreml", "cpu"), baseline=None, pairs=8, tools=tools(clock))
    assert any("the noise of this machine" in note for note in found.page.notes)


def test_numbers_that_are_equal_are_identical():
    (agreement,) = compared().arms[0].agreement
    assert agreement.identical
    assert "identical" in str(compared())


def test_numbers_that_differ_show_how_far():
    (agreement,) = compared(error=1e-3).arms[0].agreement
    assert agreement.snr.value == pytest.approx(60, abs=0.1)
    assert agreement.largest.value == pytest.approx(14e-3, rel=0.01)
    assert agreement.ulp.value > 1000


def test_a_comparison_is_also_json_and_html():
    data = json.loads(compared().to_json())
    assert data["tables"][0]["rows"][0][3]["low"] == 0.5
    assert "less time" in compared()._repr_html_()
    assert repr(compared()).startswith("<Comparison: tiny against NumPy reference (CPU)")


@pytest.mark.parametrize("devices", [("cpu",), "cpu", ("cpu", "cpu")])
def test_fewer_than_two_devices_are_refused(devices):
    with pytest.raises(LabError, match="two devices"):
        compared(devices=devices)


def test_a_device_that_is_not_here_stands_in_the_table_with_the_reason():
    found = compared(devices=("coreml", "metal", "cpu"))
    (absent,) = found.absent
    assert (absent.name, absent.reason) == ("metal", "a fake has two devices")
    assert "a Mac" in absent.hint
    assert [arm.name for arm in found.arms] == ["coreml"]
    assert "a fake has two devices" in str(found)


def test_gpu_is_the_first_kind_that_is_here_and_says_of_all_why_not():
    (absent,) = compared(devices=("coreml", "gpu", "cpu")).absent
    assert absent.name == "gpu"
    assert [part.split(":")[0] for part in absent.reason.split("; ")] == ["cuda", "metal", "opencl"]
    assert "NVIDIA" in absent.hint


def test_an_opencl_device_that_is_no_gpu_does_not_pass_for_one(monkeypatch):
    title = "Core ML program, tinygrad (a processor)"
    monkeypatch.setitem(fakes.PLANS, "opencl", PlanInfo("tinygrad", "opencl:0", title))
    for gpu in (False, True):
        found = Device("opencl:0", title, True, is_gpu=gpu)
        monkeypatch.setattr(comparison_arms.devices, "device", lambda _, found=found: found)
        result = compared(devices=("gpu", "cpu"))
        assert [arm.device for arm in result.arms] == ["opencl:0"] * gpu
    assert compared(devices=("opencl", "cpu")).arms[0].plan.title == title


def test_a_model_with_states_runs_on_with_its_own():
    class Counting(FakeModel):
        states = {"n": 0}  # noqa: RUF012 - a stand-in
        made = 0

        def make_state(self):
            self.made += 1
            return [0]

        def predict(self, inputs, state):
            state[0] += 1
            return super().predict(inputs)

    clock = FakeClock()
    models = {"a": Counting(clock), "b": Counting(clock)}
    found = measured(models, clock, batches=())
    assert found.absent == ()
    # One for the results, one for all rounds.
    assert models["a"].made == 2


def test_core_ml_works_in_another_process_whose_cpu_time_is_not_ours(monkeypatch):
    monkeypatch.setitem(fakes.PLANS, "coreml", PlanInfo("coreml", "coreml:0", "Core ML"))
    for baseline in ("cpu", "coreml"):
        found = compared(baseline=baseline)
        row = found.arms[0].row("cpu.time")
        assert row.ratio.provenance is Provenance.UNAVAILABLE
        assert "a process of its own" in row.ratio.note
        assert found.arms[0].ratio.resolved
        assert not any("Nothing here is a statement" in note for note in found.page.notes)


def test_one_arm_that_is_left_is_measured_without_a_ratio():
    found = compared(devices=("metal", "cpu"))
    assert found.arms == ()
    assert found.reference.row("latency.p50").value.value == pytest.approx(4e-3)
    assert "nothing to compare it with" in repr(found)


def test_it_is_an_error_where_no_arm_is_left():
    with pytest.raises(EngineUnavailable, match="metal: a fake has two devices"):
        compare(FakeModel(), X, devices=("metal", "opencl"))


def test_an_arm_that_cannot_run_becomes_absent():
    class Broken(FakeModel):
        def predict(self, inputs):
            raise LabError("it does not fit", hint="a smaller batch")

    clock = FakeClock()
    models = {"whole": FakeModel(clock), "half": Broken(clock)}
    found = measured(models, clock)
    assert [(a.name, a.reason, a.hint) for a in found.absent] == [
        ("half", "it does not fit", "a smaller batch")
    ]
    assert found.reference.name == "whole"


# -- several models --------------------------------------------------------------------------------


def test_of_several_models_the_first_is_the_baseline():
    found = before_and_after()
    (arm,) = found.arms
    assert (arm.name, found.reference.name) == ("after", "before")
    assert arm.ratio.value == 0.75


def test_figures_tell_models_on_the_same_engine_apart():
    found = before_and_after()
    drawn = found.figures["time ratios"]()
    assert drawn.title.text.endswith("arm ÷ before: Core ML program, portable engine (CPU)")
    (name,) = drawn.y_range.factors
    assert name.startswith("after: ")


def test_models_of_the_same_name_are_numbered():
    clock = FakeClock()
    found = measured([FakeModel(clock), FakeModel(clock)], clock)
    assert [a.name for a in (found.reference, *found.arms)] == ["tiny", "tiny (2)"]


def test_models_times_devices_are_that_many_arms():
    clock = FakeClock()
    found = measured({"a": FakeModel(clock), "b": FakeModel(clock)}, clock, ("coreml", "cpu"))
    assert found.reference.name == "a, coreml"
    assert [arm.name for arm in found.arms] == ["a, cpu", "b, coreml", "b, cpu"]


def test_cpu_time_is_compared_as_well_as_time():
    row = before_and_after().arms[0].row("cpu.time")
    assert row.value.value == pytest.approx(6e-3)
    assert (row.ratio.value, row.verdict) == (0.75, "less CPU time")


def test_intervals_share_the_error_and_the_page_says_so():
    found = before_and_after(batches=())
    assert found.statements == 3
    assert found.confidence == pytest.approx(1 - 0.05 / 3)
    clock = FakeClock()
    models = {name: FakeModel(clock) for name in "abcd"}
    found = measured(models, clock, batches=())
    assert found.confidence == pytest.approx(1 - 0.05 / 9)
    assert any("9 intervals are given: each holds with 99.4 %" in n for n in found.page.notes)


def test_weights_and_size_are_exact_and_differ_without_an_interval():
    clock = FakeClock()
    small = dataclasses.replace(INFO, ops=INFO.ops[:2], size_bytes=1_000_000)
    models = {"before": FakeModel(clock), "after": FakeModel(clock, info=small)}
    (arm,) = measured(models, clock).arms
    assert (arm.row("memory.weights").verdict, arm.row("size").verdict) == (
        "less memory",
        "smaller",
    )
    assert arm.row("memory.weights").ratio.value == 0.8
    same = dataclasses.replace(INFO, size_bytes=INFO.size_bytes + 1)
    models = {"before": FakeModel(clock), "after": FakeModel(clock, info=same)}
    assert measured(models, clock).arms[0].row("size").verdict == "the same"


def test_a_tail_of_few_runs_is_unavailable_and_not_ranked():
    clock = FakeClock()
    slow = {name: FakeModel(clock, lambda _: 150.0) for name in "ab"}
    row = measured(slow, clock, pairs=30, budget=600.0).arms[0].row("latency.p95")
    assert "30 runs are too few" in row.value.note
    assert row.verdict == "not ranked: too few runs"


def test_a_tail_of_many_runs_has_intervals_and_a_verdict():
    rng = random.Random(3)
    clock = FakeClock()
    models = {
        "before": FakeModel(clock, lambda _: 4 + rng.random()),
        "after": FakeModel(clock, lambda _: 2 + rng.random()),
    }
    row = measured(models, clock, pairs=60, budget=600.0).arms[0].row("latency.p95")
    assert row.value.low < row.value.value < row.value.high
    assert row.verdict == "less time"
    assert row.ratio.low < 2.95 / 4.95 < row.ratio.high


def test_outputs_that_cannot_be_compared_say_why_instead_of_failing():
    class Other(FakeModel):
        def predict(self, inputs):
            return {"z": super().predict(inputs)["y"]}

    clock = FakeClock()
    (arm,) = measured({"a": FakeModel(clock), "b": Other(clock)}, clock).arms
    assert arm.agreement == ()
    assert "outputs differ in name" in arm.numbers
    assert "outputs differ in name" in str(
        measured({"a": FakeModel(clock), "b": Other(clock)}, clock)
    )


def test_more_data_counts_in_the_agreement():
    more = [{"x": np.full((1, 8), i, "float32")} for i in range(5)]
    clock = FakeClock()
    models = {"a": FakeModel(clock), "b": FakeModel(clock, error=1e-3)}
    (arm,) = measured(models, clock, data=more).arms
    (output,) = arm.agreement
    assert output.examples == 6
    assert output.top1.value == 1
    assert output.top1.note == "6 of 6"


def test_an_interrupt_leaves_what_was_measured():
    clock = FakeClock()
    models = {"a": FakeModel(clock), "b": FakeModel(clock, interrupt_at=100)}
    with pytest.raises(KeyboardInterrupt) as stopped:
        measured(models, clock, pairs=1000, budget=1e6)
    found = stopped.value.comparison
    assert found.arms[0].times
    assert found.unfinished["time"] == "interrupted before it was measured"
    assert "interrupted before it was measured" in str(found)


def test_a_spent_budget_ends_the_stages_and_says_which():
    clock = FakeClock()
    models = {name: FakeModel(clock, lambda _: 9000.0) for name in "ab"}
    found = measured(models, clock, budget=20.0)
    late = "the budget of 20 s was spent"
    assert found.unfinished == dict.fromkeys(("operations", "batches", "memory", "energy"), late)
    assert found.arms[0].row("energy").value.note == late
    # It is said once, and not row by row.
    assert "energy above idle" not in str(found)
    assert "energy: the budget of 20 s was spent" in str(found)


def test_progress_only_grows_and_ends_at_one():
    told = []
    before_and_after(progress=lambda stage, done: told.append((stage, done)))
    shares = [done for _, done in told]
    assert shares == sorted(shares)
    assert told[-1] == ("done", 1.0)
    assert {"numbers", "time", "operations"} <= {stage for stage, _ in told}


def test_parts_can_be_chosen_and_unknown_ones_are_refused():
    found = before_and_after(parts=("time",))
    assert found.arms[0].ops == ()
    with pytest.raises(LabError, match="no part 'speed'"):
        before_and_after(parts=("speed",))


def test_an_unknown_baseline_is_refused_and_one_that_is_not_here_is_replaced():
    with pytest.raises(LabError, match="no arm 'later'"):
        before_and_after(baseline="later")
    assert compared(devices=("coreml", "cpu", "metal"), baseline="metal").reference.name == "cpu"


def test_parts_that_were_not_asked_for_have_no_rows():
    model = cl.compile(lambda x: cl.ops.tanh(x=cl.ops.exp(x=x)), x=cl.spec(1, 8), name="net")
    found = cl.compare([model, model], X, pairs=2, batches=(), parts=("time",))
    with pytest.raises(LabError, match="no row"):
        found.arms[0].row("memory.activations")
    assert "activations" not in str(found)


def test_hostile_names_are_escaped_in_every_format():
    evil = "<script>alert(1)</script>|`x`"
    clock = FakeClock()
    models = {
        evil: FakeModel(clock, info=dataclasses.replace(INFO, name=evil)),
        "b": FakeModel(clock),
    }
    found = measured(models, clock, baseline="b")
    assert "<script>" not in found.to_html()
    assert "<script>" not in found.to_markdown()
    assert json.loads(found.to_json())["data"]["arms"][0]["name"] == evil


def test_the_data_behind_a_figure_is_in_the_json():
    (arm,) = json.loads(before_and_after().to_json())["data"]["arms"]
    assert len(arm["times"]) == 20
    assert arm["rows"][0]["ratio"]["high"] == 0.75
