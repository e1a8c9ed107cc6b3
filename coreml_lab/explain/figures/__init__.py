"""Bokeh figures: pure functions from data to a figure, on light or dark ground.

A figure without data says why. Colours are Okabe and Ito's, never alone: what is not measured is
hatched. Names are anyone's: on the canvas and in tooltips they are plain, visible text.
"""

from __future__ import annotations

from coreml_lab.explain.figures.curves import levels
from coreml_lab.explain.figures.distribution import latency
from coreml_lab.explain.figures.front import Spot, front
from coreml_lab.explain.figures.lanes import timeline
from coreml_lab.explain.figures.ops import op_times, op_treemap
from coreml_lab.explain.figures.ratios import Bar, bars
from coreml_lab.explain.figures.roof import Roof, roofline
from coreml_lab.explain.figures.strip import placements

__all__ = [
    "Bar",
    "Roof",
    "Spot",
    "bars",
    "front",
    "latency",
    "levels",
    "op_times",
    "op_treemap",
    "placements",
    "roofline",
    "timeline",
]
