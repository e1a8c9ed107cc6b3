"""Studies that are kept: what they are of, what is tried again, what no order has a place for."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError, LabError
from coreml_lab.improve.tuning import evaluation, storage, study
from coreml_lab.improve.tuning.evaluation import Measured, Task
from coreml_lab.improve.tuning.result import Tuning
from coreml_lab.improve.tuning.workers import Workers
from coreml_lab.run.executor import Interrupted
from tests.improve.nets import weights

NEEDED = ("optuna", "pebble", "cloudpickle", "filelock")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="needs the extra `tune`"
)
X = {"x": np.ones((1, 8), np.float32)}
OVER = {"threads": [1, 2, 3]}
Tune = Callable[..., Tuning]


def net(rows: int) -> Any:
    """A layer that is called as every other."""
    return cl.compile(
        lambda x: cl.ops.linear(x, weight=weights(rows, 8)), x=cl.spec(1, 8), name="net"
    )


def found(task: Task) -> Measured:
    threads = task.configuration.settings["threads"]
    return Measured(100 * threads, 1e-3, float(threads), None, None, 0.0)


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tune:
    """Tuning with made-up trials, whose study is kept."""
    monkeypatch.setattr(study, "evaluate", found)

    def run(model: Any, data: Any = X, over: Any = OVER, **how: Any) -> Tuning:
        with ThreadPoolExecutor(1) as pool:
            told = {"executor": pool, "storage": str(tmp_path / "s.db"), "n_trials": 3, **how}
            return cl.tune(model, data, over, parallel=1, **told)

    return run


def test_another_model_of_the_same_name_is_refused(tune: Tune) -> None:
    small = net(4)
    assert len(tune(small)) == len(tune(small)) == 3
    with pytest.raises(LabError, match="another model") as caught:
        tune(net(64))
    assert "name=" in caught.value.hint
    assert len(tune(net(64), name="large")) == 3


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"data": {"x": np.zeros((1, 8), np.float32)}}, "another data"),
        ({"metric": lambda _: 1.0}, "another metric"),
        ({"objectives": ("latency", "memory")}, "another objectives"),
        ({"objectives": ("size",)}, "another objectives"),
        ({"over": {"threads": [1, 2]}}, "other choices of threads"),
    ],
)
def test_a_study_of_something_else_is_one_clear_error(
    tune: Tune, how: dict[str, Any], said: str
) -> None:
    tune(net(4))
    with pytest.raises(LabError, match=said):
        tune(net(4), **how)


def test_a_study_of_another_machine_is_refused(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(net(4))
    monkeypatch.setattr(storage, "cpu_name", lambda: "another processor, 96 cores")
    with pytest.raises(LabError, match="another machine"):
        tune(net(4))


def test_metrics_are_told_apart_by_what_they_do() -> None:
    one, same, other = (eval(f"lambda model: {text}") for text in ("1.0", "1.0", "2.0"))
    assert storage.coded(one) == storage.coded(same) != storage.coded(other)
    assert storage.coded(None) == ""


def test_what_failed_is_tried_again(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: Task) -> Measured:
        if task.configuration.settings["threads"] == 2:
            raise LabError("no space left", hint="")
        return found(task)

    model = net(4)
    monkeypatch.setattr(study, "evaluate", broken)
    assert [t.failure for t in tune(model) if t.failure] == ["LabError: no space left"]
    monkeypatch.setattr(study, "evaluate", found)
    again = tune(model)
    assert len(again) == 3
    assert not [t for t in again if t.failure]


def test_what_gave_no_number_is_not_on_the_front(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(task: Task) -> Measured:
        threads = task.configuration.settings["threads"]
        return dataclasses.replace(found(task), memory=None if threads == 1 else threads)

    monkeypatch.setattr(study, "evaluate", unknown)
    how = {"objectives": ("latency", "memory")}
    for result in (tune(net(4), **how), tune(net(4), **how)):
        assert [t.configuration.settings["threads"] for t in result.front] == [2]
        assert [t.failure for t in result if t.failure] == ["it gave no number for memory"]
        assert result.best("memory").found.memory == 2


def test_a_loss_that_is_not_a_number_keeps_no_tolerance(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "evaluate", lambda t: dataclasses.replace(found(t), loss=math.nan))
    for tolerance in (1.0, math.inf):
        result = tune(net(4), tolerance=tolerance)
        assert {t.found.loss for t in result} == {math.inf}
        assert len(result) == 3
        assert not result.front


@pytest.mark.parametrize("kind", ["no database", "no folder", "no kind of URL", "another database"])
def test_a_storage_that_cannot_be_opened_is_one_clear_error(
    tune: Tune, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "s.db"
    where = {"no folder": str(tmp_path / "no" / "s.db"), "no kind of URL": "nothing://at/all"}
    if kind == "no database":
        file.write_bytes(b"no database at all " * 100)
    if kind == "another database":
        with sqlite3.connect(file) as made:
            made.execute("create table studies (one text)")
    with pytest.raises(LabError, match="the study cannot be kept in") as caught:
        tune(net(4), storage=where.get(kind, str(file)))
    assert caught.value.hint


def test_a_folder_that_is_not_there_is_one_clear_error(tune: Tune, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing can be written in"):
        tune(net(4), folder=tmp_path / "none")


def test_a_run_that_was_interrupted_is_no_failed_trial(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(task: Task) -> Measured:
        if task.configuration.settings["threads"] == 2:
            raise Interrupted("stopped", hint="")
        return found(task)

    monkeypatch.setattr(study, "evaluate", stopped)
    result = tune(net(4))
    assert not [t for t in result if t.failure]
    assert "It was interrupted" in result.notes[-1]


def test_waiting_for_a_place_is_not_part_of_a_trials_time() -> None:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    with ThreadPoolExecutor(1) as pool:
        asked = Workers(pool, 3, timeout=1.0)
        for tag in range(3):
            asked.submit(tag, work, 0.6)
        told = []
        while len(asked):
            told += [ended.failure for ended in asked.ended()]
    assert told == ["", "", ""]


def test_trials_are_timed_where_the_lock_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def refused(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock, "FileLock", refused)
    with pytest.warns(RuntimeWarning, match="without waiting"), evaluation.machine_lock():
        pass


def test_each_user_has_a_lock_of_its_own() -> None:

    assert str(getattr(os, "getuid", lambda: "all")()) in evaluation.LOCK
