"""Samples in columns: a sequence like any other, small in memory, and careful with files."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

import numpy as np
import pytest

from coreml_lab.metrics import Provenance
from coreml_lab.plain import NotPlain
from coreml_lab.samples import CHUNK, COLUMNS, MOST_ROWS, ROW_BYTES, Sample, Samples

MEASURED = Provenance.MEASURED
NONE = Sample(7, "hw.power", math.nan, Provenance.UNAVAILABLE, "no counter")
ROWS = (
    Sample(5, "process.cpu.cores", 1.5, MEASURED),
    Sample(5, "process.memory.usage", 2e9, MEASURED),
    NONE,
    Sample(-3, "process.cpu.cores", 0.25, Provenance.ESTIMATED, "from a model"),
)


def test_they_are_the_rows_they_were_made_of() -> None:
    samples = Samples.of(ROWS)
    assert len(samples) == 4
    assert list(samples)[:2] == list(ROWS[:2])
    assert samples[3] == samples[-1] == ROWS[3]
    assert samples[2].note == "no counter"
    assert math.isnan(samples[2].value)
    assert samples == ROWS
    assert samples[1:3] == ROWS[1:3]
    assert samples[::-2] == ROWS[::-2]
    with pytest.raises(IndexError):
        samples[4]


def test_a_generator_of_more_than_a_chunk_is_kept_whole() -> None:
    count = CHUNK + 3
    samples = Samples.of(Sample(i, f"m/{i % 2}", float(i), MEASURED) for i in range(count))
    assert len(samples) == count
    assert samples[CHUNK] == Sample(CHUNK, "m/0", float(CHUNK), MEASURED)
    assert samples.nbytes == count * ROW_BYTES
    assert sum(1 for _ in samples) == count


def test_what_differs_is_not_equal() -> None:
    samples = Samples.of(ROWS)
    for other in (ROWS[:3], (*ROWS[:3], NONE), (ROWS[1], ROWS[0], *ROWS[2:]), "text", ()):
        assert samples != other
    assert hash(samples) == hash(Samples.of(ROWS))


def test_rows_that_came_in_another_order_first_are_still_equal() -> None:
    """The lists of names are in another order then, and the codes are others."""
    other = Samples.of(ROWS[::-1])[::-1]
    assert other.metrics != Samples.of(ROWS).metrics
    assert other == Samples.of(ROWS)


def test_rows_that_are_equal_have_one_hash() -> None:
    first, second = Samples.of(ROWS[:2]), Samples.of(ROWS[1::-1])[::-1]
    assert first == second
    assert len({first, second, Samples.of(ROWS)[:2]}) == 1


def test_the_least_certain_reading_with_a_value_speaks_for_its_metric() -> None:
    samples = Samples.of(ROWS)
    assert samples.weakest_how("process.cpu.cores") == (Provenance.ESTIMATED, "from a model")
    with pytest.raises(IndexError, match=r"no value of hw\.power"):
        samples.weakest_how("hw.power")


def test_joined_rows_are_in_order_of_time() -> None:
    joined = Samples.joined((Samples.of(ROWS[2:]), Samples.of(ROWS[:2])))
    assert [s.t_ns for s in joined] == [-3, 5, 5, 7]
    assert [s.metric for s in joined][1:3] == ["process.cpu.cores", "process.memory.usage"]
    assert joined[0].provenance is Provenance.ESTIMATED
    assert Samples.joined(()) == ()


def test_one_metric_is_two_arrays_without_what_is_missing() -> None:
    samples = Samples.of(ROWS)
    times, values = samples.of_metric("process.cpu.cores")
    assert times.tolist() == [5, -3]
    assert values.tolist() == [1.5, 0.25]
    assert samples.of_metric("hw.power")[0].size == samples.of_metric("none")[0].size == 0
    assert samples.hows_of("hw.power") == ((Provenance.UNAVAILABLE, "no counter"),)
    assert samples.hows_of("none") == ()


def test_a_time_span_has_both_its_ends() -> None:
    assert [s.t_ns for s in Samples.of(ROWS).between(5, 7)] == [5, 5, 7]


def test_columns_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Samples.of(ROWS).columns["value"][0] = 3


@pytest.mark.parametrize("rows", [(), ROWS])
def test_json_keeps_them_to_the_last_bit(rows: tuple[Sample, ...]) -> None:
    samples = Samples.of(rows)
    again = Samples.of_plain(json.loads(json.dumps(samples.as_plain(), allow_nan=False)))
    assert again == samples


def lied(**changes: Any) -> Any:
    data = Samples.of(ROWS).as_plain()
    columns = data["columns"] | changes.pop("columns", {})
    return data | {"columns": columns} | changes


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lied(rows=5), "column t_ns: not 5 values"),
        (lied(rows=3), "column t_ns: not 3 values"),
        (lied(rows=-1), "-1 samples"),
        (lied(rows=MOST_ROWS + 1), "at most"),
        (lied(metrics=["a"]), "column metric: there are only 1"),
        (lied(hows=[]), "column how: there are only 0"),
        (lied(hows=[["guessed", ""]]), "no provenance"),
        (lied(columns={"value": "&&&&"}), "column value"),
        (lied(columns={"value": base64.b64encode(b"no zlib").decode()}), "column value"),
        (lied(columns={"value": packed(bytes(31))}), "not 4 values"),
        (lied(columns={"extra": ""}), "columns t_ns"),
        ("text", "str instead of"),
        ([{"t_ns": 1}], "no metric"),
    ],
)
def test_a_file_that_lies_is_one_error(data: Any, said: str) -> None:
    with pytest.raises(NotPlain, match=said):
        Samples.of_plain(data)


def test_a_column_that_unpacks_to_more_than_its_rows_is_not_unpacked() -> None:
    bomb = packed(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(NotPlain, match="not 4 values"):
        Samples.of_plain(lied(columns={"t_ns": bomb}))


def test_a_pickle_in_a_column_is_only_bytes() -> None:
    """Objects would be the way to code of a stranger: no column can hold any."""
    assert not any(np.dtype(kind).hasobject for kind in COLUMNS.values())
