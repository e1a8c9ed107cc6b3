"""What a picture of a program is made of: the shapes of ``js/src/inspector/messages.ts``.

A test compares both sides. Places are indices into ``Picture.nodes``; names and notes of a model
are anyone's text, and were made legible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Weight:
    """Constants that an operation reads.

    Attributes:
        param: the parameter that takes them.
        shape: of the numbers that are computed with.
        bits: of a number as it is stored; None where that is not known.
        bytes: of everything that is stored for them: tables, scales and masks, too.
        how: the way they are stored, in words.
        users: how many operations read them.
    """

    param: str
    shape: str
    bits: int | None
    bytes: int
    how: str
    users: int = 1


@dataclass(frozen=True)
class Arrow:
    """A value that an operation reads: result ``result`` of the node at ``node``."""

    param: str
    node: int
    result: int


@dataclass(frozen=True)
class Box:
    """An operation, an input, an output or a state.

    Attributes:
        kind: ``op``, ``input``, ``output`` or ``state``.
        group: the innermost group it stands in, or -1.
        types: of each result: element type and shape.
        bytes: of its results; None where a size is only known when it runs.
        params: names and values of what is fixed and no weight.
        bits: of its largest weights; None without weights, or where it is not known.
        where: the line that wrote it, or the file it came from.
    """

    name: str
    op: str
    family: str
    kind: str
    group: int
    inputs: tuple[Arrow, ...]
    types: tuple[str, ...]
    bytes: int | None
    params: tuple[tuple[str, str], ...]
    weights: tuple[Weight, ...]
    bits: int | None
    where: str


@dataclass(frozen=True)
class Group:
    """Boxes that can be shown as one.

    Attributes:
        kind: ``scope`` (a name's part), ``repeat`` (operations that come several times),
            ``op`` (control flow) or ``block`` (one of its blocks).
        parent: the group around it, or -1.
        owner: of control flow: its node; else -1.
        number: of a repeat: which one; ``of`` how many.
    """

    title: str
    kind: str
    parent: int
    owner: int = -1
    number: int = 0
    of: int = 0


@dataclass(frozen=True)
class Why:
    """A reason or a risk, with what helps and the keys of its sources."""

    text: str
    remedy: str
    confidence: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """Where an operation would run: ``device`` is ``ne``, ``gpu``, ``cpu``, "" if it is folded."""

    device: str
    supported: tuple[str, ...]
    note: str
    seconds: float | None
    reasons: tuple[Why, ...]
    risks: tuple[Why, ...]


@dataclass(frozen=True)
class Placing:
    """Where a chip, or Core ML's own plan, would run the operations.

    Attributes:
        title: the chip, or whose plan it is.
        rows: by the node's place, as text: JSON has no other keys.
        sources: key -> title and place of each source.
        missing: why there is none; "" where there is one.
        how: ``estimated``, or ``planned`` by Core ML itself.
    """

    title: str
    rows: Mapping[str, Placed] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    how: str = "estimated"


@dataclass(frozen=True)
class Time:
    """How long an operation took: the median over the traced runs.

    Attributes:
        seconds: None where it ran inside of another's kernel.
        carrier: that other operation's place, or -1.
    """

    seconds: float | None
    provenance: str
    device: str
    engine: str
    carrier: int = -1


@dataclass(frozen=True)
class Timed:
    """Measured times of the operations.

    Attributes:
        runs: how many runs were traced.
        rows: by the node's place, as text.
        missing: why there are none; "" where there are some.
    """

    title: str
    runs: int
    rows: Mapping[str, Time] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Picture:
    """A program: what it is, its boxes, groups, and what is known of them.

    Attributes:
        ran: engine and device of the model that was given; "" for a file.
        device: kind of that device: ``cpu``, ``gpu``, ``ne`` or "".
        folded: how many operations on constants are left out: they unpack weights.
    """

    name: str
    detail: str
    nodes: tuple[Box, ...]
    groups: tuple[Group, ...]
    ran: str
    device: str
    folded: int
    placing: Placing
    timed: Timed


@dataclass(frozen=True)
class Pair:
    """The same operation in two programs; ``changes`` names what is not the same."""

    a: int
    b: int
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """One picture, or two and what belongs together in them."""

    version: int
    pictures: tuple[Picture, ...]
    pairs: tuple[Pair, ...]
