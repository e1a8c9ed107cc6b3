"""Exports under OpenTelemetry's names: Prometheus' text format and OTLP's JSON."""

from __future__ import annotations

import json
import math
import re

import pytest

from coreml_lab.explain.renderers.prometheus import OPERATION, OWN, spelled
from coreml_lab.explain.report import report
from coreml_lab.metrics import METRICS, Kind, Provenance
from coreml_lab.records import OpSpan, Run, Sample
from tests.support.fakes import MS, recording
from tests.test_legible import EVIL, assert_visible, evil

# Prometheus' data model: names of metrics and labels; a value; no escape but these three.
LINE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\\\|\\"|\\n)*",?)*\})? \S+'
)
SAMPLES = (
    Sample(MS, "process.cpu.time", 1.0, Provenance.MEASURED),
    Sample(2 * MS, "process.cpu.time", 3.5, Provenance.MEASURED),
    Sample(2 * MS, "system.cpu.core/0", 0.25, Provenance.MEASURED),
    Sample(2 * MS, "system.cpu.core/1", 0.5, Provenance.MEASURED),
    Sample(2 * MS, "coreml_lab.power.cpu.low", 2.0, Provenance.ESTIMATED, "2 W a core"),
    Sample(2 * MS, "hw.power.package", math.nan, Provenance.UNAVAILABLE, "no counter"),
)


@pytest.mark.parametrize(
    ("name", "unit", "kind", "wanted"),
    [
        ("process.cpu.time", "s", Kind.COUNTER, "process_cpu_time_seconds_total"),
        ("process.memory.usage", "By", Kind.GAUGE, "process_memory_usage_bytes"),
        ("hw.power", "W", Kind.GAUGE, "hw_power_watts"),
        ("system.cpu.core", "1", Kind.GAUGE, "system_cpu_core_ratio"),
        ("system.cpu.cores", "{core}", Kind.GAUGE, "system_cpu_cores"),
        ("hw.energy", "J", Kind.COUNTER, "hw_energy_joules_total"),
    ],
)
def test_names_are_spelled_as_prometheus_does(name, unit, kind, wanted):
    assert spelled(name, unit, kind) == wanted


def test_every_metric_has_a_spelling_of_its_own():
    found = [spelled(m.name, m.unit, m.kind) for m in METRICS.values()]
    assert len({*found, *OWN}) == len(found) + len(OWN)


def test_prometheus_has_the_last_values_with_their_provenance():
    told = report(recording(samples=SAMPLES)).to_prometheus()
    common = 'model="tiny",device="coreml:0"'
    how = 'provenance="measured"'
    assert f"process_cpu_time_seconds_total{{{common},{how}}} 3.5\n" in told
    assert f'system_cpu_core_ratio{{{common},id="1",{how}}} 0.5\n' in told
    assert "coreml_lab_power_cpu_low_watts{" in told
    assert 'provenance="estimated"} 2.0' in told
    assert "hw_power_package" not in told
    assert told.count("# TYPE system_cpu_core_ratio gauge") == 1
    assert "# TYPE process_cpu_time_seconds_total counter" in told


def test_prometheus_has_a_summary_of_inferences_and_the_time_of_operations():
    told = report(recording()).to_prometheus()
    assert "# TYPE coreml_lab_inference_duration_seconds summary" in told
    assert 'quantile="0.5",provenance="measured"} 0.0055' in told
    assert 'quantile="0.95"' not in told
    assert re.search(r"duration_seconds_count\{.*\} 4\n", told)
    assert 'node="conv_0",op="conv",provenance="measured"} 0.002' in told


@pytest.mark.parametrize("name", EVIL)
def test_a_strangers_name_stays_inside_its_label(name):
    told = report(evil(EVIL[name])).to_prometheus()
    assert len(told) < 50_000
    for line in told.rstrip("\n").split("\n"):
        assert line.startswith("# ") or LINE.fullmatch(line), line


def test_a_series_stands_in_the_text_only_once():
    told = report(evil(EVIL["long"])).to_prometheus()
    series = [line.rpartition(" ")[0] for line in told.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


def series(told):
    """Each series and its value; every one of them stands there once, as does each type."""
    lines = told.splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    found = [line.rpartition(" ")[::2] for line in lines if not line.startswith("#")]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_an_operation_that_two_engines_ran_has_a_line_of_each_with_its_device():
    spans = tuple(
        OpSpan("c", "conv", engine, device, 0, took, 1, Provenance.MEASURED)
        for engine, device, took in (("portable", "cpu", 5 * MS), ("pytorch", "cuda:0", 3 * MS))
    )
    runs = (Run(0, 0, 9 * MS, spans, instrumented=True),)
    found = series(report(recording(runs=runs, samples=())).to_prometheus())
    ends = 'node="c",op="conv",provenance="measured"}'
    start = f'{OPERATION}{{model="tiny",device='
    assert found == {
        f'{start}"cpu",engine="portable",{ends}': "0.005",
        f'{start}"cuda:0",engine="pytorch",{ends}': "0.003",
    }


@pytest.mark.parametrize(
    "names",
    [
        ("a.b", "a_b", "a-b"),
        ("system.cpu.core/0", "system.cpu.core.ratio/0"),
        ("coreml_lab.inference.duration.seconds", "coreml_lab.inference.duration.seconds.sum"),
        ("coreml_lab.op.duration.seconds", "coreml_lab.op.duration.seconds_2"),
        tuple(f"hw.power.gpu/{'a' * 150}{i}{'b' * 150}" for i in range(3)),
        tuple(f"{'a' * 150}{i}{'b' * 150}" for i in range(3)),
    ],
)
def test_metrics_of_one_spelling_keep_a_series_each(names):
    samples = [Sample(1, n, 10.0 + i, Provenance.MEASURED) for i, n in enumerate(names)]
    for order in (samples, samples[::-1]):
        found = series(report(recording(samples=tuple(order))).to_prometheus())
        assert {f"{10.0 + i}" for i in range(len(names))} <= set(found.values())
        # The lines of what the exporter itself tells are as they were.
        plain = series(report(recording(samples=())).to_prometheus())
        assert plain.items() <= found.items()


def test_a_strangers_metric_does_not_take_the_name_of_one_that_is_known():
    names = ("process_cpu_cores", "process.cpu.cores")
    samples = tuple(Sample(1, n, float(i), Provenance.MEASURED) for i, n in enumerate(names))
    told = report(recording(samples=samples)).to_prometheus()
    assert re.search(r"^process_cpu_cores\{.*\} 1\.0$", told, re.MULTILINE)
    assert re.search(r"^process_cpu_cores_2\{.*\} 0\.0$", told, re.MULTILINE)


def metrics(found):
    (resource,) = json.loads(report(found).to_otlp())["resourceMetrics"]
    about = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
    (scope,) = resource["scopeMetrics"]
    return about, {m["name"]: m for m in scope["metrics"]}


def test_otlp_has_every_reading_with_its_time_as_text():
    about, found = metrics(recording(samples=SAMPLES, epoch_ns=10**18))
    assert about["service.name"] == "tiny"
    assert about["coreml_lab.clock"] == "unix"
    counter = found["process.cpu.time"]
    assert counter["unit"] == "s"
    assert counter["sum"]["isMonotonic"] is True
    assert counter["sum"]["aggregationTemporality"] == 2
    points = counter["sum"]["dataPoints"]
    assert [p["asDouble"] for p in points] == [1.0, 3.5]
    assert points[0]["timeUnixNano"] == str(10**18 + MS)
    assert "hw.power.package" not in found
    cores = found["system.cpu.core"]["gauge"]["dataPoints"]
    assert {"key": "hw.id", "value": {"stringValue": "1"}} in cores[1]["attributes"]


def test_otlp_says_where_its_clock_is_not_that_of_the_world():
    about, found = metrics(recording(samples=SAMPLES))
    assert about["coreml_lab.clock"] == "monotonic"
    durations = found["coreml_lab.inference.duration"]["gauge"]["dataPoints"]
    assert [p["asDouble"] for p in durations] == [0.004, 0.005, 0.006, 0.007]


@pytest.mark.parametrize("name", EVIL)
def test_otlp_is_ascii_small_and_says_only_what_can_be_seen(name):
    told = report(evil(EVIL[name])).to_otlp()
    assert told.isascii()
    assert len(told) < 50_000
    assert_visible(json.dumps(json.loads(told), ensure_ascii=False))
