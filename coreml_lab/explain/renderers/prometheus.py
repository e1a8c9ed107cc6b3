"""A recording in Prometheus' text format: OpenTelemetry's names as Prometheus spells them.

Dots become underscores, the unit is a suffix in full words, counters end in ``_total``, ratios in
``_ratio`` (OpenTelemetry's rules for the translation). Every line bears its provenance; what is
unavailable is left out, never 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from coreml_lab.explain.facts import Facts, facts
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import METRICS, Kind, Provenance, Quantity
from coreml_lab.records import Recording
from coreml_lab.samples import Samples

UNITS = {
    "s": "seconds",
    "By": "bytes",
    "J": "joules",
    "W": "watts",
    "Hz": "hertz",
    "Cel": "celsius",
}
INFERENCE, OPERATION = "coreml_lab_inference_duration_seconds", "coreml_lab_op_duration_seconds"
Labels = Mapping[str, str]


def render(recording: Recording) -> str:
    """The last value of each metric, a summary of inference times, the time of each operation."""
    found = facts(recording)
    common = {"model": found.program.name, "device": found.plan.device}
    lines = [*_inferences(recording, found, common), *_operations(found, common)]
    return "\n".join([*lines, *_metrics(Samples.of(recording.samples), common)]) + "\n"


def spelled(name: str, unit: str, kind: Kind) -> str:
    """``process.cpu.time`` in ``s``, a counter: ``process_cpu_time_seconds_total``."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", legible(name)).strip("_")
    parts = [plain if re.match("[a-zA-Z]", plain) else f"unnamed_{plain}".strip("_")]
    suffix = "ratio" if unit == "1" and kind is Kind.GAUGE else UNITS.get(unit, "")
    if suffix and not parts[0].endswith(suffix):
        parts.append(suffix)
    return "_".join([*parts, *(["total"] if kind is Kind.COUNTER else [])])


def _inferences(recording: Recording, found: Facts, common: Labels) -> Iterator[str]:
    seconds = [run.duration_ns / 1e9 for run in recording.runs if not run.instrumented]
    if not seconds:
        return
    yield from _head(INFERENCE, "Wall time of an inference, not instrumented.", "summary")
    latency = found.latency
    for share, quantity in ((0.5, latency.p50), (0.95, latency.p95), (0.99, latency.p99)):
        if math.isfinite(quantity.value):
            yield _line(INFERENCE, {**common, "quantile": f"{share:g}"}, quantity)
    how = Provenance.MEASURED
    yield _line(f"{INFERENCE}_sum", common, Quantity(math.fsum(seconds), "s", how))
    yield _line(f"{INFERENCE}_count", common, Quantity(len(seconds), "{run}", how))


def _operations(found: Facts, common: Labels) -> Iterator[str]:
    ops = [op for op in (*found.ops, *found.own_work) if math.isfinite(op.time.value)]
    if ops:
        yield from _head(OPERATION, "Time of an operation in a run, instrumented: median.", "gauge")
    seen = set()
    for op in ops:
        labels = {**common, "node": op.node, "op": op.op}
        line = _line(OPERATION, labels, op.time)
        # Two names may be equal once they are shortened; a series may stand here only once.
        series = line.rpartition(" ")[0]
        if series not in seen:
            seen.add(series)
            yield line


def _metrics(samples: Samples, common: Labels) -> Iterator[str]:
    families: dict[str, list[str]] = {}
    for name in samples.metrics:
        families.setdefault(_title(name), []).append(name)
    for title, names in families.items():
        lines = {line for name in names for line in _last(samples, name, title, common)}
        known = METRICS.get(names[0].partition("/")[0])
        if lines:
            said = known.help if known else "A metric that this version does not know."
            yield from _head(title, said, (known.kind if known else Kind.GAUGE).value)
            yield from sorted(lines)


def _title(name: str) -> str:
    family = name.partition("/")[0]
    known = METRICS.get(family)
    return spelled(family, *((known.unit, known.kind) if known else ("", Kind.GAUGE)))


def _last(samples: Samples, name: str, title: str, common: Labels) -> Iterator[str]:
    """The last reading that there is of a metric."""
    values = samples.of_metric(name)[1]
    if len(values):
        _, slash, part = name.partition("/")
        labels = {**common, **({"id": part} if slash else {})}
        yield _line(title, labels, Quantity(float(values[-1]), "", samples.last_how(name)[0]))


def _head(name: str, said: str, kind: str) -> Iterable[str]:
    yield f"# HELP {name} {legible(said, SENTENCE)}".replace("\\", "\\\\")
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Labels, quantity: Quantity) -> str:
    told = {**labels, "provenance": quantity.provenance.value}
    text = ",".join(f'{key}="{_escaped(value)}"' for key, value in told.items())
    return f"{name}{{{text}}} {quantity.value!r}"


def _escaped(value: str) -> str:
    return legible(value).replace("\\", "\\\\").replace('"', '\\"')
