"""Declaring operations: what a declaration makes of itself, and that none of MIL's is missing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter
from coreml_lab.program import ops
from coreml_lab.program.graph import Array
from coreml_lab.program.mil import inference
from coreml_lab.program.mil.tools import SSAOpRegistry
from coreml_lab.program.ops import ELSEWHERE, FAMILIES, OPS, Op, op


def test_every_operation_of_mil_is_declared_or_somewhere_else_for_a_reason() -> None:
    # A dialect of Core ML adds the one that changes a state.
    assert {*OPS, *ELSEWHERE} == {*inference.forms(), "coreml_update_state"}
    assert not set(OPS) & set(ELSEWHERE)
    assert all(ELSEWHERE.values())


@pytest.mark.parametrize("op", [o for o in OPS.values() if o.name in inference.forms()])
def test_every_opsets_parameters_are_known(op: Op) -> None:
    known = set(inspect.signature(op.reference).parameters)
    for kind in SSAOpRegistry.core_ops[op.name].values():
        asked = {name for name in kind.input_spec.input_types if not name.startswith("_")}
        assert asked <= known, kind.__module__


def test_forms_are_the_opsets_that_changed_an_operation() -> None:
    # The registry keeps an empty entry of a name that it was asked for and lacks.
    assert not SSAOpRegistry.core_ops["coreml_update_state"]
    forms = inference.forms()
    assert set(forms) == {name for name, kinds in SSAOpRegistry.core_ops.items() if kinds}
    assert forms["relu"] == ("iOS15",)
    assert forms["topk"] == ("iOS15", "iOS16", "iOS17")
    assert forms["slice_update"] == ("iOS18",)


def test_every_family_has_operations() -> None:
    assert {o.family for o in OPS.values()} == set(FAMILIES)


@pytest.fixture
def declared() -> Any:
    @op(samples=[{"x": np.ones(2, np.float32)}])
    def round_(x: Array, y: Array | None = None, *, alpha: float = 0.5, mode: str) -> Array:
        """Nothing much."""
        return x

    return round_


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is gone after it."""
    monkeypatch.setattr("coreml_lab.program.ops.registry.OPS", dict(OPS))


def test_the_trailing_underscore_that_avoids_a_builtin_is_not_part_of_the_name(
    declared: Any,
) -> None:
    assert declared.name == "round"


def test_positional_parameters_are_tensors_and_keyword_only_ones_constants(declared: Any) -> None:
    assert declared.operands == ("x", "y")
    assert declared.defaults == {"alpha": 0.5}


def test_a_lowering_receives_defaults_and_none_for_what_is_left_out(declared: Any) -> None:
    got = declared.call(lambda *a, **k: (a, k), "backend", {"x": 1}, {"mode": "m"})
    assert got == (("backend", 1, None), {"alpha": 0.5, "mode": "m"})


def test_help_shows_the_signature_and_the_sentence(declared: Any) -> None:
    assert declared.__doc__.startswith("round(x:")
    assert declared.__doc__.endswith("Nothing much.")


def test_a_wrong_parameter_is_an_error_that_shows_the_right_ones() -> None:
    with pytest.raises(UnknownParameter, match="axes") as caught:
        cl.ops.softmax(cl.tensor([1.0, 2.0]), axes=[0])
    assert "axis" in caught.value.hint


def test_an_unknown_operation_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no operation 'sotfmax'.*softmax"):
        _ = ops.sotfmax


def test_operations_that_only_passes_write_are_not_offered() -> None:
    stored = {n for n, o in OPS.items() if o.stored}
    assert stored
    assert not stored & set(dir(ops))
    for name in stored:
        with pytest.raises(AttributeError):
            getattr(ops, name)


def test_constants_may_be_given_by_place_in_the_order_of_the_signature() -> None:
    x, weight = cl.tensor(np.ones((2, 3), np.float32)), np.ones((4, 3), np.float32)
    placed = cl.ops.linear(x, weight, np.ones(4, np.float32))
    assert placed.numpy().tolist() == [[4.0] * 4] * 2
    assert cl.ops.softmax(x, 0).shape == (2, 3)
    with pytest.raises(UnknownParameter, match="weight is given by place and by name"):
        cl.ops.linear(x, weight, weight=weight)
    with pytest.raises(UnknownParameter, match="too many positional"):
        cl.ops.relu(x, weight)
