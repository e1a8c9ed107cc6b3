"""A model in processes of its own: what they tell, and every way in which they cannot."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, LabError, Timeout
from coreml_lab.measure import alone as apart
from coreml_lab.measure.alone import Alone, _answer, alone

X = {"x": np.ones((4, 8), np.float32)}


def model(**options):
    return cl.compile(lambda x: cl.ops.relu(x=x), x=cl.spec(4, 8), name="net", **options)


def test_a_model_is_loaded_cold_then_warm_and_run():
    cold, warm = alone(model(), X, seconds=300)
    assert cold.load_s > warm.load_s > 0
    assert warm.first_s > 0
    # Cold takes coremltools, to read the package; warm does without.
    assert cold.load_peak > warm.load_peak > 0
    assert warm.held <= warm.run_peak or warm.refused
    assert np.isnan(warm.device_peak)


def test_this_process_can_do_it_too(tmp_path):
    orders = apart._orders(model(engine="reference", device="cpu"), tmp_path)
    assert (orders.engine, orders.device, orders.precision) == ("reference", "cpu", "widened")
    found = apart.measured(orders, X)
    assert found.load_s > 0
    assert found.what


def test_a_file_that_is_gone_and_a_foreign_engine_are_reasons():
    whole = model()
    whole.program.info = dataclasses.replace(whole.info, package="/there/is/no.mlpackage")
    with pytest.raises(LabError, match="its file is gone"):
        next(alone(whole, X))
    other = model()
    other.plan = dataclasses.replace(other.plan, engine="mine")
    with pytest.raises(LabError, match="mine is an engine of one's own"):
        next(alone(other, X))


def test_a_process_that_takes_too_long_is_ended():
    with pytest.raises(Timeout, match="took longer than the 1 s"):
        next(alone(model(), X, seconds=0))


def answer(**changes):
    row = dataclasses.asdict(Alone(1.0, 0.5, 3.0, 2.0, 1.0, 0.0, 0.0, "", "resident set"))
    return json.dumps({**row, **changes}).encode()


def test_the_last_line_is_the_answer_and_null_is_not_a_number():
    found = _answer(b"an engine says hello\n" + answer(device_peak=None) + b"\n", b"", 0)
    assert found.load_s == 1
    assert np.isnan(found.device_peak)


@pytest.mark.parametrize("told", [b"", b"hello", b"[1]", b"{}", answer(more=1)])
def test_anything_else_is_an_error_with_the_last_words(told):
    with pytest.raises(EngineError, match="no such device"):
        _answer(told, b"Traceback\nEngineUnavailable: no such device\n", 1)
    with pytest.raises(EngineError, match="it ended with -9"):
        _answer(told, b"", -9)
