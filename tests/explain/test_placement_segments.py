"""The shortest way through operations: published placements, and every way tried."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from coreml_lab.explain.placing import planner
from coreml_lab.explain.placing.segments import Costs, Fixed, Map, shortest
from coreml_lab.explain.placing.tables import chip

FIXED = planner.fixed()
# Published expectations of a 3x3 convolution of 64 channels on 32x32 (751K), in seconds.
CONV = {"cpu": 100.06e-6, "ne": 4.67e-6}
CPU_ONLY = {"cpu": 3e-6}


def cost(route: Sequence[str], costs: Sequence[Costs], fixed: Fixed = FIXED) -> float:
    """A route's cost, added up step by step."""
    total, before = 0.0, ""
    for device, own in zip(route, costs, strict=True):
        total += own[device]
        total += fixed.enter(before, device) if before else fixed.begin(device)
        before = device
    return total + fixed.output.get(before, 0.0)


def test_the_fixed_costs_are_the_published_ones() -> None:
    assert FIXED.launch["ne"] == FIXED.output["ne"] == FIXED.switch == 0.125e-3


def test_one_convolution_stays_on_the_cpu() -> None:
    assert shortest([CONV], FIXED).devices == ("cpu",)


def test_four_convolutions_go_to_the_neural_engine() -> None:
    assert shortest([CONV] * 4, FIXED).devices == ("ne",) * 4


def test_an_operation_that_is_barred_keeps_two_pairs_of_convolutions_on_the_cpu() -> None:
    row = [CONV, CONV, CPU_ONLY, CONV, CONV]
    assert set(shortest(row, FIXED).devices) == {"cpu"}


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [(0, 0, 0.250), (0, 1, 0.250), (1, 0, 0.375), (1, 1, 0.375)],
    ids=["whole graph", "head", "tail", "middle"],
)
def test_a_stretch_goes_there_once_it_saves_what_going_costs(
    before: int, after: int, needed: float
) -> None:
    # The formula's thresholds: the source's text says 0.25 for a tail, its formula 0.375.
    for saved, wanted in ((needed - 0.001, "cpu"), (needed + 0.001, "ne")):
        stretch = {"cpu": (saved + 1) / 1e3, "ne": 1e-3}
        row = [CPU_ONLY] * before + [stretch] + [CPU_ONLY] * after
        assert shortest(row, FIXED).devices[before] == wanted


def test_the_published_expectations_are_ours() -> None:
    for row in planner.published():
        for device, wanted in (("ne", row.ne), ("cpu", row.cpu)):
            found = planner.expected(row.work, device, chip("M4")) * 1e6
            assert found == pytest.approx(wanted, rel=0.005), (row.operation, device)


def rows() -> list[list[dict[str, float]]]:
    """Random rows of up to six operations; each runs on one to three devices."""
    draw = random.Random(5)
    return [
        [
            {d: draw.random() / 3e3 for d in draw.sample(["cpu", "gpu", "ne"], draw.randint(1, 3))}
            for _ in range(draw.randint(1, 6))
        ]
        for _ in range(200)
    ]


def test_no_route_is_cheaper_than_the_one_found() -> None:
    for row in rows():
        best = min(cost(route, row) for route in itertools.product(*row))
        found = shortest(row, FIXED)
        assert found.seconds == pytest.approx(best)
        assert cost(found.devices, row) == pytest.approx(best)


def test_freeing_one_operation_costs_what_the_route_with_it_free_costs() -> None:
    draw = random.Random(6)
    for row in rows():
        index, seconds = draw.randrange(len(row)), draw.random() / 1e4
        freed = [dict(each) for each in row]
        freed[index]["ne"] = min(seconds, freed[index].get("ne", 1.0))
        found = Map(row, FIXED).with_op(index, "ne", seconds)
        assert found == pytest.approx(Map(freed, FIXED).route_seconds)


def test_among_equal_routes_the_one_with_fewer_changes_is_taken() -> None:
    # A cast at the end costs the same on both; leaving for it costs what ending there costs.
    row = [CONV] * 4 + [{"cpu": 1e-6, "ne": 1e-6}]
    found = shortest(row, FIXED)
    assert found.transitions == 0
    assert set(found.devices) == {"ne"}


def test_nothing_takes_no_time() -> None:
    found = shortest([], FIXED)
    assert (found.devices, found.seconds, found.transitions, found.stretches) == ((), 0.0, 0, ())
