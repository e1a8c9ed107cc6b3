"""What kernel and page say to each other: the shapes of ``js/src/messages.ts`` (a test compares).

Times are monotonic seconds of the kernel's host. A frame carries one binary buffer: ``n`` rows of
float64, the time first, then one value per column of the schema; NaN means that there is no value.
"""

from __future__ import annotations

from typing import Literal, TypedDict

VERSION = 1


class Column(TypedDict):
    """One column of the rows: what it is, in which unit, and how its numbers come to be."""

    name: str
    label: str
    unit: str
    panel: str
    provenance: str
    note: str
    help: str


class Schema(TypedDict):
    """All columns, in the order in which rows hold them (after the time)."""

    id: int
    interval: float
    columns: list[Column]


class CellEvent(TypedDict):
    """A notebook cell started (``t1`` is null) or ended; the same ``id`` both times."""

    k: Literal["cell"]
    id: int
    n: int | None
    src: str
    t0: float
    t1: float | None
    ok: bool | None


class IncidentEvent(TypedDict):
    """Something failed and was dealt with."""

    k: Literal["incident"]
    id: int
    t: float
    error: str
    message: str
    action: str
    outcome: str


class State(TypedDict):
    """Slow facts that every frame repeats, so that a lost frame loses none of them."""

    busy: bool
    cell: CellEvent | None
    runs: int
    incidents: int
    hits: int
    misses: int
    program: str
    scheduler: str
    title: str


class Frame(TypedDict):
    """Header of a binary message: new rows (``f``) or everything that is kept (``h``)."""

    k: Literal["f", "h"]
    v: int
    schema: int
    seq: int
    n: int
    dropped: int
    now: float
    every: float
    events: list[CellEvent | IncidentEvent]
    state: State


class About(TypedDict):
    """The model in the head of the dashboard."""

    name: str
    detail: str


class Chip(TypedDict):
    """A device or a source of numbers, with its provenance and the reason in words."""

    title: str
    kind: Literal["cpu", "gpu", "ane", "source"]
    provenance: str
    note: str


class Hello(TypedDict):
    """Page to kernel: a view wants everything that is kept."""

    k: Literal["hello"]
    v: int


class Heartbeat(TypedDict):
    """Page to kernel, while idle: somebody is looking."""

    k: Literal["hb"]
    v: int
