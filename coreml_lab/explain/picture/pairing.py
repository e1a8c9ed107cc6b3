"""Which operations of two programs are the same, and what changed in them (pure).

Equal names come first (apart from what a change of precision appends), then equal operations
between the same neighbours, then equal types of operation in the same order between two pairs.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence

from coreml_lab.explain.picture.data import Box, Pair
from coreml_lab.program.naming import common


def paired(a: Sequence[Box], b: Sequence[Box]) -> tuple[Pair, ...]:
    """Pairs of places, each place once, in the order of ``a``."""
    found = dict(_by_names(a, b))
    _by_neighbours(a, b, found)
    _by_order(a, b, found)
    _by_neighbours(a, b, found)
    return tuple(Pair(i, j, changes(a[i], b[j])) for i, j in sorted(found.items()))


def changes(a: Box, b: Box) -> tuple[str, ...]:
    """What is not the same: ``op``, ``type``, ``precision``, ``params``, ``weights``, ``bits``.

    ``precision`` is a result of another element type and the same shape.
    """
    told = {
        "op": a.op != b.op,
        "type": _shapes(a) != _shapes(b),
        "precision": _shapes(a) == _shapes(b) and a.types != b.types,
        "params": dict(a.params) != dict(b.params),
        "weights": [w.shape for w in a.weights] != [w.shape for w in b.weights],
        "bits": [(w.bits, w.how) for w in a.weights] != [(w.bits, w.how) for w in b.weights],
    }
    return tuple(name for name, differs in told.items() if differs)


def _shapes(box: Box) -> list[str]:
    return [kind.partition(" ")[2] for kind in box.types]


def _by_names(a: Sequence[Box], b: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Equal names and kinds; of an operation also its type, since passes reuse names."""
    there = {_key(box): j for j, box in enumerate(b)}
    used: set[int] = set()
    for i, box in enumerate(a):
        j = there.get(_key(box), -1)
        if j >= 0 and j not in used:
            used.add(j)
            yield i, j


def _key(box: Box) -> tuple[str, str, str]:
    return box.kind, box.op, common(box.name)


def _by_neighbours(a: Sequence[Box], b: Sequence[Box], found: dict[int, int]) -> None:
    """An operation between pairs is the other one's partner, if only one of its type is there."""
    back = {j: i for i, j in found.items()}
    after_a, after_b = _readers(a), _readers(b)
    waiting = list(found.items())
    while waiting:
        i, j = waiting.pop()
        for left, right in (
            ([x.node for x in a[i].inputs], [x.node for x in b[j].inputs]),
            (after_a[i], after_b[j]),
        ):
            for pair in _alone(a, b, _free(left, found), _free(right, back)):
                found[pair[0]], back[pair[1]] = pair[1], pair[0]
                waiting.append(pair)


def _alone(
    a: Sequence[Box], b: Sequence[Box], left: Iterable[int], right: Iterable[int]
) -> Iterator[tuple[int, int]]:
    ours, theirs = _types(a, left), _types(b, right)
    for kind, places in ours.items():
        others = theirs.get(kind, [])
        if len(places) == len(others) == 1:
            yield places[0], others[0]


def _types(boxes: Sequence[Box], places: Iterable[int]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for place in dict.fromkeys(places):
        found.setdefault((boxes[place].kind, boxes[place].op), []).append(place)
    return found


def _free(places: Iterable[int], taken: dict[int, int]) -> list[int]:
    return [place for place in places if place not in taken]


def _readers(boxes: Sequence[Box]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in boxes]
    for i, box in enumerate(boxes):
        for arrow in box.inputs:
            found[arrow.node].append(i)
    return found


def _by_order(a: Sequence[Box], b: Sequence[Box], found: dict[int, int]) -> None:
    """Operations of equal type in the same order, in each stretch between two pairs."""
    taken = set(found.values())
    anchors = [(-1, -1), *_rising(sorted(found.items())), (len(a), len(b))]
    for (i0, j0), (i1, j1) in itertools.pairwise(anchors):
        left = _free(range(i0 + 1, i1), found)
        right = [j for j in range(j0 + 1, j1) if j not in taken]
        if not left or not right:
            continue
        matcher = difflib.SequenceMatcher(
            None, [_sign(a[p]) for p in left], [_sign(b[p]) for p in right], autojunk=False
        )
        for block in matcher.get_matching_blocks():
            for k in range(block.size):
                found[left[block.a + k]] = right[block.b + k]
                taken.add(right[block.b + k])


def _sign(box: Box) -> tuple[str, str, tuple[str, ...]]:
    return box.kind, box.op, box.types


def _rising(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Pairs whose second place rises, too: what was moved is no anchor."""
    last = -1
    for i, j in pairs:
        if j > last:
            last = j
            yield i, j
