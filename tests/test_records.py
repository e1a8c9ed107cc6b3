"""Records: out to JSON and in again, whole files or none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from coreml_lab.circumstances import Condition, Pace
from coreml_lab.clock import FakeClock
from coreml_lab.errors import InputError, ModelError
from coreml_lab.metrics import METRICS, Provenance, Quantity
from coreml_lab.plain import write_atomically
from coreml_lab.records import (
    SCHEMA,
    Incident,
    OpInfo,
    OpSpan,
    PlanInfo,
    PortInfo,
    ProgramInfo,
    Recording,
    Run,
    Sample,
)


def recording(key: str = "k", start: int = 5) -> Recording:
    program = ProgramInfo(
        name="net",
        key=key,
        package="net.mlpackage",
        precision="fp32",
        inputs=(PortInfo("x", ("n", 3), "fp32"),),
        outputs=(PortInfo("y", ("n", 2), "fp32"),),
        ops=(OpInfo("y", "relu", ("n", 2), "fp32", 24, "net: y"),),
        size_bytes=99,
        dims={"n": (1, 8)},
    )
    span = OpSpan("y", "relu", "portable", "coreml:0", 6, 2, 48, Provenance.MEASURED, ("z",))
    incident = Incident(7, "OutOfMemory", "too large", "SplitBatch", "recovered")
    return Recording(
        environment={"os": "Linux"},
        program=program,
        plan=PlanInfo("portable", "coreml:0", "Core ML program, portable engine (CPU)"),
        runs=(Run(0, start, 10, (span,), (incident,), instrumented=True),),
        samples=(
            Sample(6, "process.cpu.cores", 1.5, Provenance.MEASURED),
            Sample(6, "hw.power.package", math.nan, Provenance.UNAVAILABLE, "no counter"),
        ),
        incidents=(incident,),
        overhead_ns=1200,
    )


def test_a_recording_round_trips_through_json() -> None:
    first = recording()
    again = Recording.from_json(first.to_json())
    assert again.to_json() == first.to_json()
    assert again.program == first.program
    assert again.runs == first.runs
    assert again.spans[0].fused == ("z",)
    assert math.isnan(again.samples[1].value)
    assert again.samples[1].provenance is Provenance.UNAVAILABLE


def test_missing_values_are_never_zero() -> None:
    again = Recording.from_json(recording().to_json()).samples[1]
    assert math.isnan(again.value)
    assert again.note == "no counter"


GOLDEN = Path(__file__).parent / "data"


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_recordings_of_every_schema_are_read(schema: int) -> None:
    """The files were written by the versions that had the schema; they are never made anew."""
    path = GOLDEN / f"recording_schema_{schema}.json"
    assert json.loads(path.read_text())["schema"] == schema
    found = Recording.load(path)
    assert found == recording()
    assert found.schema == SCHEMA


def test_a_newer_schema_is_refused_and_says_which_are_read() -> None:
    with pytest.raises(ModelError, match=f"schema {SCHEMA + 1}; this version reads 1 to {SCHEMA}"):
        Recording.from_json(json.dumps({"schema": SCHEMA + 1}))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = recording().save(tmp_path / "r.json")
    with pytest.raises(ModelError, match="larger than") as caught:
        Recording.load(path, most_bytes=100)
    assert "most_bytes" in caught.value.hint


def test_a_file_that_nests_too_deep_is_one_error() -> None:
    with pytest.raises(ModelError, match="not a recording"):
        Recording.from_json("[" * 200_000 + "]" * 200_000)


def test_save_and_load(tmp_path: Path) -> None:
    path = recording().save(tmp_path / "deep" / "r.json")
    assert Recording.load(path).to_json() == recording().to_json()
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 99}', '{"schema": 1}', '"text"', "\x00"]
)
def test_what_is_no_recording_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        Recording.load(tmp_path / "r.json")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("runs", 0, "duration_ns"), 10**400, "runs: 0: duration_ns: a number that is too large"),
        (("runs", 0, "start_ns"), 2**63, "runs: 0: start_ns: a number that is too large"),
        (("runs", 0, "duration_ns"), -10, "runs: 0: duration_ns: -10 is below zero"),
        (("runs", 0, "spans", 0, "duration_ns"), -1, "spans: 0: duration_ns: -1 is below zero"),
        (("runs", 0, "spans", 0, "bytes"), -1, "bytes: -1 is below zero"),
        (("program", "size_bytes"), -1, "program: size_bytes: -1 is below zero"),
        (("overhead_ns",), -1, "overhead_ns: -1 is below zero"),
        (("overhead_ns",), 10**20, "overhead_ns: a number that is too large"),
        (("pace", "warmup_ns"), [5, -1], "pace: warmup_ns: -1 is below zero"),
        (("conditions", 0, "value", "low"), math.nan, "NaN is not JSON"),
        (("conditions", 0, "value", "value"), -math.inf, "-Infinity is not JSON"),
        (("conditions", 0, "value", "unit"), "\x1b]0;owned\x07", "unit: not a unit"),
    ],
)
def test_numbers_and_units_that_cannot_be_are_one_error(place: Any, value: Any, said: str) -> None:
    kept = dataclasses.replace(
        recording(),
        pace=Pace((1,), None, "", ""),
        conditions=(Condition("load", Quantity(1.0, "s", Provenance.MEASURED, 0.5, 2.0)),),
    )
    data = at = json.loads(kept.to_json())
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(ModelError) as caught:
        Recording.from_json(json.dumps(data))
    assert caught.value.message.endswith(said)


def test_a_number_that_overflows_as_it_is_read_is_refused() -> None:
    text = recording().to_json().replace('"default": null', '"default": 1e999', 1)
    with pytest.raises(ModelError, match=r"default: .*too large"):
        Recording.from_json(text)


@pytest.mark.parametrize("default", [-math.inf, math.inf, 0.5, 3, None])
def test_a_default_without_an_end_is_kept(default: float | None) -> None:
    port = PortInfo("mask", (1,), "fp32", optional=True, default=default)
    program = dataclasses.replace(recording().program, inputs=(port,))
    first = dataclasses.replace(recording(), program=program)
    assert Recording.from_json(first.to_json()).program.inputs[0].default == default


def test_another_kind_of_file_is_named_and_not_called_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_text('{"name": "js"}')
    with pytest.raises(ModelError, match="not a recording: it names no schema"):
        Recording.load(path)


def test_a_missing_or_binary_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path / "b", tmp_path):
        with pytest.raises(ModelError, match="cannot read the recording"):
            Recording.load(path)


def test_merging_orders_by_time_and_numbers_anew() -> None:
    merged = recording(start=50).merge(recording(start=5))
    assert [(r.index, r.start_ns) for r in merged.runs] == [(0, 5), (1, 50)]
    assert len(merged.samples) == 4
    with pytest.raises(ModelError, match="two different programs"):
        recording("a").merge(recording("b"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "f"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "text")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    written = write_atomically(tmp_path / "f", b"")
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_unavailable_quantity_has_no_number_but_a_reason() -> None:
    quantity = Quantity.unavailable("J", "no counter")
    assert math.isnan(quantity.value)
    assert quantity.note == "no counter"


def test_every_metric_has_a_unit_and_a_sentence() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit
        assert metric.help.endswith(".")


def test_a_replay_gives_everything_in_order_of_time() -> None:
    first = recording()
    events = list(first.replay())
    assert [type(event).__name__ for event in events] == [
        *["Sample", "Sample"],
        "Incident",  # of the recording and of its run: told once
        "Run",
    ]
    assert len(events) == len(first.samples) + 1 + len(first.runs)


@pytest.mark.parametrize(("speed", "slept"), [(1.0, 9e-9), (0.5, 18e-9), (None, 0.0)])
def test_a_replay_takes_its_time_scaled(speed: float | None, slept: float) -> None:
    clock = FakeClock()
    assert list(recording().replay(speed, clock=clock))
    assert sum(clock.slept) == pytest.approx(slept, abs=1e-9)


def test_a_receiver_that_is_slow_does_not_delay_the_rest() -> None:
    clock = FakeClock()
    for _ in recording().replay(1.0, clock=clock):
        clock.advance(1.0)
    assert clock.slept == []


def test_a_replay_goes_forward() -> None:
    with pytest.raises(InputError, match="time goes forward"):
        recording().replay(0)
