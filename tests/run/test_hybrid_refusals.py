"""What a hybrid engine makes of refusals: who is blamed, on which device, and who helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreml_lab.errors import EngineUnavailable, LabError, OutOfMemory, UnsupportedOp
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.program.program import Program
from coreml_lab.run.engine import Options
from coreml_lab.run.hybrid import HybridEngine, Part, Seat
from coreml_lab.run.split.strategy import PERFORMANCE
from tests.run.test_hybrid import program, renamed, used
from tests.support.splits import KIND, Engine, Running, added, chain, load, seats


class OneFails(Engine):
    """An engine that loads nothing on its first device."""

    error: LabError

    def load(self, source: Program, device: str, options: Options) -> Running:
        if device == self.devices[0]:
            raise self.error
        return super().load(source, device, options)


def products() -> Program:
    """Large products, for which NumPy is the slowest."""
    kind = TensorType((2048, 2048), np.dtype(np.float32))
    value = Value(Node("input", (kind,), name="x"))
    for i in range(3):
        value = Value(Node("matmul", (kind,), {"x": value, "y": value}, name=f"product_{i}"))
    return program(Graph({"y": value}))


@pytest.mark.parametrize("error", [OutOfMemory("no room"), EngineUnavailable("no driver")])
def test_a_device_that_fails_leaves_the_engines_other_devices(error: LabError) -> None:
    two = OneFails("pytorch", devices=("cuda:0", "cpu"))
    two.error = error
    own = (Seat(two, "cuda:0"), Seat(two, "cpu"))
    engine = HybridEngine((*own, *seats(Engine("reference"))), strategy=PERFORMANCE)
    loaded = engine.load(products(), "cpu", Options())
    assert [(s.engine, s.device) for s in loaded.plan.segments] == [("pytorch", "cpu")]
    assert f"pytorch (cuda:0) cannot run 3 operations (product_0 … product_2): {error}" in str(
        loaded.plan
    )


def test_an_operation_that_is_refused_on_one_device_is_not_asked_for_on_the_next() -> None:
    source = renamed(chain(3), op_1="mul")
    two = Engine("two", devices=("a", "b"), refuses=frozenset({"mul"}))
    own = (Seat(two, "a"), Seat(two, "b"))
    loaded = HybridEngine((*own, Seat(Engine("other"), "cpu", 100.0))).load(
        source, "cpu", Options()
    )
    assert [s.engine for s in loaded.plan.segments] == ["two", "other", "two"]


def stateful() -> Graph:
    """total := (x + total) + total, and one operation behind it."""
    held = Node("state", (KIND,), name="total")
    first = added("op_a", Value(Node("input", (KIND,), name="x")), Value(held))
    second = added("op_b", first, Value(held))
    return Graph({"y": added("op_c", second)}, states={"total": held}, updates={"total": second})


@pytest.mark.parametrize("lacks", [frozenset[str](), frozenset({"add"})])
def test_a_states_operations_are_not_blamed_for_what_another_one_is(lacks: frozenset[str]) -> None:
    source = renamed(stateful(), op_c="mul")
    first = Engine("first", refuses=frozenset({"mul"}), names_it=False)
    loaded = load(source, first, Engine("second", lacks=lacks))
    assert used(loaded) == [("first", ("op_a", "op_b")), ("second", ("op_c",))]


def test_a_states_operations_are_asked_for_together_and_blamed_where_they_are_refused() -> None:
    source = renamed(stateful(), op_a="mul", op_b="mul")
    first = Engine("first", refuses=frozenset({"mul"}), names_it=False)
    loaded = load(source, first, Engine("second"))
    assert used(loaded) == [("second", ("op_a", "op_b")), ("first", ("op_c",))]


def test_another_failure_while_operations_are_asked_for_blames_none_of_them() -> None:
    class Short(Engine):
        def load(self, source: Program, device: str, options: Options) -> Running:
            names = [n.name for n in source.graph.ops]
            if names == ["op_0"]:
                raise OutOfMemory("no room")
            return super().load(source, device, options)

    source = renamed(chain(3), op_0="sub", op_1="mul")
    short = Short("first", refuses=frozenset({"mul"}), names_it=False)
    loaded = load(source, short, Engine("second"))
    assert "second" in {name for name, _ in used(loaded)}


def test_where_nothing_is_left_for_an_engine_a_helper_takes_all_but_not_numpy() -> None:
    def asked(helper: str) -> Any:
        first = Engine("first", lacks=frozenset({"add"}))
        own = HybridEngine(seats(first, Engine(helper)), keeps="first")
        return own.load(program(chain(2)), "cpu", Options())

    assert used(asked("portable")) == [("portable", ("op_0", "op_1"))]
    with pytest.raises(
        UnsupportedOp, match="all of net would go to the reference engine, and none of it to first"
    ):
        asked("reference")


def test_a_part_counts_the_weights_of_the_fixed_operations_that_come_with_it() -> None:
    data = np.ones(KIND.sizes, np.float32)
    weight = Value(Node("const", (KIND,), attrs={"val": data}, name="w"))
    doubled = added("doubled", weight)
    x = Value(Node("input", (KIND,), name="x"))
    whole = program(Graph({"y": added("second", added("first", x, doubled), doubled)}))
    for name in ("first", "second"):
        assert sum(op.weight_bytes for op in Part(whole, (name,)).info.ops) == data.nbytes
