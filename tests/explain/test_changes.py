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
from coreml_lab.improve.regression import assert_no_regression
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpInfo, OpSpan, Recording, Run, Sample
from tests.support.fakes import INFO, MS, recording
from tests.test_legible import EVIL, assert_visible, evil

MEASURED = Provenance.MEASURED


def made(
    factor: float = 1.0, *, count: int = 60, noise: float = 0.02, seed: int = 0, **changes: object
) -> Recording:
    """Inferences of about 4 ms times ``factor``; ten traced runs of two operations, one slower."""
    rng = np.random.default_rng(seed)
    took = (4 * MS * factor * rng.normal(1, noise, count)).astype(int)
    runs = [Run(i, 10 * MS * i, int(t)) for i, t in enumerate(took)]
    for i in range(10):
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
    after = made(program=program, environment={"system": "Linux", "numpy": "2.0"})
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
    other = made(environment={"system": "Linux", "processor": "another"})
    with pytest.raises(ModelError, match="not of one machine: processor"):
        assert_no_regression(other, made())
    assert assert_no_regression(other, made(), any_machine=True)
