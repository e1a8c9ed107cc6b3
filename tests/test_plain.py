"""Plain data: what is read is what its annotations say, or one error that says where not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from coreml_lab.metrics import Provenance
from coreml_lab.plain import NotPlain, from_plain, to_plain


@dataclass(frozen=True)
class Leaf:
    """Every kind of field there is."""

    name: str
    value: float
    kind: Provenance = Provenance.MEASURED
    shape: tuple[int | str, ...] = ()
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    size: int | None = None
    default: float | int | None = None
    on: bool = False
    free: Mapping[str, Any] = field(default_factory=dict)
    live: Any = field(default=None, metadata={"transient": True})


@dataclass(frozen=True)
class Tree:
    """Something that holds others."""

    leaves: tuple[Leaf, ...]


LEAF = Leaf(
    "a", 1.5, Provenance.ESTIMATED, (1, "n"), {"n": (1, 8)}, 3, 0.5, on=True, free={"x": [1]}
)


def plain(**changes: Any) -> Any:
    return {"leaves": [to_plain(LEAF) | changes]}


def test_what_was_written_is_read_again() -> None:
    again = from_plain(Tree, json.loads(json.dumps(to_plain(Tree((LEAF,))))))
    assert again == Tree((LEAF,))
    assert again.leaves[0].kind is Provenance.ESTIMATED


def test_a_field_that_is_new_has_its_default() -> None:
    assert from_plain(Tree, {"leaves": [{"name": "a", "value": 2}]}) == Tree((Leaf("a", 2.0),))


def test_null_is_nan_only_where_a_number_is_asked_for() -> None:
    leaf = from_plain(Tree, plain(value=None, default=None, size=None)).leaves[0]
    assert math.isnan(leaf.value)
    assert (leaf.default, leaf.size) == (None, None)


def test_whole_and_broken_numbers_stay_what_they_were() -> None:
    for value, kind in ((1, int), (1.0, float)):
        assert type(from_plain(Tree, plain(default=value)).leaves[0].default) is kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": 3}, "leaves: 0: name: int instead of str"),
        ({"size": True}, "size: bool instead of int"),
        ({"value": "1"}, "value: str instead of float"),
        ({"value": 10**400}, "value: a number that is too large"),
        ({"size": 2**63}, "size: a number that is too large"),
        ({"value": math.inf}, "value: a number that is too large"),
        ({"kind": "guessed"}, "kind: 'guessed' is no provenance"),
        ({"shape": [1, None]}, "shape: 1: NoneType instead of"),
        ({"bounds": {"n": [1]}}, "bounds: n: 1 values, not 2"),
        ({"bounds": []}, "bounds: list instead of dict"),
        ({"live": "x"}, "'live' is not known"),
        ({"n" * 1000: 1}, "'nnnn"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(changes: Any, said: str) -> None:
    with pytest.raises(NotPlain) as caught:
        from_plain(Tree, plain(**changes))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_field_without_default_is_asked_for() -> None:
    with pytest.raises(NotPlain, match="leaves: 0: no name"):
        from_plain(Tree, {"leaves": [{"value": 1}]})


def test_every_record_can_be_read() -> None:
    """An annotation that the reader does not know would be found only by a user's file."""
    from coreml_lab import records

    kinds = [k for k in vars(records).values() if dataclasses.is_dataclass(k)]
    assert len(kinds) > 10
    for kind in kinds:
        with pytest.raises(NotPlain):
            from_plain(kind, [])
        with pytest.raises(NotPlain, match="no "):
            from_plain(kind, {})
