"""Model: what it accepts, converts, refuses and says."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError, LabError
from coreml_lab.program.graph import Dim

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


@pytest.fixture(scope="module")
def model() -> Any:
    return cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(2, 3), name="net")


def test_it_says_what_it_is(model: Any) -> None:
    assert model.inputs["x"].shape == (2, 3)
    assert model.outputs["y"].dtype == np.float32
    assert repr(model).startswith("Model(net: x: fp32[2,3] -> y: fp32[2,3]; 1 ops, Core ML program")


@pytest.mark.parametrize("value", [X, X.astype(np.float64), X.tolist(), X.T.copy().T])
def test_it_accepts_what_can_be_narrowed(model: Any, value: Any) -> None:
    np.testing.assert_array_equal(model.predict({"x": value})["y"], np.maximum(X, 0))


@pytest.mark.parametrize(
    ("inputs", "message", "hint"),
    [
        ({}, "missing: x", "predict({'x': fp32[2,3]})"),
        ({"z": X}, "unknown: z", "predict("),
        ({"x": X, "z": X}, "unknown: z", "predict("),
        ({"x": X[:1]}, "shape (1, 3), not (2, 3)", "fp32[2,3]"),
        ({"x": X.reshape(3, 2)}, "shape (3, 2), not (2, 3)", "array.reshape((2, 3))"),
        ({"x": X[0]}, "shape (3,), not (2, 3)", "array[None]"),
        ({"x": X.astype(np.int32)}, "is int32, not float32", "array.astype('float32')"),
        ({"x": X > 0}, "is bool, not float32", "array.astype"),
        ({"x": [[1, 2], [3]]}, "not an array", "fp32[2,3]"),
        ({"x": "text"}, "float32", "array.astype"),
    ],
)
def test_wrong_inputs_are_one_error_that_says_what_to_give(
    model: Any, inputs: Any, message: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        model.predict(inputs)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.startswith("net:")


def test_bool_and_small_integers_cross_the_border_unchanged() -> None:
    model = cl.compile(
        lambda a, b: {"both": cl.ops.logical_and(a, b)},
        a=cl.spec(3, dtype="bool"),
        b=cl.spec(3, dtype="bool"),
    )
    found = model.predict({"a": np.array([True, False, True]), "b": np.array([True, True, False])})
    assert found["both"].dtype == bool
    assert found["both"].tolist() == [True, False, False]


def test_a_flexible_dimension_keeps_its_bounds_and_equal_names_are_equal_sizes() -> None:
    n = Dim("n", 1, 4)
    model = cl.compile(lambda x, y: {"z": cl.ops.add(x, y)}, x=cl.spec(n, 2), y=cl.spec(n, 2))

    def ones(size: int) -> Any:
        return np.ones((size, 2), np.float32)

    assert model.predict({"x": ones(3), "y": ones(3)})["z"].shape == (3, 2)
    with pytest.raises(InputError, match=r"not \(1…4, 2\)"):
        model.predict({"x": ones(5), "y": ones(5)})
    with pytest.raises(InputError, match="input 'y'"):
        model.predict({"x": ones(3), "y": ones(2)})


def test_the_cpu_is_pytorchs_where_it_is_here_and_agrees(model: Any) -> None:
    other = model.to("cpu")
    here = importlib.util.find_spec("torch") is not None
    assert other.plan.engine == ("pytorch" if here else "reference")
    np.testing.assert_array_equal(other.predict({"x": X})["y"], model.predict({"x": X})["y"])


@pytest.mark.parametrize("device", ["cuda", "metal:0", "coreml:7", "tpu", "cpu:1"])
def test_a_device_that_is_not_here_is_refused_with_the_reason(model: Any, device: str) -> None:
    with pytest.raises(LabError) as caught:
        model.to(device)
    assert caught.value.hint


def test_spans_are_measured_and_named_after_mil_ops(model: Any) -> None:
    for arm in (model, model.to("cpu")):
        runs = arm.trace({"x": X}, runs=3)
        assert len(runs) == 3
        assert all(run.instrumented for run in runs)
        for run in runs:
            assert [(s.node, s.op, s.provenance) for s in run.spans] == [("y", "relu", "measured")]
            assert run.start_ns <= run.spans[0].start_ns
            assert (
                run.spans[0].start_ns + run.spans[0].duration_ns
                <= run.start_ns + run.duration_ns + 5000
            )
