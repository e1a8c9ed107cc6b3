"""A ledger on disk is of one question; what was not decided is asked again."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CacheError, LabError
from coreml_lab.improve.optimizing import bench, mixed, question, search
from coreml_lab.improve.optimizing.candidates import candidates
from coreml_lab.measure.paired import Ratio
from tests.improve.nets import mixed as mixed_model

X = {"x": np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32)}
HOW: dict[str, Any] = {"weight_threshold": 64, "seconds": 0.3, "engines": (), "goal": "size"}


@pytest.fixture(scope="module")
def model() -> Any:
    return mixed_model()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three candidates; six pairs decide about time, fewer do not."""
    monkeypatch.setattr(
        bench,
        "ratio",
        lambda pairs: Ratio(1.0, *((0.99, 1.01) if len(pairs.arm) > 5 else (None, None)), 1),
    )
    monkeypatch.setattr(bench, "footprint", lambda *_, **__: (1_000_000,) * 3)
    monkeypatch.setattr(search, "candidates", lambda *a, **k: candidates(*a, **k)[:3])
    monkeypatch.setattr(mixed, "measured", lambda *_: {})
    monkeypatch.setattr(mixed, "candidate", lambda *_: None)


def asked(model: Any, metric: Any = None, data: Any = X) -> str:
    return question.question(model, [data], "size", 0.02, metric)


def measure(scale: float, model: Any) -> float:
    return scale * len(model.info.ops)


def test_metrics_of_other_code_or_other_numbers_are_other_questions(model: Any) -> None:
    def metric(bound: float) -> Any:
        return lambda model: float(len(model.info.ops) > bound)

    told = [
        None,
        lambda model: 1.0,
        lambda model: 2.0,
        metric(1),
        metric(2),
        functools.partial(measure, 1.0),
        functools.partial(measure, 2.0),
    ]
    assert len({asked(model, each) for each in told}) == len(told)
    assert asked(model, metric(1)) == asked(model, metric(1))


def test_a_metric_that_is_an_object_is_its_code_and_what_it_holds(model: Any) -> None:
    class Accuracy:
        def __init__(self, truth: Any) -> None:
            self.truth = truth

        def __call__(self, model: Any) -> float:
            return float(np.mean(self.truth))

    one, same, other = (Accuracy(np.array(t)) for t in ([1, 2], [1, 2], [1, 3]))
    assert asked(model, one) == asked(model, same) != asked(model, other)


def test_types_shapes_machine_and_versions_are_part_of_the_question(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = {"x": X["x"].reshape(4, 8, 8)}
    whole = {"x": X["x"].view(np.int32)}
    assert len({asked(model, data=data) for data in (X, flat, whole)}) == 3
    before = asked(model)
    monkeypatch.setattr(question, "environment", lambda: {"processor": "another"})
    assert asked(model) != before
    monkeypatch.undo()
    engine = SimpleNamespace(
        name="portable", available=lambda: SimpleNamespace(available=True, version="99")
    )
    monkeypatch.setattr(question.compiler, "engines", lambda: [engine])
    assert asked(model) != before


def test_a_ledger_of_another_metric_is_refused(model: Any, tmp_path: Path) -> None:
    cl.optimize(model, X, tolerance=1e-9, folder=tmp_path, pairs=6, **HOW)
    with pytest.raises(CacheError, match="another metric"):
        cl.optimize(model, X, tolerance=1e-9, folder=tmp_path, pairs=6, metric=lambda _: 1.0, **HOW)


def test_what_was_not_resolved_is_measured_again_with_more_pairs(
    model: Any, tmp_path: Path
) -> None:
    first = cl.optimize(model, X, tolerance=0.05, folder=tmp_path, pairs=3, **HOW)
    assert "not resolved" in {e.verdict for e in first}
    again = cl.optimize(model, X, tolerance=0.05, folder=tmp_path, pairs=6, **HOW)
    assert [e.verdict for e in again][:2] == ["accepted", "accepted"]


def test_what_failed_is_tried_again_and_what_was_rejected_is_not(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tried = search.Bench.made, []

    def fails(self: Any, configuration: Any) -> Any:
        tried.append(configuration.actions[-1].name)
        if configuration.actions[-1].name == "float16":
            raise LabError("no space left", hint="")
        return made(self, configuration)

    how = {"tolerance": 1e-9, "folder": tmp_path, "pairs": 6, **HOW}
    with monkeypatch.context() as patch:
        patch.setattr(search.Bench, "made", fails)
        first = cl.optimize(model, X, **how)
        assert [e.verdict for e in first] == ["failed", "rejected", "rejected"]
        tried.clear()
        cl.optimize(model, X, **how)
        assert tried == ["float16"]
    assert next(iter(cl.optimize(model, X, **how))).verdict == "rejected"


def test_a_verdict_against_something_else_is_not_taken_over(model: Any, tmp_path: Path) -> None:
    how = {"tolerance": 1e-9, "folder": tmp_path, "pairs": 6, **HOW}
    (first, *_) = cl.optimize(model, X, **how)
    text = (tmp_path / "ledger.json").read_text(encoding="utf-8")
    was = '"against": {"actions": [], "settings": {}}'
    assert was in text
    other = was.replace("{}}", '{"threads": 7}}')
    text = text.replace(first.reason, "of another").replace(was, other)
    (tmp_path / "ledger.json").write_text(text, encoding="utf-8")
    assert "of another" not in {e.reason for e in cl.optimize(model, X, **how)}
