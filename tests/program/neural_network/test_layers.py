"""Every layer type against its definition in NumPy, taken from NeuralNetwork.proto's comments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.program.neural_network import (
    cases_arrays,
    cases_images,
    cases_numbers,
    cases_pixels,
    cases_recurrent,
    cases_shapes,
)
from tests.support.classic import Case, computed, results

TABLES = (
    cases_images,
    cases_pixels,
    cases_numbers,
    cases_shapes,
    cases_arrays,
    cases_recurrent,
)
CASES = tuple(case for module in TABLES for case in module.TABLE.rows)
# Networks of so many layers: compiling one by one takes minutes.
TOGETHER = 40


def table() -> Sequence[Case]:
    """All cases."""
    return CASES


def company(place: int) -> tuple[int, ...]:
    """The cases that are run in one network with that one."""
    alike = [i for i, c in enumerate(CASES) if c.old == CASES[place].old]
    start = alike.index(place) // TOGETHER * TOGETHER
    return tuple(alike[start : start + TOGETHER])


@pytest.mark.parametrize("place", range(len(CASES)), ids=[c.name for c in CASES])
def test_a_layer_does_what_it_is_defined_to_do(place: int) -> None:
    case = CASES[place]
    together = company(place)
    try:
        made = computed(together, table, "portable")
        index = together.index(place)
    except Exception:  # noqa: BLE001 - somebody in the company is at fault: this one alone
        made, index = computed((place,), table, "portable"), 0
    for k, wanted in enumerate(results(case)):
        got = made[f"c{index}_out{k}"]
        assert got.shape == wanted.shape
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=case.close * scale)
