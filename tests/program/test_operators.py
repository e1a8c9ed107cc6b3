"""What is written with tensors is what NumPy computes with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreml_lab.errors import LabError, ShapeError
from coreml_lab.program.graph import Array, Dim, TensorType
from coreml_lab.program.tensors import Tensor, placeholder, tensor
from coreml_lab.run import compiler

RANDOM = np.random.default_rng(7)
ARRAYS: dict[str, Array] = {
    "x": RANDOM.standard_normal((2, 3, 4), np.float32),
    "y": RANDOM.standard_normal((3, 1), np.float32),
    "p": np.abs(RANDOM.standard_normal((2, 3, 4), np.float32)) + np.float32(0.1),
    "i": RANDOM.integers(1, 9, (2, 3)).astype(np.int32),
    "j": np.array([[2], [-3]], np.int32),
    "b": RANDOM.random((2, 3)) < 0.5,
    "c": np.array([True, False, True]),
    "v": RANDOM.standard_normal(4).astype(np.float32),
    "w": RANDOM.standard_normal((4, 5)).astype(np.float32),
    "u": RANDOM.standard_normal(2).astype(np.float32),
}

# The same text means the same for tensors and for arrays.
SAME = """
x + y; x - y; x * y; x / y; x // p; x % p; p ** y; -x; +x; abs(x); -i
x + 1; 1 + x; x - 2.5; 2.5 - x; 2 * x; x / 2; 1 / p; x // 2; 3 // p; x % 2; 7 % p
p ** 2; 2 ** x; np.ones(4, np.float32) * x; x + [1, 2, 3, 4]; x - np.float64(0.1)
i + j; i - j; i * j; i / j; i // j; i % j; i * 2; i / 2; i * 0.5; 2 - i; i + y[:, 0]
b + i; b * 2.5; b + b.astype(int); i + np.array([1, 2, 3], np.int64)
x < y; x <= y; x > y; x >= y; x == x; x != y; 0 < x; i == 3; i != j; i > 2.5; b == c
b & c; b | c; b ^ c; ~b; c & True; True ^ b; False | c; b | np.array([False, True, False])
(x > 0) & (x < 1)
x @ w; w.T @ v; x @ v; u @ x[:, 0]; v @ v; x @ x.transpose(0, 2, 1); v @ w; u @ i
v @ np.ones((4, 2), np.float32); np.ones((2, 4), np.float32) @ w; i @ np.ones((3, 2), np.int32)
np.ones(4, np.float32) @ v; v @ x.transpose(0, 2, 1)
x.T; x.transpose(); x.transpose(1, 0, 2); x.transpose((2, 0, 1)); x.reshape(6, 4)
x.reshape((3, -1)); x.reshape(-1); x[:1].squeeze(); i.astype(np.float32); b.astype("int32")
x.astype(np.float64); x.astype(np.float16); (x * 3).astype(int); x.astype(bool)
x.sum(); x.mean(); x.max(); x.min(); x.prod(); x.var(); x.std(); x.argmax(); x.argmin()
x.sum(1); x.mean((0, 2)); x.max(-1); x.min((0, 1, 2)); x.prod(0); x.var((1, 2)); x.std(-1)
x.argmax(1); x.argmin(-1); i.sum(); i.sum(0); i.mean(); i.mean(1); i.max(0); i.prod(1)
x.var(2, ddof=1); x.std(ddof=1); i.var(); x.clip(-0.5, 0.5); x.clip(0.1, 0.1); i.clip(2, 5)
x[0]; x[-1]; x[1, 2]; x[1, 2, 3]; x[:, 1]; x[..., 2]; x[0, ..., -1]; x[:, 1:3, ::2]
x[::-1]; x[:, ::-2]; x[:, :, 3:0:-1]; x[:, -2:]; x[None]; x[:, None, 1]; x[..., None]; x[:]
x[...]; x[0:1, None, ..., 1:]; x[:, [0, 2]]; x[[-1, 0, 1]]; x[:, :, np.array([[3, -4]])]
x[np.int64(1)]; i[1]; b[0]; v[2]; v[-3:-1]; x[j[:, 0] % 2]; x[:, [-1] * 5]; sum(x); sum(v) + 1
"""
TEXTS = [t.strip() for t in SAME.replace("\n", ";").split(";") if t.strip()]

# Where the spelling or the meaning is ours.
OURS: dict[str, tuple[str, Any]] = {
    "sum": ("x.sum((0, -1), keep_dims=True)", lambda x: x.sum((0, -1), keepdims=True)),
    "sum all": ("x.sum(keep_dims=True)", lambda x: x.sum(keepdims=True)),
    "mean": ("x.mean(1, keep_dims=True)", lambda x: x.mean(1, keepdims=True)),
    "max": ("x.max((1, 2), keep_dims=True)", lambda x: x.max((1, 2), keepdims=True)),
    "min": ("x.min(keep_dims=True)", lambda x: x.min(keepdims=True)),
    "prod": ("x.prod(-1, keep_dims=True)", lambda x: x.prod(-1, keepdims=True)),
    "var": ("x.var((0, 1), keep_dims=True)", lambda x: x.var((0, 1), keepdims=True)),
    "std": ("x.std(2, keep_dims=True)", lambda x: x.std(2, keepdims=True)),
    "argmax": ("x.argmax(1, keep_dims=True)", lambda x: x.argmax(1, keepdims=True)),
    "argmin": ("x.argmin(keep_dims=True)", lambda x: x.argmin(keepdims=True)),
    "exp": ("x.exp()", np.exp),
    "log": ("x.square().log()", lambda x: np.log(np.square(x))),
    "sqrt": ("abs(x).sqrt()", lambda x: np.sqrt(np.abs(x))),
    "relu": ("x.relu()", lambda x: np.maximum(x, 0)),
    "clip below": ("x.clip(low=0.5)", lambda x: np.maximum(x, 0.5)),
    "clip above": ("x.clip(high=0.5)", lambda x: np.minimum(x, 0.5)),
    "sigmoid": ("x.sigmoid()", lambda x: 1 / (1 + np.exp(-x))),
    "silu": ("x.silu()", lambda x: x / (1 + np.exp(-x))),
    "tanh": ("x.tanh()", np.tanh),
    "gelu": ("x.gelu('SIGMOID_APPROXIMATION')", lambda x: x / (1 + np.exp(-1.702 * x))),
    "softmax": ("x.softmax(1)", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "matmul": ("x.matmul(x.transpose(0, 2, 1))", lambda x: x @ x.transpose(0, 2, 1)),
    "squeeze": ("x[:, :1, :1].squeeze(2)", lambda x: x[:, :1, :1].squeeze(2)),
    "expand_dims": ("x.expand_dims((0, -1))", lambda x: np.expand_dims(x, (0, -1))),
}


@pytest.fixture(scope="module")
def computed(session_cache: Any) -> dict[str, Array]:
    """Every expression over tensors, all in one compiled program."""
    names = {k: placeholder(k, TensorType(a.shape, a.dtype)) for k, a in ARRAYS.items()}
    written = [*TEXTS, *(text for text, _ in OURS.values())]
    outputs = {f"out_{n}": evaluated(text, names) for n, text in enumerate(written)}
    model = compiler.compile(outputs, precision="fp32", device="coreml")
    found = model.predict(ARRAYS)
    return {text: found[f"out_{n}"] for n, text in enumerate(written)}


def evaluated(text: str, names: Any) -> Any:
    return eval(text, {"np": np, **names})


def agrees(got: Array, want: Any) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype.kind == want.dtype.kind
    if want.dtype.kind == "f":
        close = 1e-3 if want.dtype == np.float16 else 2e-5
        np.testing.assert_allclose(got, want, rtol=close, atol=close)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("text", TEXTS)
def test_expression_is_what_numpy_computes(text: str, computed: dict[str, Array]) -> None:
    agrees(computed[text], evaluated(text, ARRAYS))


@pytest.mark.parametrize("name", OURS)
def test_method_is_what_its_formula_says(name: str, computed: dict[str, Array]) -> None:
    text, want = OURS[name]
    agrees(computed[text], want(ARRAYS["x"]))


@pytest.fixture
def x() -> Tensor:
    return tensor(ARRAYS["x"])


def test_shape_and_type_are_known_before_anything_runs(x: Tensor) -> None:
    result = (x @ ARRAYS["w"])[:, None, 1:].mean(-1)
    assert result.shape == (2, 1, 2)
    assert result.dtype == np.float32


def test_half_precision_meets_single_precision_in_single(x: Tensor) -> None:
    half = x.astype("fp16")
    assert half.dtype == np.float16
    assert (half * 2.5).dtype == np.float16
    assert (half * x).dtype == np.float32


def test_a_tensor_of_one_element_has_a_truth_value_and_converts_to_a_number() -> None:
    one = tensor([[2.5]])
    assert one > 2
    assert float(one) == 2.5
    assert int(one) == 2


def test_a_tensor_of_many_elements_has_no_truth_value(x: Tensor) -> None:
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(x > 0)


def test_tensors_are_told_apart_by_identity_in_sets(x: Tensor) -> None:
    assert len({x, tensor(ARRAYS["x"]), x}) == 2


def test_a_tensor_is_not_none_and_not_text(x: Tensor) -> None:
    assert (x == None) is False  # noqa: E711 - what a careless comparison does
    assert (x != "x") is True
    with pytest.raises(TypeError):
        x + "x"


def test_iterating_walks_the_first_dimension(x: Tensor) -> None:
    rows = list(x)
    assert [r.shape for r in rows] == [(3, 4), (3, 4)]
    np.testing.assert_array_equal(rows[1].numpy(), ARRAYS["x"][1])


def test_a_flexible_dimension_is_sliced_without_knowing_its_size() -> None:
    batch = placeholder("x", TensorType((Dim("n", 1, 8), 4), np.dtype(np.float32)))
    model = compiler.compile({"out": batch[::2, 1:], "last": batch[-1]}, device="coreml")
    a = np.arange(20, dtype=np.float32).reshape(5, 4)
    out = model.predict({"x": a})
    np.testing.assert_array_equal(out["out"], a[::2, 1:])
    np.testing.assert_array_equal(out["last"], a[-1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x[2], "index 2 is outside dimension 0"),
        (lambda x: x[:, -4], "index -4 is outside dimension 1"),
        (lambda x: x[0, 0, 0, 0], "4 indices for a tensor of 3 dimensions"),
        (lambda x: x[..., ...], "2 ellipses"),
        (lambda x: x[0.5], "0.5 cannot index"),
        (lambda x: x[1:1], "1:1 of dimension 0"),
        (lambda x: x[::0], "a slice step of 0"),
        (lambda x: x[[5]], "index 5 is outside"),
        (lambda x: x[[0.5]], "an index of float64 values"),
        (lambda x: x[np.ones((2, 3, 4), bool)], "an index of bool values"),
        (lambda x: x[0, [0, 1]], "full slices only"),
        (lambda x: x[:, [0], [1]], "full slices only"),
        (lambda x: x & x, "must be truth values"),
        (lambda x: x @ 2, "a matrix product with a number"),
        (lambda x: x @ ARRAYS["u"], "matmul"),
        (lambda x: x + ARRAYS["u"], "add"),
        (lambda x: x.astype("complex64"), "no element type 'complex64'"),
        (lambda x: x.astype("nonsense"), "no element type 'nonsense'"),
        (lambda x: x.reshape(5, 5), "reshape"),
        (lambda x: x.transpose(0, 1), "transpose"),
        (lambda x: x.squeeze(0), "squeeze"),
        (lambda x: x.sum(3), "reduce_sum"),
        (lambda x: x.sum(-4), "reduce_sum"),
        (lambda x: x.sum((0, 0)), "reduce_sum"),
        (lambda x: x.softmax(5), "softmax"),
        (lambda x: x.argmax(-4), "reduce_argmax"),
    ],
)
def test_a_mistake_is_one_error_that_says_what_and_where(x: Tensor, wrong: Any, said: str) -> None:
    with pytest.raises(LabError) as caught:
        wrong(x)
    assert said in str(caught.value)
    assert caught.value.hint
