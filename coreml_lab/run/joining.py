"""Requests that run together: their inputs in one array each, and what comes back taken apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from coreml_lab import config
from coreml_lab.program.graph import Array
from coreml_lab.run.call import seconds
from coreml_lab.run.model import Model
from coreml_lab.run.queue import Request

# Larger arrays are made anew for each batch: so much may lie idle for a model's input.
KEPT_BYTES = 1 << 26
# Smaller arrays are copied without letting other threads in. NumPy lets them in at each, and the
# callers that were just answered ask again then, in place of doing so while the engine runs: on an
# H100's host 15 images of 0.6 MB took 3.8 ms, and 32 of them 1.8 ms where nobody asked.
SMALL_BYTES = 1 << 22


class Joiner:
    """Joins inputs in memory that the next batch uses again.

    The system takes longer to hand out fresh memory than it takes to fill it: 16 images in 10 ms
    instead of 5 here. Only one thread may use a joiner.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Model, dict[str, Array]] = WeakKeyDictionary()

    def together(self, batch: Sequence[Request], *, anew: bool = False) -> list[dict[str, Any]]:
        """One run on the joined inputs; each request gets its rows.

        The last row is repeated up to what the program takes and, where the engine prepares itself
        for each shape, up to a power of two. ``anew``: somebody keeps the inputs, so their memory
        must not be used again.
        """
        model, ends = batch[0].model, np.cumsum([r.rows for r in batch])
        rows = model.padded(int(ends[-1]))
        kept = None if anew else self._kept.setdefault(model, {})
        joined = {
            k: _joined([r.feeds[k] for r in batch], _buffer(model, kept, k, rows, first))
            for k, first in batch[0].feeds.items()
        }
        outputs = model.run(joined, None, None, _limit(len(batch)))
        parts: dict[str, list[Array]] = {k: np.split(v, ends) for k, v in outputs.items()}
        # Copies: a view would keep the whole batch alive for each of its results.
        return [{k: v[i].copy() for k, v in parts.items()} for i in range(len(batch))]

    def forget(self, model: Model) -> None:
        """Use the memory of a model's inputs no more: somebody keeps it."""
        self._kept.pop(model, None)


def _limit(requests: int) -> float | None:
    """What a run of several may take: as long as one after another. None: as configured."""
    deadline = config.current().deadline
    return seconds(deadline) * requests if deadline else None


def _buffer(
    model: Model, kept: dict[str, Array] | None, name: str, rows: int, like: Array
) -> Array:
    """Memory for so many rows of an input: what is ``kept``, where that is large enough."""
    buffer = None if kept is None else kept.get(name)
    kind, shape = (like.dtype, like.shape[1:]), (rows, *like.shape[1:])
    if buffer is not None and (buffer.dtype, buffer.shape[1:]) == kind and len(buffer) >= rows:
        return buffer[:rows]
    if kept is None or math.prod(shape) * like.itemsize > KEPT_BYTES:
        return np.empty(shape, like.dtype)
    kept[name] = made = model.room(shape, like.dtype)
    return made


def _joined(arrays: Sequence[Array], buffer: Array) -> Array:
    """The buffer, filled with the arrays one after another, and the last row again to its end."""
    count = _copied(arrays, buffer)
    buffer[count:] = arrays[-1][-1:]
    return buffer


def _copied(arrays: Sequence[Array], buffer: Array) -> int:
    """Put arrays into the first rows of another, one after another; how many rows they have."""
    inside, at, count = buffer.reshape(-1).view(np.uint8), 0, 0
    for array in arrays:
        if array.nbytes < SMALL_BYTES:
            given = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            inside.data[at : at + array.nbytes] = given.data
        else:
            buffer[count : count + len(array)] = array
        at, count = at + array.nbytes, count + len(array)
    return count
