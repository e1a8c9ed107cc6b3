"""A recording as a Chrome trace: opens in Perfetto (ui.perfetto.dev) and chrome://tracing.

One lane ("thread") per thing that happens one at a time, so that nothing on a lane overlaps;
samples are counters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from coreml_lab.metrics import METRICS
from coreml_lab.plain import to_plain
from coreml_lab.records import OpSpan, Recording

PID = 1
Event = dict[str, Any]


def render(recording: Recording) -> str:
    """The trace as JSON; times in microseconds since the first event."""
    origin = _origin(recording)
    runs = ((r.start_ns, r.duration_ns, _run(r.index, r.instrumented)) for r in recording.runs)
    spans = ((s.start_ns, s.duration_ns, _span(s)) for s in recording.spans)
    lanes = [
        *_lanes("inferences", runs, origin, first=1),
        *_lanes(recording.plan.title, spans, origin, first=100),
    ]
    events = [_name("process_name", 0, recording.program.name), *lanes]
    events += [*_counters(recording, origin), *_incidents(recording, origin)]
    return json.dumps(
        {
            "traceEvents": events,
            "displayTimeUnit": "ms",
            "otherData": to_plain(recording.environment),
        },
        allow_nan=False,
    )


def _origin(recording: Recording) -> int:
    stamps = [run.start_ns for run in recording.runs]
    stamps += [span.start_ns for span in recording.spans]
    stamps += [sample.t_ns for sample in recording.samples]
    stamps += [incident.t_ns for incident in recording.incidents]
    return min(stamps, default=0)


def _run(index: int, instrumented: bool) -> Event:
    name = f"run {index} (instrumented)" if instrumented else f"run {index}"
    return {"name": name, "cat": "run", "args": {"instrumented": instrumented}}


def _span(span: OpSpan) -> Event:
    said = {
        "node": span.node,
        "fused": list(span.fused),
        "bytes": span.bytes,
        "engine": span.engine,
        "device": span.device,
        "provenance": span.provenance.value,
    }
    return {"name": span.op, "cat": "op", "args": said}


def _lanes(
    title: str, rows: Iterable[tuple[int, int, Event]], origin: int, *, first: int
) -> Iterator[Event]:
    """Each event on the first lane that is free when it starts."""
    free: list[int] = []
    for start, duration, event in sorted(rows, key=lambda row: (row[0], -row[1])):
        lane = next((i for i, end in enumerate(free) if end <= start), len(free))
        if lane == len(free):
            free.append(0)
            name = title if lane == 0 else f"{title}, at the same time ({lane + 1})"
            yield _name("thread_name", first + lane, name)
        free[lane] = start + duration
        times = {"ts": (start - origin) / 1000, "dur": duration / 1000}
        yield {"ph": "X", "pid": PID, "tid": first + lane, **times, **event}


def _name(kind: str, tid: int, name: str) -> Event:
    return {"ph": "M", "pid": PID, "tid": tid, "name": kind, "args": {"name": name}}


def _counters(recording: Recording, origin: int) -> Iterator[Event]:
    for sample in recording.samples:
        # A missing reading is a gap in the curve, not a zero.
        if not math.isfinite(sample.value):
            continue
        known = METRICS.get(sample.metric.partition("/")[0])
        unit = known.unit if known else ""
        name = f"{sample.metric} ({unit}, {sample.provenance.value})"
        stamp = (sample.t_ns - origin) / 1000
        yield {"ph": "C", "pid": PID, "ts": stamp, "name": name, "args": {"value": sample.value}}


def _incidents(recording: Recording, origin: int) -> Iterator[Event]:
    for incident in recording.incidents:
        said = {"message": incident.message, "action": incident.action, "outcome": incident.outcome}
        stamp = (incident.t_ns - origin) / 1000
        where = {"pid": PID, "tid": 0, "s": "p"}
        yield {"ph": "i", "ts": stamp, "name": incident.error, "args": said, **where}
