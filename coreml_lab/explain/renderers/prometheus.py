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
# Names that are no metric's here.
OWN = frozenset({INFERENCE, f"{INFERENCE}_sum", f"{INFERENCE}_count", OPERATION})
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
    rows = []
    for op in ops:
        where = {"device": op.device, "engine": op.engine}
        rows.append(({**common, **where, "node": op.node, "op": op.op}, op.time))
    yield from _series(OPERATION, rows)


def _metrics(samples: Samples, common: Labels) -> Iterator[str]:
    families: dict[str, list[str]] = {}
    for name in sorted(samples.metrics):
        families.setdefault(name.partition("/")[0], []).append(name)
    for family, title in _titles(families).items():
        rows = [row for name in families[family] for row in _last(samples, name, common)]
        known = METRICS.get(family)
        if rows:
            said = known.help if known else "A metric that this version does not know."
            yield from _head(title, said, (known.kind if known else Kind.GAUGE).value)
            yield from _series(title, rows)


def _titles(families: Iterable[str]) -> dict[str, str]:
    """Family -> its spelling; where another has that already, with a number.

    Those that are known have theirs first, so that it does not depend on strangers' names.
    """
    found: dict[str, str] = {}
    taken = set(OWN)
    for family in sorted(families, key=lambda name: (name not in METRICS, name)):
        known = METRICS.get(family)
        title = plain = spelled(family, *((known.unit, known.kind) if known else ("", Kind.GAUGE)))
        number = 2
        while title in taken:
            title, number = f"{plain}_{number}", number + 1
        taken.add(title)
        found[family] = title
    return found


def _last(samples: Samples, name: str, common: Labels) -> Iterator[tuple[Labels, Quantity]]:
    """The last reading that there is of a metric."""
    values = samples.of_metric(name)[1]
    if len(values):
        _, slash, part = name.partition("/")
        labels = {**common, **({"id": part} if slash else {})}
        yield labels, Quantity(float(values[-1]), "", samples.last_how(name)[0])


def _series(name: str, rows: Iterable[tuple[Labels, Quantity]]) -> Iterator[str]:
    """A line each. Two names may be equal once they are shortened: the second says that it is."""
    seen: dict[str, int] = {}
    for labels, quantity in rows:
        line = _line(name, labels, quantity)
        series = line.rpartition(" ")[0]
        seen[series] = count = seen.get(series, 0) + 1
        yield line if count == 1 else _line(name, {**labels, "same": str(count)}, quantity)


def _head(name: str, said: str, kind: str) -> Iterable[str]:
    yield f"# HELP {name} {legible(said, SENTENCE)}".replace("\\", "\\\\")
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Labels, quantity: Quantity) -> str:
    told = {**labels, "provenance": quantity.provenance.value}
    text = ",".join(f'{key}="{_escaped(value)}"' for key, value in told.items())
    return f"{name}{{{text}}} {quantity.value!r}"


def _escaped(value: str) -> str:
    return legible(value).replace("\\", "\\\\").replace('"', '\\"')
