"""Where time goes, as tables: inferences, their parts, loading, regions, lines, the machine. Pure.

``tables`` and ``notes`` are what a report shows of a recording's time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from coreml_lab.circumstances import Region, Stage
from coreml_lab.explain.facts import Facts, OpFact, added
from coreml_lab.explain.page import Cell, Table
from coreml_lab.explain.units import others, show
from coreml_lab.measure.intervals import quantile_interval
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Recording, Run

MEASURED = Provenance.MEASURED
# What an inference's time is spent on; engines name only what they can tell apart.
PARTS = {
    "convert": "changing types and forms: half floats, images, checks of inputs",
    "copy": "copies into and out of the memory that the engine computes in",
    "launch": "handing the work over to the device",
    "process": "the way to the process that runs Core ML, and back",
    "framework": "the framework's call: computing, and its own binding",
    "native": "Core ML's own measure of its prediction",
    "engine": "the engine's work, which it does not divide",
    "binding": "our own: checks, counting, recovery",
}
STAGES = {
    "reading": "the package, or compiled model, as a program",
    "recording": "a module of PyTorch run on examples, and hashed",
    "passes": "Core ML's own passes, and writing the package",
    "choosing": "which engine is faster, where two could be asked",
    "lowering": "the program in the form that the engine takes",
    "session": "the engine makes it ready",
    "first run": "one inference, with all that is done at the first",
}
OUTSIDE = "(outside of all regions)"
UNPLACED = "(no line of code is known)"
# Dependent runs are worth telling where they count as less than half.
DEPENDENT = 0.5
STALLED = 0.01
# Operations of a line that are named.
NAMED = 4
# Regions inside so many others are in one row together.
DEEPEST = 64
DEEPER = "\N{HORIZONTAL ELLIPSIS}"


def tables(recording: Recording, found: Facts, top: int = 20) -> tuple[Table, ...]:
    """All of them; those without rows say that there is nothing to tell."""
    return (
        inference(found),
        parts(recording),
        loading(recording),
        *operations(found, top),
        lines(found, top),
        regions(recording),
        machine(recording),
    )


def inference(found: Facts) -> Table:
    """Order statistics of the uninstrumented runs, with their 95 % intervals."""
    latency = found.latency
    rows: tuple[tuple[Cell, ...], ...] = (
        ("fastest", latency.fastest),
        ("median", latency.p50),
        ("90th percentile", latency.p90),
        ("95th percentile", latency.p95),
        ("99th percentile", latency.p99),
        ("slowest", latency.slowest),
        ("mean", latency.mean),
        ("inferences per second, back to back", latency.throughput),
    )
    caption = f"Time per inference ({found.runs} runs, not instrumented)"
    shown = rows if found.runs else ()
    return Table(caption, ("", "value [95 % interval]"), shown, figures=("latency",))


def parts(recording: Recording) -> Table:
    """What the time of one inference is spent on; measured, in uninstrumented runs of their own."""
    splits = recording.splits
    names = [name for name in PARTS if any(name in split.parts for split in splits)]
    whole = [split.wall_ns / 1e9 for split in splits]
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        each = [split.parts.get(name, 0) / 1e9 for split in splits]
        shares = [part / all_ for part, all_ in zip(each, whole, strict=True) if all_]
        share = Quantity(median(shares), "1", MEASURED) if shares else ""
        rows.append((name, PARTS[name], _middle(each), share))
    if rows:
        rows.append(("wall", "all of it", _middle(whole), ""))
    caption = f"Where the time of an inference goes ({len(splits)} runs, not instrumented)"
    return Table(caption, ("part", "what it is", "time [95 % interval]", "share"), tuple(rows))


def loading(recording: Recording) -> Table:
    """How long the steps of loading took; where starts were asked for, cold and warm ones."""
    cold = [s.stages for s in recording.starts if not s.cached]
    warm = [s.stages for s in recording.starts if s.cached]
    seen = {stage.name for row in (recording.stages, *cold, *warm) for stage in row}
    rows = []
    for name in (*STAGES, *sorted(seen - set(STAGES))):
        if name in seen:
            once = _stage([recording.stages], name)
            more = (_stage(cold, name), _stage(warm, name)) if recording.starts else ()
            rows.append((name, STAGES.get(name, ""), once, *more))
    started = (f"cold ({len(cold)} starts)", f"warm ({len(warm)} starts)")
    columns = ("step", "what it is", "when it was loaded", *(started if recording.starts else ()))
    return Table("Loading and the first run", columns, tuple(rows))


def _stage(loadings: Sequence[Sequence[Stage]], name: str) -> Cell:
    """The time of a step, the median over several loadings; nothing where it was not needed."""
    times = [
        sum(s.duration_ns for s in stages if s.name == name) / 1e9
        for stages in loadings
        if any(s.name == name for s in stages)
    ]
    return _middle(times) if times else "not needed"


def operations(found: Facts, top: int = 20) -> tuple[Table, ...]:
    """Times per operation; engines apart, and what was apportioned apart from what was measured."""
    groups: dict[tuple[str, Provenance], list[OpFact]] = defaultdict(list)
    for op in found.ops:
        groups[op.engine, op.time.provenance].append(op)
    several = len({engine for engine, _ in groups}) > 1
    made: list[Table] = []
    for (engine, provenance), ops in groups.items():
        where = f", {engine}" if several else ""
        how = f"{provenance.value}, median of {found.traced} instrumented runs"
        caption = f"Time per operation{where} ({how})"
        columns = ("operation", "type", "time per run", "share", "weights")
        figures = () if made else ("operations", "roofline")
        made.append(Table(caption, columns, _op_rows(ops, top), bars=2, figures=figures))
    return tuple(made)


def _op_rows(ops: Sequence[OpFact], top: int) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = [
        (op.node, _kind(op), op.time, op.share, op.weights if op.weights.value else "none")
        for op in ops[:top]
    ]
    rest = ops[top:]
    if rest:
        sums = [added([getattr(op, name) for op in rest]) for name in ("time", "share", "weights")]
        rows.append((others(len(rest)), "", *sums))
    return tuple(rows)


def _kind(op: OpFact) -> str:
    """``conv (with relu, mul ×3)``: equal names once, with their number."""
    if not op.fused:
        return op.op
    counts = {name: op.fused.count(name) for name in op.fused}
    with_ = ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in counts.items())
    return f"{op.op} (with {with_})"


def lines(found: Facts, top: int = 20) -> Table:
    """Time by the line of the user's code, or the cell, that wrote the operations."""
    groups: dict[tuple[str, str, Provenance], list[OpFact]] = defaultdict(list)
    for op in found.ops:
        groups[_written(op), op.engine, op.time.provenance].append(op)
    if {where for where, _, _ in groups} <= {UNPLACED}:
        return Table("Time per line of code", ("line",), ())
    order = sorted(groups.items(), key=lambda item: -_time(item[1]).value)
    rows = [(where, *_line(ops)) for (where, _, _), ops in order[:top]]
    if order[top:]:
        rest = [op for _, ops in order[top:] for op in ops]
        rows.append((f"{len(order) - top} other lines", *_line(rest)))
    columns = ("line", "operations", "number", "time per run", "share")
    return Table("Time per line of code", columns, tuple(rows), bars=3)


def _written(op: OpFact) -> str:
    """The line that wrote an operation; a file that says its name again is none."""
    return UNPLACED if not op.where or op.where.endswith(f": {op.node}") else op.where


def _time(ops: Sequence[OpFact]) -> Quantity:
    return added([op.time for op in ops])


def _line(ops: Sequence[OpFact]) -> tuple[Cell, ...]:
    named = ", ".join(op.node for op in ops[:NAMED])
    more = f" and {len(ops) - NAMED} more" if len(ops) > NAMED else ""
    return named + more, str(len(ops)), _time(ops), added([op.share for op in ops])


def regions(recording: Recording) -> Table:
    """Regions of the user's code, by where they are nested; own time is without those inside."""
    by_index = {region.index: region for region in recording.regions}
    path = _paths(by_index)
    inside: dict[int, int] = defaultdict(int)
    for region in recording.regions:
        if region.parent in by_index and by_index[region.parent].thread == region.thread:
            inside[region.parent] += region.duration_ns
    rows: dict[Path, list[Region]] = defaultdict(list)
    for region in recording.regions:
        rows[path(region)].append(region)
    runs = _runs_in(recording.runs, by_index, path)
    made = []
    for at in _nested(rows):
        own = sum(max(0, r.duration_ns - inside[r.index]) for r in rows[at])
        outer = rows[at] if len(at) <= DEEPEST else _outermost(rows[at], by_index, path)
        made.append(_region_row(at, outer, own, runs[at]))
    if made and runs[()]:
        made.append((OUTSIDE, "", "", "", "", str(len(runs[()])), _total(runs[()])))
    columns = ("region", "times", "all together", "each", "own", "inferences", "time in them")
    return Table("Regions of the code", columns, tuple(made))


Path = tuple[str, ...]
Paths = Callable[[Region], Path]


def _paths(by_index: dict[int, Region]) -> Paths:
    """The names of the regions around one, and its own; a parent that was not seen is none."""
    known: dict[Region, Path] = {}

    def path(region: Region) -> Path:
        around: dict[Region, None] = {}
        here: Region | None = region
        while here is not None and here not in known and here not in around:
            around[here] = None
            here = None if here.parent is None else by_index.get(here.parent)
        found = () if here is None else known.get(here, ())
        for inner in reversed(around):
            found = known[inner] = _below(found, inner.name)
        return known[region]

    return path


def _below(path: Path, name: str) -> Path:
    """The path of what is inside of one; from a depth on all of it has the same."""
    if len(path) < DEEPEST:
        return (*path, name)
    return path if len(path) > DEEPEST else (*path, DEEPER)


def _outermost(found: Iterable[Region], by_index: dict[int, Region], path: Paths) -> list[Region]:
    """Without those inside of others in the same row, whose time is in theirs."""
    around = ((r, None if r.parent is None else by_index.get(r.parent)) for r in found)
    return [r for r, parent in around if parent is None or path(parent) != path(r)]


def _nested(paths: Iterable[Path]) -> list[Path]:
    """In the order in which they began, inner ones below the one around them."""
    order = {path: place for place, path in enumerate(paths)}
    keys: dict[Path, tuple[int, ...]] = {(): ()}
    for path in sorted(order, key=len):
        keys[path] = (*keys.get(path[:-1], ()), order[path])
    return sorted(order, key=keys.__getitem__)


def _runs_in(
    runs: Sequence[Run], by_index: dict[int, Region], path: Paths
) -> dict[Path, list[int]]:
    """Durations of the uninstrumented runs by the path of their innermost region."""
    found: dict[Path, list[int]] = defaultdict(list)
    for run in runs:
        if not run.instrumented:
            region = None if run.region is None else by_index.get(run.region)
            found[() if region is None else path(region)].append(run.duration_ns)
    return found


def _region_row(
    at: Path, found: Sequence[Region], own: int, runs: Sequence[int]
) -> tuple[Cell, ...]:
    spent = [region.duration_ns for region in found]
    name = "\N{NO-BREAK SPACE}" * 2 * (len(at) - 1) + at[-1]
    in_runs = _total(runs) if runs else ""
    each = _middle([ns / 1e9 for ns in spent])
    return name, str(len(found)), _total(spent), each, _seconds(own), str(len(runs)), in_runs


def machine(recording: Recording) -> Table:
    """What could have disturbed the runs, with figures, and whether it did."""
    rows = tuple((c.name, c.value, _verdict(c.noisy, c.value)) for c in recording.conditions)
    return Table("Was the machine quiet?", ("", "value", ""), rows)


def _verdict(noisy: bool, value: Quantity) -> str:
    if noisy:
        return "noisy"
    return "not known" if value.provenance is Provenance.UNAVAILABLE else "quiet"


def notes(recording: Recording, found: Facts) -> tuple[str, ...]:
    """In sentences: how many runs and why, how they went, what disturbed them, what it cost."""
    told = []
    if recording.pace is not None:
        told.append(f"Warm-up: {recording.pace.warmed}.")
        told.append(f"Runs: {recording.pace.ended}.")
    return (*told, *_disturbances(recording), *_course(found), *_cost(recording, found))


def _disturbances(recording: Recording) -> list[str]:
    noisy = [c for c in recording.conditions if c.noisy]
    if not noisy:
        return []
    causes = "; ".join(
        f"{c.name}: {c.value.note if c.value.unit == '{value}' else show(c.value)}" for c in noisy
    )
    return [f"The machine was noisy while this was measured: {causes}."]


def _course(found: Facts) -> list[str]:
    """What the row of runs itself shows."""
    course, told = found.latency.course, []
    if course.drifts:
        told.append(
            f"The runs drifted: the last third took {100 * abs(course.drift):.1f} % "
            f"{'longer' if course.drift > 0 else 'less'} than the first. "
            "Intervals are those of these runs, along their trend."
        )
    if course.independent < DEPENDENT * course.count:
        told.append(
            f"Runs resemble the ones before: {course.count} tell as much as "
            f"{course.independent:.0f} independent ones; intervals are wider for it."
        )
    if math.isfinite(found.latency.stalls.value) and found.latency.stalls.value > STALLED:
        told.append(f"{show(found.latency.stalls)} of the runs took more than twice the median.")
    return told


def _cost(recording: Recording, found: Facts) -> list[str]:
    """What measuring costs."""
    overhead = recording.overhead
    if overhead is None or not found.runs:
        return []
    told = f"Keeping a run costs {show(_seconds(overhead.run_ns))}"
    if recording.regions:
        told += f", a region {show(_seconds(overhead.region_ns))}"
    if math.isfinite(overhead.sampler_cores.value):
        told += f"; sampling kept {show(overhead.sampler_cores)} busy"
    return [f"{told}. No time shown includes it."]


def _seconds(nanoseconds: float) -> Quantity:
    return Quantity(nanoseconds / 1e9, "s", MEASURED)


def _total(nanoseconds: Sequence[int]) -> Quantity:
    return _seconds(sum(nanoseconds))


def _middle(seconds: Sequence[float]) -> Quantity:
    """The median with its interval, where there are enough."""
    ends = quantile_interval(seconds, 0.5)
    return Quantity(median(seconds), "s", MEASURED, *(ends or (None, None)))
