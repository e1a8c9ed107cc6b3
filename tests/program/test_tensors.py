"""Tensors: recorded, computed once, moved, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    EngineUnavailable,
    GraphError,
    InputError,
    LabError,
    ShapeError,
    UnknownParameter,
)
from coreml_lab.program import tensors
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


# -- whose memory it is ----------------------------------------------------------------------------


class Lending:
    """What lends its memory through NumPy's protocol, as arrays of tables do."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.array


class OldDlpack:
    """What lends its memory through the first DLPack, which knows nothing of read-only."""

    dtype = np.dtype(np.float32)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def frozen(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize(
    "seen",
    [
        frozen,
        memoryview,
        Lending,
        OldDlpack,
        np.diag,
        lambda a: np.broadcast_to(a, (2, 3, 3)),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, axis=0),
        lambda a: frozen(a.T)[1:],
    ],
)
def test_what_only_looks_read_only_is_copied(seen: Any) -> None:
    array = np.arange(9, dtype=np.float32).reshape(3, 3)
    lent = seen(array)
    held = cl.tensor(lent)
    expected = held.numpy().copy()
    array[:] = 77
    np.testing.assert_array_equal(held.numpy(), expected)


def test_what_nobody_can_write_to_is_shared() -> None:
    array = X.copy()
    array.flags.writeable = False
    fixed = np.frombuffer(b"\0" * 24, np.float32)
    for settled in (array, array[1:], array.T, np.broadcast_to(array, (2, 2, 3)), fixed):
        assert np.shares_memory(cl.tensor(settled).numpy(), settled)
    held = cl.tensor(X)
    assert np.shares_memory(cl.tensor(held).numpy(), held.numpy())
    for one in (held, cl.ops.relu(held)):
        assert np.shares_memory(one.to_cpu().numpy(), one.numpy())


@pytest.mark.parametrize(
    "recorded",
    [
        lambda x, w: x * w,
        lambda x, w: w - x,
        lambda x, w: cl.ops.minimum(x=x, y=w),
        lambda x, w: cl.ops.concat([x, w], axis=0),
        lambda x, w: cl.ops.gather(x, w.view(np.int32)[0], axis=1),
        lambda x, w: x @ w.T,
    ],
)
def test_an_operand_may_be_changed_after_it_was_recorded(recorded: Any) -> None:
    weight = np.zeros((2, 3), np.float32)
    x = cl.tensor(X)
    expected = recorded(x, weight.copy()).numpy()
    later = recorded(x, weight)
    weight.view(np.int32)[:] = 1
    np.testing.assert_array_equal(later.numpy(), expected)


def test_parameters_may_be_changed_after_they_were_recorded() -> None:
    order = [1, 0]
    turned = cl.ops.transpose(cl.tensor(X), perm=order)
    order.reverse()
    np.testing.assert_array_equal(turned.numpy(), X.T)


def test_weights_of_a_program_that_is_written_are_not_copied_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, found = np.ones((3, 3), np.float32), []
    given = tensors.const

    def const(array: Any) -> Any:
        found.append(array)
        return given(array)

    monkeypatch.setattr(tensors, "const", const)
    cl.compile(lambda x: x * weight, x=cl.spec(3, 3))
    assert any(np.shares_memory(array, weight) for array in found)
    found.clear()
    _ = cl.tensor(weight) * weight
    assert found
    assert not any(np.shares_memory(array, weight) for array in found)


# -- numbers that do not fit -----------------------------------------------------------------------


def test_a_bare_number_is_made_in_the_type_of_its_neighbour() -> None:
    x = cl.tensor([1.0])
    for y in (cl.ops.add(x, 3_000_000_000), x + 3_000_000_000, cl.ops.add(3_000_000_000, x)):
        np.testing.assert_array_equal(y.numpy(), np.array([3e9], np.float32))


@pytest.mark.parametrize(
    "make",
    [
        lambda: cl.tensor(3_000_000_000),
        lambda: cl.tensor([2**40]),
        lambda: cl.tensor(np.array([1, -(2**31) - 1])),
        lambda: cl.tensor(np.array([2**32 - 1], np.uint32)),
        lambda: cl.tensor(np.array([2**64 - 1], np.uint64)),
        lambda: cl.tensor([2**40], dtype="int32"),
        lambda: cl.tensor([300], dtype="uint8"),
        lambda: cl.ops.add(cl.tensor([1]), 3_000_000_000),
        lambda: cl.ops.add(cl.tensor([1.0]), 10**400),
        lambda: cl.ops.add(cl.tensor([1]), np.array([2**40])),
        lambda: cl.tensor([1]) + 3_000_000_000,
        lambda: cl.tensor([1]) + np.array([2**40]),
        lambda: cl.tensor([1]) + np.uint32(2**32 - 1),
    ],
)
def test_whole_numbers_never_wrap_around(make: Any) -> None:
    with pytest.raises(ShapeError, match=r"does not fit|out of bounds") as caught:
        make()
    assert caught.value.hint


def test_whole_numbers_that_fit_are_narrowed() -> None:
    for dtype in (np.int64, np.uint32, np.uint64):
        held = cl.tensor(np.array([0, 2**31 - 1], dtype))
        assert held.dtype == np.int32
        assert held.numpy().tolist() == [0, 2**31 - 1]
    assert cl.tensor(np.zeros(0, np.int64)).dtype == np.int32
    assert cl.tensor([2**40], dtype="fp32").numpy()[0] == 2.0**40


def test_arrays_of_another_byte_order_become_the_machines() -> None:
    for dtype in (">f4", ">f2", ">i4", ">i8", ">f8"):
        held = cl.tensor(np.arange(3).astype(dtype))
        assert held.dtype.isnative
        assert (held + 1).numpy().tolist() == [1, 2, 3]


# -- kinds of arrays that NumPy lacks --------------------------------------------------------------


def test_an_array_that_numpy_has_no_kind_for_is_one_error() -> None:
    torch = pytest.importorskip("torch")
    plain = torch.ones(3)
    model = cl.compile(cl.ops.relu, x=cl.spec(3))
    odd = [plain.to_sparse(), plain.to(torch.float8_e4m3fn), torch._neg_view(plain)]
    for array in odd:
        for make in (cl.tensor, cl.ops.relu, lambda a: cl.tensor(X) + a):
            with pytest.raises(ShapeError, match="cannot make an array of Tensor") as caught:
                make(array)
            assert "resolve_neg" in caught.value.hint
        with pytest.raises(InputError, match="input 'x' is not an array") as refused:
            model.predict({"x": array})
        assert refused.value.hint


# -- tensors in a program that is written ----------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "coreml"])
def test_what_a_tensor_holds_is_a_constant_of_a_program_for_any_device(device: str) -> None:
    weight = cl.tensor(X)
    for net in (
        lambda x: x @ weight,
        lambda x: x @ (weight * 2 - weight),
        lambda x: cl.ops.concat([x @ weight, weight[0:1]], axis=0)[0:1],
    ):
        model = cl.compile(net, x=cl.spec(1, 2), device=device)
        (found,) = model.predict({"x": np.ones((1, 2), np.float32)}).values()
        np.testing.assert_allclose(found, X.sum(0)[None], rtol=1e-5)


def test_what_was_computed_elsewhere_is_refused_in_a_program_with_a_way_out() -> None:
    weight = cl.tensor(X) * 2
    with pytest.raises(GraphError, match="live on coreml:0 and cpu") as caught:
        cl.compile(lambda x: x @ weight, x=cl.spec(1, 2), device="cpu")
    assert ".numpy()" in caught.value.hint
    cl.compile(lambda x: x @ weight.numpy(), x=cl.spec(1, 2), device="cpu")
