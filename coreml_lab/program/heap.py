"""The interpreter's heap: what coremltools makes is collected without going through all of it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Leave what was there before out of the collections inside the block.

    coremltools asks for a full collection in every conversion. That takes as long as the heap of
    the notebook is large: 0.23 s with 450,000 objects, as PyTorch and coremltools bring along.
    """
    froze = not gc.get_freeze_count()
    if froze:
        gc.freeze()
    try:
        yield
    finally:
        if froze:
            gc.unfreeze()


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Collect what the block made and left: cycles that hold on to weights, say."""
    with apart():
        try:
            yield
        finally:
            gc.collect()
