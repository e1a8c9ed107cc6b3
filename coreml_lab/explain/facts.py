"""What a recording says, as numbers: totals, shares, percentiles. Pure: reads no clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from coreml_lab.explain.counters import grown
from coreml_lab.explain.latency import Latency as Latency  # noqa: PLC0414 - a part of the facts
from coreml_lab.explain.latency import latency as timed
from coreml_lab.measure.intervals import quantile
from coreml_lab.metrics import METRICS, Kind, Provenance, Quantity
from coreml_lab.records import (
    Incident,
    OpInfo,
    OpSpan,
    PlanInfo,
    ProgramInfo,
    Recording,
    Run,
    Sample,
)
from coreml_lab.run.split import costs
from coreml_lab.samples import Samples

MEASURED = Provenance.MEASURED
# From certain to unknown.
ORDER = tuple(Provenance)
POWER_LOW, POWER_HIGH = "coreml_lab.power.cpu.low", "coreml_lab.power.cpu.high"


UNTOLD = Quantity.unavailable("By", "the engine does not tell the memory of operations")
TOO_LONG = "the times of the operations add up to more than the run's"
UNLISTED = Quantity.unavailable("1", "it is not in the program's listing")


@dataclass(frozen=True)
class OpFact:
    """One operation: its time is the median over the instrumented runs."""

    node: str
    op: str
    fused: tuple[str, ...]
    time: Quantity
    share: Quantity
    bytes: Quantity
    weights: Quantity
    where: str = ""
    # Arithmetic, and bytes read and written, by the shapes and weights of the operations in it.
    flops: Quantity = UNLISTED
    moved: Quantity = UNLISTED
    engine: str = ""
    device: str = ""
    # In use while it ran, by the engine's allocator; weights are not in it.
    memory: Quantity = UNTOLD

    @property
    def own_work(self) -> bool:
        """Whether it is the engine's own work, such as a change of layout."""
        return self.op.startswith("[")


@dataclass(frozen=True)
class KindFact:
    """All operations of one type together."""

    op: str
    count: int
    time: Quantity
    share: Quantity


@dataclass(frozen=True)
class MetricFact:
    """What a metric did while the model ran; a counter has a total and no highest value."""

    label: str
    typical: Quantity
    highest: Quantity | None


@dataclass(frozen=True)
class Facts:
    """Everything that reports and rules look at."""

    program: ProgramInfo
    plan: PlanInfo
    environment: Mapping[str, str]
    runs: int
    traced: int
    latency: Latency
    ops: tuple[OpFact, ...]
    own_work: tuple[OpFact, ...]
    kinds: tuple[KindFact, ...]
    traced_time: Quantity
    between: Quantity
    slowdown: Quantity
    weights: Quantity
    metrics: tuple[MetricFact, ...]
    incidents: tuple[Incident, ...]
    overhead: Quantity


def facts(recording: Recording) -> Facts:
    """What ``recording`` says."""
    plain = [run for run in recording.runs if not run.instrumented]
    traced = [run for run in recording.runs if run.instrumented]
    ops = _ops(traced, {op.name: op for op in recording.program.ops})
    latency = timed([run.duration_ns / 1e9 for run in plain])
    traced_time = _median([run.duration_ns / 1e9 for run in traced], "no instrumented run")
    return Facts(
        program=recording.program,
        plan=recording.plan,
        environment=recording.environment,
        runs=len(plain),
        traced=len(traced),
        latency=latency,
        ops=tuple(op for op in ops if not op.own_work),
        own_work=tuple(op for op in ops if op.own_work),
        kinds=_kinds(ops),
        traced_time=traced_time,
        between=_between(traced),
        slowdown=_over(traced_time, latency.p50),
        weights=_weights(recording.program),
        metrics=_metrics(recording.samples),
        incidents=recording.every_incident,
        overhead=_overhead(recording.overhead_ns),
    )


def _between(traced: Sequence[Run]) -> Quantity:
    """Time of a run that lies in no operation; less than nothing is no time, but says why."""
    outside = [(r.duration_ns - sum(s.duration_ns for s in r.spans)) / 1e9 for r in traced]
    found = _median(outside, "no instrumented run")
    return Quantity.unavailable("s", TOO_LONG) if found.value < 0 else found


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie, interpolated between neighbours."""
    return quantile(values, share)


def _median(values: Sequence[float], why: str) -> Quantity:
    return Quantity(median(values), "s", MEASURED) if values else Quantity.unavailable("s", why)


def _over(part: Quantity, whole: Quantity) -> Quantity:
    if math.isnan(part.value) or math.isnan(whole.value) or whole.value == 0:
        return Quantity.unavailable("{ratio}", part.note or whole.note or "nothing to divide by")
    return Quantity(part.value / whole.value, "{ratio}", MEASURED)


Key = tuple[str, str, str, str, Provenance]


def _key(span: OpSpan) -> Key:
    """What is one row: what was measured and what was apportioned are two, as are two engines."""
    return span.node, span.op, span.engine, span.device, span.provenance


def _ops(traced: Sequence[Run], known: Mapping[str, OpInfo]) -> list[OpFact]:
    """One fact per operation that was seen, the longest first."""
    times: dict[Key, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    last = {_key(span): span for run in traced for span in run.spans}
    # Runs in which an engine took part: recordings of several may have been merged.
    took: dict[str, set[int]] = defaultdict(set)
    for index, run in enumerate(traced):
        for span in run.spans:
            times[_key(span)][index] += span.duration_ns / 1e9
            took[span.engine].add(index)
    runs = {key: frozenset(took[key[2]]) for key in times}
    medians = {key: median(found.get(i, 0.0) for i in runs[key]) for key, found in times.items()}
    totals: dict[frozenset[int], float] = defaultdict(float)
    for key, value in medians.items():
        totals[runs[key]] += value
    order = sorted(medians, key=lambda key: -medians[key])
    return [_op(last[key], medians[key], totals[runs[key]], known) for key in order]


def _op(span: OpSpan, time: float, total: float, known: Mapping[str, OpInfo]) -> OpFact:
    info = known.get(span.node)
    names = [span.node, *span.fused]
    weights = sum(known[name].weight_bytes for name in names if name in known)
    flops, moved = _work([known[name] for name in names if name in known])
    return OpFact(
        node=span.node,
        op=span.op,
        fused=tuple(known[n].op if n in known else n for n in span.fused),
        time=Quantity(time, "s", span.provenance),
        share=Quantity(time / total, "1", span.provenance)
        if total
        else Quantity.unavailable("1", "all times are below the profiler's resolution"),
        bytes=Quantity(span.bytes, "By", span.provenance),
        weights=Quantity(weights, "By", MEASURED),
        where=info.where if info else "",
        flops=flops,
        moved=moved,
        engine=span.engine,
        device=span.device,
        memory=UNTOLD if span.memory is None else Quantity(span.memory, "By", MEASURED),
    )


def _work(infos: Sequence[OpInfo]) -> tuple[Quantity, Quantity]:
    if not infos:
        return UNLISTED, UNLISTED
    rough = [costs.rough(info) for info in infos]
    how = Provenance.ESTIMATED
    moved = Quantity(sum(work.bytes for work in rough), "By", how)
    if any(info.op in costs.PRODUCTS and not info.weight_bytes for info in infos):
        why = "of a product of two activations the listing does not tell the inner size"
        return Quantity.unavailable("{operation}", why), moved
    return Quantity(sum(work.flops for work in rough), "{operation}", how), moved


def _kinds(ops: Iterable[OpFact]) -> tuple[KindFact, ...]:
    # What was measured and what was apportioned is not added up.
    groups: dict[tuple[str, str, Provenance], list[OpFact]] = defaultdict(list)
    for op in ops:
        groups[op.op, op.engine, op.time.provenance].append(op)
    rows = (
        KindFact(op, len(group), added([g.time for g in group]), added([g.share for g in group]))
        for (op, _, _), group in groups.items()
    )
    return tuple(sorted(rows, key=lambda row: -row.time.value))


def added(quantities: Sequence[Quantity]) -> Quantity:
    """The sum of quantities of one unit, as certain as the least certain of them."""
    weakest = max(quantities, key=lambda q: ORDER.index(q.provenance))
    if weakest.provenance is Provenance.UNAVAILABLE:
        return weakest
    return Quantity(sum(q.value for q in quantities), weakest.unit, weakest.provenance)


def _weights(program: ProgramInfo) -> Quantity:
    return Quantity(sum(op.weight_bytes for op in program.ops), "By", MEASURED)


def _overhead(nanoseconds: int | None) -> Quantity:
    if nanoseconds is None:
        return Quantity.unavailable("s", "it was not measured")
    return Quantity(nanoseconds / 1e9, "s", MEASURED)


def _metrics(samples: Sequence[Sample]) -> tuple[MetricFact, ...]:
    rows = Samples.of(samples)
    place = {name: i for i, name in enumerate(METRICS)}
    order = sorted(rows.metrics, key=lambda n: (place.get(n.partition("/")[0], len(place)), n))
    found = {name: _metric(name, rows) for name in order}
    return tuple(_power_range(found).values())


def _metric(name: str, samples: Samples) -> MetricFact:
    family, _, number = name.partition("/")
    known = METRICS.get(family)
    label, unit = (f"{known.label} {number}".strip(), known.unit) if known else (name, "")
    values = samples.of_metric(name)[1]
    if not len(values):
        note = next((note for _, note in samples.hows_of(name) if note), "no sample")
        return MetricFact(label, Quantity.unavailable(unit, note), None)
    if known and known.kind is Kind.COUNTER:
        served = known.panel == "scheduler"
        title = f"{label} meanwhile" if served else f"{label}, used meanwhile"
        return MetricFact(title, grown(samples, name, unit, from_start=served), None)
    how, note = samples.weakest_how(name)
    typical = Quantity(float(np.median(values)), unit, how, note=note)
    return MetricFact(label, typical, Quantity(float(values.max()), unit, how, note=note))


def _power_range(found: dict[str, MetricFact]) -> dict[str, MetricFact]:
    """The two edges of the estimated power as one range: neither is a value by itself."""
    if POWER_LOW not in found or POWER_HIGH not in found:
        return found
    low, high = found.pop(POWER_LOW), found.pop(POWER_HIGH)
    label = "CPU power of this kernel"
    if low.highest is None or high.highest is None:
        return {**found, POWER_LOW: MetricFact(label, high.typical, None)}

    def joined(a: Quantity, b: Quantity) -> Quantity:
        return Quantity(math.nan, "W", b.provenance, a.value, b.value, b.note)

    both = joined(low.typical, high.typical), joined(low.highest, high.highest)
    return {**found, POWER_LOW: MetricFact(label, *both)}
