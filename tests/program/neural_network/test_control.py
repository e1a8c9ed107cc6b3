"""Branches and loops of classic networks, with every way out of a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from tests.support.classic import EXACT, few, save, single, weights

Layers = list[tuple[str, dict[str, Any], list[str], list[str]]]


def network(*layers: tuple[str, dict[str, Any], str, str]) -> dict[str, Any]:
    """A nested network; names of inputs and outputs stand in one string each."""
    return {
        "layers": [
            {"name": f"{kind}{i}", "input": reads.split(), "output": makes.split(), kind: given}
            for i, (kind, given, reads, makes) in enumerate(layers)
        ]
    }


def run(layers: Layers, feeds: dict[str, Any], folder: Path, output: str = "y") -> Any:
    """The output of a network on both engines, which must agree."""
    spec = single(layers, {k: v.shape for k, v in feeds.items()}, [output], mapping=EXACT)
    file = save(spec, folder)
    first, second = (
        cl.load(file, engine=e).predict(feeds)[output] for e in ("portable", "reference")
    )
    np.testing.assert_allclose(first, second, rtol=1e-6)
    return first


BRANCH = {
    "ifBranch": network(("multiply", {"alpha": 2}, "x", "t"), ("copy", {}, "t", "y")),
    "elseBranch": network(("add", {"alpha": 1}, "x", "e"), ("copy", {}, "e", "y")),
}


@pytest.mark.parametrize(("condition", "wanted"), [(1, 6), (-5, 6), (0, 4), (1e-7, 4), (2e-6, 6)])
def test_a_branch_is_taken_where_the_condition_is_not_near_zero(
    condition: float, wanted: float, tmp_path: Path
) -> None:
    layers: Layers = [("branch", BRANCH, ["c"], [])]
    assert run(layers, {"x": few(3), "c": few(condition)}, tmp_path) == [wanted]


def test_a_branch_without_another_leaves_what_was_there(tmp_path: Path) -> None:
    layers: Layers = [
        ("add", {"alpha": 10}, ["x"], ["y"]),
        ("branch", {"ifBranch": BRANCH["ifBranch"]}, ["c"], []),
    ]
    assert run(layers, {"x": few(3), "c": few(0)}, tmp_path) == [13]
    assert run(layers, {"x": few(3), "c": few(1)}, tmp_path) == [6]


@pytest.mark.parametrize("before", [False, True])
def test_what_follows_a_branch_reads_what_it_made(before: bool, tmp_path: Path) -> None:
    layers: Layers = [
        *([("add", {"alpha": 10}, ["x"], ["y"])] if before else []),
        ("branch", BRANCH, ["c"], []),
        ("multiply", {"alpha": 10}, ["y"], ["z"]),
    ]
    assert run(layers, {"x": few(3), "c": few(0)}, tmp_path, "z") == [40]
    assert run(layers, {"x": few(3), "c": few(1)}, tmp_path, "z") == [60]


def test_what_follows_a_branch_in_a_round_reads_what_it_made(tmp_path: Path) -> None:
    even = {
        "ifBranch": network(("multiply", {"alpha": 3}, "y", "a"), ("copy", {}, "a", "w")),
        "elseBranch": network(("add", {"alpha": 1}, "y", "b"), ("copy", {}, "b", "w")),
    }
    body = network(
        ("lessThan", {"alpha": 5}, "y", "small"),
        ("branch", even, "small", ""),
        ("add", {"alpha": 0.5}, "w", "v"),
        ("copy", {}, "v", "y"),
    )
    layers: Layers = [START, ("loop", {"maxLoopIterations": 4, "bodyNetwork": body}, [], [])]
    # 1, 3.5, 11, 12.5, 14
    assert run(layers, {"x": few(1)}, tmp_path) == [14]


def test_a_value_of_one_way_only_cannot_be_read_behind_the_branch(tmp_path: Path) -> None:
    layers: Layers = [("branch", {"ifBranch": BRANCH["ifBranch"]}, ["c"], [])]
    with pytest.raises(ModelError, match="'y'"):
        run(layers, {"x": few(3), "c": few(0)}, tmp_path)


DOUBLED = network(("multiply", {"alpha": 2}, "y", "t"), ("copy", {}, "t", "y"))
START = ("copy", {}, ["x"], ["y"])


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_a_loop_runs_as_often_as_it_says(rounds: int, tmp_path: Path) -> None:
    layers: Layers = [
        START,
        ("loop", {"maxLoopIterations": rounds, "bodyNetwork": DOUBLED}, [], []),
    ]
    assert run(layers, {"x": few(3)}, tmp_path) == [3 * 2**rounds]


def test_a_loop_runs_as_often_as_its_input_says(tmp_path: Path) -> None:
    loop = {"maxLoopIterations": 100, "bodyNetwork": DOUBLED}
    layers: Layers = [START, ("loop", loop, ["n"], [])]
    assert run(layers, {"x": few(3), "n": few(4)}, tmp_path) == [48]


BELOW = network(("lessThan", {"alpha": 20}, "y", "go"))
WHILE = {"conditionNetwork": BELOW, "conditionVar": "go", "bodyNetwork": DOUBLED}


@pytest.mark.parametrize(("limit", "wanted"), [(0, 24), (2, 12), (9, 24)])
def test_a_loop_runs_while_its_condition_holds_and_within_its_limit(
    limit: int, wanted: float, tmp_path: Path
) -> None:
    layers: Layers = [START, ("loop", WHILE | {"maxLoopIterations": limit}, [], [])]
    assert run(layers, {"x": few(3)}, tmp_path) == [wanted]


def test_a_loop_whose_condition_never_holds_runs_no_round(tmp_path: Path) -> None:
    assert run([START, ("loop", WHILE, [], [])], {"x": few(30)}, tmp_path) == [30]


def test_a_condition_that_changes_a_value_changes_it_each_time_it_is_asked(tmp_path: Path) -> None:
    asked = network(
        ("add", {"alpha": 1}, "n", "more"),
        ("copy", {}, "more", "n"),
        ("lessThan", {"alpha": 4}, "n", "go"),
    )
    loop = {"conditionNetwork": asked, "conditionVar": "go", "bodyNetwork": DOUBLED}
    layers: Layers = [
        START,
        ("loadConstantND", {"shape": [1], "data": weights([0])}, [], ["n"]),
        ("loop", loop, [], []),
        ("add", {}, ["y", "n"], ["z"]),
    ]
    assert run(layers, {"x": few(1)}, tmp_path, "z") == [2**3 + 4]


def leaving(kind: str, *before: Any) -> dict[str, Any]:
    """Five rounds that count in n; where n > 3 they leave the loop or the round, else y doubles."""
    return network(
        ("add", {"alpha": 1}, "n", "more"),
        ("copy", {}, "more", "n"),
        ("greaterThan", {"alpha": 3}, "n", "enough"),
        ("branch", {"ifBranch": network(*before, (kind, {}, "", ""))}, "enough", ""),
        ("multiply", {"alpha": 2}, "y", "t"),
        ("copy", {}, "t", "y"),
    )


@pytest.mark.parametrize(("kind", "rounds"), [("loopBreak", 4), ("loopContinue", 9)])
def test_what_leaves_a_loop_or_a_round_skips_the_rest_of_it(
    kind: str, rounds: int, tmp_path: Path
) -> None:
    negated = [("multiply", {"alpha": -1}, "y", "m"), ("copy", {}, "m", "y")]
    for before in ([], negated):
        layers: Layers = [
            START,
            ("loadConstantND", {"shape": [1], "data": weights([0])}, [], ["n"]),
            ("loop", {"maxLoopIterations": 9, "bodyNetwork": leaving(kind, *before)}, [], []),
            ("concatND", {}, ["y", "n"], ["z"]),
        ]
        sign = (-1) ** (rounds - 3) if before else 1
        made = run(layers, {"x": few(1)}, tmp_path, "z")
        np.testing.assert_array_equal(made, [sign * 8, rounds])


def test_a_break_leaves_the_inner_loop_only(tmp_path: Path) -> None:
    inner = {
        "maxLoopIterations": 7,
        "bodyNetwork": network(
            ("add", {"alpha": 1}, "y", "t"),
            ("copy", {}, "t", "y"),
            ("loopBreak", {}, "", ""),
            ("multiply", {"alpha": 100}, "y", "never"),
            ("copy", {}, "never", "y"),
        ),
    }
    outer = {"maxLoopIterations": 3, "bodyNetwork": network(("loop", inner, "", ""))}
    assert run([START, ("loop", outer, [], [])], {"x": few(1)}, tmp_path) == [4]


def test_a_value_first_made_in_a_round_can_be_read_behind_the_loop(tmp_path: Path) -> None:
    body = network(
        ("multiply", {"alpha": 2}, "y", "t"),
        ("copy", {}, "t", "y"),
        ("add", {"alpha": 1}, "y", "z"),
    )
    layers: Layers = [START, ("loop", {"maxLoopIterations": 3, "bodyNetwork": body}, [], [])]
    assert run(layers, {"x": few(1)}, tmp_path, "z") == [9]


def test_values_may_grow_from_round_to_round(tmp_path: Path) -> None:
    body = network(("concatND", {}, "y x", "t"), ("copy", {}, "t", "y"))
    layers: Layers = [START, ("loop", {"maxLoopIterations": 3, "bodyNetwork": body}, [], [])]
    np.testing.assert_array_equal(run(layers, {"x": few(1, 2)}, tmp_path), [1, 2] * 4)
