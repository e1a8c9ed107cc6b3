"""How many rows a run of a program takes, and batches cut into runs of so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.records import ProgramInfo

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Sizes:
    """The numbers of rows that one run takes.

    Attributes:
        low: the fewest.
        high: the most; 0 for no bound.
        listed: the only ones, in order; empty where all in between are taken.
    """

    low: int = 1
    high: int = 0
    listed: tuple[int, ...] = ()

    def fitted(self, rows: int) -> int | None:
        """The fewest that it takes, and no less than ``rows``; None where it takes no more."""
        if self.listed:
            return next((n for n in self.listed if n >= rows), None)
        return None if self.high and rows > self.high else max(rows, self.low)

    def within(self, most: int) -> int:
        """The most that it takes, and no more than ``most``; 0 where it takes no fewer."""
        if self.listed:
            return max((n for n in self.listed if n <= most), default=0)
        return 0 if most < self.low else min(most, self.high or most)


def sizes(info: ProgramInfo) -> Sizes | None:
    """The rows that a program takes; None where there is no common flexible first dimension."""
    firsts = {p.shape[0] if p.shape else 0 for p in (*info.inputs, *info.outputs)}
    first = next(iter(firsts), 0)
    if len(firsts) != 1 or not isinstance(first, str):
        return None
    low, high = info.dims.get(first, (1, 0))
    listed = {tuple(sorted({s[0] for s in p.enumerated})) for p in info.inputs if p.enumerated}
    if not listed:
        return Sizes(low, high)
    # Where more than the first dimension is listed, not every pair of sizes is allowed.
    plain = all(len({s[1:] for s in p.enumerated}) < 2 for p in info.inputs)  # noqa: PLR2004 - one
    return Sizes(low, high, listed.pop()) if plain and len(listed) == 1 else None


def rows(inputs: Arrays) -> int:
    """The size along the first dimension; 0 where there is none."""
    return min((a.shape[0] if a.ndim else 0 for a in inputs.values()), default=0)


def cut(inputs: Arrays, most: int, taken: Sizes) -> list[tuple[Arrays, int]]:
    """Runs of at most ``most`` rows, each with how many of its last rows are to be kept.

    Where a program does not take what is left for the last run, that run does rows before it once
    more. Empty where the inputs are not cut.
    """
    count, most = rows(inputs), taken.within(most)
    if not most or count <= most:
        return []
    parts = list[tuple[Arrays, int]]()
    for low in range(0, count, most):
        kept = min(most, count - low)
        begin = low + kept - (taken.fitted(kept) or kept)
        parts.append(({k: a[begin : low + kept] for k, a in inputs.items()}, kept))
    return parts


def joined(results: Sequence[tuple[Arrays, int]]) -> dict[str, Array]:
    """The kept rows of the results, one after another."""
    return {k: np.concatenate([r[k][len(r[k]) - n :] for r, n in results]) for k in results[0][0]}
