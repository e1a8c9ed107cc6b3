"""Intervals of quantiles: their ranks, and how often they cover the truth.

Coverage is counted here over few rows, with a seed; ``bench_intervals`` counts over many.
"""

from __future__ import annotations

import numpy as np
import pytest

from coreml_lab.measure.intervals import (
    course,
    drifts,
    needed,
    quantile,
    quantile_interval,
)
from tests.support.noise import drift, heavy_tailed, lognormal

ROWS = 300


def covered(noise, share: float, count: int) -> float:
    rows = noise.draw(np.random.default_rng(1), (ROWS, count))
    truth = noise.quantile(share, count)
    # Where neighbours resemble one another by chance, a percentile may get no interval.
    ends = [e for row in rows if (e := quantile_interval(row, share)) is not None]
    assert len(ends) > 0.8 * ROWS
    return sum(low <= truth <= high for low, high in ends) / len(ends)


@pytest.mark.parametrize(
    ("noise", "share", "count"),
    [
        (lognormal(), 0.5, 30),
        (heavy_tailed(), 0.5, 100),
        (lognormal(0.6), 0.5, 100),
        (drift(2), 0.5, 50),
        (drift(4), 0.5, 100),
        (lognormal(), 0.95, 100),
        (heavy_tailed(), 0.9, 200),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_95_per_cent_intervals_cover_the_truth_92_to_98_times_in_100(noise, share, count):
    assert 0.92 <= covered(noise, share, count) <= 0.98


def test_intervals_that_took_dependent_runs_for_independent_would_not():
    noise, rows = lognormal(0.6), 300
    found = noise.draw(np.random.default_rng(1), (rows, 100))
    shuffled = np.random.default_rng(2).permuted(found, axis=1)
    truth = noise.quantile(0.5, 100)
    ends = [quantile_interval(row, 0.5) for row in shuffled]
    assert sum(low <= truth <= high for low, high in ends) / rows < 0.85


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_values_have_no_interval_of_the_median(count):
    assert quantile_interval(range(count), 0.5) is None


def test_six_values_have_one_and_it_is_almost_all_of_them():
    low, high = quantile_interval([1.0, 2, 3, 4, 5, 6], 0.5)
    assert 1 < low < 1.2
    assert 5.8 < high < 6


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_quantile_needs_so_many_values_that_the_largest_lies_beyond_it(share, count):
    # share ** n <= 2.5 %, solved for n.
    assert needed(share) == needed(1 - share) == count
    values = np.random.default_rng(3).permutation(3 * count)
    assert quantile_interval(values[: count - 1], share) is None
    assert quantile_interval(values, share) is not None


def test_the_ends_are_those_of_the_sign_test_where_that_is_exact():
    # With 17 values ranks 5 and 13 cover 95.1 % (Conover, table A3).
    values = np.random.default_rng(0).permutation(np.arange(1.0, 18))
    low, high = quantile_interval(values, 0.5)
    assert low == pytest.approx(5, abs=0.1)
    assert high == pytest.approx(13, abs=0.1)


def test_many_values_use_the_normal_law_and_agree_with_the_exact_one():
    rng = np.random.default_rng(5)
    few, many = (quantile_interval(rng.permutation(n) / n, 0.5) for n in (4900, 5100))
    assert few == pytest.approx(many, abs=2e-3)


def test_a_wider_confidence_gives_a_wider_interval():
    values = np.random.default_rng(6).standard_normal(200)
    low, high = quantile_interval(values, 0.5)
    lower, higher = quantile_interval(values, 0.5, 0.99)
    assert lower < low < high < higher


def test_equal_values_have_an_interval_of_no_width_and_no_drift():
    assert quantile_interval([3.0] * 50, 0.5) == (3, 3)
    assert not drifts([3.0] * 50)
    assert course([3.0] * 50).independent == 50


def test_a_row_that_rises_without_noise_drifts():
    found = course(np.linspace(1, 2, 60))
    assert found.drifts
    # The medians of the first and the last twenty of them.
    assert found.drift == pytest.approx((1 + 49.5 / 59) / (1 + 9.5 / 59) - 1)


def test_a_steady_row_is_called_drifting_once_in_a_hundred_times_or_so():
    rows = lognormal().draw(np.random.default_rng(8), (400, 60))
    assert sum(map(drifts, rows)) <= 10


def test_neighbours_that_resemble_one_another_count_as_fewer_runs():
    rng = np.random.default_rng(9)
    alone = np.median([course(r).independent for r in lognormal().draw(rng, (50, 200))])
    alike = np.median([course(r).independent for r in lognormal(0.8).draw(rng, (50, 200))])
    assert alone > 120
    assert alike < 60


def test_few_values_are_taken_as_they_are():
    found = course([1.0, 2.0, 4.0])
    assert (found.count, found.independent, found.drifts) == (3, 3, False)


def test_a_quantile_lies_between_its_neighbours():
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    assert quantile([1, 2, 3, 4], 1.0) == 4
