"""placement(): what is shown of it: beside Core ML's own plan, in every format, of any names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest

import coreml_lab as cl
from coreml_lab import records
from coreml_lab.explain.placement import ChipComparison, PlacementEstimate
from coreml_lab.explain.placing.beside import beside
from coreml_lab.program.graph import Graph, Node, Value
from tests.explain.test_placement import chain, convolution, placed, unary
from tests.support.op_nodes import kind

HOSTILE = '<script>alert("x")</script>\u202e|`*_'


@pytest.fixture(scope="module")
def digits() -> cl.Model:
    return cl.zoo.digits(precision="fp16", engine="reference", device="cpu")


def test_core_mls_own_plan_stands_beside_the_estimate() -> None:
    found = placed(chain(*[convolution(f"c{i}") for i in range(4)], unary("cumsum", name="sum")))
    native = (
        *(records.Placement(f"c{i}", "conv", "ne", ("cpu", "ne")) for i in range(3)),
        records.Placement("c3", "conv", "gpu"),
        records.Placement("sum", "cumsum", "ne"),
        records.Placement("elsewhere", "relu", "cpu"),
    )
    both = beside(native, found)
    assert len(both.common) == 5
    assert both.agreement == pytest.approx(3 / 5)
    assert both.counts["gpu", "ne"] == 1
    differing = {pair.node: pair.why for pair in both.common if not pair.agree}
    assert set(differing) == {"c3", "sum"}
    assert "cumsum does not run" in differing["sum"]
    text = str(PlacementEstimate(found, both))
    assert "3 of 5 alike" in text
    assert "Where Core ML's plan and the estimate differ" in text
    assert "own plan" not in str(PlacementEstimate(found, beside((), found)))
    assert math.isnan(beside((), found).agreement)


def test_a_model_with_a_plan_of_core_mls_own_shows_it(digits: cl.Model) -> None:
    import dataclasses

    model = cl.zoo.digits(precision="fp16", engine="reference", device="cpu")
    rows = tuple(records.Placement(op.name, op.op, "ne") for op in model.info.ops)
    model.plan = dataclasses.replace(model.plan, placements=rows)
    found = cl.placement(model)
    assert len(found.native.common) == len(rows)
    assert "Core ML's own plan against the estimate" in str(found)
    assert "own plan against" not in str(cl.placement(digits))


def test_rows_of_the_estimate_serve_as_a_plan() -> None:
    found = placed(chain(*[convolution(f"c{i}") for i in range(4)]))
    rows = found.placements()
    assert [row.device for row in rows] == ["ne"] * 4
    assert sum(row.weight or 0 for row in rows) == pytest.approx(1)
    assert beside(rows, found).agreement == 1


def everything(found: PlacementEstimate | ChipComparison) -> Mapping[str, str]:
    return {
        "text": str(found), "html": found.to_html(), "markdown": found.to_markdown(),
        "json": found.to_json(), "repr": repr(found),
    }  # fmt: skip


def test_hostile_names_are_shown_and_not_run() -> None:
    graph = chain(unary("cumsum", name=HOSTILE), *[convolution(f"{HOSTILE}{i}") for i in range(9)])
    found = PlacementEstimate(placed(graph, name=HOSTILE), beside((), placed(graph)))
    for kind_, drawn in everything(found).items():
        assert "\u202e" not in drawn, kind_
    assert "<script>" not in found.to_html()
    assert "<script>" not in ChipComparison((found,)).to_html()
    long = PlacementEstimate(placed(graph, name="n" * 1_000_000), beside((), placed(graph)))
    assert len(str(long)) < 100_000
    assert len(long.to_html()) < 200_000


def test_the_strip_has_a_colour_per_device_and_says_it_in_words() -> None:
    made = [convolution(f"c{i}") for i in range(12)]
    graph = chain(*made[:6], unary("cumsum"), *made[6:])
    found = PlacementEstimate(placed(graph), beside((), placed(graph)))
    assert str(found).startswith("[NNNNNNcNNNNNN]")
    html = found.to_html()
    assert 'alt="Operations in order: 6 on the Neural Engine, then 1 on the CPU, then 6' in html
    assert html.count("<img") == 1
    assert "<svg" not in html


def test_a_program_without_operations_is_empty() -> None:
    x = Node("input", (kind(1, 4),), name="x")
    graph = Graph({"y": Value(x)})
    found = PlacementEstimate(placed(graph), beside((), placed(graph)))
    for drawn in everything(found).values():
        assert drawn
    assert found.estimated.share("ne") == 0.0


def test_json_holds_every_operation_with_its_reasons() -> None:
    graph = chain(*[convolution(f"c{i}") for i in range(40)], unary("cumsum"))
    found = PlacementEstimate(placed(graph), beside((), placed(graph)))
    data = json.loads(found.to_json())
    assert len(data["placement"]["ops"]) == 41
    assert data["placement"]["ops"][-1]["reasons"][0]["sources"]
    assert data["headline"] == found.page.headline


@pytest.mark.models
@pytest.mark.parametrize("name", ["basic-pitch", "crepe-tiny"])
def test_real_models_are_placed(name: str) -> None:
    found = cl.placement(cl.models.path(name), ["M1", "M4"])
    assert isinstance(found, ChipComparison)
    for each in found.chips:
        assert each.estimated.placed
        assert all(drawn for drawn in everything(each).values())
        assert all(op.reasons or "ne" in op.supported for op in each.estimated.placed)
