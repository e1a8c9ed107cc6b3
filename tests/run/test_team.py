"""Several threads copy, unless that takes longer than one."""

from __future__ import annotations

from typing import Any

import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.run.steps.team import FIRST, LONG, SHORT, Team

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


class Timed:
    """A target that takes so many nanoseconds to copy to, by whom it notes."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.tensor, self.nbytes = clock, torch.zeros(4), 16
        self.together = self.alone = 10
        self.by: list[str] = []

    def numpy(self) -> Any:
        self.took("one", self.alone)
        return self.tensor.numpy()

    def took(self, who: str, nanoseconds: int) -> None:
        self.clock.t_ns += nanoseconds
        self.by.append(who)

    def copy_(self, source: Any) -> None:
        self.took("team", self.together)
        self.tensor.copy_(source)


@pytest.fixture
def turns() -> tuple[Team, Timed]:
    clock = FakeClock()
    return Team(clock), Timed(clock)


def copied(team: Team, target: Timed, times: int) -> list[str]:
    """Who copied, of so many times; what was copied is there after each."""
    target.by.clear()
    for number in range(times):
        team.copy(target, torch.full((4,), float(number)))
        assert target.tensor.tolist() == [number] * 4
    return list(target.by)


def test_one_thread_begins_and_the_team_goes_on_while_it_is_no_slower(
    turns: tuple[Team, Timed],
) -> None:
    team, target = turns
    assert copied(team, target, FIRST + 100) == ["one"] * FIRST + ["team"] * 100


def test_a_slow_team_rests_for_a_multiple_of_what_it_lost_until_it_is_quick_again(
    turns: tuple[Team, Timed],
) -> None:
    team, target = turns
    copied(team, target, FIRST)
    target.together = 10 + 50  # 50 are lost: as much as five copies by one
    rests, longer = [], SHORT
    while longer <= LONG:
        rests += ["team"] + ["one"] * 5 * longer
        longer *= 2
    rests += ["team"] + ["one"] * 5 * LONG
    assert copied(team, target, len(rests)) == rests
    target.together = 5
    assert copied(team, target, 100) == ["team"] * 100
    target.together = 10 + 50
    assert copied(team, target, 5 * SHORT + 2) == ["team"] + ["one"] * 5 * SHORT + ["team"]


def test_a_team_is_compared_with_how_fast_one_thread_is_by_then(turns: tuple[Team, Timed]) -> None:
    team, target = turns
    copied(team, target, FIRST + 1)
    target.alone = target.together = 100  # everything has become slow
    assert copied(team, target, 10) == ["team", "one"] + ["team"] * 8


def test_somebody_else_copies_in_place_of_a_team_that_rests(turns: tuple[Team, Timed]) -> None:
    team, target = turns
    while team.rests:
        team.instead(16, lambda: target.took("driver", 20))
    assert target.by == ["driver"] * FIRST
    target.together = 39  # less than twice as long as the driver
    assert copied(team, target, 10) == ["team"] * 10
    target.together = 120  # 100 are lost
    assert copied(team, target, 1) == ["team"]
    target.by.clear()
    while team.rests:
        team.instead(16, lambda: target.took("driver", 20))
    assert target.by == ["driver"] * 5 * SHORT
