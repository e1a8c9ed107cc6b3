"""Sorting, the largest ones, running sums, triangles of matrices, and boxes that overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import as_int, axis_of, scalar, shape_of, sizes
from coreml_lab.program.mil.tools import is_symbolic, mb

ALL = -1


@layer("topK", inputs=(1, 2), limits="a computed K needs an axis of fixed length")
def top_k(p: Any, x: Any, k: Any = None) -> Any:
    """The largest or smallest numbers along an axis, and their indices."""
    axis = axis_of(p.axis, x.rank)
    if k is None:
        return mb.topk(x=x, k=int(p.K), axis=axis, ascending=bool(p.useBottomK))
    if k.val is not None:
        number = int(np.asarray(k.val).ravel()[0])
        return mb.topk(x=x, k=number, axis=axis, ascending=bool(p.useBottomK))
    if is_symbolic(x.shape[axis]):
        raise LayerError("its K is computed, and so is the length of its axis")
    # ML Programs have k constant: everything is sorted, and what is wanted is cut off.
    both = mb.topk(x=x, k=int(x.shape[axis]), axis=axis, ascending=bool(p.useBottomK))
    number = mb.reshape(x=as_int(k), shape=[1])
    rest = [np.array([int(d)], np.int32) for d in x.shape]
    end = mb.concat(values=[number if i == axis else n for i, n in enumerate(rest)], axis=0)
    begin = np.zeros(x.rank, np.int32)
    return tuple(mb.slice_by_index(x=each, begin=begin, end=end) for each in both)


@layer("argSort")
def arg_sort(p: Any, x: Any) -> Any:
    """The indices that would sort an axis."""
    return mb.argsort(x=x, axis=axis_of(p.axis, x.rank), ascending=not p.descending)


@layer(
    "cumSum",
    inputs=(1, 2),
    limits="the axis must not be computed: ML Programs have it constant",
)
def cum_sum(p: Any, x: Any, axis: Any = None) -> Any:
    """Running sums along an axis, forwards or backwards."""
    along = int(p.axis)
    if axis is not None:
        if axis.val is None:
            raise LayerError("its axis is computed; ML Programs have it constant")
        along = int(np.asarray(axis.val).ravel()[0])
    return mb.cumsum(
        x=x,
        axis=axis_of(along, x.rank),
        exclusive=bool(p.excludeFinalSum),
        reverse=bool(p.reverse),
    )


@layer("matrixBandPart")
def matrix_band_part(p: Any, x: Any) -> Any:
    """Matrices with zeros outside of a band around their diagonal."""
    return mb.band_part(x=x, lower=int(p.numLower), upper=int(p.numUpper))


@layer("lowerTriangular")
def lower_triangular(p: Any, x: Any) -> Any:
    """Matrices with zeros above the k-th diagonal."""
    if p.k >= 0:
        return mb.band_part(x=x, lower=ALL, upper=int(p.k))
    return _outside(x, lower=-int(p.k) - 1, upper=ALL)


@layer("upperTriangular")
def upper_triangular(p: Any, x: Any) -> Any:
    """Matrices with zeros below the k-th diagonal."""
    if p.k <= 0:
        return mb.band_part(x=x, lower=-int(p.k), upper=ALL)
    return _outside(x, lower=ALL, upper=int(p.k) - 1)


def _outside(x: Any, *, lower: int, upper: int) -> Any:
    """What lies outside of a band: a triangle without the diagonal, which MIL's bands hold."""
    ones = mb.fill(shape=shape_of(sizes(x)), value=np.float32(1))
    inside = mb.cast(x=mb.band_part(x=ones, lower=lower, upper=upper), dtype="bool")
    return mb.select(cond=inside, a=np.float32(0), b=x)


@layer(
    "NonMaximumSuppression",
    inputs=(2, 5),
    limits="thresholds and maxBoxes must not be computed: ML Programs have them constant",
)
def non_maximum_suppression(p: Any, boxes: Any, scores: Any, *more: Any) -> Any:
    """Of boxes that overlap the one with the highest score: boxes, scores, indices, count."""
    names = ("iou_threshold", "score_threshold", "max_boxes")
    given: list[Any] = [np.float32(p.iouThreshold), np.float32(p.scoreThreshold), int(p.maxBoxes)]
    for i, x in enumerate(more):
        if x.val is None:
            raise LayerError(f"its {names[i]} is computed; ML Programs have it constant")
        value = np.asarray(scalar(x).val).ravel()[0]
        given[i] = int(value) if names[i] == "max_boxes" else np.float32(value)
    return mb.non_maximum_suppression(
        boxes=boxes,
        scores=scores,
        per_class_suppression=bool(p.perClassSuppression),
        **dict(zip(names, given, strict=True)),
    )
