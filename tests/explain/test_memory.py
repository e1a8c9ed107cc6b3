"""Memory as people read it: a sentence per cell, and a page about leaks."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.explain.facts import facts
from coreml_lab.explain.memory import Leaks, Peak, operations, sentence
from coreml_lab.measure.leaks import Found, Growth
from coreml_lab.measure.memory import MemoryUse
from coreml_lab.metrics import Provenance, Quantity
from tests.support.fakes import recording


def size(value):
    return Quantity(value, "By", Provenance.MEASURED)


GONE = Quantity.unavailable("By", "not told here")
USE = MemoryUse(size(100e6), size(103e6), size(400e6), size(300e6), size(3e6), GONE)


def test_a_cell_is_one_sentence_with_marks():
    assert sentence(USE) == (
        "memory: at most 400 MB ●, 300 MB ● above the start; 103 MB ● now, 3 MB more"
    )


def test_less_and_the_same_are_said_in_words():
    less = dataclasses.replace(USE, grown=size(-2e6))
    assert sentence(less).endswith("2 MB less")
    assert sentence(dataclasses.replace(USE, grown=size(120_001_024.0))).endswith("120 MB more")
    assert sentence(dataclasses.replace(USE, grown=size(0.0))).endswith("now, as before")


def test_the_neural_engine_is_named_where_it_is_told():
    assert "Neural Engine: at most 70.0 MB ●" in sentence(
        dataclasses.replace(USE, neural=size(70e6))
    )


def test_what_is_not_known_says_why():
    lost = dataclasses.replace(USE, peak=GONE, above=GONE)
    assert "peak unavailable (not told here); 103 MB" in sentence(lost)
    assert sentence(MemoryUse(*[GONE] * 6)) == "memory: unavailable (not told here)"


def test_a_peak_prints_as_its_sentence():
    watch = Peak()
    assert repr(watch) == "Peak(running)"
    with cl.peak() as watch:
        pass
    assert repr(watch).startswith("memory: ")


def leak(*windows, unit="By", tolerance=0.0):
    return Leaks("net", Found(10, (Growth("memory", unit, windows, tolerance, 10),)))


def test_a_leak_is_true_and_says_how_much_per_run():
    found = leak(*[20_000.0] * 6)
    assert found
    assert repr(found) == "<Leaks: net: leaks: memory (2 kB per run)>"


def test_no_leak_is_false_and_says_what_could_have_gone_unnoticed():
    found = leak(0.0, 100.0, 0.0, 0.0, 0.0, 0.0, tolerance=640.0)
    assert not found
    assert "not shown: less than 64 B per run" in str(found)


def test_what_may_not_grow_at_all_did_not():
    assert "not shown: none at all" in str(leak(*[0.0] * 6, unit="{file}"))


def test_lines_that_leak_are_listed_and_escaped():
    growth = Growth("objects", "{object}", (100.0,) * 6, 0.0, 10)
    found = Leaks("<b>", Found(10, (growth,), (("<script>.py:3", 48.0),)))
    assert "<script>" not in found.to_html()
    assert json.loads(found.to_json())["tables"][1]["rows"][0][1]["value"] == 48


def test_leaks_of_a_model_end_to_end():
    model = cl.compile(lambda x: cl.ops.relu(x=x), x=cl.spec(4, 8), name="net")
    told = []
    found = cl.leaks(
        model, {"x": np.ones((4, 8), np.float32)}, runs=60, progress=lambda *a: told.append(a)
    )
    assert not found
    assert told[-1] == ("leaks", 1.0)
    assert "no leak shown" in repr(found)
    with pytest.raises(cl.errors.LabError, match="no verdict"):
        cl.leaks(model, {}, windows=2)


def test_a_report_lists_the_operations_that_need_most_memory():
    def net(x):
        return cl.ops.softmax(x=cl.ops.softmax(x=x, axis=0), axis=1)

    model = cl.compile(net, x=cl.spec(64, 64), name="net", engine="portable")
    found = cl.profile(model, {"x": np.ones((64, 64), np.float32)}, runs=3, warmup=1)
    table = operations(facts(found))
    assert [row[2].value for row in table.rows] == [2 * 64 * 64 * 4, 64 * 64 * 4]
    assert table.rows[0][3].value == 1
    assert "Memory per operation" in str(cl.report(found))


def test_where_the_engine_does_not_tell_there_is_no_such_table():
    assert operations(facts(recording())).rows == ()
