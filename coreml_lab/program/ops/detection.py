"""Object detection: of boxes that overlap, the one with the highest score stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.sizes import size, sizes

NONE = -1
LOWEST = np.float32(-np.inf)


@dataclass(frozen=True)
class Rules:
    """The constants of ``non_maximum_suppression``; only old programs have a ``lowest`` score."""

    threshold: float
    most: int
    per_class: bool
    lowest: float | None

    @staticmethod
    def of(
        *,
        iou_threshold: Any,
        max_boxes: Any,
        per_class_suppression: Any,
        score_threshold: Any = None,
    ) -> Rules:
        """What MIL's parameters say; parts of a union lie between 0 and 1."""
        return Rules(
            min(max(float(iou_threshold), 0.0), 1.0),
            int(max_boxes),
            bool(per_class_suppression),
            None if score_threshold is None else float(score_threshold),
        )

    @property
    def old(self) -> bool:
        """Whether it is iOS15's form: boxes before their parts, and a fourth result, the count."""
        return self.lowest is not None


def _overlap(boxes: Array, place: int, threshold: float) -> Array:
    """Which boxes [n, 4] share more than ``threshold`` of their union with the one at ``place``.

    A box without an area shares nothing.
    """
    half = boxes[:, 2:] / 2
    low, high = boxes[:, :2] - half, boxes[:, :2] + half
    extent = np.minimum(high, high[place]) - np.maximum(low, low[place])
    shared = np.where((extent > 0).all(-1), extent[:, 0] * extent[:, 1], np.float32(0))
    area = (high - low)[:, 0] * (high - low)[:, 1]
    union = area + area[place] - shared
    real = (area > 0) & (area[place] > 0) & (union > 0)
    part = np.divide(shared, union, out=np.zeros_like(shared), where=real)
    return np.asarray(part > np.float32(threshold))


def _selected(boxes: Array, scores: Array, rules: Rules) -> list[int]:
    """Indices of the boxes [n, 4] of one image that stay, the highest score first."""
    known = np.where(np.isnan(scores), LOWEST, scores)
    best, classes = known.max(-1), known.argmax(-1)
    order = np.argsort(-best, kind="stable")
    boxes, best, classes = boxes[order], best[order], classes[order]
    gone = np.zeros(len(best), bool) if rules.lowest is None else ~(best >= rules.lowest)
    # There is always a result: the best box, whatever its score.
    gone[:1] = False
    kept: list[int] = []
    while len(kept) < rules.most and not gone.all():
        place = int(gone.argmin())
        kept.append(place)
        rivals = _overlap(boxes, place, rules.threshold)
        gone |= rivals & (classes == classes[place]) if rules.per_class else rivals
        gone[place] = True
    return [int(i) for i in order[kept]]


def _indices(boxes: Array, scores: Array, rules: Rules) -> Array:
    """Per image the selected boxes, then -1 up to ``max_boxes``."""
    found = np.full((len(boxes), rules.most), NONE, np.int32)
    for row, image, score in zip(found, boxes, scores, strict=True):
        chosen = _selected(image, score, rules)
        row[: len(chosen)] = chosen
    return found


def _taken(values: Array, indices: Array) -> Array:
    """Rows of each image's ``values``; zeros for the index -1."""
    rows = np.take_along_axis(values, np.maximum(indices, 0)[..., None], 1)
    return np.asarray(np.where(indices[..., None] < 0, np.zeros((), rows.dtype), rows))


def _suppress_onnx(o: Any, boxes: Any, scores: Any, **given: Any) -> Any:
    """Boxes are sorted first, so that ONNX's operator never has to decide between equal scores."""
    rules = Rules.of(**given)
    images, number = (size(o, boxes, i) for i in (0, 1 if rules.old else 2))
    kinds = size(o, scores, 2 if rules.old else 1)
    if not rules.old:
        boxes, scores = (o.Transpose(x, perm=[0, 2, 1]) for x in (boxes, scores))
    known = o.Where(o.IsNaN(scores), o.const(LOWEST), scores)
    best = o.ReduceMax(known, o.ints([-1]), keepdims=0)
    best, order = o.TopK(best, sizes(o, [number]), outputs=2)
    rank = _ranks_onnx(o, best, (images, number), rules)
    each = o.Unsqueeze(rank, o.ints([1]))
    if rules.per_class:
        kind = o.GatherElements(o.ArgMax(known, axis=2, keepdims=0), order, axis=1)
        every = o.Unsqueeze(_counted(o, kinds), o.ints([-1]))
        own = o.Equal(o.Unsqueeze(kind, o.ints([1])), every)
        each = o.Where(own, each, o.const(np.float32(0)))
    stays = o.Mul(rank, _kept_onnx(o, _rows_onnx(o, boxes, order), rank, each, rules))
    return _result_onnx(o, (boxes, scores), order, stays, rules)


def _ranks_onnx(o: Any, best: Any, extent: tuple[Any, Any], rules: Rules) -> Any:
    """1 for the last of the sorted boxes, more for better ones, 0 for what has too low a score."""
    images, number = extent
    rank = o.cast(o.Sub(sizes(o, [number]), _counted(o, number)), np.float32)
    rank = o.Expand(rank, sizes(o, [images, 1]))
    if rules.lowest is None:
        return rank
    good = o.GreaterOrEqual(best, o.const(np.float32(rules.lowest)))
    first = o.GreaterOrEqual(rank, o.cast(sizes(o, [number]), np.float32))
    return o.Where(o.Or(good, first), rank, o.const(np.float32(0)))


def _kept_onnx(o: Any, boxes: Any, like: Any, scores: Any, rules: Rules) -> Any:
    """1 where a box stays, else 0."""
    kept = o.NonMaxSuppression(
        boxes,
        scores,
        o.ints([rules.most]),
        o.const(np.array([rules.threshold], np.float32)),
        o.const(np.zeros(1, np.float32)),
        center_point_box=1,
    )
    ones = o.Expand(o.const(np.float32(1)), o.Shape(kept, start=0, end=1))
    places = o.Gather(kept, o.ints([0, 2]), axis=1)
    return o.ScatterND(o.Mul(like, o.const(np.float32(0))), places, ones)


def _result_onnx(
    o: Any, values: tuple[Any, Any], order: Any, stays: Any, rules: Rules
) -> tuple[Any, ...]:
    """What stays (a positive number for each box that does) first, then padding."""
    stays, place = o.TopK(stays, o.Shape(stays, start=1, end=2), outputs=2)
    more, last = o.ints([0, 0, 0, rules.most]), o.ints([-1])

    def cut(x: Any) -> Any:
        return o.Slice(o.Pad(x, more), o.ints([0]), o.ints([rules.most]), o.ints([1]))

    there = o.Greater(cut(stays), o.const(np.float32(0)))
    index = cut(o.GatherElements(order, place, axis=1))
    chosen = [
        o.Where(o.Unsqueeze(there, last), _rows_onnx(o, x, index), o.const(np.float32(0)))
        for x in values
    ]
    indices = o.cast(o.Where(there, index, o.ints(NONE)), np.int32)
    if rules.old:
        count = o.ReduceSum(o.cast(there, np.int32), last, keepdims=0)
        return (*chosen, indices, count)
    return (*(o.Transpose(x, perm=[0, 2, 1]) for x in chosen), indices)


def _rows_onnx(o: Any, values: Any, indices: Any) -> Any:
    return o.GatherND(values, o.Unsqueeze(indices, o.ints([-1])), batch_dims=1)


def _counted(o: Any, number: Any) -> Any:
    """0, 1, … up to a size."""
    end = o.ints(number) if isinstance(number, int) else o.Reshape(number, o.ints([]))
    return o.Range(o.ints(0), end, o.ints(1))


def _suppress_torch(t: Any, boxes: Any, scores: Any, **given: Any) -> Any:
    """The choice is made on the CPU: each step of it depends on the one before."""
    rules = Rules.of(**given)
    if not rules.old:
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
    found = _indices(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), rules)
    indices = t.from_numpy(found).to(boxes.device)
    there = (indices >= 0)[..., None]

    def taken(x: Any) -> Any:
        wanted = indices.clip(0)[..., None].long().expand(-1, -1, x.shape[2])
        return t.where(there, x.gather(1, wanted), t.zeros_like(x[:1, :1]))

    rows = taken(boxes), taken(scores)
    if rules.old:
        return (*rows, indices, there[..., 0].sum(-1).int())
    return (*(x.transpose(1, 2) for x in rows), indices)


def _detections(images: int, boxes: int, classes: int, seed: int) -> dict[str, Array]:
    """Boxes on a coarse grid, so that overlaps are exact, and scores of which some are equal."""
    rng = np.random.default_rng(seed)
    corner, extent = rng.integers(0, 6, (images, 2, boxes)), rng.integers(1, 6, (images, 2, boxes))
    score = rng.integers(-8, 9, (images, classes, boxes)) / 8
    return {
        "boxes": np.concatenate([corner, extent], 1).astype(np.float32),
        "scores": score.astype(np.float32),
    }


@op(
    samples=[
        {**_detections(1, 9, 1, 0), "iou_threshold": 0.25, "max_boxes": 5},
        {**_detections(2, 12, 3, 1), "iou_threshold": 0.125, "max_boxes": 20},
        {**_detections(3, 10, 4, 2), "iou_threshold": 0.0, "max_boxes": 4}
        | {"per_class_suppression": True},
        {**_detections(2, 6, 2, 3), "iou_threshold": 1.0, "max_boxes": 6}
        | {"per_class_suppression": True},
    ],
    onnx=_suppress_onnx,
    torch=_suppress_torch,
    limits=(Limit("captured", "how many boxes are compared depends on their scores"),),
    older=("score_threshold",),
)
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
    # iOS15 and iOS16 only, together with boxes [n, boxes, 4] and scores [n, boxes, classes].
    score_threshold: float | None = None,
) -> tuple[Array, ...]:
    """Boxes without those that overlap a better one: coordinates, scores and indices.

    ``boxes`` [n, 4, boxes] are (x, y) of the center, width and height; ``scores`` [n, classes,
    boxes]. From the highest score down (the maximum over the classes; of equal ones the first
    box), a box removes those after it whose intersection with it is more than ``iou_threshold`` of
    the union, with ``per_class_suppression`` only those of its own highest class. What stays comes
    first, up to ``max_boxes``; then zeros, and -1 as indices. A score that is not a number is the
    lowest. The best box always stays: in programs of iOS15 also below ``score_threshold``.
    """
    rules = Rules.of(
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
        per_class_suppression=per_class_suppression,
        score_threshold=score_threshold,
    )
    if not rules.old:
        boxes, scores = (np.swapaxes(x, 1, 2) for x in (boxes, scores))
    indices = _indices(np.asarray(boxes, np.float32), np.asarray(scores, np.float32), rules)
    rows = _taken(boxes, indices), _taken(scores, indices)
    if rules.old:
        return (*rows, indices, (indices >= 0).sum(-1).astype(np.int32))
    return (*(np.swapaxes(x, 1, 2) for x in rows), indices)
