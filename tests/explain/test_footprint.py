"""Where the memory of a model goes: weights, activations, workspace, operations."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError
from coreml_lab.explain.footprint import MAPPED, described, left
from coreml_lab.measure.alone import Alone
from coreml_lab.measure.model_memory import planned
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.run.op_memory import MemoryTrace, OpMemory

X = {"x": np.ones((128, 128), np.float32)}
KB = 1024


def chain(**options):
    def net(x):
        for axis in (0, 1, 0):
            x = cl.ops.softmax(x=x, axis=axis)
        return x

    return cl.compile(net, x=cl.spec(128, 128), name="chain", **options)


def process(peak, device=math.nan):
    return Alone(1.0, 0.1, peak, peak, peak / 2, device, device, "", "resident set")


def test_the_engines_own_count_comes_first_and_the_estimate_beside_it():
    found = cl.footprint(chain(), X, processes=False)
    assert found.activations.value == found.estimate.value == 128 * KB
    assert found.activations.provenance is Provenance.MEASURED
    assert found.estimate.provenance is Provenance.ESTIMATED
    assert [row.op for row in found.ops] == ["softmax"] * 3
    assert "not loaded in a process of its own" in found.running.note
    assert "peak on" not in str(found)
    assert found.at in repr(found)


def test_an_engine_that_does_not_tell_leaves_the_estimate_and_says_so():
    found = cl.footprint(chain(engine="reference", device="cpu"), X, processes=False)
    assert found.activations.provenance is Provenance.ESTIMATED
    assert found.ops[0].live.provenance is Provenance.ESTIMATED
    assert "by liveness: reference does not tell" in found.notes[0]


def test_what_is_left_of_the_peak_is_workspace():
    model = chain()
    found = described(model, planned(model, X), None, (process(9e6), process(5e6)))
    known = found.weights.value + found.activations.value + found.border.value
    assert found.workspace.value == 5e6 - known
    assert found.workspace.provenance is Provenance.ESTIMATED
    assert found.running.value == 5e6


def test_a_peak_below_its_parts_has_no_workspace():
    def size(value):
        return Quantity(value, "By", Provenance.MEASURED)

    assert left(size(10.0), (size(6.0), size(7.0))).note == MAPPED
    assert left(size(math.nan), (size(6.0),)).provenance is Provenance.UNAVAILABLE


def test_a_program_that_cannot_be_planned_is_a_reason_and_measured_rows_stay():
    trace = MemoryTrace((OpMemory("a", "relu", (), 300, 100),), 0, "the allocator")
    found = described(chain(), "its sizes are not known", trace, ())
    assert found.estimate.note == "its sizes are not known"
    assert (found.activations.value, found.at) == (300, "a")
    assert found.alive == ()


def test_the_device_has_a_row_where_a_framework_counts():
    model = chain()
    found = described(model, planned(model, X), None, (process(5e6, device=7e6),))
    assert found.device.value == 7e6
    assert "peak on coreml:0" in str(found)


def test_what_is_alive_at_the_peak_is_named_with_its_line():
    found = cl.footprint(chain(), X, processes=False)
    assert sum(held.bytes for held in found.alive) == found.estimate.value
    rows = (*found.alive, *found.ops)
    assert all(row.where.startswith("test_footprint.py, line ") for row in rows)
    data = json.loads(found.to_json())["data"]
    assert data["alive"][0]["op"] == "softmax"
    assert data["ops"][0]["share"]["value"] <= 1


def test_a_failing_process_is_a_note(monkeypatch):
    def refuse(*_, **__):
        raise EngineError("no such device")
        yield

    monkeypatch.setattr("coreml_lab.explain.footprint.alone", refuse)
    found = cl.footprint(chain(), X)
    assert found.notes == ("the process's own memory: no such device",)


@pytest.mark.sweep
def test_of_a_real_network_most_of_the_process_is_explained():
    model = cl.zoo.resnet50()
    x = {k: np.zeros(t.shape, np.float32) for k, t in model.inputs.items()}
    found = cl.footprint(model, x, seconds=300)
    assert found.running.value > found.weights.value
    assert found.activations.value <= found.estimate.value
