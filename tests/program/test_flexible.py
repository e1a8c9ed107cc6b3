"""Lowerings of rearranging ops where sizes are known only at run time, at two sizes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from coreml_lab.program import mil
from coreml_lab.program.arrays import as_data
from coreml_lab.program.graph import Array, Dim, Graph, Node, TensorType, Value
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.samples import normal
from coreml_lab.program.tensors import const
from coreml_lab.run.lowering.graph import lower

N, M = Dim("n", 1, 64), Dim("m", 1, 64)
SIZES = ({"n": 4, "m": 6}, {"n": 8, "m": 12})
INT = np.dtype(np.int32)
REAL = np.dtype(np.float32)

# Op, shapes of what is fed, constants. Integers that are fed are named with what they hold.
Case = tuple[str, dict[str, Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "reshape, one size left": ("reshape", {"x": (N, 6), "shape": [3, -1]}, {}),
    "reshape, kept from the right": ("reshape", {"x": (N, M, 2), "shape": [1, 0, 0, 2]}, {}),
    "reshape, merged": ("reshape", {"x": (N, M, 2), "shape": [0, -1]}, {}),
    "squeeze": ("squeeze", {"x": (1, N, 1, M)}, {}),
    "flatten2d": ("flatten2d", {"x": (N, 3, M)}, {"axis": 2}),
    "shape": ("shape", {"x": (N, 3, M)}, {}),
    "pixel_unshuffle": ("pixel_unshuffle", {"x": (1, 3, N, M)}, {"downscale_factor": np.uint32(2)}),
    "space_to_batch": (
        "space_to_batch",
        {"x": (N, 2, M, 6)},
        {"block_shape": [2, 3], "paddings": [[1, 1], [0, 3]]},
    ),
    "batch_to_space": (
        "batch_to_space",
        {"x": (N, 2, M, 6)},
        {"block_shape": [2, 2], "crops": [[1, 0], [0, 3]]},
    ),
    "concat in turns": (
        "concat",
        {"values": [(N, M), (N, M)]},
        {"axis": 1, "interleave": True},
    ),
    "split": ("split", {"x": (N, M)}, {"num_splits": 2, "axis": 1}),
    "fill_like": ("fill_like", {"ref_tensor": (N, M)}, {"value": 2.0}),
    "tile": ("tile", {"x": (N, M), "reps": [2, 1]}, {}),
    "pad": ("pad", {"x": (N, M), "pad": [1, 2]}, {"mode": "reflect"}),
    "slice to the end": (
        "slice_by_index",
        {"x": (N, M), "begin": [1, -2], "end": [0, 0]},
        {"end_mask": [True, True]},
    ),
    "slice backwards": (
        "slice_by_index",
        {"x": (N, M), "begin": [0, -1], "end": [0, 1]},
        {"stride": [-1, -2], "begin_mask": [True, False], "end_mask": [True, False]},
    ),
    "slice_by_size": ("slice_by_size", {"x": (N, M), "begin": [1, -3], "size": [2, 3]}, {}),
    "slice_update": (
        "slice_update",
        {"x": (N, M), "update": (1, M), "begin": [2, 0], "end": [3, 0]},
        {"end_mask": [False, True]},
    ),
    "slice_update of all": (
        "slice_update",
        {"x": (N, M), "update": (N, M), "begin": [0, 0], "end": [0, 0]},
        {"begin_mask": [True, True], "end_mask": [True, True]},
    ),
    "crop": ("crop", {"x": (1, N, M)}, {"crop_height": [1, 0], "crop_width": [0, 2]}),
    "reverse": ("reverse", {"x": (N, M)}, {"axes": [1]}),
    "sliding_windows": ("sliding_windows", {"x": (N, M)}, {"axis": 1, "size": 3, "stride": 2}),
    "band_part": ("band_part", {"x": (N, M)}, {"lower": 1, "upper": 0}),
    "gather": ("gather", {"x": (N, M), "indices": [1, 3]}, {"axis": 1}),
    "argsort": ("argsort", {"x": (N, M)}, {"axis": 0}),
    "scatter by division": (
        "scatter",
        {"data": (N, M), "indices": [1, 3], "updates": (N, 2)},
        {"axis": 1, "mode": "div"},
    ),
    "cumsum": ("cumsum", {"x": (N, M)}, {"axis": 1}),
}


def placed(shape: tuple[Any, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[d.name] if isinstance(d, Dim) else d for d in shape)


def operand(name: str, given: Any, feeds: dict[str, Any]) -> Any:
    """A flexible input for a shape, a constant for a list of numbers."""
    if isinstance(given, tuple):
        feeds[name] = given
        return Value(Node("input", (TensorType(given, REAL),), name=name))
    if any(isinstance(g, tuple) for g in given):
        return tuple(operand(f"{name}{i}", g, feeds) for i, g in enumerate(given))
    return const(as_data(given))


def run(graph: Graph, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = lower(graph).model.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, feeds)
    return results


@pytest.mark.parametrize("sizes", SIZES, ids=["small", "large"])
@pytest.mark.parametrize(("op", "given", "attrs"), CASES.values(), ids=CASES)
def test_lowering_works_at_any_size(
    op: str, given: dict[str, Any], attrs: dict[str, Any], sizes: dict[str, int]
) -> None:
    shapes: dict[str, Any] = {}
    inputs = {k: operand(k, v, shapes) for k, v in given.items()}
    node = Node(op, mil.infer(op, inputs, attrs), inputs, attrs, name="op")
    graph = Graph({f"y{i}": Value(node, i) for i in range(len(node.types))})
    feeds = {k: normal(*placed(s, sizes), seed=i) for i, (k, s) in enumerate(shapes.items())}

    def argument(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return feeds[name]
        if any(isinstance(v, tuple) for v in value):
            return [feeds[f"{name}{i}"] for i in range(len(value))]
        return value

    want = OPS[op].reference(**{k: argument(k, v) for k, v in given.items()}, **attrs)
    wants = want if isinstance(want, tuple) else (want,)
    for got, expected in zip(run(graph, feeds), wants, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def reshaped(opset: int, shape: Any, wanted: list[int]) -> Array:
    """x[2,3,4] of flexible sizes reshaped by a shape that is computed when it runs."""
    x = Node("input", (TensorType((Dim("a"), Dim("b"), Dim("c")), REAL),), name="x")
    s = Node("input", (TensorType((len(wanted),), INT),), name="shape")
    kind = TensorType(tuple(Dim(f"o{i}") for i in range(len(wanted))), REAL)
    y = Node("reshape", (kind,), {"x": Value(x), "shape": Value(s)}, name="y", opset=opset)
    feeds = {"x": normal(*shape), "shape": np.array(wanted, np.int32)}
    return run(Graph({"y": Value(y)}), feeds)[0]


def test_a_zero_in_a_computed_shape_counts_from_the_right_since_ios17() -> None:
    assert reshaped(17, (2, 3, 4), [6, 0]).shape == (6, 4)
    assert reshaped(17, (2, 3, 4), [-1, 2, 0, 0]).shape == (1, 2, 3, 4)


def test_a_zero_in_a_computed_shape_keeps_its_place_before_ios17() -> None:
    assert reshaped(15, (2, 3, 4), [0, 4, 3]).shape == (2, 4, 3)


@pytest.mark.parametrize("size", [3, 5])
def test_one_hot_takes_its_size_when_it_runs(size: int) -> None:
    depth = Node("input", (TensorType((1,), INT),), name="depth")
    kind = TensorType((2, Dim("d")), np.dtype(bool))
    indices = const(np.array([2, -1], np.int32))
    inputs = {"indices": indices, "one_hot_vector_size": Value(depth)}
    for on, off in ((True, False), (False, True), (True, True), (False, False)):
        attrs = {"on_value": on, "off_value": off}
        y = Node("one_hot", (kind,), inputs, attrs, name="y")
        (got,) = run(Graph({"y": Value(y)}), {"depth": np.array([size], np.int32)})
        want = OPS["one_hot"].reference(indices.const, size, on_value=on, off_value=off)
        np.testing.assert_array_equal(got, want)


def test_topk_of_all_sorts_whatever_the_size() -> None:
    x = Node("input", (TensorType((N, 3), REAL),), name="x")
    y = Node("topk", (x.type, TensorType((N, 3), INT)), {"x": Value(x)}, {"k": -1, "axis": 0})
    data = normal(7, 3)
    got = run(Graph({"v": Value(y, 0), "i": Value(y, 1)}), {"x": data})
    for g, w in zip(got, OPS["topk"].reference(data, k=-1, axis=0), strict=True):
        np.testing.assert_array_equal(g, w)
