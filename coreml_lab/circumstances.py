"""What was around the runs of a recording, as plain data.

How the program was loaded and warmed up, where time went beside operations, regions of the user's
code, and what the machine did meanwhile.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coreml_lab.metrics import Quantity


@dataclass(frozen=True)
class Stage:
    """One step on the way to a program that runs, its own time without that of steps inside it.

    Attributes:
        name: ``reading``, ``passes`` (Core ML's own), ``lowering``, ``choosing``, ``session`` (the
            engine makes it ready) or ``first run``.
    """

    name: str
    start_ns: int
    duration_ns: int


@dataclass(frozen=True)
class Start:
    """One start from nothing: loaded anew, then run once.

    Attributes:
        cached: whether what is compiled was in the cache on disk (warm) or not (cold).
    """

    cached: bool
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Split:
    """Where the time of one uninstrumented inference went; the parts add up to all of it.

    Attributes:
        parts: nanoseconds by name; what they mean is in ``explain.timing.PARTS``.
    """

    start_ns: int
    wall_ns: int
    parts: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True)
class Pace:
    """How many runs were made, and why no more and no fewer.

    Attributes:
        warmup_ns: how long each run before the recorded ones took.
        stable: whether the last of them were not faster than those before; None where nobody asked.
        warmed: in words, with figures: how it was decided that they were enough.
        ended: in words, with figures: why the recorded runs ended.
    """

    warmup_ns: tuple[int, ...]
    stable: bool | None
    warmed: str
    ended: str


@dataclass(frozen=True)
class Region:
    """A stretch of the user's code that has a name.

    Attributes:
        index: its number; runs name the innermost region that they were in by it.
        parent: the number of the region around it; None for the outermost.
        thread: the name of the thread it ran in.
    """

    index: int
    name: str
    parent: int | None
    start_ns: int
    duration_ns: int
    thread: str = ""

    def moved(self, by: int) -> Region:
        """The same, numbered higher: among others' regions."""
        parent = None if self.parent is None else self.parent + by
        return dataclasses.replace(self, index=self.index + by, parent=parent)


@dataclass(frozen=True)
class Condition:
    """Something about the machine while it was measured.

    Attributes:
        name: what, in words: ``work of other programs``.
        value: how much.
        noisy: whether it is so much that times cannot be quite trusted.
    """

    name: str
    value: Quantity
    noisy: bool = False


def worst(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Each condition once, as it was where it disturbed most."""
    found: dict[str, Condition] = {}
    for condition in conditions:
        kept = found.setdefault(condition.name, condition)
        if _disturbing(condition) > _disturbing(kept):
            found[condition.name] = condition
    return tuple(found.values())


def _disturbing(condition: Condition) -> tuple[bool, float]:
    # What fell by a third disturbs more than what rose by a tenth.
    value = abs(condition.value.value)
    return condition.noisy, -math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class Overhead:
    """What measuring itself costs; measured, never part of a duration.

    Attributes:
        run_ns: for keeping one run.
        region_ns: for one region.
        sampler_cores: cores that the sampling process kept busy meanwhile.
    """

    run_ns: int
    region_ns: int
    sampler_cores: Quantity
