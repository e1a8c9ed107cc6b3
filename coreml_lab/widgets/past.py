"""A saved recording as the rows and events that the live strips would have been sent (pure)."""

from __future__ import annotations

import numpy as np

from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Provenance
from coreml_lab.records import Recording
from coreml_lab.run.activity import Activity
from coreml_lab.widgets.about import Provenances, schema
from coreml_lab.widgets.feed import HOUR_OF_ROWS, Event, Rows
from coreml_lab.widgets.messages import VERSION, Past
from coreml_lab.widgets.pump import EXECUTOR, SECOND_NS, Throughput

MEASURED = (Provenance.MEASURED, "timed around each call in this process")


def past(recording: Recording) -> tuple[Past, list[bytes]]:
    """Header and buffer: the last hour's worth of rows, time first, as in a live frame."""
    samples = recording.samples
    columns = tuple(samples.metrics)  # type: ignore[attr-defined]  # made so by __post_init__
    rows = _rows(recording, columns)
    made = schema((*columns, *EXECUTOR), _provenance(recording, columns), _interval(rows))
    header: Past = {
        "k": "past",
        "v": VERSION,
        "name": legible(recording.program.name),
        "schema": made,
        "n": len(rows),
        "events": [*_regions(recording), *_incidents(recording)],
    }
    return header, [rows.astype("<f8", copy=False).tobytes()]


def _rows(recording: Recording, columns: tuple[str, ...]) -> Rows:
    """A row per reading of the metric that was read most often: the sampler's own pace."""
    found = [recording.samples.of_metric(name) for name in columns]  # type: ignore[attr-defined]
    times = max((t for t, _ in found), key=len, default=np.empty(0, np.int64))
    times = np.unique(times)
    cut = len(times) > HOUR_OF_ROWS
    times = times[-HOUR_OF_ROWS:]
    rows: Rows = np.full((len(times), 1 + len(columns) + len(EXECUTOR)), np.nan)
    if not len(times):
        return rows
    rows[:, 0] = times / SECOND_NS
    for place, (t, values) in enumerate(found, start=1):
        # What another source read in between belongs to the row before it, or to the first.
        kept = t >= times[0] if cut else np.ones(len(t), bool)
        row = np.searchsorted(times, t[kept], side="right") - 1
        rows[np.maximum(row, 0), place] = values[kept]
    busy = _throughput(recording)
    for each, moment in zip(rows, times, strict=True):
        each[1 + len(columns) :] = busy.at(int(moment))
    return rows


def _throughput(recording: Recording) -> Throughput:
    activity = Activity()
    found = Throughput(activity)
    plain = [(r.start_ns, r.duration_ns) for r in recording.runs if not r.instrumented]
    activity.finished.extend(sorted(plain))
    activity.total = len(plain)
    found.collect()
    return found


def _interval(rows: Rows) -> float:
    steps = np.diff(rows[:, 0])
    return float(np.median(steps)) if len(steps) else 0.1


def _provenance(recording: Recording, columns: tuple[str, ...]) -> Provenances:
    samples = recording.samples
    known = dict.fromkeys(EXECUTOR, MEASURED)
    for name in columns:
        hows = samples.hows_of(name)  # type: ignore[attr-defined]
        if hows:
            # The last reading's where there is a value, else the reason why there is none.
            valued = len(samples.of_metric(name)[0])  # type: ignore[attr-defined]
            known[name] = samples.last_how(name) if valued else hows[-1]  # type: ignore[attr-defined]
    return known


def _regions(recording: Recording) -> list[Event]:
    return [
        {
            "k": "cell",
            "id": region.index,
            "n": None,
            "src": legible(region.name),
            "t0": region.start_ns / SECOND_NS,
            "t1": (region.start_ns + region.duration_ns) / SECOND_NS,
            "ok": True,
        }
        for region in recording.regions
        if region.parent is None
    ]


def _incidents(recording: Recording) -> list[Event]:
    return [
        {
            "k": "incident",
            "id": index,
            "t": incident.t_ns / SECOND_NS,
            "error": legible(incident.error),
            "message": legible(incident.message, SENTENCE),
            "action": legible(incident.action, SENTENCE),
            "outcome": legible(incident.outcome, SENTENCE),
        }
        for index, incident in enumerate(recording.every_incident)
    ]
