"""diff_recordings(): what changed between two recordings: times, metrics, program, machine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from coreml_lab.explain.facts import Key
from coreml_lab.explain.given import Given, recorded
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Drawer, Shown
from coreml_lab.explain.thinning import strided
from coreml_lab.explain.units import show
from coreml_lab.measure.intervals import CONFIDENCE, needed, quantile, quantile_interval
from coreml_lab.metrics import METRICS, Kind, Provenance, Quantity
from coreml_lab.plain import to_plain
from coreml_lab.records import ProgramInfo, Recording, Run
from coreml_lab.samples import Samples

# Each side holds with this, so that both together, and thus their ratio, hold with CONFIDENCE.
EACH = 1 - (1 - CONFIDENCE) / 2
SHARES = {"median": 0.5, "95th percentile": 0.95}
WORST = 20
# Readings of a metric that its interval is made of: neighbours resemble each other anyway.
MOST = 1_000
METHOD = (
    "Ratios are after ÷ before, with an interval of at least 95 %: from the intervals of both "
    "sides at 97.5 % each (order statistics; runs that resemble their neighbours count as fewer). "
    "The recordings were made one after the other: what changed on the machine is in the ratios."
)
# What two recordings of one kind may differ in without a word.
SILENT = frozenset({"key", "package", "ops", "name"})


@dataclass(frozen=True)
class Change:
    """One quantity in both recordings.

    Attributes:
        ratio: after ÷ before with its interval, or why there is none.
    """

    name: str
    kind: str
    before: Quantity
    after: Quantity
    ratio: Quantity

    @property
    def both(self) -> bool:
        """Whether both recordings have it."""
        return not math.isnan(self.before.value) and not math.isnan(self.after.value)

    @property
    def resolved(self) -> bool:
        """Whether the interval of the ratio excludes 1."""
        low, high = self.ratio.low, self.ratio.high
        return low is not None and high is not None and not low <= 1 <= high

    @property
    def verdict(self) -> str:
        """Words, only where the interval allows them."""
        if math.isnan(self.ratio.value):
            return ""
        if self.ratio.low is None:
            return "not resolved: too few values"
        if not self.resolved:
            return "no difference shown"
        return "less" if self.ratio.value < 1 else "more"

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What tables show of it."""
        return self.before, self.after, self.ratio, self.verdict


@dataclass(frozen=True, repr=False)
class Changes(Shown):
    """What changed; each ``Change`` is after ÷ before.

    Attributes:
        latency: median and 95th percentile of the inferences that were not instrumented.
        ops: every operation of both, and those that only one has.
        metrics: what the machine did meanwhile.
        program: what differs in the programs: (what, before, after).
        environment: what differs in machine, libraries and engine.
        noise: what disturbed the runs of either side.
    """

    name: str
    latency: tuple[Change, ...]
    ops: tuple[Change, ...]
    metrics: tuple[Change, ...]
    program: tuple[tuple[str, str, str], ...]
    environment: tuple[tuple[str, str, str], ...]
    noise: tuple[str, ...] = ()

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        shown = [op for op in self.ops if not op.ratio.note or op.resolved][:WORST]
        lone = [op for op in self.ops if op not in shown and _lone(op)]
        columns = ("before", "after", "ratio [95 %]", "verdict")
        differs = ("what", "before", "after")
        tables = (
            _table("Time per inference", ("", *columns), self.latency, figures=("changes",)),
            _table("Operations, most time first", ("operation", *columns), (*shown, *lone)),
            _table("The machine meanwhile", ("metric", *columns), self.metrics),
            Table("What differs in the program", differs, self.program),
            Table("What differs in machine and libraries", differs, self.environment),
        )
        return Page(self._headline(), tuple(t for t in tables if t.rows), self._notes())

    @property
    def figures(self) -> Mapping[str, Drawer]:
        """Ratios as bars: of the inference, then of the slowest operations."""
        return {"changes": partial(_drawn, (*self.latency, *self.ops[:WORST]))}

    def _headline(self) -> str:
        middle = self.latency[0]
        if math.isnan(middle.ratio.value):
            return f"{self.name}: {middle.ratio.note}"
        words = {"less": "less time", "more": "more time"}
        verdict = words.get(middle.verdict, middle.verdict)
        return f"{self.name}: {verdict}, {show(middle.ratio)} (median, after ÷ before)"

    def _notes(self) -> tuple[str, ...]:
        notes = [METHOD]
        timed = [op for op in self.ops if op.ratio.low is not None]
        if timed:
            chance = math.ceil(len(timed) * (1 - CONFIDENCE))
            changed = sum(op.resolved for op in timed)
            notes.append(
                f"{changed} of {len(timed)} operations differ; up to {chance} may by chance alone."
            )
        notes += [f"The machine was noisy: {told}." for told in self.noise]
        if self.environment:
            notes.append("Machine or libraries differ: the ratios may come from there.")
        return tuple(notes)


def diff_recordings(before: Given, after: Given) -> Changes:
    """What changed from one recording to another, with intervals.

    Args:
        before: what is divided by: the older one, the baseline, or its file.
        after: the newer one, or its file; of the same program, or of another version of it.
    """
    before, after = recorded(before, "diff_recordings"), recorded(after, "diff_recordings")
    a, b = before.program, after.program
    names = a.name if a.name == b.name else f"{b.name} against {a.name}"
    return Changes(
        names,
        tuple(_latency(before, after)),
        tuple(_ops(before, after)),
        tuple(_metrics(Samples.of(before.samples), Samples.of(after.samples))),
        tuple(_program(a, b)),
        tuple(_environment(before, after)),
        tuple(_noise(before, after)),
    )


def change(
    name: str,
    kind: str,
    before: Sequence[float],
    after: Sequence[float],
    *,
    share: float = 0.5,
    unit: str = "s",
    hows: tuple[Provenance, Provenance] = (Provenance.MEASURED, Provenance.MEASURED),
) -> Change:
    """A quantile of values in both, and the ratio of the two."""
    sides = [
        _side(values, share, unit, how) for values, how in zip((before, after), hows, strict=True)
    ]
    return Change(name, kind, sides[0], sides[1], ratio(sides[0], sides[1]))


def ratio(before: Quantity, after: Quantity) -> Quantity:
    """After ÷ before; with an interval where both have one, as certain as the less certain."""
    for side, when in ((before, "before"), (after, "after")):
        if math.isnan(side.value):
            return Quantity.unavailable("{ratio}", f"{when}: {side.note}")
    if before.value <= 0:
        return Quantity.unavailable("{ratio}", "before: nothing to divide by")
    order = list(Provenance)
    how = max(before.provenance, after.provenance, key=order.index)
    value = after.value / before.value
    known = None not in {before.low, before.high, after.low, after.high}
    if not known or not before.low or before.low <= 0 or not before.high:
        return Quantity(value, "{ratio}", how)
    ends = (after.low or 0.0) / before.high, (after.high or 0.0) / before.low
    return Quantity(value, "{ratio}", how, *ends)


def _side(values: Sequence[float], share: float, unit: str, how: Provenance) -> Quantity:
    if not len(values):
        return Quantity.unavailable(unit, "it was not measured")
    if len(values) < needed(share) and share != SHARES["median"]:
        why = f"needs {needed(share)} runs, there are {len(values)}"
        return Quantity.unavailable(unit, why)
    ends = quantile_interval(values, share, EACH)
    low, high = ends if ends is not None else (None, None)
    return Quantity(quantile(values, share), unit, how, low, high)


def _latency(before: Recording, after: Recording) -> Iterator[Change]:
    sides = [
        [run.duration_ns / 1e9 for run in recording.runs if not run.instrumented]
        for recording in (before, after)
    ]
    for name, share in SHARES.items():
        yield change(name, "", *sides, share=share)


Timed = dict[Key, list[float]]


def _ops(before: Recording, after: Recording) -> list[Change]:
    sides = [_timed([run for run in r.runs if run.instrumented]) for r in (before, after)]
    found = []
    for name, op, *keys in _matched(*sides):
        one, two = ([] if k is None else s[k] for s, k in zip(sides, keys, strict=True))
        hows = tuple(Provenance.UNAVAILABLE if k is None else k[4] for k in keys)
        found.append(change(name, op, one, two, hows=(hows[0], hows[1])))
    return sorted(found, key=lambda c: -max(_number(c.before), _number(c.after)))


def _timed(runs: Sequence[Run]) -> Timed:
    """Seconds of each operation in each run that its engine took part in; without it, none."""
    times: dict[Key, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    took: dict[str, dict[int, None]] = defaultdict(dict)
    for index, run in enumerate(runs):
        for span in run.spans:
            key = (span.node, span.op, span.engine, span.device, span.provenance)
            times[key][index] += span.duration_ns / 1e9
            took[span.engine][index] = None
    return {key: [found.get(i, 0.0) for i in took[key[2]]] for key, found in times.items()}


def _matched(one: Timed, two: Timed) -> Iterator[tuple[str, str, Key | None, Key | None]]:
    """What is compared with what: an operation with itself, also where another engine ran it.

    Where several ran it on a side (recordings that were merged), each with the same one's.
    """
    groups: dict[tuple[str, str], tuple[list[Key], list[Key]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((one, two)):
        for key in side:
            groups[key[0], key[1]][place].append(key)
    for (node, op), (left, right) in groups.items():
        if max(len(left), len(right)) == 1:
            yield node, op, left[0] if left else None, right[0] if right else None
            continue
        for key in dict.fromkeys((*left, *right)):
            name = f"{node} ({key[2]}, {key[3]})"
            yield name, op, key if key in one else None, key if key in two else None


def _metrics(before: Samples, after: Samples) -> Iterator[Change]:
    for name in dict.fromkeys((*before.metrics, *after.metrics)):
        known = METRICS.get(name.partition("/")[0])
        if known is None or known.kind is Kind.COUNTER:
            continue
        sides = [strided(s.of_metric(name)[1], MOST).tolist() for s in (before, after)]
        if not any(sides):
            continue
        label = f"{known.label} {name.partition('/')[2]}".strip()
        hows = (_how(before, name), _how(after, name))
        yield change(label, name, *sides, unit=known.unit, hows=hows)


def _how(samples: Samples, name: str) -> Provenance:
    kinds = [how for how, _ in samples.hows_of(name) if how is not Provenance.UNAVAILABLE]
    return max(kinds, key=list(Provenance).index, default=Provenance.UNAVAILABLE)


def _program(before: ProgramInfo, after: ProgramInfo) -> Iterator[tuple[str, str, str]]:
    if before.key != after.key:
        yield "program", before.key[:12], after.key[:12]
    a, b = to_plain(before), to_plain(after)
    for name in a:
        if a[name] != b[name] and name not in SILENT:
            yield name.replace("_", " "), _short(a[name]), _short(b[name])
    names = [{op.name: op.op for op in info.ops} for info in (before, after)]
    pairs = {"only before": (names[0], names[1]), "only after": (names[1], names[0])}
    for title, (there, other) in pairs.items():
        lone = [f"{node} ({op})" for node, op in there.items() if node not in other]
        if lone:
            told = f"{len(lone)} operations: {', '.join(lone[:5])}" + ", …" * (len(lone) > 5)  # noqa: PLR2004 - as many as are named
            yield (title, told, "") if title == "only before" else (title, "", told)


def circumstances(found: Recording) -> dict[str, str]:
    """The machine, the libraries, and who ran the program, in words."""
    plan = found.plan
    ran = {"engine": plan.engine, "device": plan.device, "runs on": plan.title}
    return {**found.environment, **ran}


def _environment(before: Recording, after: Recording) -> Iterator[tuple[str, str, str]]:
    sides = circumstances(before), circumstances(after)
    for name in dict.fromkeys((*sides[0], *sides[1])):
        a, b = (side.get(name, "") for side in sides)
        if a != b:
            yield name, a, b


def _noise(before: Recording, after: Recording) -> Iterator[str]:
    for when, recording in (("before", before), ("after", after)):
        noisy = [c for c in recording.conditions if c.noisy]
        if noisy:
            yield f"{when}, {', '.join(f'{c.name} {show(c.value)}' for c in noisy)}"


def _short(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else f"{value}"[:80]


def _number(quantity: Quantity) -> float:
    return 0.0 if math.isnan(quantity.value) else quantity.value


def _lone(op: Change) -> bool:
    return math.isnan(op.before.value) != math.isnan(op.after.value)


def _table(
    caption: str, columns: tuple[str, ...], rows: Sequence[Change], figures: tuple[str, ...] = ()
) -> Table:
    return Table(caption, columns, tuple((r.name, *r.cells) for r in rows), figures=figures)


def _drawn(rows: Sequence[Change], *, dark: bool = False) -> object:
    from coreml_lab.explain.figures import Bar, bars  # noqa: PLC0415 - half a second

    known = [Bar(row.name, row.ratio) for row in rows if math.isfinite(row.ratio.value)]
    return bars(known, "Time, after ÷ before", axis="ratio", dark=dark)
