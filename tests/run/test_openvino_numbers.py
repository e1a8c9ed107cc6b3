"""Whole numbers that single precision has not, and indices: right on OpenVINO, or not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import UnsupportedOp

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")

ODD = (1 << 24) + 1
ROW = np.array([ODD, 3, 5, 7, 9, 11, 1, 2 * ODD - 3], np.int32)
FIVE = np.arange(10, dtype=np.float32).reshape(5, 2)


def summary(name: str) -> Callable[[Any], Any]:
    return lambda x: getattr(ops, name)(x, axes=[0], keep_dims=True)


NETWORKS: dict[str, Callable[[Any], Any]] = {
    **{
        name: summary(name)
        for name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_mean", "reduce_l1_norm")
    },
    "matmul": lambda x: ops.matmul(ops.reshape(x, shape=[2, 4]), np.eye(4, 2, dtype=np.int32)),
    "equal": lambda x: ops.cast(ops.equal(x, x - np.int32(1)), dtype="int32"),
    "equal to one": lambda x: ops.cast(ops.equal(x, np.int32(ODD - 1)), dtype="int32"),
    "greater": lambda x: ops.cast(ops.greater(x, np.int32(ODD - 1)), dtype="int32"),
    "one_hot": lambda x: ops.one_hot(
        indices=ops.mod(x, np.int32(4)), one_hot_vector_size=4, on_value=ODD, off_value=1
    ),
    "add": lambda x: x + x,
    "less than a small one": lambda x: ops.cast(ops.less(x, np.int32(6)), dtype="int32"),
    "cumsum": lambda x: ops.cumsum(x, axis=0),
}


EXACT = {"add", "less than a small one", "cumsum"}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_numbers_are_right_or_the_operation_is_refused(name: str) -> None:
    model = cl.compile(NETWORKS[name], x=cl.spec(8, dtype=np.int32), engine="reference")
    if name not in EXACT:
        with pytest.raises(UnsupportedOp, match="single precision"):
            cl.load(model.program.package, engine="openvino")
        return
    there = cl.load(model.program.package, engine="openvino")
    (ours,), (theirs,) = (m.predict({"x": ROW}).values() for m in (model, there))
    np.testing.assert_array_equal(theirs, ours)


def test_indices_that_are_not_known_keep_gather_nd_away() -> None:
    spec = {"x": cl.spec(5, 2), "i": cl.spec(3, 1, dtype=np.int32)}
    model = cl.compile(lambda x, i: ops.gather_nd(x, indices=i), **spec, engine="reference")
    with pytest.raises(UnsupportedOp, match="outside of its memory"):
        cl.load(model.program.package, engine="openvino")
    known = np.array([[4], [0]], np.int32)
    fixed = cl.compile(
        lambda x: ops.gather_nd(x, indices=known), x=cl.spec(5, 2), engine="openvino"
    )
    np.testing.assert_array_equal(next(iter(fixed.predict({"x": FIVE}).values())), FIVE[[4, 0]])
