"""Verdicts on made-up noise: how often there is one without a difference, and with one.

Rounds drift, neighbouring runs share disturbances, and now and then an arm is hit for a whole turn.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.rounds import simulated, verdicts


@pytest.mark.parametrize("arms", [2, 4])
def test_nothing_is_claimed_where_nothing_differs_but_in_one_comparison_of_twenty(arms):
    rng = np.random.default_rng(arms)
    trials = 150
    wrong = sum(
        any(told.startswith(("less", "more")) for told in verdicts(simulated(rng, arms), arms))
        for _ in range(trials)
    )
    # 5 % of comparisons, whatever the number of rows; three standard deviations of the count.
    assert wrong <= trials * 0.05 + 3 * np.sqrt(trials * 0.05 * 0.95)


def test_a_tenth_less_time_is_seen():
    rng = np.random.default_rng(9)
    trials = 60
    seen = sum(verdicts(simulated(rng, 3, 0.9), 3)[4] == "less time" for _ in range(trials))
    assert seen >= 0.9 * trials
