"""A saved recording as the rows and events that the live strips would have been sent (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Provenance
from coreml_lab.records import Recording
from coreml_lab.widgets.about import Provenances, schema
from coreml_lab.widgets.feed import HOUR_OF_ROWS, Event, Rows
from coreml_lab.widgets.messages import VERSION, Past
from coreml_lab.widgets.pump import ENOUGH_FOR_P99, EXECUTOR, SECOND_NS, WINDOW_NS, percentile

MEASURED = (Provenance.MEASURED, "timed around each call in this process")
# Durations of one second that are sorted for its percentiles; of more, every n-th.
MOST_SORTED = 10_000
LATEST = 2**63 - 1


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
    rows[:, 1 + len(columns) :] = _executor(recording, times)
    return rows


def _executor(recording: Recording, times: np.ndarray) -> Rows:
    """What ``Throughput`` tells at each moment, of every run: nothing is thinned or forgotten."""
    plain = [r for r in recording.runs if not r.instrumented]
    ends = np.array([min(r.start_ns + r.duration_ns, LATEST) for r in plain], np.int64)
    order = np.argsort(ends, kind="stable")
    ends, took = ends[order], np.array([r.duration_ns for r in plain], float)[order] / SECOND_NS
    since = np.searchsorted(ends, times - WINDOW_NS, side="right").tolist()
    until = np.searchsorted(ends, times, side="right").tolist()
    found: Rows = np.full((len(times), len(EXECUTOR)), np.nan)
    for row, (low, high) in enumerate(zip(since, until, strict=True)):
        known = took[low : high : 1 + (high - low) // MOST_SORTED]
        p99 = 0.99 if high - low >= ENOUGH_FOR_P99 else None
        rate = (high - low) * SECOND_NS / WINDOW_NS
        found[row] = rate, *_shares(np.sort(known).tolist(), 0.5, 0.95, p99)
    return found


def _shares(ordered: Sequence[float], *shares: float | None) -> Iterator[float]:
    for share in shares:
        yield math.nan if share is None else percentile(ordered, share)


def _interval(rows: Rows) -> float:
    steps = np.diff(rows[:, 0])
    return float(np.median(steps)) if len(steps) else 0.1


def _provenance(recording: Recording, columns: tuple[str, ...]) -> Provenances:
    samples = recording.samples
    known = dict.fromkeys(EXECUTOR, MEASURED)
    for name in columns:
        hows = samples.hows_of(name)  # type: ignore[attr-defined]
        if hows:
            # The least certain where there is a value, else the reason why there is none.
            valued = len(samples.of_metric(name)[0])  # type: ignore[attr-defined]
            known[name] = samples.weakest_how(name) if valued else hows[-1]  # type: ignore[attr-defined]
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
