"""Losses: labels and probabilities count as arrays do, and nothing to compare is never a 0."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from coreml_lab.improve.losses import loss
from coreml_lab.improve.optimizing import bench, search
from coreml_lab.improve.optimizing.candidates import candidates
from coreml_lab.improve.tuning.evaluation import Task, evaluate, save_samples
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.measure.paired import Ratio
from coreml_lab.records import Action
from tests.improve import nets
from tests.improve.nets import mixed

X = {"x": np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)}
ONE_BIT = Action("palettize_weights", {"nbits": 1, "mode": "uniform", "weight_threshold": 100})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nets.classifier(tmp_path_factory.mktemp("models"))


def chances(model: Any) -> Any:
    (found,) = (v for v in model.predict(X).values() if isinstance(v, dict))
    return np.array(list(found.values()))


def test_a_classifiers_loss_is_that_of_its_probabilities_and_labels(classifier: Any) -> None:
    changed = cl.edit(classifier).apply(ONE_BIT).model
    want, got = chances(classifier), chances(changed)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    flipped = float(want.argmax() != got.argmax())
    assert error > 0.02
    found = loss([changed.predict(X)], [classifier.predict(X)], classifier.info)
    assert found == pytest.approx(max(error, flipped), rel=1e-4)
    assert loss([classifier.predict(X)], [classifier.predict(X)], classifier.info) == 0


def test_optimize_rejects_what_damages_a_classifier(
    classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "ratio", lambda pairs: Ratio(1.0, 0.99, 1.01, len(pairs.arm)))
    monkeypatch.setattr(bench, "footprint", lambda *_, **__: (1_000_000,) * 3)
    tables = lambda *a, **k: [c for c in candidates(*a, **k) if "4-bit" in c.title]  # noqa: E731
    monkeypatch.setattr(search, "candidates", tables)
    monkeypatch.setattr(search.mixed, "candidate", lambda *_: None)
    how: dict[str, Any] = {"pairs": 3, "seconds": 0.2, "engines": (), "weight_threshold": 100}
    (entry,) = cl.optimize(classifier, X, goal="size", tolerance=1e-3, **how)
    assert entry.verdict == "rejected"
    assert entry.evidence is not None
    assert entry.evidence.loss > 1e-3


def test_a_trial_of_a_classifier_has_its_loss(classifier: Any, tmp_path: Path) -> None:
    save_samples(tmp_path, [X])
    where = classifier.info.package, "", str(tmp_path), "coreml"
    assert evaluate(Task(Configuration((ONE_BIT,)), *where, 3, 0.5)).loss > 0.02
    assert evaluate(Task(Configuration(), *where, 3, 0.5)).loss == 0


def test_bits_of_a_classifier_are_shared_out_by_their_losses(classifier: Any) -> None:
    layers = search.mixed.measured(cl.edit(classifier), [classifier.feeds(X)], 100)
    assert all(row["4"].loss > row["8"].loss > 0 for row in layers.values())


def test_the_loss_is_relative_to_all_outputs_or_the_share_of_changed_labels(
    classifier: Any,
) -> None:
    info = classifier.info
    want = {"a": np.ones(4), "b": {"p": 0.0, "q": 2.0}}
    assert loss([{"a": np.ones(4) * 1.5, "b": {"q": 2.0, "p": 0.0}}], [want], info) == (
        pytest.approx(math.sqrt(1 / 8))
    )
    label = {**want, "classLabel": "cat"}
    other = {**want, "classLabel": "dog"}
    assert loss([label, label, label, other], [label] * 4, info) == pytest.approx(0.25)
    numbered = [{"classLabel": 3}], [{"classLabel": 30}]
    assert loss(*numbered, info) == 1


@pytest.mark.parametrize(
    "got",
    [
        {"y": np.array([1.0, math.nan])},
        {"y": np.ones(3)},
        {},
        {"y": {"a": 1.0}},
        {"y": np.array([1.0, math.inf])},
    ],
)
def test_what_cannot_stand_for_the_original_is_the_worst_loss(got: dict[str, Any]) -> None:
    assert loss([got], [{"y": np.ones(2)}], mixed().info) == math.inf


def test_nothing_to_compare_is_an_error_and_no_loss_of_0() -> None:
    empty = [{"boxes": np.zeros((0, 4), np.float32)}]
    with pytest.raises(InputError, match="hold nothing to compare") as caught:
        loss(empty, empty, mixed().info)
    assert "metric=" in caught.value.hint
