"""Whose memory results are: nobody else's, whatever engine made them."""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Array, Graph, Node, TensorType, Value
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.planner import Plan
from coreml_lab.run.reference import ReferenceProgram
from coreml_lab.run.split.costs import Cost
from coreml_lab.run.split.program import HybridProgram
from coreml_lab.run.split.strategy import Strategy
from coreml_lab.run.steps.space import Space

X = np.arange(6, dtype=np.float32).reshape(2, 3)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
needs_openvino = pytest.mark.skipif(
    not OpenVINOEngine().available().available, reason="openvino is not here"
)
ENGINES = [
    pytest.param({"engine": "portable"}, id="portable"),
    pytest.param({"engine": "hybrid"}, id="hybrid"),
    pytest.param({"engine": "reference", "device": "cpu"}, id="reference"),
    pytest.param({"engine": "pytorch", "device": "cpu"}, id="pytorch", marks=needs_torch),
    pytest.param({"engine": "openvino"}, id="openvino", marks=needs_openvino),
]


def views(x: cl.Tensor) -> dict[str, cl.Tensor]:
    """Results that are inputs, constants and one another, seen otherwise."""
    y = x * 2
    return {
        "same": x,
        "flat": x.reshape(6),
        "turned": x.transpose(),
        "row": x[0:1],
        "y": y,
        "again": y,
        "flat_y": y.reshape(6),
        "row_y": y[1:2],
        "anchors": ops.range_1d(start=0.0, end=4.0, step=1.0),
    }


def copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def assert_same(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("how", ENGINES)
def test_results_share_memory_neither_with_inputs_nor_with_each_other(how: Any) -> None:
    model = cl.compile(views, x=cl.spec(2, 3), **how)
    given = X.copy()
    found = model.predict({"x": given})
    pairs = itertools.combinations({**found, "x": given}.items(), 2)
    assert [(a, b) for (a, left), (b, right) in pairs if np.may_share_memory(left, right)] == []
    kept = copies(found)
    given[:] = 100
    assert_same(found, kept)


@pytest.mark.parametrize("how", ENGINES)
def test_changing_results_in_place_does_not_change_the_program(how: Any) -> None:
    model = cl.compile(views, x=cl.spec(2, 3), **how)
    expected = copies(model.predict({"x": X}))
    for array in model.predict({"x": X}).values():
        array[...] = 77
    assert_same(model.predict({"x": X}), expected)
    assert_same(model.to("coreml").predict({"x": X}), expected)
    assert_same(cl.compile(views, x=cl.spec(2, 3), **how).predict({"x": X}), expected)


def leaf(op: str, array: Array, **how: Any) -> Node:
    return Node(op, (TensorType(array.shape, array.dtype),), **how)


def test_an_output_that_is_an_input_or_a_constant_itself_is_a_copy_of_it() -> None:
    fixed = np.ones(3, np.float32)
    x, const = leaf("input", X, name="x"), leaf("const", fixed, attrs={"val": fixed})
    named = {"first": Value(x), "second": Value(x), "fixed": Value(const)}
    graph = Graph(named)
    for program in (
        ReferenceProgram(graph, "cpu"),
        HybridProgram(graph, Plan((), Strategy("none"), Cost(0, Provenance.MEASURED)), ()),
    ):
        given = X.copy()
        found = program.run({"x": given})
        held = [given, fixed, const.attrs["val"], *found.values()]
        pairs = itertools.combinations(held, 2)
        assert sum(np.may_share_memory(a, b) for a, b in pairs) == 1  # the graph's view of it


def test_a_constant_of_a_graph_is_read_only_and_the_users_array_is_not() -> None:
    mine = np.ones(3, np.float32)
    node = leaf("const", mine, attrs={"val": mine})
    assert np.shares_memory(node.attrs["val"], mine)
    with pytest.raises(ValueError, match="read-only"):
        node.attrs["val"][0] = 2
    mine[0] = 3  # it stays the user's
    model = cl.compile(lambda x: x + np.full(3, 2, np.float32), x=cl.spec(3))
    constants = [n.attrs["val"] for n in model.program.graph if n.op == "const"]
    assert constants
    assert not any(array.flags.writeable for array in constants if isinstance(array, np.ndarray))


@needs_torch
def test_pytorch_on_the_cpu_holds_a_large_constant_without_a_copy() -> None:
    import torch

    weight = np.ones((100, 100), np.float32)
    node = leaf("const", weight, attrs={"val": weight})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Space(torch).held(node.attrs["val"]).data_ptr() == weight.ctypes.data
        weight.flags.writeable = False
        assert Space(torch).held(weight).data_ptr() != weight.ctypes.data


def test_recording_and_compiling_write_to_no_array_of_the_users() -> None:
    begin, end = np.array([-1, 4], np.int32), np.array([0, 1], np.int32)

    def net(x: cl.Tensor) -> Any:
        return ops.slice_by_index(x, begin=begin, end=end, stride=[-1, -2])

    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    (found,) = cl.compile(net, x=cl.spec(4, 6)).predict({"x": x}).values()
    np.testing.assert_array_equal(found, x[-1:0:-1, 4:1:-2])
    np.testing.assert_array_equal(net(cl.tensor(x)).numpy(), found)
    assert (begin.tolist(), end.tolist()) == ([-1, 4], [0, 1])
