"""Figures: what they show, what they say without data, and names of strangers in them."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from bokeh.models import HoverTool, Label, Span
from bokeh.models.annotations import Whisker

from coreml_lab.errors import UnknownParameter
from coreml_lab.explain import figures
from coreml_lab.explain.facts import facts
from coreml_lab.explain.figures import embed, look
from coreml_lab.explain.figures.curves import POINTS, broken
from coreml_lab.explain.figures.ops import tiles
from coreml_lab.explain.report import report
from coreml_lab.explain.thinning import kept, strided
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpSpan, Placement, Recording, Run, Sample
from coreml_lab.samples import Samples
from tests.support.fakes import MS, recording
from tests.test_legible import EVIL, evil

MEASURED, ESTIMATED = Provenance.MEASURED, Provenance.ESTIMATED
PLAN = tuple(
    Placement(f"op_{i}", "conv", "ne" if i % 3 else "cpu", ("cpu", "ne")) for i in range(9)
)


def ratio(value: float, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity(value, "{ratio}", MEASURED, low, high)


def metric_rows(*names: str, count: int = 5) -> Samples:
    return Samples.of(
        Sample(i * MS, name, float(i + k), MEASURED)
        for i in range(count)
        for k, name in enumerate(names)
    )


def every(found: Recording, *, dark: bool = False) -> dict[str, Any]:
    """All figures of a recording, and those that other results have."""
    name = found.program.name
    made = {n: draw(dark=dark) for n, draw in report(found).figures.items()}
    rows = [figures.Bar(name, ratio(0.5, 0.4, 0.6)), figures.Bar(name, ratio(2.0), "cuda:0")]
    spots = [
        figures.Spot(name, ratio(0.5, 0.4, 0.6), Quantity(2e6, "By", MEASURED), "best"),
        figures.Spot(name, ratio(0.4), Quantity(4e6, "By", MEASURED), "best"),
        figures.Spot(name, ratio(0.6), Quantity(5e6, "By", MEASURED), "kept"),
        figures.Spot(name, ratio(0.1), Quantity(1e6, "By", MEASURED), "beyond"),
    ]
    made["front"] = figures.front(spots, name, x="time", y="size", dark=dark)
    made["ratios"] = figures.bars(rows, name, dark=dark)
    plan = [Placement(name, name, "ne", (name,))]
    made["placements"] = figures.placements(plan, title=name, notes=[name], dark=dark)
    return made


def reason(plot: Any) -> str:
    (label,) = [r for r in plot.center if isinstance(r, Label)]
    return str(label.text)


def columns(plot: Any) -> dict[str, Any]:
    return dict(plot.renderers[0].data_source.data)


def test_a_recording_has_its_figures_by_name() -> None:
    found = report(recording())
    names = ["operations", "timeline", "treemap", "roofline", "latency", "memory", "power"]
    assert list(found.figures) == names
    assert found.figure("latency").yaxis.axis_label == "runs"
    with pytest.raises(UnknownParameter, match="no figure 'pie'") as caught:
        found.figure("pie")
    assert "treemap" in caught.value.hint


def test_a_plan_of_core_ml_is_drawn_where_there_is_one() -> None:
    planned = recording(plan=dataclasses.replace(recording().plan, placements=PLAN))
    assert "placements" in report(planned).figures


@pytest.mark.parametrize("name", ["operations", "timeline", "treemap", "roofline", "latency"])
def test_a_figure_without_runs_says_why(name: str) -> None:
    plot = report(recording(runs=())).figure(name)
    assert reason(plot).startswith("unavailable: no ")


def test_figures_without_samples_or_rows_say_why() -> None:
    missing = report(recording())
    assert reason(missing.figure("memory")) == (
        "unavailable: fewer than two samples fell into the runs"
    )
    counter = Sample(0, "hw.power.package", math.nan, Provenance.UNAVAILABLE, "no counter here")
    powerless = Samples.of([counter])
    assert "no counter here" in reason(figures.levels(powerless, ["hw.power.package"], "Power"))
    gone = figures.Bar("a", Quantity.unavailable("J", "no battery"))
    assert reason(figures.bars([gone], "Energy")) == "unavailable: no battery"
    assert "takes Core ML on a Mac" in reason(figures.placements(()))


def test_operations_are_sorted_and_the_engines_own_work_has_its_colour() -> None:
    data = columns(report(recording()).figure("operations"))
    assert data["time"] == pytest.approx([2.0, 1.0, 0.5])
    assert data["colour"] == [look.LIGHT.cpu, look.LIGHT.cpu, look.LIGHT.transfer]


def test_what_is_not_measured_is_hatched() -> None:
    spans = tuple(
        OpSpan(f"op_{how}", "conv", "coreml", "ne", i * MS, MS, 0, how)
        for i, how in enumerate((MEASURED, Provenance.APPORTIONED, ESTIMATED))
    )
    found = recording(runs=(Run(0, 0, 3 * MS, spans, instrumented=True),))
    for name in ("operations", "timeline", "treemap"):
        assert set(columns(report(found).figure(name))["hatch"]) == {" ", ".", "/"}
    assert set(columns(figures.placements(PLAN))["hatch"]) == {"/"}


def test_the_timeline_draws_the_run_of_median_length_on_lanes_of_devices() -> None:
    span = recording().runs[-1].spans[0]
    other = dataclasses.replace(span, device="cuda:0", engine="pytorch")
    runs = tuple(
        Run(i, 0, took * MS, (span, other), instrumented=True) for i, took in enumerate((9, 5, 7))
    )
    plot = figures.timeline(runs)
    assert "run 2" in plot.title.text
    assert plot.y_range.factors == ["cuda:0 · pytorch", "cpu · portable"]
    assert columns(plot)["colour"] == [look.LIGHT.cpu, look.LIGHT.gpu]


def test_the_tiles_of_a_treemap_fill_it_in_proportion() -> None:
    sizes = sorted(np.random.default_rng(0).lognormal(0, 2, 60).tolist(), reverse=True)
    boxes = tiles(sizes, (0.0, 0.0, 100.0, 40.0))
    areas = np.array([w * h for _, _, w, h in boxes])
    np.testing.assert_allclose(areas / 4000, np.array(sizes) / sum(sizes), rtol=1e-9)
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= -1e-9
        assert y >= -1e-9
        assert x + w <= 100 + 1e-6
        assert y + h <= 40 + 1e-6
        for a, b, c, d in boxes[i + 1 :]:
            apart = a >= x + w - 1e-9 or x >= a + c - 1e-9 or b >= y + h - 1e-9 or y >= b + d - 1e-9
            assert apart


def test_equal_tiles_are_nearly_square() -> None:
    boxes = tiles([1.0] * 16, (0.0, 0.0, 40.0, 40.0))
    assert all(w == pytest.approx(10) and h == pytest.approx(10) for _, _, w, h in boxes)


def test_the_latency_figure_marks_median_interval_and_tail() -> None:
    seconds = [(4 + i % 7) / 1000 for i in range(200)]
    found = facts(recording()).latency
    known = dataclasses.replace(
        found, p50=Quantity(5.5e-3, "s", MEASURED, 5e-3, 6e-3), p95=Quantity(9e-3, "s", MEASURED)
    )
    plot = figures.latency(seconds, known)
    assert sum(columns(plot)["count"]) == 200
    spans = [r.location for r in plot.center if isinstance(r, Span)]
    assert spans == pytest.approx([5.5, 9.0])
    bands = [r for r in plot.center if type(r).__name__ == "BoxAnnotation"]
    assert [(b.left, b.right) for b in bands] == [(pytest.approx(5.0), pytest.approx(6.0))]


def test_runs_far_beyond_all_others_are_told_and_do_not_press_these_together() -> None:
    seconds = [(4 + i % 7) / 1000 for i in range(99)] + [1.0]
    plot = figures.latency(seconds, facts(recording()).latency)
    assert "100 runs" in plot.title.text
    assert "1 of more than" in plot.title.text
    assert sum(columns(plot)["count"]) == 99
    assert max(columns(plot)["right"]) <= 10.0


def test_bars_have_their_interval_as_whisker_and_ratios_start_at_one() -> None:
    rows = [figures.Bar("a", ratio(0.5, 0.4, 0.6)), figures.Bar("b", ratio(3.0))]
    plot = figures.bars(rows, "Time, arm ÷ baseline")
    data = columns(plot)
    assert data["from"] == [1.0, 1.0]
    assert data["to"] == [0.5, 3.0]
    (whisker,) = [r for r in plot.center if isinstance(r, Whisker)]
    assert dict(whisker.source.data) == {"name": ["a"], "low": [0.4], "high": [0.6]}
    assert type(plot.xaxis[0]).__name__ == "LogAxis"
    assert plot.x_range.start < 0.4
    assert plot.x_range.end > 3.0


def test_a_whisker_is_never_cut_off() -> None:
    for end in (ratio(1.09, 1.08, 1.1), ratio(0.9, 0.8, 0.95), ratio(1.0, 1.0, 1.0)):
        drawn = figures.bars([figures.Bar("a", end)], "Time").x_range
        assert drawn.start < min(1.0, end.low) <= max(1.0, end.high) < drawn.end
    edges = Quantity(math.nan, "{ratio}", ESTIMATED, 0.0, 3.0)
    assert figures.bars([figures.Bar("a", edges)], "Energy").x_range.end > 3.0
    joules = Quantity(2e-3, "J", MEASURED, 1e-3, 4e-3)
    drawn = figures.bars([figures.Bar("a", joules)], "Energy").x_range
    assert (drawn.start, drawn.end > 4.0) == (0, True)


def test_bars_of_quantities_start_at_zero_and_keep_a_row_for_what_is_missing() -> None:
    missing = Quantity.unavailable("J", "no counter")
    rows = [figures.Bar("a", Quantity(2e-3, "J", MEASURED)), figures.Bar("b", missing)]
    data = columns(figures.bars(rows, "Energy"))
    assert data["to"] == [2.0, 0.0]
    assert data["shown"] == ["2.00 mJ ●", "unavailable: no counter"]


def test_a_range_without_a_best_value_is_a_bar_between_its_ends() -> None:
    spread = Quantity(math.nan, "J", ESTIMATED, 2e-3, 8e-3)
    plot = figures.bars([figures.Bar("CPU", spread)], "Energy")
    data = columns(plot)
    assert (data["from"], data["to"], data["hatch"]) == ([2.0], [8.0], ["/"])
    assert not [r for r in plot.center if isinstance(r, Whisker)]


def test_an_estimate_of_two_edges_is_a_hatched_band_and_no_line() -> None:
    names = ["coreml_lab.power.cpu.low", "coreml_lab.power.cpu.high"]
    plot = figures.levels(metric_rows(*names), names, "Power")
    (band,) = plot.renderers
    assert type(band.glyph).__name__ == "VArea"
    assert band.glyph.hatch_pattern == "/"


def test_a_line_is_broken_where_nothing_was_read() -> None:
    seconds, values = broken(np.array([0.0, 0.1, 0.2, 5.0, 5.1]), np.arange(5.0))
    assert np.isnan(values).tolist() == [False, False, False, True, False, False]
    assert len(seconds) == 6


def test_a_long_line_keeps_its_peaks() -> None:
    values = np.zeros(100_000)
    values[77_777] = 9.0
    places = kept(values, POINTS)
    assert len(places) <= POINTS
    assert values[places].max() == 9.0
    assert (np.diff(places) > 0).all()
    assert len(strided(values, 700)) <= 700


def test_the_roofline_leaves_out_what_has_no_known_arithmetic() -> None:
    found = facts(recording())
    plot = report(recording()).figure("roofline")
    assert columns(plot)["node"] == ["conv_0", "linear_2"]
    assert found.ops[0].flops.provenance is ESTIMATED


def test_dark_and_light_differ_in_nothing_but_their_colours() -> None:
    colours = embed.darkened()
    assert len(colours) == len(asdict(look.LIGHT))
    for light, dark in zip(
        every(recording()).values(), every(recording(), dark=True).values(), strict=True
    ):
        told = embed.item(light)[1]
        for a, b in colours.items():
            told = told.replace(f'"{a}"', f'"{b}"')
        assert _shape(told) == _shape(embed.item(dark)[1])


NUMBERS = {"id", "root_id", "target_id"}


def _shape(item: str) -> Any:
    """An item without the numbers that Bokeh gives its parts."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: strip(v) for k, v in value.items() if k not in {"id", "root_id", "target_id"}
            }
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(json.loads(item))


@pytest.mark.parametrize("name", ["script", "terminal", "formula", "long"])
def test_names_of_strangers_are_plain_text_in_every_figure(name: str) -> None:
    for plot in every(evil(EVIL[name])).values():
        for tool in plot.select(type=HoverTool):
            assert all("safe" not in told and "{" not in told for _, told in tool.tooltips)
        title, told = embed.item(plot)
        assert "<" not in told
        assert len(told) < 60_000
        assert told.isascii()
        for sign in ("$$", "\\\\[", "\\\\(", "\\u202e", "\\u001b", "\\ud800"):
            assert sign not in told.replace("\\\\u", ""), sign
        assert title.isprintable() or " " in title


def test_a_front_joins_the_best_and_tells_kinds_apart_by_shape() -> None:
    plot = every(recording())["front"]
    markers = {r.glyph.marker for r in plot.renderers if hasattr(r.glyph, "marker")}
    assert markers == {"circle", "square", "x"}
    (line,) = [r for r in plot.renderers if type(r.glyph).__name__ == "Step"]
    assert list(line.data_source.data["x"]) == [0.4, 0.5]
    assert list(line.data_source.data["y"]) == [4.0, 2.0]
    assert plot.xaxis[0].axis_label == "time (×)"
    assert plot.yaxis[0].axis_label == "size (MB)"
    assert "no trial was measured" in reason(figures.front([], "front"))
