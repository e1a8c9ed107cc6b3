"""What kernel and page say to each other: ``js/src/data/messages.ts`` (a test compares).

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


class Amount(TypedDict):
    """A quantity: null where there is none, and ``note`` says why."""

    value: float | None
    unit: str
    provenance: str
    low: float | None
    high: float | None
    note: str


class OpRow(TypedDict):
    """One operation of the last recorded run; its time is the median over the traced runs."""

    node: str
    op: str
    engine: str
    device: str
    time: float
    share: float | None
    count: int
    bytes: int
    weights: int
    memory: int | None
    flops: float | None
    moved: float | None
    provenance: str
    where: str
    shape: str
    dtype: str
    fused: list[str]
    placed: str
    why: str


class Code(TypedDict):
    """The lines around the one that made operations; ``line`` is its place among them."""

    where: str
    lines: list[str]
    first: int
    line: int


class Roof(TypedDict):
    """What an engine on a device does by rule of thumb: arithmetic and bytes per second."""

    engine: str
    device: str
    flops: float
    memory: float


class Track(TypedDict):
    """A traced run: its number, how many spans of it are told, and its seconds."""

    run: int
    n: int
    length: float


class Recorded(TypedDict):
    """A finished recording; its buffer holds the spans of its traced runs, the last one first.

    A span is three float64: place in ``ops``, start and duration in seconds of its run. ``n`` and
    ``length`` are those of the last run, ``tracks`` those of all runs in the buffer.
    """

    k: Literal["recorded"]
    v: int
    id: int
    name: str
    title: str
    package: str
    chip: str
    runs: int
    traced: int
    n: int
    length: float
    left_out: int
    tracks: list[Track]
    p50: Amount
    p95: Amount
    ops: list[OpRow]
    code: list[Code]
    roofs: list[Roof]


class Past(TypedDict):
    """What the live strips would have shown: rows of a saved recording, to be played again."""

    k: Literal["past"]
    v: int
    name: str
    schema: Schema
    n: int
    events: list[CellEvent | IncidentEvent]


class Card(TypedDict):
    """A suggestion and what became of it."""

    id: int
    rule: str
    title: str
    why: str
    evidence: list[str]
    gain: Amount
    confidence: str
    serves: str
    target: str
    risk: str
    advice: str
    can: bool
    state: Literal[
        "new", "waiting", "running", "awaits", "accepted", "rejected", "failed", "stopped", "advice"
    ]
    done: int
    of: int
    reasons: list[str]
    before: Amount | None
    after: Amount | None
    ratio: Amount | None
    size: Amount | None


class Suggested(TypedDict):
    """All cards for a model."""

    k: Literal["suggestions"]
    v: int
    name: str
    note: str
    cards: list[Card]


class Aim(TypedDict):
    """A strategy and its sentence."""

    name: str
    sentence: str


class Place(TypedDict):
    """A device that the shown model could go to, or why it could not."""

    device: str
    title: str
    engines: list[str]
    available: bool
    reason: str


class Aims(TypedDict):
    """What plans aim at, what the shown model's plan is and why, and where it runs.

    ``places`` is empty until somebody asks for them.
    """

    k: Literal["strategy"]
    v: int
    current: str
    choices: list[Aim]
    plan: str
    why: str
    device: str
    engine: str
    places: list[Place]
    error: str


class Measured(TypedDict):
    """One thing measured of an arm, and its ratio to the baseline."""

    metric: str
    label: str
    value: Amount
    ratio: Amount
    verdict: str


class Arm(TypedDict):
    """A model on a device; what stands at the same place in two arms' ``times`` was paired."""

    name: str
    title: str
    device: str
    rows: list[Measured]
    times: list[float]


class Absent(TypedDict):
    """An arm that is not here."""

    name: str
    reason: str


class Compared(TypedDict):
    """What ``cl.compare`` found; all intervals together hold with 95 %."""

    k: Literal["compared"]
    v: int
    id: int
    name: str
    pairs: int
    confidence: float
    reference: Arm
    arms: list[Arm]
    absent: list[Absent]


class Comparing(TypedDict):
    """How far a comparison is; ``stage`` is empty when it has ended."""

    k: Literal["comparing"]
    v: int
    stage: str
    done: float
    error: str


class Taping(TypedDict):
    """Whether a recording is being made; the file that was written last; what went wrong."""

    k: Literal["recording"]
    v: int
    on: bool
    since: float | None
    saved: str
    error: str


class Do(TypedDict):
    """Page to kernel: somebody pressed a button that needs the kernel."""

    k: Literal["do"]
    v: int
    what: Literal[
        "record", "stop", "save", "open", "try", "halt", "accept", "undo",
        "strategy", "places", "device", "compare",
    ]  # fmt: skip
    arg: str | int
