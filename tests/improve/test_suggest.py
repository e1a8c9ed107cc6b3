"""suggest(): ideas tried on the spot, and nothing left behind."""

from __future__ import annotations

import dataclasses
import gc
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError, InputError, ModelError, UnknownParameter
from coreml_lab.improve import actions
from coreml_lab.improve.actions import apply, size
from coreml_lab.improve.suggesting import Trying, suggest
from coreml_lab.improve.trial import Verdict
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Dim, TensorType
from coreml_lab.records import Action, Recording
from coreml_lab.run.simulated import noise
from tests.improve.nets import flexible
from tests.support.fakes import INFO, FakeModel, empty_package, recording

X = {"x": np.ones((1, 8), "float32")}


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders go, so that what is left behind can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def model(tmp_path) -> FakeModel:
    package = empty_package(tmp_path / "tiny.mlpackage", 1000)
    return FakeModel(info=dataclasses.replace(INFO, package=str(package)))


@pytest.fixture
def trying(model, temporary, monkeypatch) -> Trying:
    """Actions write a package of a quarter of the size; loading gives a fake a bit off."""

    def shrink(_package, target, **_):
        empty_package(target, 250)
        return ()

    monkeypatch.setattr(actions.mil, "rewrite", shrink)

    def load(package, _function, _device):
        info = dataclasses.replace(model.info, package=str(package))
        return FakeModel(model.clock, error=1e-3, info=info)

    return Trying(pairs=20, min_snr=30, clock=model.clock, load=load)


def test_an_idea_is_tried_and_judged_with_evidence(trying, model):
    found = trying.suggest(model, X, measure=True)
    (outcome,) = found
    assert outcome.verdict is Verdict.ACCEPTED
    assert (outcome.trial.size_before.value, outcome.trial.size_after.value) == (1000, 250)
    assert outcome.trial.ratio.value == 1
    assert outcome.trial.agreement[0].snr.value == pytest.approx(60, abs=0.1)
    assert len(outcome.reasons) == 3
    assert found[0] is outcome
    assert len(found) == 1


def test_the_page_shows_before_and_after_and_why(trying, model):
    shown = str(trying.suggest(model, X, measure=True))
    assert "Store the weights as int8: accepted" in shown
    assert re.search(r"1\.00 kB ● +250 B ● +0\.250 × ●", shown)
    assert "75% less" in shown
    assert "Tried on the given inputs." in shown
    assert "<table>" in trying.suggest(model, X, measure=True).to_html()


def test_the_changed_package_lives_as_long_as_its_model(trying, model, temporary):
    found = trying.suggest(model, X, measure=True)
    changed = found[0].model
    del found
    assert Path(changed.info.package).exists()
    del changed
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("error", [CompileError("refused"), ModelError("cannot be read")])
def test_an_idea_that_cannot_be_applied_says_why_and_leaves_nothing(
    trying, model, temporary, monkeypatch, error
):
    def fails(_package, target, **_):
        empty_package(target, 250)
        raise error

    monkeypatch.setattr(actions.mil, "rewrite", fails)
    (outcome,) = trying.suggest(model, X, measure=True)
    assert outcome.verdict is Verdict.FAILED
    assert outcome.reasons == (error.message,)
    assert list(temporary.iterdir()) == []


def test_an_interrupt_leaves_nothing(trying, model, temporary):
    model.interrupt_at = 10
    with pytest.raises(KeyboardInterrupt):
        trying.suggest(model, X, measure=True)
    assert list(temporary.iterdir()) == []


def test_without_inputs_noise_is_used_and_called_simulated(trying, model):
    found = trying.suggest(model, None, measure=True)
    assert "simulated inputs" in found.inputs_note
    assert found[0].trial.agreement[0].snr.provenance is Provenance.SIMULATED
    assert "◌" in str(found)


def test_a_living_recording_is_tried_on_its_own_inputs(trying, model):
    live = recording(program=model.info, live=(model, X))
    found = trying.suggest(live, None, measure=True)
    assert found.inputs_note == "Tried on the recording's own inputs."


def test_a_recording_from_a_file_finds_its_model_by_its_package(trying, model):
    saved = Recording.from_json(recording(program=model.info).to_json())
    assert trying.suggest(saved, X, measure=True)[0].verdict is Verdict.ACCEPTED


def test_a_recording_whose_package_is_gone_says_what_to_do(trying):
    with pytest.raises(ModelError, match=r"not at .* any more") as caught:
        trying.suggest(recording(), X, measure=True)
    assert "cl.suggest(cl.load(path), inputs)" in caught.value.hint


def test_a_package_that_is_another_model_now_is_not_used(trying, model):
    other = dataclasses.replace(model.info, key="o" * 32)
    with pytest.raises(ModelError, match="not the model that was recorded"):
        trying.suggest(recording(program=other), X, measure=True)


def test_ideas_can_be_listed_without_trying_them(model):
    found = suggest(model, measure=False)
    assert [o.verdict for o in found] == [Verdict.UNMEASURED]
    assert "1.88 MB ≈" in str(found)
    assert model.calls == 0


def test_where_no_rule_applies_that_is_said():
    found = suggest(recording(program=dataclasses.replace(INFO, ops=())))
    assert str(found).startswith("tiny: no rule has anything to suggest")
    assert len(found) == 0


def test_an_unknown_action_names_the_known_ones(tmp_path):
    with pytest.raises(UnknownParameter, match="no action 'magic'") as caught:
        apply(Action("magic"), tmp_path, tmp_path)
    assert "int8_weights" in caught.value.hint


def test_the_size_of_a_file_is_its_own(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert size(tmp_path / "f") == 3


def test_noise_fits_the_description_and_is_the_same_each_time():
    kinds = {
        "f": TensorType((2, Dim("n", 3)), np.dtype("float16")),
        "i": TensorType((100,), np.dtype("int32")),
        "p": TensorType((100,), np.dtype("uint8")),
        "b": TensorType((100,), np.dtype("bool")),
    }
    made, again = noise(kinds), noise(kinds)
    assert {k: v.dtype.name for k, v in made.items()} == {
        "f": "float16",
        "i": "int32",
        "p": "uint8",
        "b": "bool",
    }
    assert made["f"].shape == (2, 3)
    assert 0 <= made["i"].min() <= made["i"].max() < 10 < made["p"].max()
    assert all(np.array_equal(made[k], again[k]) for k in kinds)


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((256, 128)).astype("float32")


def network(weights):
    def dense(x):
        return cl.ops.relu(x=cl.ops.linear(x=x, weight=weights))

    return cl.compile(dense, x=cl.spec(1, 128))


def test_a_real_model_becomes_a_quarter_of_its_size(weights):
    model = network(weights)
    inputs = {"x": np.random.default_rng(4).standard_normal((1, 128)).astype("float32")}
    outcome = next(o for o in suggest(model, inputs, goal="size", pairs=8) if o.trial)
    assert outcome.suggestion.rule == "int8_weights"
    assert outcome.verdict is not Verdict.FAILED
    assert outcome.trial.size_after.value < 0.45 * outcome.trial.size_before.value
    assert outcome.trial.agreement[0].snr.value > 30
    assert set(outcome.model.predict(inputs)) == set(model.predict(inputs))


def test_a_saved_recording_of_a_compiled_model_is_tried_again(weights, tmp_path):
    model = network(weights)
    inputs = {"x": np.ones((1, 128), "float32")}
    with cl.profile(spans=False) as p:
        model.predict(inputs)
    path = p.recording.save(tmp_path / "r.json")
    (outcome,) = suggest(Recording.load(path), inputs, goal="size", pairs=6)
    assert outcome.trial is not None


def test_a_change_that_takes_no_such_inputs_any_more_says_so():
    model = flexible()
    rows = {"x": np.ones((3, 8), "float32")}
    found = suggest(model, rows, target="ane", pairs=6)
    (fixed,) = [o for o in found if o.suggestion.rule == "one_shape"]
    assert fixed.verdict is Verdict.FAILED
    assert "not (1, 8)" in fixed.reasons[0]
    with pytest.raises(InputError):
        suggest(model, {"x": np.ones((3, 9), "float32")}, target="ane", pairs=6)
