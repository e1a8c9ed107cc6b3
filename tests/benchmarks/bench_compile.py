"""Compiling a small program in a notebook that holds much, with and without ``program/heap``.

coremltools collects Python's whole heap in every conversion; ours leaves out what was there before.
Here PyTorch, Bokeh and scikit-learn are what was there. Ratio = ours / without, the median of pairs
in turns with its 95 % interval. Target: the whole interval below 0.5.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.program import heap

HELD = ("torch", "bokeh.plotting", "sklearn.ensemble")
PAIRS, LIMIT = 25, 0.5


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Nothing is left out of a collection."""
    yield


def main() -> int:
    """Print the ratio; 0 when it meets the target."""
    for name in HELD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    numbers = itertools.count(1)
    apart = heap.apart

    def compiled(way: Any) -> None:
        heap.apart = way
        shift = np.float32(next(numbers))  # no program is in the cache
        cl.compile(lambda x: cl.ops.relu(x=cl.ops.add(x=x, y=shift)), x=cl.spec(4, 4))

    with tempfile.TemporaryDirectory() as folder, cl.configure(cache_dir=folder):
        compiled(apart)
        gc.collect()
        print(f"{len(gc.get_objects())} objects; held: {', '.join(HELD)}")
        pairs = interleave(lambda: compiled(apart), lambda: compiled(whole), pairs=PAIRS, warmup=2)
    heap.apart = apart
    found = ratio(pairs)
    ours, theirs = (sorted(t)[len(t) // 2] / 1e6 for t in (pairs.arm, pairs.baseline))
    low, high = (float("nan") if v is None else v for v in (found.low, found.high))
    met = high <= LIMIT
    print(
        f"compile: {ours:.0f} ms, without {theirs:.0f} ms: x {found.value:.3f} "
        f"[{low:.3f}, {high:.3f}] of {found.pairs} pairs: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
