"""Inputs on their way to a GPU's memory, with the processor's in its place: each way gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.engine import Options
from coreml_lab.run.steps import pinned
from coreml_lab.run.steps.pinned import LARGE, PIECE, SEVERAL, Border
from coreml_lab.run.steps.program import PyTorchProgram
from coreml_lab.run.steps.team import FIRST, Team

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


class Watched(Team):
    """A team that notes how many bytes it or somebody else copied."""

    def __init__(self, *, rested: bool) -> None:
        super().__init__()
        if rested:
            for _ in range(FIRST):
                self.instead(1 << 20, lambda: None)
            self._ns_per_byte = 1e9  # nothing is slow beside that
        self.by: list[tuple[str, int]] = []

    def copy(self, target: Any, source: Any) -> None:
        self.by.append(("rests" if self.rests else "team", target.nbytes))
        super().copy(target, source)

    def instead(self, size: int, copy: Any) -> None:
        super().instead(size, copy)
        if hasattr(self, "by"):
            self.by.append(("driver", size))


def entered(
    monkeypatch: pytest.MonkeyPatch, array: Any, *, rested: bool, through: bool
) -> list[tuple[str, int]]:
    """Who copied it; what arrived is checked."""
    team = Watched(rested=rested)
    monkeypatch.setattr(pinned, "TEAM", team)
    inside = torch.zeros(array.shape, dtype=torch.float32)
    border = Border.between(torch, inside, torch.zeros_like(inside))
    border = border.cut() if border.large else border
    border.enter(array, through=through)
    if not border.pieces:
        border.fill()  # a graph does that itself
    np.testing.assert_array_equal(inside.numpy(), array)
    return team.by


def numbers(size: int) -> Any:
    """So many bytes of fp32."""
    return np.random.default_rng(0).standard_normal(size // 4).astype(np.float32)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("rested", [False, True])
@pytest.mark.parametrize("size", [LARGE, SEVERAL])
def test_what_is_not_worth_a_team_is_copied_without(
    monkeypatch: pytest.MonkeyPatch, size: int, *, rested: bool, through: bool
) -> None:
    assert not entered(monkeypatch, numbers(size), rested=rested, through=through)


def test_a_team_copies_a_large_one_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    array = numbers(2 * PIECE + 4096)
    found = entered(monkeypatch, array, rested=True, through=False)
    assert found == [("team", PIECE), ("team", PIECE), ("team", 4096)]


def test_through_other_memory_it_is_copied_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    array = numbers(2 * PIECE)
    assert entered(monkeypatch, array, rested=True, through=True) == [("team", 2 * PIECE)]


@pytest.mark.parametrize("through", [False, True])
def test_while_the_team_rests_the_driver_takes_it(
    monkeypatch: pytest.MonkeyPatch, *, through: bool
) -> None:
    array = numbers(3 * PIECE)
    found = entered(monkeypatch, array, rested=False, through=through)
    assert found == [("driver", 3 * PIECE)]


@pytest.mark.parametrize("rested", [False, True])
def test_pinned_memory_is_fetched_by_the_device_and_teaches_the_team_nothing(
    monkeypatch: pytest.MonkeyPatch, *, rested: bool
) -> None:
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _: True)
    assert not entered(monkeypatch, numbers(3 * PIECE), rested=rested, through=False)


def test_where_there_is_no_pinned_memory_there_is_no_room_of_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = np.dtype(np.float32)

    def empty(shape: tuple[int, ...], *, dtype: Any, pin_memory: bool) -> Any:
        if shape[0] > 2:
            raise RuntimeError("CUDA error: out of memory")
        assert pin_memory
        return torch.zeros(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", empty)
    found = pinned.room(torch, (2, 3), kind)
    assert found is not None
    assert (found.shape, found.dtype) == ((2, 3), kind)
    assert pinned.room(torch, (3, 3), kind) is None


def test_a_processor_reads_from_any_memory() -> None:
    x = Node("input", (TensorType((2,), np.dtype(np.float32)),), name="x")
    y = Node("relu", x.types, {"x": Value(x)}, name="y")
    program = PyTorchProgram(Graph({"y": Value(y)}), "cpu", Options(), torch)
    assert program.room((2,), np.dtype(np.float32)) is None


@pytest.mark.parametrize("rested", [False, True])
def test_what_pytorch_cannot_read_in_place_numpy_copies(
    monkeypatch: pytest.MonkeyPatch, *, rested: bool
) -> None:
    fixed = numbers(2 * PIECE)
    fixed.flags.writeable = False
    for array in (fixed, numbers(2 * PIECE)[::-1], numbers(2 * PIECE).astype(np.float64)):
        assert not entered(monkeypatch, array, rested=rested, through=False)
