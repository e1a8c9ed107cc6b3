"""Tensors: recorded, computed once, moved, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineUnavailable, GraphError, LabError, ShapeError, UnknownParameter
from coreml_lab.run.activity import ACTIVITY

X = np.random.default_rng(3).standard_normal((2, 3), np.float32)


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (X, "float32", (2, 3)),
        (X.astype(np.float64), "float32", (2, 3)),
        ([[1, 2], [3, 4]], "int32", (2, 2)),
        (2.5, "float32", ()),
        (X > 0, "bool", (2, 3)),
        (X.astype(np.float16), "float16", (2, 3)),
    ],
)
def test_data_keeps_a_type_that_core_ml_has(data: Any, dtype: str, shape: Any) -> None:
    made = cl.tensor(data)
    assert (made.dtype.name, made.shape, made.ndim) == (dtype, shape, len(shape))
    np.testing.assert_allclose(made.numpy(), np.asarray(data))


def test_an_element_type_can_be_asked_for_by_mils_name() -> None:
    assert cl.tensor([1, 2], dtype="fp16").dtype == np.float16


@pytest.mark.parametrize("data", [[[1, 2], [3]], "text", 1j, np.zeros((1,) * 6, np.float32), None])
def test_what_core_ml_cannot_hold_is_one_error(data: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        cl.tensor(data)
    assert caught.value.hint


def test_nothing_runs_until_it_is_looked_at_and_then_once() -> None:
    y = cl.ops.relu(cl.tensor(X))
    assert "not computed yet" in repr(y)
    before = ACTIVITY.total
    np.testing.assert_array_equal(y.numpy(), np.maximum(X, 0))
    assert y.numpy() is y.numpy()
    assert ACTIVITY.total == before + 1


def test_data_cannot_be_changed_behind_its_back() -> None:
    data = X.copy()
    held = cl.tensor(data)
    data[:] = 0
    np.testing.assert_array_equal(held.numpy(), X)
    assert not held.numpy().flags.writeable


def test_it_is_an_array_to_numpy() -> None:
    assert np.asarray(cl.ops.relu(cl.tensor(X))).sum() == pytest.approx(np.maximum(X, 0).sum())
    assert cl.ops.reduce_sum(cl.tensor(X), axes=[0, 1]).item() == pytest.approx(X.sum(), rel=1e-5)
    assert len(cl.tensor(X)) == 2


def test_numbers_take_the_type_of_the_tensor_beside_them() -> None:
    half = cl.tensor(X.astype(np.float16))
    assert cl.ops.mul(half, 2.0).dtype == np.float16
    assert cl.ops.add(cl.tensor([1, 2]), 3).numpy().tolist() == [4, 5]


def test_wrong_operands_are_refused_by_mils_own_rules_when_recorded() -> None:
    with pytest.raises(ShapeError) as caught:
        cl.ops.matmul(cl.tensor(X), cl.tensor(X))
    assert "matmul(x: fp32[2,3], y: fp32[2,3]" in caught.value.message
    assert "cl.ops.matmul" in caught.value.hint


@pytest.mark.parametrize("axes", [[5], [-9], ["a"], [[0]]])
def test_bad_axes_are_one_error_that_names_them(axes: Any) -> None:
    with pytest.raises(LabError) as caught:
        cl.ops.reduce_sum(cl.tensor(X), axes=axes)
    assert "reduce_sum" in caught.value.message
    assert caught.value.hint


def test_an_unknown_parameter_shows_the_signature() -> None:
    with pytest.raises(UnknownParameter) as caught:
        cl.ops.softmax(cl.tensor(X), dim=1)
    assert "dim" in caught.value.message
    assert "axis" in caught.value.hint


def test_an_unknown_op_lists_those_there_are() -> None:
    with pytest.raises(AttributeError, match="softmax"):
        _ = cl.ops.sofmax


def test_moving_between_devices() -> None:
    y = cl.ops.exp(cl.tensor(X))
    assert y.is_coreml
    on_cpu = y.to_cpu()
    assert on_cpu.device == "cpu"
    np.testing.assert_allclose(cl.ops.log(on_cpu).numpy(), X, atol=1e-5)
    assert on_cpu.to_coreml().device == "coreml:0"
    assert y.to("coreml") is y
    for move in (y.to_cuda, y.to_metal):
        with pytest.raises(EngineUnavailable) as caught:
            move()
        assert caught.value.reason


def test_operands_on_two_devices_are_refused() -> None:
    x = cl.tensor(X)
    with pytest.raises(GraphError, match=r"coreml:0 and cpu") as caught:
        cl.ops.add(x, x.to_cpu())
    assert "y.to(" in caught.value.hint
    for mixed in (lambda: x + x.to_cpu(), lambda: cl.ops.concat([x, x.to_cpu()], axis=0)):
        with pytest.raises(GraphError, match="live on coreml:0 and cpu"):
            mixed()


def test_arrays_and_numbers_go_where_the_tensors_are_and_results_stay_there() -> None:
    x = cl.tensor(X, device="cpu")
    for y in (x + X, X + x, x * 2.0, cl.ops.concat([x, X], axis=0)):
        assert y.device == "cpu"
        assert (y + 1).device == "cpu"
    assert (cl.ops.fill([2], value=1.0)).device == "coreml:0"
    with cl.configure(device="cpu"):
        assert (cl.ops.fill([2], value=1.0)).device == "cpu"


def test_a_weight_given_as_a_tensor_becomes_part_of_the_program() -> None:
    kernel = cl.tensor(np.ones((1, 1, 3, 3), np.float32))
    image = cl.tensor(np.ones((1, 1, 5, 5), np.float32))
    node = cl.ops.conv(image, kernel, pad_type="same").value.node
    weight = node.inputs["weight"]
    assert not isinstance(weight, tuple)
    assert weight.const is not None
