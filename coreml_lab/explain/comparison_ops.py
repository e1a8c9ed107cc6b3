"""Where the time went: the operations of two arms, matched by their MIL names. Pure.

Engines fuse differently. What is one kernel in either arm is one group in both, so that the two
times of a group are of the same work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpSpan, Run

# What Core ML's passes add to the name of an operation that they made compute in fp16.
FP16 = "_cast_fp16"
OWN = "[engine]"


@dataclass(frozen=True)
class OpGroup:
    """The same operations in both arms; times are medians over the instrumented runs.

    Attributes:
        node: the name of the operation that does most of the work.
        nodes: every operation of the group; none where it is the engines' own work.
        difference: arm less baseline.
    """

    node: str
    op: str
    nodes: tuple[str, ...]
    time: Quantity
    baseline: Quantity
    difference: Quantity


def grouped(arm: Sequence[Run], baseline: Sequence[Run]) -> tuple[OpGroup, ...]:
    """The groups of two arms' instrumented runs, the largest difference first."""
    left, right = _Times(arm), _Times(baseline)
    leader = _leaders((*left.members, *right.members))
    members: dict[str, dict[str, None]] = defaultdict(dict)
    for name in leader:
        members[leader[name]][name] = None
    groups = [_group(tuple(names), left, right) for names in members.values()]
    own = [_own(left, right)] if left.own or right.own else []
    return tuple(sorted([*groups, *own], key=lambda g: -abs(g.difference.value)))


def total(runs: Sequence[Run]) -> Quantity:
    """The median of the instrumented runs' whole times."""
    if not runs:
        return Quantity.unavailable("s", "no instrumented run")
    return Quantity(median(r.duration_ns for r in runs) / 1e9, "s", Provenance.MEASURED)


def plain(name: str) -> str:
    """A name that does not depend on the precision."""
    return name.removesuffix(FP16)


class _Times:
    """Medians per span of one arm; every operation of a span is a member of it."""

    def __init__(self, runs: Sequence[Run]) -> None:
        times: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(runs))
        self.kinds: dict[str, str] = {}
        self.provenance = Provenance.MEASURED
        members: dict[str, tuple[str, ...]] = {}
        for index, run in enumerate(runs):
            for span in run.spans:
                times[plain(span.node), span.op][index] += span.duration_ns / 1e9
                members[plain(span.node)] = _names(span)
                self.kinds[plain(span.node)] = span.op
                if span.provenance is not Provenance.MEASURED:
                    self.provenance = span.provenance
        self.seconds: dict[str, float] = defaultdict(float)
        self.own = 0.0
        for (name, op), found in times.items():
            if op.startswith("["):
                self.own += median(found)
            else:
                self.seconds[name] += median(found)
        self.members = [names for names in members.values() if names]

    def of(self, names: Iterable[str]) -> Quantity:
        """The time of some operations together."""
        found = [self.seconds[name] for name in names if name in self.seconds]
        if not found:
            return Quantity.unavailable("s", "not an operation of this arm")
        return Quantity(sum(found), "s", self.provenance)


def _names(span: OpSpan) -> tuple[str, ...]:
    """Every operation a span stands for; none where it is the engine's own work."""
    return () if span.op.startswith("[") else tuple(map(plain, (span.node, *span.fused)))


def _leaders(members: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Each name -> one of its group: names that share a span, in either arm, are one group."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for names in members:
        for name in names:
            parent[root(name)] = root(names[0])
    return {name: root(name) for name in parent}


def _group(names: tuple[str, ...], left: _Times, right: _Times) -> OpGroup:
    kinds: Mapping[str, str] = {**right.kinds, **left.kinds}
    heaviest = max(
        (n for n in names if n in kinds),
        key=lambda n: left.seconds.get(n, 0.0) + right.seconds.get(n, 0.0),
    )
    times = left.of(names), right.of(names)
    return OpGroup(heaviest, kinds[heaviest], names, *times, _less(*times))


def _own(left: _Times, right: _Times) -> OpGroup:
    times = (
        Quantity(left.own, "s", left.provenance),
        Quantity(right.own, "s", right.provenance),
    )
    return OpGroup("engine's own work", OWN, (), *times, _less(*times))


def _less(time: Quantity, baseline: Quantity) -> Quantity:
    """The difference; what only one arm runs differs by all of its time."""
    kinds = {q.provenance for q in (time, baseline)} - {Provenance.UNAVAILABLE, Provenance.MEASURED}
    found = [0.0 if q.provenance is Provenance.UNAVAILABLE else q.value for q in (time, baseline)]
    return Quantity(found[0] - found[1], "s", next(iter(kinds), Provenance.MEASURED))
