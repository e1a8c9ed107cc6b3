"""Two aims against each other: every point that was tried, and the line of those nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource
from bokeh.models.annotations import TeeHead, Whisker
from bokeh.plotting import figure

from coreml_lab.explain.figures.look import (
    Columns,
    Look,
    frame,
    legend,
    look,
    nothing,
    source,
    told,
)
from coreml_lab.explain.units import explained, missing, scale
from coreml_lab.metrics import Quantity

KINDS = ("best", "kept", "beyond")


@dataclass(frozen=True)
class Spot:
    """One point: what it is, its two quantities (less is better), and what it counts as.

    Attributes:
        kind: ``best`` (nothing beats it), ``kept`` (something does) or ``beyond`` (not allowed).
    """

    name: str
    x: Quantity
    y: Quantity
    kind: str


def front(
    spots: Sequence[Spot], title: str, *, x: str = "", y: str = "", dark: bool = False
) -> figure:
    """Points by two quantities, best ones joined by steps: what lies right above is beaten.

    Kinds differ by colour and by shape; intervals of ``x`` are whiskers.
    """
    colours = look(dark)
    drawn = [spot for spot in spots if not missing(spot.x) and not missing(spot.y)]
    if not drawn:
        return nothing(title, "no trial was measured", colours)
    across = scale(max(abs(spot.x.value) for spot in drawn), drawn[0].x.unit)
    up = scale(max(abs(spot.y.value) for spot in drawn), drawn[0].y.unit)
    units = [{"{ratio}": "×", "1": ""}.get(unit, unit) for _, unit in (across, up)]
    labels = [
        f"{name} ({unit})" if unit else name for name, unit in zip((x, y), units, strict=True)
    ]
    plot = frame(title, colours, height=340, x=labels[0], y=labels[1])
    factors = (across[0], up[0])
    _intervals(plot, drawn, factors, colours)
    _line(plot, [spot for spot in drawn if spot.kind == "best"], factors, colours)
    for kind in KINDS:
        _points(plot, [spot for spot in drawn if spot.kind == kind], kind, factors, colours)
    legend(plot, colours)
    return plot


def _points(
    plot: figure, spots: Sequence[Spot], kind: str, factors: tuple[float, float], colours: Look
) -> None:
    if not spots:
        return
    said, marker, colour = {
        "best": ("nothing is better in both", "circle", colours.gpu),
        "kept": ("beaten", "square", colours.cpu),
        "beyond": ("beyond the tolerance", "x", colours.incident),
    }[kind]
    columns: Columns = {
        "x": [spot.x.value / factors[0] for spot in spots],
        "y": [spot.y.value / factors[1] for spot in spots],
        "name": [spot.name for spot in spots],
        "across": [explained(spot.x) for spot in spots],
        "up": [explained(spot.y) for spot in spots],
    }
    drawn = plot.scatter(
        x="x", y="y", size=10 if kind == "best" else 7, marker=marker, fill_color=colour,
        line_color=colour, fill_alpha=0.8, legend_label=said, source=source(columns),
    )  # fmt: skip
    told(plot, [drawn], [("", "@name"), ("", "@across"), ("", "@up")])


def _line(plot: figure, spots: Sequence[Spot], factors: tuple[float, float], colours: Look) -> None:
    ordered = sorted((s.x.value / factors[0], s.y.value / factors[1]) for s in spots)
    if len(ordered) > 1:
        across, up = (list(column) for column in zip(*ordered, strict=True))
        plot.step(across, up, mode="after", line_color=colours.gpu, line_dash="dashed")


def _intervals(
    plot: figure, spots: Sequence[Spot], factors: tuple[float, float], colours: Look
) -> None:
    known = [
        (s.y.value / factors[1], s.x.low / factors[0], s.x.high / factors[0])
        for s in spots
        if s.x.low is not None and s.x.high is not None
    ]
    if known:
        base, low, high = (list(column) for column in zip(*known, strict=True))
        ends: dict[str, Any] = {
            end: TeeHead(line_color=colours.faint, size=5) for end in ("lower_head", "upper_head")
        }
        whisker = Whisker(
            base="base", lower="low", upper="high", dimension="width", line_color=colours.faint,
            source=ColumnDataSource({"base": base, "low": low, "high": high}), **ends,
        )  # fmt: skip
        plot.add_layout(whisker)
