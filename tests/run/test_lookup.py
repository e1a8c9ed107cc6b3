"""Tables that stay packed: a gather gives the very numbers that it gives of the expanded table."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.lowering import lookup, packed
from coreml_lab.run.lowering.graph import Lowered, lower
from tests.run.test_packed import STORED, ran, stored

TABLES = {name: weight for name, (weight, *_) in STORED.items()} | {
    "fp16, offsets": stored("uint8", (48, 80), (48, 1), offset=True, half=True),
    "fp16 by 32": stored("int8", (48, 96), (48, 3), offset=False, half=True),
}
INDICES = np.array([[0, 47, -1], [5, 5, -48]], np.int32)


def taken(table: Node, axis: int = 0) -> Graph:
    """A program of one gather."""
    places = Node("input", (TensorType(INDICES.shape, np.dtype(np.int32)),), name="x")
    sizes = list(table.type.sizes)
    sizes[axis : axis + 1] = INDICES.shape
    kind = TensorType(tuple(sizes), table.type.dtype)
    inputs = {"x": Value(table), "indices": Value(places)}
    attrs = {"axis": axis, "batch_dims": 0, "validate_indices": False}
    return Graph({"y": Value(Node("gather", (kind,), inputs, attrs, name="taken"))})


def largest(made: Lowered) -> str:
    """The element type of the constant that has most elements."""
    held = max(made.model.graph.initializer, key=lambda t: np.prod(t.dims))
    return str(onnx.TensorProto.DataType.Name(held.data_type))


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_a_packed_table_are_those_of_the_expanded_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "LEAST", 1)
    graph = taken(TABLES[name])
    whole, made = lower(graph, keep=packed.OFF), lower(graph, keep=packed.HIGH)
    weight = packed.weight_of(graph.outputs["y"].node)
    by_row = isinstance(weight, packed.Weight) and weight.scale.shape[1] == 1
    assert largest(whole) == "FLOAT"
    assert largest(made) == (
        {"i": "INT8", "u": "UINT8"}[weight.numbers.dtype.kind] if by_row else "FLOAT"
    )
    np.testing.assert_array_equal(ran(made, INDICES), ran(whole, INDICES))


def test_other_gathers_and_small_tables_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES["int8 by row"]
    assert largest(lower(taken(table), keep=packed.HIGH)) == "FLOAT"
    monkeypatch.setattr(lookup, "LEAST", 1)
    assert largest(lower(taken(table, axis=1), keep=packed.HIGH)) == "FLOAT"
    assert packed.plan(taken(table), packed.HIGH).unread == {table}
