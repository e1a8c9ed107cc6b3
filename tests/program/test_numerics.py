"""What is computed where mathematics or the element type has no answer: never a crash."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import coreml_lab as cl
from coreml_lab.errors import EngineError, ShapeError
from coreml_lab.program.graph import Array
from coreml_lab.program.ops import OPS
from tests.support.op_cases import Case, program
from tests.support.op_engines import by_definition, onnx_runtime, walked
from tests.support.op_variants import flexible, sizes

LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max
REALS = [
    np.nan, np.inf, -np.inf, 0, -0.0, 0.99, -0.99, 1.5, -2.5, 127.5, 128, -128.9, -129, 255.9, 256,
    300.7, 32768, -32769, 60000.5, 65504, 65536, 1e6, 2147483520, 2147483648, -2147483904, 3e9,
    1e38,
]  # fmt: skip
WHOLES = [LOW, -32769, -129, -128, -1, 0, 1, 127, 128, 255, 300, 32768, 65535, 65536, HIGH]
KINDS = {
    "fp32": np.float32, "fp16": np.float16, "int32": np.int32, "int16": np.int16,
    "uint16": np.uint16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
}  # fmt: skip


def agreed(op: str, **sample: Any) -> Array:
    """The first result of an op, on which the definition and ONNX Runtime agree."""
    case = Case(dataclasses.replace(OPS[op], samples=(sample,)), 0)
    graph, feeds = program([case])
    want, got = by_definition(case)[0], next(iter(onnx_runtime(graph, feeds).values()))
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    return want


def as_cast(value: Any, kind: type[np.generic]) -> Any:
    """The rule, one number at a time."""
    target = np.dtype(kind)
    if target.kind in "fb":
        with np.errstate(over="ignore"):
            return target.type(value)
    info = np.iinfo(target)
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return target.type(0)
        return target.type(min(max(float(value), info.min), info.max))
    bits = int(value) & (2**info.bits - 1)
    return target.type(bits - 2**info.bits if bits > info.max else bits)


@pytest.mark.parametrize(("source", "target"), [*itertools.product(KINDS, KINDS)])
def test_casts_saturate_reals_and_keep_the_low_bits_of_integers(source: str, target: str) -> None:
    kind = np.dtype(KINDS[source])
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            x = np.array(REALS).astype(kind)
    elif kind.kind == "b":
        x = np.array([False, True])
    else:
        info = np.iinfo(kind)
        x = np.array([w for w in WHOLES if info.min <= w <= info.max], kind)
    want = [as_cast(v, KINDS[target]) for v in x]
    np.testing.assert_array_equal(agreed("cast", x=x, dtype=target), np.array(want))


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("op", "want"),
    [
        ("real_div", [LOW, 0, 0, LOW // 3 + 1, 0, 0, -3]),
        ("floor_div", [LOW, 0, 0, LOW // 3, 0, 0, -4]),
        ("mod", [0, 0, 0, LOW % 3, 0, 5, -1]),
    ],
)
def test_no_integer_division_ends_the_process(op: str, want: list[int], constant: bool) -> None:
    x, y = ints(LOW, 7, 0, LOW, 0, 5, 7), ints(-1, 0, 0, 3, LOW, HIGH, -2)
    given = {"y": y.tolist()} if constant else {"y": y}
    np.testing.assert_array_equal(agreed(op, x=x, **given), want)


def test_floor_division_of_reals_is_that_of_the_exact_quotient() -> None:
    # 1 / 0.1 rounds to 10, but ten of that 0.1 are more than 1.
    x, y = np.array([1, -1, 6, np.inf, 5], np.float32), np.array([0.1, 0.1, 0.3, 2, 0], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(agreed("floor_div", x=x, y=y), np.floor_divide(x, y))
        np.testing.assert_array_equal(agreed("mod", x=x, y=y), np.mod(x, y))


def test_powers_of_integers_lose_their_fraction_and_stop_at_the_ends() -> None:
    x, y = ints(2, 0, -1, 10, -10, 3), ints(-1, -1, -3, 40, 41, 4)
    np.testing.assert_array_equal(agreed("pow", x=x, y=y), [0, HIGH, -1, HIGH, LOW, 81])
    np.testing.assert_array_equal(agreed("exp2", x=ints(30, 31, 500, -1)), [2**30, HIGH, HIGH, 0])


def test_integer_arithmetic_wraps_and_reductions_saturate() -> None:
    x, y = ints(HIGH, LOW, 65536), ints(1, -1, 65536)
    np.testing.assert_array_equal(agreed("add", x=x, y=y), [LOW, HIGH, 131072])
    np.testing.assert_array_equal(agreed("mul", x=x, y=y), [HIGH, LOW, 0])
    np.testing.assert_array_equal(agreed("reduce_sum", x=ints(HIGH, 1), axes=[0]), HIGH)
    np.testing.assert_array_equal(agreed("reduce_prod", x=ints(*[65536] * 5), axes=[0]), HIGH)
    np.testing.assert_array_equal(agreed("cumsum", x=ints(HIGH, 1)), [HIGH, LOW])


def test_a_negative_base_has_only_whole_powers() -> None:
    x, y = np.array([-8, -8, 0, 0], np.float32), np.array([2, 1 / 3, 0, -1], np.float32)
    np.testing.assert_array_equal(agreed("pow", x=x, y=y), np.float32([64, np.nan, 1, np.inf]))


def test_epsilon_is_added_before_anything_else() -> None:
    zero = np.zeros(1, np.float32)
    assert agreed("rsqrt", x=zero, epsilon=np.float32(0.25)) == 2
    assert agreed("inverse", x=zero, epsilon=np.float32(0.25)) == 4
    assert agreed("log", x=zero, epsilon=np.float32(1)) == 0
    assert np.isnan(agreed("sqrt", x=zero - 1))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantization_rounds_half_to_even_and_saturates(dtype: str) -> None:
    x = np.array([np.inf, -np.inf, 3e38, -3e38, 0.5, 1.5, -0.5, 300, -300], np.float32)
    info = np.iinfo(dtype)
    got = agreed("quantize", input=x, scale=np.float32(1), output_dtype=dtype)
    want = [info.max, info.min, info.max, info.min, 0, 2, 0, info.max, info.min]
    np.testing.assert_array_equal(got, want)


X = np.arange(6, dtype=np.float32).reshape(3, 2)
ROW = np.ones((1, 2), np.float32)
BEYOND: dict[str, tuple[str, dict[str, Any]]] = {
    "gather": ("indices", {"x": X, "indices": ints(0)}),
    "gather_along_axis": ("indices", {"x": X, "indices": ints(0, 0).reshape(1, 2)}),
    "gather_nd": ("indices", {"x": X, "indices": ints(0).reshape(1, 1)}),
    "scatter": ("indices", {"data": X, "indices": ints(0), "updates": ROW}),
    "scatter_along_axis": (
        "indices",
        {"data": X, "indices": ints(0, 0).reshape(1, 2), "updates": ROW},
    ),
    "scatter_nd": ("indices", {"data": X, "indices": ints(0).reshape(1, 1), "updates": ROW}),
}


@pytest.mark.parametrize("device", ["coreml", "cpu"])
@pytest.mark.parametrize("place", [3, -7, HIGH, LOW])
@pytest.mark.parametrize("op", BEYOND)
def test_an_index_out_of_range_is_an_error_and_nothing_is_read(
    op: str, place: int, device: str
) -> None:
    name, sample = BEYOND[op]
    given = {k: cl.tensor(v, device=device) for k, v in sample.items()}
    given[name] = given[name] + place
    with pytest.raises(EngineError, match=r"(?i)\bind(ex|ic)"):
        getattr(cl.ops, op)(**given).numpy()


# ONNX Runtime's kernels for these end the process, so they are kept from it.
@pytest.mark.parametrize("op", ["lstm", "gru", "rnn", "conv_transpose", "einsum"])
def test_a_size_that_turns_out_to_be_0_never_ends_the_process(op: str) -> None:
    case = Case(OPS[op], 0)
    for size in sizes(case):
        try:
            graph, feeds = flexible(case, size, empty=True)
        except ShapeError:  # the weights fix it
            continue
        try:
            got = onnx_runtime(graph, feeds)
        except Fail:  # an error that names the operation
            continue
        want = walked(graph, feeds)
        assert [a.shape for a in got.values()] == [a.shape for a in want.values()]
