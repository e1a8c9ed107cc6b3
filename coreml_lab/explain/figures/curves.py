"""Metrics over time: memory, power, busy cores; estimates are hatched bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import DataRange1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from coreml_lab.explain.figures.look import DASHES, Look, frame, legend, look, nothing, plain
from coreml_lab.explain.thinning import kept
from coreml_lab.explain.units import scale
from coreml_lab.metrics import Provenance, metric
from coreml_lab.samples import Array, Samples

# Points of a line: more than a screen has columns cannot be told apart.
POINTS = 1_000
MOST_STARTS = 20
LOW, HIGH = ".low", ".high"


def levels(
    samples: Samples,
    names: Sequence[str],
    title: str,
    *,
    starts_ns: Sequence[int] = (),
    dark: bool = False,
) -> figure:
    """Lines of metrics of one unit over the seconds since the first sample.

    Two metrics that end in ``.low`` and ``.high`` are the edges of one estimate, drawn as a band. A
    gap of more than three times the usual step breaks a line.

    Args:
        samples: what was read.
        names: the metrics, all of one unit; those that were not read are left out.
        title: what they are.
        starts_ns: when runs began: thin lines, where there are few of them.
        dark: whether it is drawn on dark ground.
    """
    colours = look(dark)
    read = {name: samples.of_metric(name) for name in names}
    drawn = {name: rows for name, rows in read.items() if len(rows[0]) > 1}
    if not drawn:
        return nothing(title, _why(samples, names), colours)
    unit = metric(next(iter(drawn))).unit
    origin = min(int(t[0]) for t, _ in drawn.values())
    top = max(float(v.max()) for _, v in drawn.values())
    factor, shown = scale(top, unit)
    plot = frame(title, colours, x="time (s)", y=shown, y_range=DataRange1d(start=0))
    series = zip(colours.series, DASHES, strict=True)
    for name, (t, v) in drawn.items():
        if name.endswith(LOW) and name.removesuffix(LOW) + HIGH in drawn:
            continue
        places = kept(v, POINTS)
        seconds, values = (t[places] - origin) / 1e9, v[places] / factor
        pair = name.removesuffix(HIGH) + LOW
        if name.endswith(HIGH) and pair in drawn:
            floor = np.interp(seconds, (drawn[pair][0] - origin) / 1e9, drawn[pair][1] / factor)
            _band(plot, colours, seconds, (floor, values))
            continue
        colour, dash = next(series, (colours.other, "dotted"))
        plot.line(
            *broken(seconds, values),
            legend_label=f"{_label(name)} ({_how(samples, name)})",
            line_color=colour,
            line_dash=dash,
            line_width=1.6,
        )
    if len(starts_ns) <= MOST_STARTS:
        for start in starts_ns:
            at = (start - origin) / 1e9
            line: dict[str, Any] = {"line_color": colours.faint, "line_alpha": 0.4, "line_width": 1}
            plot.add_layout(Span(location=at, dimension="height", **line))
    legend(plot, colours)
    return plot


def broken(seconds: Array, values: Array) -> tuple[Array, Array]:
    """The line with a NaN where nothing was read for more than three usual steps."""
    if len(seconds) < 3:  # noqa: PLR2004 - one step has nothing to be compared with
        return seconds, values
    steps = np.diff(seconds)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1
    return np.insert(seconds, gaps, seconds[gaps - 1]), np.insert(values, gaps, np.nan)


def _band(plot: figure, colours: Look, seconds: Array, edges: tuple[Array, Array]) -> None:
    plot.varea(
        seconds,
        *edges,
        fill_color=colours.other,
        fill_alpha=0.15,
        hatch_pattern="/",
        hatch_color=colours.other,
        hatch_alpha=0.4,
        legend_label="kernel's CPU (estimated)",
    )


def _label(name: str) -> str:
    known = metric(name)
    _, slash, part = name.partition("/")
    return plain(f"{known.label} {part}" if slash else known.label)


def _how(samples: Samples, name: str) -> str:
    kinds = {how.value for how, _ in samples.hows_of(name) if how is not Provenance.UNAVAILABLE}
    return ", ".join(sorted(kinds))


def _why(samples: Samples, names: Sequence[str]) -> str:
    gone = Provenance.UNAVAILABLE
    notes = (note for name in names for how, note in samples.hows_of(name) if note and how is gone)
    return next(notes, "fewer than two samples fell into the runs")
