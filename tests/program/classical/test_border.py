"""The border of classical models: names, types, where they run, and what cannot be had of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

import coreml_lab as cl
from coreml_lab.errors import EngineUnavailable, InputError, ModelError
from coreml_lab.program.classical.closed import CLOSED
from coreml_lab.program.mil.tools import proto
from coreml_lab.run import compiler
from tests.program.classical.predictors import CASES
from tests.support.classical import load, model, save


@pytest.fixture
def line(tmp_path: Path) -> cl.Model:
    """A weighted sum of a and b."""
    return load(CASES[0].spec, tmp_path)


def test_it_looks_like_any_other_model(line: cl.Model) -> None:
    assert {n: (t.shape, t.dtype.name) for n, t in line.inputs.items()} == {
        "a": ((), "float64"),
        "b": ((), "float64"),
    }
    assert [p.kind for p in line.info.inputs] == ["number", "number"]
    assert [op.op for op in line.info.ops] == ["glmRegressor"]
    assert line.weight_bytes == 24
    assert "a: number, b: number -> y: number" in repr(line)
    assert "classical engine (NumPy, CPU)" in line.plan.title
    assert line.states == {}


def test_several_inputs_are_predicted_in_turn(line: cl.Model) -> None:
    each = [{"a": a, "b": np.float32(2)} for a in range(3)]
    assert line.predict(each) == [line.predict(one) for one in each]


def test_its_stage_is_measured(line: cl.Model) -> None:
    recording = cl.profile(line, {"a": 1, "b": 2}, runs=3, warmup=0)
    assert {span.op for span in recording.spans} == {"glmRegressor"}
    assert "glmRegressor" in cl.report(recording).to_markdown()


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"a": 1}, "missing: b"),
        ({"a": 1, "b": 2, "c": 3}, "unknown: c"),
        ({"a": 1, "b": "2"}, "input 'b' is a str, not a number"),
        ({"a": 1, "b": [1, 2]}, "input 'b' is a list, not a number"),
        ({"a": 1, "b": np.zeros(2)}, "an array of float64 and shape (2,), not a number"),
        (3, "inputs are a dictionary by name, not int"),
    ],
)
def test_wrong_inputs_are_named(line: cl.Model, inputs: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        line.predict(inputs)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        cl.placement,
        lambda line: cl.diff(line, line, {"a": 1, "b": 2}),
        lambda line: line.export_onnx("model.onnx"),
    ],
)
def test_what_needs_operations_says_so(line: cl.Model, asked: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match=r"kind glmRegressor.*no operations to look at"):
        asked(line)


@pytest.mark.parametrize("asked", [cl.edit, lambda line: cl.optimize(line, [{"a": 1, "b": 2}])])
def test_it_cannot_be_changed(line: cl.Model, asked: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match="is a glmRegressor: changes are made to operations"):
        asked(line)


def test_it_has_no_functions(line: cl.Model) -> None:
    with pytest.raises(ModelError, match="has no function 'other'"):
        cl.load(line.info.package, function="other")


def test_an_input_may_be_left_out_where_something_stands_for_it(tmp_path: Path) -> None:
    part = {"weights": [{"value": [1, 2, 3]}], "offset": [0]}
    spec = model("glmRegressor", part, {"a": "double", "x": (2,)}, {"y": "double"}, optional=True)
    spec.description.input[1].type.multiArrayType.doubleDefaultValue = 0.5
    found = load(spec, tmp_path)
    assert found.predict({"a": 1}) == {"y": 3.5}
    assert found.predict({"a": 1, "x": None}) == {"y": 3.5}
    with pytest.raises(InputError, match="'a' was left out"):
        found.predict({"x": [1, 2]})


def test_it_runs_on_the_cpu_alone(line: cl.Model) -> None:
    assert line.to("cpu").predict({"a": 1, "b": 2}) == line.predict({"a": 1, "b": 2})
    with pytest.raises(EngineUnavailable, match="not on engine reference"):
        cl.load(line.info.package, engine="reference")
    with pytest.raises(EngineUnavailable, match="not on cuda:0"):
        line.to("cuda:0")


def test_the_usual_device_of_programs_is_none_of_its_own(
    line: cl.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler.devices, "resolve", lambda name: name)
    with cl.configure(device="cuda:0"):
        assert cl.load(line.info.package).device == "cpu"
        with pytest.raises(EngineUnavailable, match="not on metal:0"):
            cl.load(line.info.package, device="metal:0")


@pytest.mark.parametrize("kind", sorted(CLOSED))
def test_what_is_closed_names_its_kind_and_what_is_needed(kind: str, tmp_path: Path) -> None:
    spec = proto.Model_pb2.Model(specificationVersion=4)
    getattr(spec, kind).SetInParent()
    with pytest.raises(ModelError, match=f"kind {kind}: .*(needed|does not say|leaves out)"):
        cl.load(save(spec, tmp_path))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({}, "its weights have no rows"),
        ({"weights": [{"value": [1]}, {"value": [1, 2]}]}, "rows of 1 to 2 numbers"),
        ({"weights": [{"value": [1, 2]}], "offset": [1, 2]}, "1 rows of weights, 2 offsets"),
    ],
)
def test_a_damaged_model_is_named(part: dict[str, Any], told: str, tmp_path: Path) -> None:
    spec = proto.Model_pb2.Model()
    spec.CopyFrom(CASES[0].spec)
    spec.glmRegressor.Clear()
    ParseDict(part, spec.glmRegressor)
    with pytest.raises(ModelError, match=f"damaged glmRegressor: .*{told}"):
        cl.load(save(spec, tmp_path))
