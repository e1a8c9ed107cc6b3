"""Weights and activations of a model, as samples of its recordings."""

from __future__ import annotations

import dataclasses
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.explain.facts import facts
from coreml_lab.measure import model_memory
from coreml_lab.measure.model_memory import LET_GO, NO_PROGRAM, manner, planned, samples
from coreml_lab.metrics import Provenance
from coreml_lab.probes.highwater import Level
from coreml_lab.records import PlanInfo
from tests.support import fakes
from tests.support.fakes import FakeModel

X = {"x": np.ones((4, 8), np.float32)}


def net(**options):
    weight = np.ones((16, 8), np.float32)
    return cl.compile(
        lambda x: cl.ops.softmax(x=cl.ops.linear(x, weight=weight)),
        x=cl.spec(4, 8),
        name="net",
        **options,
    )


def by_name(model):
    planned(model, X)  # the program may have come from the cache, unread
    return {s.metric.removeprefix("coreml_lab.memory."): s for s in samples(model, X, (), 7)}


def test_a_models_weights_and_activations_are_samples():
    found = by_name(net())
    assert found["weights"].value >= 16 * 8 * 4
    assert found["weights"].provenance is Provenance.MEASURED
    assert found["activations"].value == 2 * 4 * 16 * 4
    assert found["activations"].provenance is Provenance.ESTIMATED
    assert {s.t_ns for s in found.values()} == {7}


def test_a_program_that_is_not_at_hand_is_not_read_for_it():
    model = net()
    vars(model.program).pop("graph", None)
    (found,) = [s for s in samples(model, X, (), 0) if "activations" in s.metric]
    assert math.isnan(found.value)
    assert found.note == LET_GO
    assert planned(model, X).peak == 512


def test_a_stand_in_without_a_program_is_a_reason():
    assert planned(FakeModel(), X) == NO_PROGRAM
    assert samples(FakeModel(), X, (), 0) == ()


@pytest.mark.parametrize(
    ("engine", "device", "faithful", "in_place", "widened"),
    [
        ("portable", "coreml:0", False, True, True),
        ("pytorch", "cpu", False, False, True),
        ("pytorch", "cuda:0", True, False, False),
        ("coreml", "coreml:0", False, True, False),
        ("reference", "cpu", True, False, True),
    ],
)
def test_engines_keep_values_in_their_own_manner(engine, device, faithful, in_place, widened):
    plan = SimpleNamespace(engine=engine, device=device)
    found = manner(SimpleNamespace(plan=plan, options=SimpleNamespace(faithful=faithful)))
    assert dataclasses.astuple(found) == (in_place, widened)


def test_recordings_and_their_facts_carry_them():
    recording = cl.profile(net(), X, runs=5, warmup=1)
    labels = {fact.label: fact for fact in facts(recording).metrics}
    assert labels["activations, at the most"].typical.value == 512
    assert labels["weights, as held"].typical.value >= 512
    above = labels["memory needed on top"].typical
    assert above.value >= 0 or above.note
    assert "activations, at the most" in str(cl.report(recording))


def test_the_neural_engines_memory_is_that_of_the_process_that_runs_core_ml(monkeypatch):
    class Marks:
        def level(self):
            return Level(1.0, 2.0, 40.0, 70.0)

    monkeypatch.setattr(model_memory, "marks", lambda target: Marks())
    found = model_memory.neural(7, 3)
    assert (found.value, found.t_ns, found.provenance) == (70, 3, Provenance.MEASURED)
    assert "experimental" in found.note


def test_where_it_is_not_told_there_is_a_reason():
    assert "is gone" in model_memory.neural(None, 0).note
    assert math.isnan(model_memory.neural(os.getpid(), 0, platform="linux").value)
    assert "only macOS" in model_memory.neural(os.getpid(), 0, platform="win32").note


def test_recordings_of_core_ml_itself_carry_it(monkeypatch):
    monkeypatch.setitem(fakes.PLANS, "coreml", PlanInfo("coreml", "coreml:0", "Core ML"))
    (found,) = samples(FakeModel(), X, (), 0)
    assert found.metric == "coreml_lab.memory.neural"
    assert "is gone" in found.note
