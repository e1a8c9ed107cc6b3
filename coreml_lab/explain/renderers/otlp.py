"""A recording in the shape of OpenTelemetry's protocol (OTLP), metrics as JSON.

It is what an exporter would post to ``/v1/metrics``. OTLP counts nanoseconds since 1970; where a
recording does not know when that was, its stamps stay monotonic, and an attribute says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import METRICS, Kind, Metric, Provenance
from coreml_lab.records import Recording
from coreml_lab.samples import Samples

SCOPE = "coreml_lab"
DURATION = "coreml_lab.inference.duration"
CUMULATIVE = 2
Plain = dict[str, Any]


def render(recording: Recording) -> str:
    """An ``ExportMetricsServiceRequest`` in ASCII; 64-bit numbers are strings, as OTLP asks."""
    epoch = recording.epoch_ns
    environment = {f"coreml_lab.environment.{k}": v for k, v in recording.environment.items()}
    about = {
        "service.name": recording.program.name,
        "coreml_lab.device": recording.plan.device,
        "coreml_lab.engine": recording.plan.engine,
        "coreml_lab.clock": "unix" if epoch is not None else "monotonic",
        **environment,
    }
    metrics = [_durations(recording), *_levels(Samples.of(recording.samples), epoch or 0)]
    scope = {"scope": {"name": SCOPE}, "metrics": [m for m in metrics if m]}
    resource = {"resource": {"attributes": _attributes(about)}, "scopeMetrics": [scope]}
    return json.dumps({"resourceMetrics": [resource]}, allow_nan=False)


def _durations(recording: Recording) -> Plain:
    """Every inference that was not instrumented, as a gauge at its end."""
    runs = [run for run in recording.runs if not run.instrumented]
    epoch = recording.epoch_ns or 0
    points = [
        {
            "startTimeUnixNano": str(epoch + run.start_ns),
            "timeUnixNano": str(epoch + run.start_ns + run.duration_ns),
            "asDouble": run.duration_ns / 1e9,
            "attributes": _attributes({"coreml_lab.provenance": "measured"}),
        }
        for run in runs
    ]
    said = "Wall time of an inference."
    known = {"name": DURATION, "unit": "s", "description": said}
    return {**known, "gauge": {"dataPoints": points}} if points else {}


def _levels(samples: Samples, epoch: int) -> list[Plain]:
    points: dict[str, list[Plain]] = {}
    for name in samples.metrics:
        # What is unavailable has no point: OTLP's way to say that there is no value.
        times, values = samples.of_metric(name)
        if len(values):
            said = [_said(name, *how) for how in samples.hows]
            rows = (times.tolist(), values.tolist(), samples.codes_of(name).tolist())
            points.setdefault(name.partition("/")[0], []).extend(
                {"timeUnixNano": str(epoch + t), "asDouble": value, "attributes": said[code]}
                for t, value, code in zip(*rows, strict=True)
            )
    return [_metric(family, METRICS.get(family), rows) for family, rows in points.items()]


def _said(name: str, how: Provenance, note: str) -> list[Plain]:
    _, slash, part = name.partition("/")
    said = {"coreml_lab.provenance": how.value}
    said |= {"hw.id": part} if slash else {}
    return _attributes(said | ({"coreml_lab.note": note} if note else {}))


def _metric(name: str, known: Metric | None, points: list[Plain]) -> Plain:
    told: Plain = {"name": legible(name)}
    if known is not None:
        told |= {"unit": known.unit, "description": known.help}
    if known is not None and known.kind is Kind.COUNTER:
        whole = {"aggregationTemporality": CUMULATIVE, "isMonotonic": True, "dataPoints": points}
        return {**told, "sum": whole}
    return {**told, "gauge": {"dataPoints": points}}


def _attributes(said: Mapping[str, str]) -> list[Plain]:
    return [
        {"key": legible(key), "value": {"stringValue": legible(value, SENTENCE)}}
        for key, value in said.items()
    ]
