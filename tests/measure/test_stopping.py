"""When a warm-up is over and when an interval is narrow enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from coreml_lab.measure.stopping import LOOKS, group_size, precise
from coreml_lab.measure.stopping import groups as groups_of

MS = 1_000_000


def groups(milliseconds):
    return groups_of([round(t * MS) for t in milliseconds])


def test_a_group_is_five_runs_or_ten_milliseconds_but_no_more_than_a_thousand_runs():
    sizes = [group_size([round(ms * MS)] * 5) for ms in (100, 2.5, 1, 0.1, 0.001, 0)]
    assert sizes == [5, 5, 10, 100, 1000, 1000]
    assert groups_of([MS // 10] * 199) is None
    assert groups_of([MS // 10] * 200).alike


def test_a_warm_up_needs_two_groups_of_runs():
    assert groups([5] * 9) is None
    assert groups([5] * 10).alike


def test_runs_that_still_get_faster_are_not_warm():
    assert not groups([200, 190, 180, 170, 160, 150, 140, 130, 120, 110]).alike
    assert groups([900, 500, 200, 120, 101, 100, 101, 100, 100, 101, 100, 101, 100]).alike


def test_two_per_cent_are_no_difference():
    assert groups([102] * 5 + [100] * 5).alike
    assert not groups([103] * 5 + [100] * 5).alike


def test_a_difference_within_the_noise_is_none():
    loud = [120, 80, 110, 95, 130, 90, 118, 85, 112, 100]
    assert groups(loud).alike
    assert groups(loud).allowed > 0.02 * 100 * MS


def test_runs_that_get_slower_are_no_warm_up():
    assert groups([100] * 5 + [130] * 5).alike


def test_an_interval_is_precise_by_its_half_width():
    values = np.random.default_rng(0).lognormal(0, 0.1, 400)
    assert precise(values, 0.02)
    assert not precise(values, 0.005)
    assert not precise(values[:5], 0.5)


def test_looks_grow_by_half_and_end_at_ten_thousand():
    assert LOOKS[:4] == (30, 45, 68, 102)
    assert LOOKS[-1] == 10_000
    assert all(a < b for a, b in itertools.pairwise(LOOKS))


@pytest.mark.parametrize("spread", [0.01, 0.05])
def test_quieter_runs_are_precise_sooner(spread):
    values = np.random.default_rng(1).lognormal(0, spread, LOOKS[-1])
    first = next(n for n in LOOKS if precise(values[:n], 0.01))
    assert first == 30 if spread == 0.01 else first > 45
