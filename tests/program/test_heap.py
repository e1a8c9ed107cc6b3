"""Collections that coremltools asks for do not go through the whole notebook's heap."""

from __future__ import annotations

import gc
import weakref

import numpy as np

import coreml_lab as cl
from coreml_lab.program import heap


class Knot:
    """An object that only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


def test_no_collection_of_a_conversion_goes_through_what_was_there_before(cache_dir):
    cl.compile(lambda x: cl.ops.relu(x=x), x=cl.spec(2, 3))  # imports what it needs
    apart: list[bool] = []

    def told(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            apart.append(gc.get_freeze_count() > 0)

    gc.callbacks.append(told)
    try:
        model = cl.compile(lambda x: cl.ops.exp(x=x), x=cl.spec(2, 3))
    finally:
        gc.callbacks.remove(told)
    assert len(apart) > 1
    assert sum(not each for each in apart) <= 1  # one of Python's own, behind the conversion
    assert gc.get_freeze_count() == 0
    (y,) = model.predict({"x": np.zeros((2, 3), np.float32)}).values()
    assert (y == 1).all()


def test_what_a_block_left_is_gone_and_what_was_before_is_not_looked_at():
    before = weakref.ref(Knot())
    with heap.collected():
        inside = weakref.ref(Knot())
    assert inside() is None
    assert before() is not None
    gc.collect()
    assert before() is None


def test_what_others_have_frozen_stays_frozen():
    held = weakref.ref(Knot())
    gc.freeze()
    try:
        with heap.collected():
            pass
        gc.collect()  # it would find the knot, were it not frozen any more
        assert held() is not None
    finally:
        gc.unfreeze()
    gc.collect()
    assert held() is None
