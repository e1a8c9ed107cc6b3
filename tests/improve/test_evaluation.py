"""What a trial measured and how it is told: chance, metrics, memory of batches, states."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.improve.optimizing import footprint
from coreml_lab.improve.tuning import evaluation
from coreml_lab.improve.tuning.evaluation import Measured, Task, evaluate, save_samples
from coreml_lab.improve.tuning.result import Trial, Tuning, widened
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.measure.paired import Pairs, ratio
from tests.improve.nets import mixed, weights

X = {"x": np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32)}


def null(rng: np.random.Generator, pairs: int = 15) -> Measured:
    """A trial that changed nothing: what differs is the machine."""
    times = rng.normal(1e6, 5e4, (2, pairs)).astype(int)
    found = ratio(Pairs(tuple(times[0].tolist()), tuple(times[1].tolist())))
    each = tuple((times[0] / times[1]).tolist())
    return Measured(100, 1e-3, found.value, found.low, found.high, 0.0, ratios=each)


def tuning(found: list[Measured], objectives: tuple[str, ...] = ("latency", "size")) -> Tuning:
    trials = (
        Trial(i, Configuration(settings={"threads": i}), m, "", kept=True)
        for i, m in enumerate(found)
    )
    return Tuning("net", objectives, 0.1, tuple(trials))


def test_the_best_of_many_that_changed_nothing_is_not_told_to_be_faster() -> None:
    rng = np.random.default_rng(7)
    searches = [[null(rng) for _ in range(40)] for _ in range(30)]
    best = [min(found, key=lambda m: m.ratio) for found in searches]
    alone = sum(m.high is not None and m.high < 1 for m in best)
    together = [widened(m, 40) for m in best]
    assert alone > 5
    assert all(high is not None for _, high in together)
    assert sum(high is not None and high < 1 for _, high in together) <= 2


def test_the_page_says_that_the_best_of_many_had_luck_and_widens_its_interval() -> None:
    rng = np.random.default_rng(7)
    found = [null(rng) for _ in range(12)]
    result = tuning(found)
    shown = result.page.tables[0].rows[0][1]
    best = result.best().found
    assert shown.low < best.low < best.high < shown.high
    assert "all 12 hold together" in str(result)
    assert "luck" not in str(tuning(found[:1]))
    few = [dataclasses.replace(m, ratios=m.ratios[:6]) for m in found]
    assert tuning(few).page.tables[0].rows[0][1].low is None
    old = [dataclasses.replace(m, ratios=()) for m in found]  # of a study from before
    assert tuning(old).page.tables[0].rows[0][1].low is not None


def test_a_metrics_drop_is_told_in_its_own_unit(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    pytest.importorskip("filelock")
    save_samples(tmp_path, [X])
    metric = cloudpickle.dumps(lambda model: 40.0)
    task = Task(Configuration(), mixed().info.package, "", str(tmp_path), "coreml", 6, 0.5, metric)
    assert evaluate(task).drop
    found = dataclasses.replace(null(np.random.default_rng(0)), loss=5.0, drop=True)
    page = str(tuning([found]))
    assert "drop of the metric" in page
    assert "5.00 ●" in page
    assert "500" not in page
    figure = tuning([found], ("loss", "latency")).figure()
    assert "drop of the metric" in figure.xaxis[0].axis_label
    assert "drop" not in str(tuning([dataclasses.replace(found, drop=False)]))


def test_memory_is_that_of_the_batch_that_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_samples(tmp_path, [{"x": np.full((1, 8), i, np.float32)} for i in range(3)])
    file = str(tmp_path / evaluation.DATA)
    assert footprint._inputs(file, 1)["x"].tolist() == [[0.0] * 8]
    assert footprint._inputs(file, 4)["x"][:, 0].tolist() == [0, 1, 2, 0]
    asked: list[Any] = []
    monkeypatch.setattr(footprint, "_asked", lambda _, task: asked.append(task) or len(asked))
    where: dict[str, Any] = {"function": "", "device": "coreml", "settings": {"batch": 4}}
    found = footprint.footprint(tmp_path, tmp_path / "data.npz", **where)
    # The first process may compile what the others find in the cache: it is not counted.
    assert found == (2, 3, 4)
    assert {task["settings"]["batch"] for task in asked} == {4}


def test_a_trial_of_a_model_with_states_begins_each_sample_anew(tmp_path: Path) -> None:
    pytest.importorskip("filelock")

    def step(x: Any, past: Any) -> Any:
        now = cl.ops.add(x, past)
        return {"y": cl.ops.linear(now, weight=weights(8, 8)), "now": cl.ops.mul(now, 0.5)}

    given = {"x": cl.spec(1, 8), "past": cl.spec(1, 8)}
    edit = cl.edit(cl.compile(step, name="cache", **given)).apply("states", pairs={"past": "now"})
    save_samples(tmp_path, [{"x": np.ones((1, 8), np.float32)}] * 2)
    found = evaluate(Task(Configuration(), str(edit.file), "", str(tmp_path), "coreml", 3, 0.5))
    assert found.loss == 0
    assert found.latency > 0
