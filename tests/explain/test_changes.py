"""What changed between two recordings: ratios with intervals, words only where they allow it."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.circumstances import Condition
from coreml_lab.errors import LabError, ModelError, RegressionFound
from coreml_lab.explain.changes import Changes, diff_recordings
from coreml_lab.explain.facts import facts
from coreml_lab.improve.regression import assert_no_regression
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpInfo, OpSpan, PlanInfo, Recording, Run, Sample
from tests.support.fakes import INFO, MS, recording
from tests.test_legible import EVIL, assert_visible, evil

MEASURED = Provenance.MEASURED
HERE = {"system": "Linux", "processor": "one", "machine": "x86_64", "cores": "2"}


def made(
    factor: float = 1.0,
    *,
    count: int = 60,
    noise: float = 0.02,
    seed: int = 0,
    traced: int = 10,
    **changes: object,
) -> Recording:
    """Inferences of about 4 ms times ``factor``; ten traced runs of two operations, one slower."""
    changes.setdefault("environment", HERE)
    rng = np.random.default_rng(seed)
    took = (4 * MS * factor * rng.normal(1, noise, count)).astype(int)
    runs = [Run(i, 10 * MS * i, int(t)) for i, t in enumerate(took)]
    for i in range(traced):
        rows = (("conv_0", "conv", 2 * MS * factor), ("linear_2", "linear", 1 * MS))
        spans = tuple(
            OpSpan(n, o, "portable", "cpu", 0, int(t * rng.normal(1, 0.01)), 8, MEASURED)
            for n, o, t in rows
        )
        runs.append(Run(count + i, 0, 3 * MS, spans, instrumented=True))
    samples = tuple(
        Sample(i * MS, "process.cpu.cores", float(rng.normal(2, 0.05)), MEASURED) for i in range(50)
    )
    return recording(runs=tuple(runs), samples=samples, **changes)


def rows(changes: Changes, caption: str) -> list[tuple[object, ...]]:
    (table,) = [t for t in changes.page.tables if t.caption.startswith(caption)]
    return list(table.rows)


def test_a_slower_recording_is_called_slower_with_its_interval() -> None:
    found = cl.diff_recordings(made(), made(1.5, seed=1))
    middle = found.latency[0]
    assert middle.ratio.low < 1.5 < middle.ratio.high
    assert middle.verdict == "more"
    assert found.page.headline.startswith("tiny: more time, 1.5")


def test_two_recordings_of_one_thing_are_not_called_different() -> None:
    called = [diff_recordings(made(seed=s), made(seed=s + 100)).latency[0] for s in range(40)]
    assert sum(change.resolved for change in called) <= 4
    assert called[0].verdict == "no difference shown"


def test_only_the_operation_that_changed_is_called_changed() -> None:
    found = diff_recordings(made(), made(1.5, seed=1))
    verdicts = {op.name: op.verdict for op in found.ops}
    assert verdicts == {"conv_0": "more", "linear_2": "no difference shown"}
    assert any("1 of 2 operations differ; up to 1 may by chance" in n for n in found.page.notes)


def test_too_few_runs_have_a_ratio_and_no_verdict() -> None:
    middle = diff_recordings(made(count=3), made(2.0, count=3, seed=1)).latency[0]
    assert middle.ratio.low is None
    assert middle.verdict == "not resolved: too few values"


def test_a_tail_of_few_runs_says_how_many_it_needs() -> None:
    tail = diff_recordings(made(count=20), made(count=20)).latency[1]
    assert "needs 72 runs, there are 20" in tail.ratio.note


def test_what_only_one_side_has_is_unavailable_on_the_other_and_never_zero() -> None:
    after = made()
    runs = tuple(
        dataclasses.replace(run, spans=(dataclasses.replace(run.spans[0], node="new"),))
        if run.spans
        else run
        for run in after.runs
    )
    found = diff_recordings(made(), dataclasses.replace(after, runs=runs))
    told = {op.name: op for op in found.ops}
    assert math.isnan(told["new"].before.value)
    assert told["new"].ratio.note == "before: it was not measured"
    assert told["linear_2"].ratio.note == "after: it was not measured"
    assert told["linear_2"].verdict == ""


def ran(engine: str, node: str, milliseconds: float, how: Provenance = MEASURED) -> Recording:
    """Ten inferences, and ten instrumented ones of one operation."""
    plain = [Run(i, 10 * MS * i, 4 * MS) for i in range(10)]
    span = OpSpan(node, "conv", engine, "cpu", 0, round(milliseconds * MS), 8, how)
    traced = [Run(10 + i, 100 * MS + i, 5 * MS, (span,), instrumented=True) for i in range(10)]
    return recording(runs=(*plain, *traced), environment=HERE)


def test_of_merged_recordings_an_engine_is_not_told_by_the_runs_of_another() -> None:
    merged = ran("portable", "c1", 4).merge(ran("openvino", "c1_fused", 3))
    told = {op.name: op.before.value for op in diff_recordings(merged, merged).ops}
    assert told == {"c1": pytest.approx(4e-3), "c1_fused": pytest.approx(3e-3)}
    assert told == {op.node: pytest.approx(op.time.value) for op in facts(merged).ops}


def test_measured_and_apportioned_times_of_an_operation_are_two_rows() -> None:
    merged = ran("portable", "c1", 4).merge(ran("coreml", "c1", 3, Provenance.APPORTIONED))
    told = {op.name: op for op in diff_recordings(merged, merged).ops}
    assert list(told) == ["c1 (portable, cpu)", "c1 (coreml, cpu)"]
    hows = [(op.before.value, op.before.provenance, op.ratio.value) for op in told.values()]
    assert hows == [
        (pytest.approx(4e-3), MEASURED, 1),
        (pytest.approx(3e-3), Provenance.APPORTIONED, 1),
    ]


def test_an_operation_is_compared_with_itself_where_another_engine_ran_it() -> None:
    (op,) = diff_recordings(ran("portable", "c1", 4), ran("openvino", "c1", 2)).ops
    assert (op.name, op.ratio.value) == ("c1", 0.5)
    merged = ran("portable", "c1", 4).merge(ran("openvino", "c1", 3))
    both, lone = diff_recordings(ran("portable", "c1", 2), merged).ops
    assert (both.name, both.ratio.value) == ("c1 (portable, cpu)", 2)
    assert (lone.name, lone.ratio.note) == ("c1 (openvino, cpu)", "before: it was not measured")


def test_the_less_certain_side_decides_how_a_ratio_is_known() -> None:
    samples = tuple(
        Sample(i, "process.cpu.cores", 1.0 + i % 2, Provenance.ESTIMATED) for i in range(30)
    )
    found = diff_recordings(made(), dataclasses.replace(made(), samples=samples))
    (cores,) = found.metrics
    assert cores.ratio.provenance is Provenance.ESTIMATED
    assert cores.before.provenance is MEASURED


def test_what_changed_in_program_and_environment_is_told() -> None:
    ops = (*INFO.ops[:2], OpInfo("gelu_9", "gelu", (1, 8), "fp32"))
    program = dataclasses.replace(INFO, key="other", precision="fp16", ops=ops)
    after = made(program=program, environment={**HERE, "numpy": "2.0"})
    found = diff_recordings(made(), after)
    told = {what: (a, b) for what, a, b in found.program}
    assert told["precision"] == ("fp32", "fp16")
    assert told["only before"] == ("1 operations: linear_2 (linear)", "")
    assert told["only after"] == ("", "1 operations: gelu_9 (gelu)")
    assert ("numpy", "", "2.0") in found.environment
    assert any("Machine or libraries differ" in note for note in found.page.notes)
    assert diff_recordings(made(), made()).program == ()


def test_noise_of_either_side_is_told() -> None:
    loud = Condition("work of other programs", Quantity(1.5, "{core}", MEASURED), noisy=True)
    still = Condition("swapping", Quantity(0, "By", MEASURED))
    found = diff_recordings(made(), made(conditions=(loud, still)))
    assert "The machine was noisy: after, work of other programs 1.50 cores ●." in found.page.notes


def test_every_format_shows_it() -> None:
    found = diff_recordings(made(), made(1.5, seed=1))
    assert "after ÷ before" in str(found)
    assert json.loads(found.to_json())["headline"] == found.page.headline
    assert list(found.figures) == ["changes"]
    assert found.figure().renderers


@pytest.mark.parametrize("name", ["script", "terminal", "long"])
def test_names_of_strangers_are_shown_as_text(name: str) -> None:
    found = diff_recordings(made(), evil(EVIL[name]))
    assert_visible(str(found))
    assert "<script>" not in found.to_html()


def test_a_regression_fails_the_test_and_says_by_how_much() -> None:
    with pytest.raises(RegressionFound, match=r"median of inferences: 1\.5") as caught:
        assert_no_regression(made(1.5, seed=1), made())
    assert isinstance(caught.value, AssertionError)
    assert "> 1.1 ×, fail (4.0" in str(caught.value)


def test_no_regression_gives_what_changed(tmp_path) -> None:
    path = made().save(tmp_path / "baseline.json")
    found = cl.assert_no_regression(made(seed=1), path)
    assert found.latency[0].verdict == "no difference shown"


def test_a_limit_inside_the_interval_passes_unless_it_is_strict() -> None:
    noisy, base = made(1.1, noise=0.2, seed=3), made(noise=0.2, seed=4)
    found = assert_no_regression(noisy, base)
    assert found.latency[0].ratio.low < 1.1 < found.latency[0].ratio.high
    with pytest.raises(RegressionFound, match="not resolved"):
        assert_no_regression(noisy, base, strict=True)


def test_one_operation_may_be_asked_about() -> None:
    assert_no_regression(made(1.5, seed=1), made(), max_ratio=2)
    with pytest.raises(RegressionFound, match=r"conv_0 \(conv\): 1\.\d+ × .* > 1\.2") as caught:
        assert_no_regression(made(1.5, seed=1), made(), max_ratio=2, max_op_ratio=1.2)
    assert "linear_2" not in str(caught.value)


def test_what_cannot_be_told_is_no_pass() -> None:
    with pytest.raises(ModelError, match="too few runs for an interval"):
        assert_no_regression(made(count=3), made(count=3))
    with pytest.raises(ModelError, match="too noisy"):
        assert_no_regression(made(noise=0.9, count=12, seed=5), made(noise=0.9, count=12))
    with pytest.raises(LabError, match="a ratio is above 0"):
        assert_no_regression(made(), made(), max_ratio=0)


def test_recordings_of_two_machines_are_compared_only_when_asked() -> None:
    other = made(environment={**HERE, "processor": "another"})
    with pytest.raises(ModelError, match="known to be of one machine: processor one and another"):
        assert_no_regression(other, made())
    assert assert_no_regression(other, made(), any_machine=True)


@pytest.mark.parametrize(("what", "other"), [("machine", "aarch64"), ("cores", "96")])
def test_two_machines_are_told_apart_by_all_that_is_known_of_them(what: str, other: str) -> None:
    with pytest.raises(ModelError, match=f"one machine: {what} "):
        assert_no_regression(made(environment={**HERE, what: other}), made())


def test_two_gpus_of_one_number_are_two_machines() -> None:
    old, new = (PlanInfo("pytorch", "cuda:0", title) for title in ("NVIDIA H100", "NVIDIA T4"))
    with pytest.raises(ModelError, match="runs on NVIDIA H100 and NVIDIA T4"):
        assert_no_regression(made(plan=new), made(plan=old))


@pytest.mark.parametrize("what", ["processor", "machine", "cores"])
def test_what_neither_recording_knows_is_not_known_to_be_the_same(what: str) -> None:
    nowhere = {name: told for name, told in HERE.items() if name != what}
    for environment in (nowhere, {**HERE, what: "unknown"}):
        sides = [made(environment=environment) for _ in range(2)]
        with pytest.raises(ModelError, match=f"one machine: {what} unknown in both") as caught:
            assert_no_regression(*sides)
        assert "any_machine=True" in caught.value.hint
        assert assert_no_regression(*sides, any_machine=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_operation_of_which_nothing_can_be_told_is_no_pass(*, strict: bool) -> None:
    slow, base = made(1.5, traced=5, seed=1), made(traced=5)
    with pytest.raises(ModelError, match=r"conv_0 \(conv\): there are too few runs"):
        assert_no_regression(slow, base, max_ratio=2, max_op_ratio=1.1, strict=strict)
    with pytest.raises(ModelError, match="no operation was timed in both"):
        assert_no_regression(made(traced=0), base, max_op_ratio=1.1, strict=strict)
    assert assert_no_regression(slow, base, max_ratio=2, strict=strict)


def also(found: Recording, *durations: int) -> Recording:
    """With one operation more, that takes so many nanoseconds in one instrumented run, or so."""
    runs = []
    for run in found.runs:
        took = durations[run.index % len(durations)]
        short = OpSpan("add_3", "add", "portable", "cpu", 0, took, 8, MEASURED)
        spans = (*run.spans, short) if run.instrumented else ()
        runs.append(dataclasses.replace(run, spans=spans))
    return dataclasses.replace(found, runs=tuple(runs))


def test_an_operation_that_is_surely_slower_is_told_before_those_that_cannot_be() -> None:
    slow, same, base = made(1.5, seed=1), made(seed=1), made()
    slow, same, base = (also(found, 1000, 5000) for found in (slow, same, base))
    with pytest.raises(RegressionFound, match="conv_0"):
        assert_no_regression(slow, base, max_ratio=2, max_op_ratio=1.2)
    with pytest.raises(ModelError, match=r"add_3 \(add\): the runs are too noisy"):
        assert_no_regression(same, base, max_op_ratio=1.2)


def test_an_operation_too_short_to_be_timed_on_either_side_is_no_slower() -> None:
    sides = also(made(seed=1), 0), also(made(), 0)
    assert assert_no_regression(*sides, max_op_ratio=1.2)
    with pytest.raises(ModelError, match=r"add_3 \(add\): before: nothing to divide by"):
        assert_no_regression(also(made(seed=1), 900), also(made(), 0), max_op_ratio=1.2)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["max_ratio", "max_op_ratio"])
def test_a_limit_that_limits_nothing_is_refused(name: str, limit: float) -> None:
    with pytest.raises(LabError, match=f"{name}={limit}: a ratio is above 0 and finite"):
        assert_no_regression(made(), made(), **{name: limit})
