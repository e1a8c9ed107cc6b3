"""Suppression of boxes: against the rules in exact arithmetic, in every opset's form and engine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Array
from coreml_lab.program.mil.tools import ct, get_new_symbol, mb, quiet
from coreml_lab.program.ops import OPS
from tests.support.converting import convert

pytestmark = pytest.mark.filterwarnings("ignore")
OLD, NEW = ("iOS15", "iOS16"), ("iOS17", "iOS18")
REFERENCE = OPS["non_maximum_suppression"].reference
Results = tuple[Array, ...]


def scene(images: int, boxes: int, classes: int, seed: int) -> tuple[Array, Array]:
    """Boxes [n, boxes, 4] with whole ends (width may be 0), and scores of which many are equal."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 5, (images, boxes, 2))
    extent = rng.integers(0, 5, (images, boxes, 2))
    score = rng.integers(-4, 5, (images, boxes, classes)) / 4
    both = np.concatenate([low + extent / 2, extent], -1)
    return both.astype(np.float32), score.astype(np.float32)


def overlap(a: Array, b: Array) -> Fraction:
    """Intersection over union, exactly."""
    shared = Fraction(1)
    for axis in (0, 1):
        (ca, wa), (cb, wb) = (tuple(map(Fraction, map(float, x[axis::2]))) for x in (a, b))
        shared *= max(Fraction(0), min(ca + wa / 2, cb + wb / 2) - max(ca - wa / 2, cb - wb / 2))
    areas = sum(Fraction(float(x[2])) * Fraction(float(x[3])) for x in (a, b))
    return shared / (areas - shared) if shared else Fraction(0)


def chosen(
    boxes: Array, scores: Array, threshold: Fraction, lowest: float, per_class: bool
) -> list[int]:
    """The rules of Core ML's NMS layer, word by word, for one image."""
    best = [max(map(float, s)) for s in scores]
    kind = [[*map(float, s)].index(b) for s, b in zip(scores, best, strict=True)]
    waiting = sorted(range(len(best)), key=lambda i: (-best[i], i))
    first, waiting = waiting[0], [i for i in waiting if best[i] >= lowest]
    kept: list[int] = []
    for i in waiting:
        rivals = [j for j in kept if not per_class or kind[j] == kind[i]]
        if all(overlap(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept or [first]


def wanted(
    boxes: Array,
    scores: Array,
    threshold: Fraction,
    most: int,
    *,
    lowest: float = -np.inf,
    per_class: bool = False,
) -> Results:
    """The four results of iOS15's form."""
    images = len(boxes)
    coordinates = np.zeros((images, most, 4), np.float32)
    values = np.zeros((images, most, scores.shape[2]), np.float32)
    indices, count = np.full((images, most), -1, np.int32), np.zeros(images, np.int32)
    for n in range(images):
        kept = chosen(boxes[n], scores[n], threshold, lowest, per_class)[:most]
        coordinates[n, : len(kept)], values[n, : len(kept)] = boxes[n][kept], scores[n][kept]
        indices[n, : len(kept)], count[n] = kept, len(kept)
    return coordinates, values, indices, count


def saved(folder: Path, opset: str, half: bool, shapes: Any, **given: Any) -> Path:
    """A package with the one operation, in that opset's form."""
    target = getattr(ct.target, opset)

    def body(boxes: Any, scores: Any) -> Any:
        if opset in NEW:
            boxes, scores = (mb.transpose(x=x, perm=[0, 2, 1]) for x in (boxes, scores))
        return mb.non_maximum_suppression(boxes=boxes, scores=scores, **given)

    specs = [mb.TensorSpec(shape=s) for s in shapes]
    flexible = {} if all(isinstance(d, int) for s in shapes for d in s) else _ranges(shapes)
    with quiet():
        model = convert(
            mb.program(input_specs=specs, opset_version=target)(body),
            minimum_deployment_target=target,
            compute_precision=ct.precision["FLOAT16" if half else "FLOAT32"],
            skip_model_load=True,
            **flexible,
        )
        model.save(str(folder / "boxes.mlpackage"))
    return folder / "boxes.mlpackage"


def _ranges(shapes: Any) -> dict[str, Any]:
    def size(d: Any) -> Any:
        return d if isinstance(d, int) else ct.RangeDim(1, 64)

    named = zip(("boxes", "scores"), shapes, strict=True)
    return {"inputs": [ct.TensorType(k, tuple(map(size, s))) for k, s in named]}


def assert_runs(package: Path, boxes: Array, scores: Array, want: Results, opset: str) -> None:
    """Both engines give what is wanted, in the layout of the opset."""
    if opset in NEW:
        want = (*(np.swapaxes(w, 1, 2) for w in want[:2]), want[2])
    model = cl.load(package)
    assert model.plan.engine in {"portable", "openvino"}
    for arm in (model, model.to("cpu")):
        got = tuple(arm.predict({"boxes": boxes, "scores": scores}).values())
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert g.shape == w.shape
            np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("opset", [*OLD, *NEW])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("per_class", [False, True])
def test_every_opsets_form_follows_the_rules(
    opset: str, half: bool, per_class: bool, tmp_path: Path
) -> None:
    boxes, scores = scene(2, 14, 3, seed=1)
    low = {"score_threshold": np.float32(0.5)} if opset in OLD else {}
    given = {"iou_threshold": np.float32(0.125), "max_boxes": 9, **low}
    package = saved(
        tmp_path,
        opset,
        half,
        (boxes.shape, scores.shape),
        per_class_suppression=per_class,
        **given,
    )
    lowest = 0.5 if low else -np.inf
    want = wanted(boxes, scores, Fraction(1, 8), 9, lowest=lowest, per_class=per_class)
    assert 1 < want[3].max() <= 9
    assert_runs(package, boxes, scores, want, opset)


@pytest.mark.parametrize("opset", ["iOS15", "iOS17"])
@pytest.mark.parametrize("most", [3, 40])
def test_any_number_of_boxes_and_images_may_come(opset: str, most: int, tmp_path: Path) -> None:
    n, b = get_new_symbol(), get_new_symbol()
    low = {"score_threshold": np.float32(-9)} if opset == "iOS15" else {}
    given = {"iou_threshold": np.float32(0.25), "max_boxes": most, "per_class_suppression": True}
    package = saved(tmp_path, opset, False, ((n, b, 4), (n, b, 2)), **given, **low)
    for images, count in ((1, 1), (3, 5), (2, 50)):
        boxes, scores = scene(images, count, 2, seed=count)
        want = wanted(boxes, scores, Fraction(1, 4), most, per_class=True)
        assert_runs(package, boxes, scores, want, opset)


@pytest.mark.parametrize("opset", OLD)
def test_below_the_score_threshold_the_best_box_is_left(opset: str, tmp_path: Path) -> None:
    boxes, scores = scene(3, 6, 2, seed=5)
    scores[1] -= 10
    given = {"iou_threshold": np.float32(0.5), "max_boxes": 4, "score_threshold": np.float32(-5)}
    package = saved(tmp_path, opset, False, (boxes.shape, scores.shape), **given)
    want = wanted(boxes, scores, Fraction(1, 2), 4, lowest=-5)
    assert want[3][1] == 1
    assert_runs(package, boxes, scores, want, opset)


@pytest.mark.parametrize("seed", range(12))
def test_engines_agree_with_exact_arithmetic_on_scenes_full_of_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, count, kinds = int(rng.integers(1, 4)), int(rng.integers(1, 25)), seed % 4 + 1
    most, per_class = int(rng.integers(1, 30)), bool(seed % 2)
    part = [Fraction(0), Fraction(1, 8), Fraction(1, 5), Fraction(1, 3), Fraction(1)][seed % 5]
    boxes, scores = scene(images, count, kinds, seed)
    want = wanted(boxes, scores, part, most, per_class=per_class)
    feeds = {"boxes": boxes.swapaxes(1, 2), "scores": scores.swapaxes(1, 2)}
    model = cl.compile(
        lambda boxes, scores: cl.ops.non_maximum_suppression(
            boxes,
            scores,
            iou_threshold=float(part),
            max_boxes=most,
            per_class_suppression=per_class,
        ),
        boxes=cl.spec(images, 4, count),
        scores=cl.spec(images, kinds, count),
    )
    for arm in (model, model.to("cpu")):
        got = tuple(arm.predict(feeds).values())
        np.testing.assert_array_equal(got[2], want[2])
        for g, w in zip(got[:2], want[:2], strict=True):
            np.testing.assert_array_equal(g.swapaxes(1, 2), w)


def test_coremltools_own_example(tmp_path: Path) -> None:
    boxes = np.arange(4, dtype=np.float32).repeat(4).reshape(1, 4, 4)
    scores = np.array([[[-3.5], [9.4], [2.3], [0.7]]], np.float32)
    given = {"iou_threshold": np.float32(0.2), "score_threshold": np.float32(0.4)}
    package = saved(
        tmp_path,
        "iOS15",
        False,
        (boxes.shape, scores.shape),
        max_boxes=2,
        per_class_suppression=True,
        **given,
    )
    want = boxes[:, 1:3], scores[:, 1:3], np.array([[1, 2]], np.int32), np.array([2], np.int32)
    assert_runs(package, boxes, scores, want, "iOS15")


def test_a_box_whose_overlap_is_the_threshold_itself_stays() -> None:
    # Of a test in coremltools: the last and the second share a fifth of their union.
    ends = np.array([[3, 2, 3, 0], [0, 0, 2, 2], [1, 3, 2, 1], [0, 2, 1, 3], [1, 1, 2, 3]])
    boxes = np.concatenate([(ends[:, :2] + ends[:, 2:]) / 2, ends[:, 2:] - ends[:, :2]], -1)
    scores = np.array([[3, 2, 0, 1, 4]], np.float32)
    whole = boxes.T.astype(np.float32)[None]
    for threshold, kept in ((0.2, {4, 0, 1, 3, 2}), (0.19, {4, 0, 3, 2})):
        found = REFERENCE(whole, scores[None], iou_threshold=threshold, max_boxes=5)[2]
        assert set(found.ravel().tolist()) - {-1} == kept


def test_scores_that_are_not_numbers_come_last_and_infinite_ones_in_their_order() -> None:
    boxes = np.zeros((1, 4, 5), np.float32)
    boxes[:, 0] = np.arange(5) * 10
    boxes[:, 2:] = 1
    scores = np.array([[[np.nan, -np.inf, np.inf, 0, np.nan]]], np.float32)
    model = cl.compile(
        lambda boxes, scores: cl.ops.non_maximum_suppression(
            boxes, scores, iou_threshold=0.5, max_boxes=6
        ),
        boxes=cl.spec(1, 4, 5),
        scores=cl.spec(1, 1, 5),
        engine="portable",
    )
    for arm in (model, model.to("cpu")):
        *_, indices = arm.predict({"boxes": boxes, "scores": scores}).values()
        np.testing.assert_array_equal(indices, [[2, 3, 0, 1, 4, -1]])


def test_what_coremltools_makes_of_torchvisions_nms(tmp_path: Path) -> None:
    boxes, scores = scene(1, 20, 1, seed=8)

    def body(boxes: Any, scores: Any) -> Any:
        boxes, scores = (mb.transpose(x=x, perm=[0, 2, 1]) for x in (boxes, scores))
        *_, indices = mb.non_maximum_suppression(
            boxes=boxes, scores=scores, max_boxes=10000, iou_threshold=np.float32(0.25)
        )
        there = mb.cast(x=mb.greater(x=indices, y=-1), dtype="int32")
        count = mb.reduce_sum(x=there, axes=[-1])
        begin = mb.fill_like(ref_tensor=count, value=0)
        return mb.slice_by_size(x=mb.squeeze(x=indices, axes=[0]), begin=begin, size=count)

    n = get_new_symbol()
    specs = [mb.TensorSpec(shape=(1, n, k)) for k in (4, 1)]
    with quiet():
        model = convert(
            mb.program(input_specs=specs, opset_version=ct.target.iOS17)(body),
            minimum_deployment_target=ct.target.iOS17,
            skip_model_load=True,
            **_ranges(((1, n, 4), (1, n, 1))),
        )
        model.save(str(tmp_path / "nms.mlpackage"))
    kept = chosen(boxes[0], scores[0], Fraction(1, 4), -np.inf, False)
    loaded = cl.load(tmp_path / "nms.mlpackage")
    for arm in (loaded, loaded.to("cpu")):
        (got,) = arm.predict({"boxes": boxes, "scores": scores}).values()
        np.testing.assert_array_equal(got, kept)


def test_tensors_take_it_too() -> None:
    boxes, scores = scene(1, 8, 2, seed=3)
    want = wanted(boxes, scores, Fraction(1, 2), 8)
    found = cl.ops.non_maximum_suppression(
        cl.tensor(boxes.swapaxes(1, 2)),
        cl.tensor(scores.swapaxes(1, 2)),
        iou_threshold=0.5,
        max_boxes=8,
    )
    np.testing.assert_array_equal(found[2].numpy(), want[2])
    assert found[0].shape == (1, 4, 8)
