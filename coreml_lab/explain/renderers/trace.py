"""A recording in the Trace Event Format: opens in Perfetto (ui.perfetto.dev) and chrome://tracing.

Devices are tracks, operations and regions of the code slices, samples counters, incidents instants,
and an arrow (a flow) leads from the operation that one device ended with to what the next one goes
on with. Slices that share a track must nest; here they never overlap, so what runs at the same time
gets a further lane.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from coreml_lab.circumstances import Region
from coreml_lab.explain.thinning import kept
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.records import Incident, OpSpan, Recording
from coreml_lab.samples import Samples

# Perfetto finds threads by their number alone: none may be that of a process or of another thread.
PROGRAM, MACHINE, FIRST_THREAD = 1, 2, 100
# Points of all curves together: hours of samples keep their peaks, not every reading.
MOST_POINTS = 200_000
# Perfetto has room for some 30 letters of a counter's name, and cuts it in the middle.
MEASURED = "measured where nothing else is said"
Event = dict[str, Any]
Slice = tuple[int, int, Event]


def render(recording: Recording) -> str:
    """The trace as JSON, its letters as they are; times in microseconds since the first event.

    Perfetto shows some names with their JSON escapes in them (seen with v52): there are none.
    """
    origin = _origin(recording)
    events = [
        *_process(PROGRAM, recording.program.name, recording.plan.title),
        *_process(
            MACHINE, f"this machine ({MEASURED})", recording.environment.get("processor", "")
        ),
        *_slices(recording, origin),
        *_counters(Samples.of(recording.samples), origin),
        *(_instant(incident, origin) for incident in recording.every_incident),
    ]
    told = {legible(k): legible(v) for k, v in recording.environment.items()}
    whole = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": told}
    return json.dumps(whole, allow_nan=False, ensure_ascii=False)


def microseconds(nanoseconds: int) -> float:
    """Nanoseconds as the format's unit: whole where they can be.

    Perfetto cuts a fraction to whole nanoseconds and does not round it: a tenth of one more keeps
    1.001 µs from becoming 1000 ns, and slices from overlapping by one.
    """
    whole, rest = divmod(nanoseconds, 1000)
    return whole if not rest else round(nanoseconds / 1000 + 1e-4, 4)


def _origin(recording: Recording) -> int:
    stamps = [run.start_ns for run in recording.runs]
    stamps += [span.start_ns for span in recording.spans]
    stamps += [region.start_ns for region in recording.regions]
    stamps += [incident.t_ns for incident in recording.every_incident]
    times = Samples.of(recording.samples).columns["t_ns"]
    return min([*stamps, int(times.min())] if len(times) else stamps, default=0)


def _process(pid: int, name: str, labels: str) -> Iterator[Event]:
    yield _named("process_name", pid, pid, name=name)
    yield _named("process_labels", pid, pid, labels=labels)
    yield {**_named("process_sort_index", pid, pid), "args": {"sort_index": pid}}


def _named(kind: str, pid: int, tid: int, **said: str) -> Event:
    args = {key: legible(value) for key, value in said.items()}
    return {"ph": "M", "pid": pid, "tid": tid, "ts": 0, "name": kind, "args": args}


def _slices(recording: Recording, origin: int) -> Iterator[Event]:
    """Lanes of inferences, lanes of each device, and the arrows between devices."""
    threads = itertools.count(FIRST_THREAD)
    runs = [(r.start_ns, r.duration_ns, _run(r.index, r.instrumented)) for r in recording.runs]
    regions = [(r.start_ns, r.duration_ns, _region(r)) for r in recording.regions]
    yield from _lanes("regions", regions, origin, threads)
    yield from _lanes("inferences", runs, origin, threads)
    tracks: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    made: dict[int, Event] = {}
    for span in recording.spans:
        event = made[id(span)] = _span(span)
        tracks[span.device, span.engine].append((span.start_ns, span.duration_ns, event))
    for (device, engine), slices in tracks.items():
        yield from _lanes(f"{device} · {engine}", slices, origin, threads)
    numbers = itertools.count(1)
    for run in recording.runs:
        ordered = sorted(run.spans, key=lambda span: span.start_ns)
        for before, after in itertools.pairwise(ordered):
            if (before.device, before.engine) != (after.device, after.engine):
                yield from _flow(next(numbers), made[id(before)], made[id(after)])


def _run(index: int, instrumented: bool) -> Event:
    name = f"run {index} (instrumented)" if instrumented else f"run {index}"
    return {"name": name, "cat": "run", "args": {"instrumented": instrumented}}


def _region(region: Region) -> Event:
    said = {"thread": legible(region.thread)}
    return {"name": legible(region.name), "cat": "region", "args": said}


def _span(span: OpSpan) -> Event:
    said = {
        "node": legible(span.node),
        "fused": [legible(name) for name in span.fused],
        "bytes": span.bytes,
        "engine": legible(span.engine),
        "device": legible(span.device),
        "provenance": span.provenance.value,
    }
    return {"name": legible(span.op), "cat": "op", "args": said}


def _lanes(
    title: str, rows: Iterable[Slice], origin: int, threads: Iterator[int]
) -> Iterator[Event]:
    """Each event on the first lane that is free when it starts."""
    free: list[tuple[int, int]] = []
    for start, duration, event in sorted(rows, key=lambda row: (row[0], -row[1])):
        lane = next((i for i, (end, _) in enumerate(free) if end <= start), len(free))
        if lane == len(free):
            thread = next(threads)
            free.append((0, thread))
            name = title if lane == 0 else f"{title}, at the same time ({lane + 1})"
            yield _named("thread_name", PROGRAM, thread, name=name)
            index = {"sort_index": thread}
            yield {**_named("thread_sort_index", PROGRAM, thread), "args": index}
        thread = free[lane][1]
        free[lane] = (start + duration, thread)
        times = {"ts": microseconds(start - origin), "dur": microseconds(duration)}
        event.update(ph="X", pid=PROGRAM, tid=thread, **times)
        yield event


def _flow(number: int, before: Event, after: Event) -> Iterator[Event]:
    """From one slice to another; each end is inside its slice, where it is bound to it."""
    known = {"cat": "transfer", "name": "transfer", "id": number, "pid": PROGRAM}
    yield {"ph": "s", **known, "tid": before["tid"], "ts": before["ts"]}
    yield {"ph": "f", "bp": "e", **known, "tid": after["tid"], "ts": after["ts"]}


def _counters(samples: Samples, origin: int) -> Iterator[Event]:
    """Curves of the metrics; a missing reading is a gap, not a zero."""
    most = MOST_POINTS // max(1, len(samples.metrics))
    for metric in samples.metrics:
        times, values = samples.of_metric(metric)
        if not len(values):
            continue
        units = [_unit(metric, how) for how, _ in samples.hows]
        places = kept(values, most)
        rows = (times[places], values[places], samples.codes_of(metric)[places])
        for t, value, code in zip(*(row.tolist() for row in rows), strict=True):
            stamp, args = microseconds(t - origin), {units[code]: value}
            yield {"ph": "C", "pid": MACHINE, "ts": stamp, "name": legible(metric), "args": args}


def _unit(metric: str, how: Provenance) -> str:
    """What Perfetto writes behind the name of a counter: the key of its value."""
    known = METRICS.get(metric.partition("/")[0])
    unit = f"[{known.unit if known else '1'}]"
    return unit if how is Provenance.MEASURED else f"{unit} {how.value}"


def _instant(incident: Incident, origin: int) -> Event:
    said = {
        "message": legible(incident.message, SENTENCE),
        "action": legible(incident.action, SENTENCE),
        "outcome": legible(incident.outcome, SENTENCE),
    }
    stamp = microseconds(incident.t_ns - origin)
    where = {"pid": PROGRAM, "tid": PROGRAM, "s": "p"}
    return {"ph": "i", "ts": stamp, "name": legible(incident.error), "args": said, **where}
