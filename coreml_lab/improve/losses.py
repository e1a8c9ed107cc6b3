"""How far results are from those of the original, as one number. Pure.

It is never 0 because there was nothing to compare: that is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.graph import Array
from coreml_lab.records import ProgramInfo

LABEL = "label"
# Kinds of arrays that hold numbers, as numpy names them.
NUMBERS = "fiub"
Results = Sequence[Mapping[str, Any]]


def loss(got: Results, want: Results, info: ProgramInfo) -> float:
    """The relative L2 error over all outputs, or the share of labels that changed if that is more.

    Args:
        got: what a changed model gave, for each sample what ``predict`` returned.
        want: the same of the original.
        info: the original's, which says what is a label.

    Returns:
        Infinite where a number is not finite, or an output is missing or of another shape.

    Raises:
        InputError: where the outputs hold nothing that can be compared.
    """
    labels = {port.name for port in info.outputs if port.kind == LABEL}
    found = [p for one, other in zip(got, want, strict=True) for p in _pairs(one, other, labels)]
    if not sum(exact.size for _, exact in found):
        named = ", ".join(port.name for port in info.outputs) or "none"
        raise InputError(
            f"{info.name}: on these data its outputs ({named}) hold nothing to compare",
            hint="give data on which it finds something, or metric=function of a model",
        )
    if any(mine is None or mine.shape != exact.shape for mine, exact in found):
        return math.inf
    pairs = [(mine, exact) for mine, exact in found if mine is not None]
    return max(_error(pairs), _changed(pairs))


def _pairs(
    one: Mapping[str, Any], other: Mapping[str, Any], labels: set[str]
) -> Iterator[tuple[Array | None, Array]]:
    """Each output of the original beside the other's, None where that lacks it."""
    for name, value in other.items():
        exact = _array(value, value, label=name in labels)
        mine = _array(one[name], value, label=name in labels) if name in one else None
        yield mine, exact


def _array(value: Any, like: Any, *, label: bool) -> Array:
    """An output as an array: a dictionary's values in the original's order, a label as text."""
    if isinstance(like, Mapping):
        given = value if isinstance(value, Mapping) else {}
        value = [given.get(key, math.nan) for key in like]
    array = np.squeeze(np.asarray(value))
    return array.astype(str) if label or array.dtype.kind not in NUMBERS else array


def _error(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Relative L2 error of all that are numbers."""
    wrong = whole = 0.0
    for mine, exact in pairs:
        if exact.dtype.kind in NUMBERS:
            if mine.dtype.kind not in NUMBERS:
                return math.inf
            wide = exact.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):  # said by the loss itself
                wrong += float(np.square(mine.astype(np.float64) - wide).sum())
            whole += float(np.square(wide).sum())
    if not math.isfinite(wrong) or not math.isfinite(whole):
        return math.inf
    return math.sqrt(wrong / whole) if whole else math.inf if wrong else 0.0


def _changed(pairs: Sequence[tuple[Array, Array]]) -> float:
    """The share of labels, and of other texts, that are not the same."""
    texts = [(mine, exact) for mine, exact in pairs if exact.dtype.kind not in NUMBERS]
    count = sum(exact.size for _, exact in texts)
    same = sum(int(np.sum(mine.astype(str) == exact)) for mine, exact in texts)
    return 1 - same / count if count else 0.0
