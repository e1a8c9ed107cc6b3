"""Which operations of a program belong together: parts of names, and what comes again (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreml_lab.explain.picture.data import Group
from coreml_lab.legible import legible

# A name like layer1/conv or encoder.0.linear tells where in the model it is.
SEPARATORS = "/."
# Share of the operations that must have such names.
MOST_NAMED = 0.5
# What comes again is worth a group from so many operations on.
LEAST_PERIOD, LEAST_COVERED = 3, 9


@dataclass(frozen=True)
class Repeat:
    """Operations ``start`` … that come ``times`` times, ``period`` of them each."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.start + self.period * self.times


def by_names(names: Sequence[str]) -> tuple[list[Group], list[int]]:
    """Groups by the parts of names, and the group of each operation; none where names have none."""
    paths = [_path(name) for name in names]
    if sum(map(bool, paths)) < max(2, MOST_NAMED * len(paths)):
        return [], [-1] * len(names)
    counted: dict[tuple[str, ...], int] = {}
    for path in paths:
        for depth in range(1, len(path) + 1):
            counted[path[:depth]] = counted.get(path[:depth], 0) + 1
    groups: list[Group] = []
    place: dict[tuple[str, ...], int] = {(): -1}
    for path, count in counted.items():
        parent = place[path[:-1]]
        # A part that all operations share, or one alone, tells nothing.
        if count < 2 or count == len(names):  # noqa: PLR2004 - a group has two
            place[path] = parent
            continue
        place[path] = len(groups)
        groups.append(Group(legible(path[-1]), "scope", parent))
    return groups, [place[path] for path in paths]


def _path(name: str) -> tuple[str, ...]:
    for sign in SEPARATORS:
        if sign in name.strip(sign):
            return tuple(part for part in name.split(sign) if part)[:-1]
    return ()


def by_repeats(
    signs: Sequence[str], reads: Sequence[Sequence[int]]
) -> tuple[list[Group], list[int]]:
    """Groups of operations that come several times in a row.

    Args:
        signs: of each operation: what makes it equal to another.
        reads: of each operation: the places of those it reads.
    """
    groups: list[Group] = []
    found = [-1] * len(signs)
    for repeat in repeats(signs, reads):
        for turn in range(repeat.times):
            first = repeat.start + turn * repeat.period
            found[first : first + repeat.period] = [len(groups)] * repeat.period
            groups.append(Group("", "repeat", -1, number=turn + 1, of=repeat.times))
    return groups, found


def repeats(signs: Sequence[str], reads: Sequence[Sequence[int]]) -> list[Repeat]:
    """What comes again, the longest first taken; a place belongs to one at most."""
    kinds: Mapping[str, int] = {sign: i for i, sign in enumerate(dict.fromkeys(signs))}
    row = np.array([kinds[sign] for sign in signs])
    crossing = crossings(reads)
    candidates = [
        found
        for period in range(LEAST_PERIOD, len(row) // 2 + 1)
        for found in _runs(row, period, crossing)
    ]
    # The one that covers most, of equals the one with the shortest period.
    candidates.sort(key=lambda r: (-r.period * r.times, r.period, r.start))
    taken = np.zeros(len(row), bool)
    chosen = []
    for each in candidates:
        if not taken[each.start : each.end].any():
            taken[each.start : each.end] = True
            chosen.append(each)
    return sorted(chosen, key=lambda r: r.start)


def _runs(row: np.ndarray, period: int, crossing: np.ndarray) -> list[Repeat]:
    same = np.concatenate(([False], row[period:] == row[:-period], [False]))
    edges = np.flatnonzero(np.diff(same.astype(np.int8)))
    found = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        # Equal to what comes a period later from ``start`` to ``end``: so long is the whole.
        length = end - start + period
        if length >= 2 * period and length >= LEAST_COVERED:
            found.append(_aligned(start, length, period, crossing))
    return found


def _aligned(start: int, length: int, period: int, crossing: np.ndarray) -> Repeat:
    """Cut where the fewest values cross: between layers, not within."""

    def cost(shift: int) -> tuple[float, int]:
        times = (length - shift) // period
        cuts = [start + shift + i * period for i in range(times + 1)]
        return float(np.mean(crossing[cuts])) - 0.01 * times, shift

    most = length % period
    # Where there is room for one less, any place in the period will do.
    shifts = range(most + 1) if length < 3 * period else range(period)
    best = min(shifts, key=cost)
    return Repeat(start + best, period, (length - best) // period)


def crossings(reads: Sequence[Sequence[int]]) -> np.ndarray:
    """How many values are alive between operation i-1 and i, for each i up to the end."""
    last = list(range(len(reads)))
    for i, sources in enumerate(reads):
        for source in sources:
            last[source] = max(last[source], i)
    change = np.zeros(len(reads) + 2, int)
    for i, end in enumerate(last):
        if end > i:
            change[i + 1] += 1
            change[end + 1] -= 1
    return np.cumsum(change)[: len(reads) + 1]
