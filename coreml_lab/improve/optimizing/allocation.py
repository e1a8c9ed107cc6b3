"""Which choice for each layer: the least loss within a budget of bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from coreml_lab.errors import LabError

# Sizes are counted in this many steps of the budget, rounded up: the budget is never broken.
STEPS = 4096
Key = TypeVar("Key")


@dataclass(frozen=True)
class Choice:
    """One way to store a layer's weights: what it takes, and what it costs in loss."""

    bytes: int
    loss: float


def allocate(layers: Mapping[Key, Mapping[str, Choice]], budget: int) -> dict[Key, str]:
    """The choice of each layer that makes the sum of squared losses least within the budget.

    The losses of layers are taken to be independent, so that their squares add up. It is the
    multiple-choice knapsack problem, solved by dynamic programming over bytes (Kellerer, Pferschy,
    Pisinger, Knapsack Problems, 2004, section 11.5), exact but for the rounding of sizes.

    Args:
        layers: layer -> name of a choice -> the choice.
        budget: bytes all of them may take.

    Raises:
        LabError: where even the smallest choices take more.
    """
    least = sum(min(c.bytes for c in choices.values()) for choices in layers.values())
    step = max(1, -(-budget // STEPS))
    taken = {k: {n: -(-c.bytes // step) for n, c in row.items()} for k, row in layers.items()}
    room = budget // step
    if sum(min(row.values()) for row in taken.values()) > room:
        raise LabError(
            f"the layers take {least} bytes at least, the budget is {budget}",
            hint="allow more, or offer smaller choices",
        )
    best = np.zeros(room + 1)
    picked = []
    for name, choices in layers.items():
        best, pick = _with(best, choices, taken[name])
        picked.append(pick)
    found, place = {}, int(np.argmin(best))
    for name, pick in zip(reversed(list(layers)), reversed(picked), strict=True):
        found[name] = pick[place]
        place -= taken[name][pick[place]]
    return {name: found[name] for name in layers}


def _with(
    best: np.ndarray[tuple[int], np.dtype[np.float64]],
    choices: Mapping[str, Choice],
    taken: Mapping[str, int],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[str]]:
    """The least loss for each size with one layer more, and the choice that gives it."""
    rows, names = [], list(choices)
    for name, choice in choices.items():
        row = np.full_like(best, np.inf)
        size = taken[name]
        if size < len(best):
            row[size:] = best[: len(best) - size] + choice.loss**2
        rows.append(row)
    table = np.stack(rows)
    return table.min(0), [names[i] for i in table.argmin(0)]
