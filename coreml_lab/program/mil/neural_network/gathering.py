"""Layers that take elements by index, or write to them."""

from __future__ import annotations

from typing import Any

from coreml_lab.program.mil.neural_network.registry import layer
from coreml_lab.program.mil.neural_network.values import as_int, axis_of, same
from coreml_lab.program.mil.tools import mb

MODES = {0: "update", 1: "add", 2: "sub", 3: "mul", 4: "div", 5: "max", 6: "min"}


@layer("gather", inputs=2, floats=False)
def gather(p: Any, x: Any, indices: Any) -> Any:
    """Slices along an axis."""
    return mb.gather(x=x, indices=as_int(indices), axis=axis_of(p.axis, x.rank))


@layer("gatherND", inputs=2, floats=False)
def gather_nd(_p: Any, x: Any, indices: Any) -> Any:
    """Slices by indices of several axes, which lie along the last axis."""
    found = mb.gather_nd(x=x, indices=as_int(indices))
    return found if found.rank else mb.expand_dims(x=found, axes=[0])


@layer("gatherAlongAxis", inputs=2, floats=False)
def gather_along_axis(p: Any, x: Any, indices: Any) -> Any:
    """Elements along an axis, an index for each."""
    return mb.gather_along_axis(x=x, indices=as_int(indices), axis=axis_of(p.axis, x.rank))


@layer("scatter", inputs=3, floats=False)
def scatter(p: Any, x: Any, indices: Any, updates: Any) -> Any:
    """Slices along an axis written, or reckoned with what is there."""
    data, updates = same([x, updates])
    axis = axis_of(p.axis, x.rank)
    return mb.scatter(
        data=data, indices=as_int(indices), updates=updates, axis=axis, mode=MODES[p.mode]
    )


@layer("scatterND", inputs=3, floats=False)
def scatter_nd(p: Any, x: Any, indices: Any, updates: Any) -> Any:
    """Slices by indices of several axes written, or reckoned with what is there."""
    data, updates = same([x, updates])
    return mb.scatter_nd(data=data, indices=as_int(indices), updates=updates, mode=MODES[p.mode])


@layer("scatterAlongAxis", inputs=3, floats=False)
def scatter_along_axis(p: Any, x: Any, indices: Any, updates: Any) -> Any:
    """Elements along an axis written, or reckoned with what is there."""
    data, updates = same([x, updates])
    axis = axis_of(p.axis, x.rank)
    return mb.scatter_along_axis(
        data=data, indices=as_int(indices), updates=updates, axis=axis, mode=MODES[p.mode]
    )


@layer("whereNonZero", floats=False)
def where_non_zero(_p: Any, x: Any) -> Any:
    """The indices of what is not 0, one row each."""
    return mb.non_zero(x=x)
