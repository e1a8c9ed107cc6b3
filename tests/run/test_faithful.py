"""Faithful numerics: every fp16 result is rounded to fp16, so overflow shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter

X = np.array([1, 100, 250, 1.234], np.float32)


def _program(x: Any) -> dict[str, Any]:
    ops = cl.ops
    return {"y": ops.sub(ops.mul(x, 300.0), ops.mul(x, 299.0))}


def _compiled(precision: str) -> Any:
    return cl.compile(_program, x=cl.spec(4), precision=precision)


def test_widened_arithmetic_hides_the_overflow_and_the_lost_digits() -> None:
    np.testing.assert_allclose(_compiled("fp16").predict({"x": X})["y"], X, rtol=1e-3)


def test_faithful_arithmetic_gives_what_fp16_gives() -> None:
    x = X.astype(np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x * np.float16(300) - x * np.float16(299)
    assert np.isnan(expected[2])
    found = _compiled("faithful").predict({"x": X})["y"]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_faithful_equals_the_reference_engine_which_stores_fp16() -> None:
    model = _compiled("faithful")
    found, expected = model.predict({"x": X})["y"], model.to("cpu").predict({"x": X})["y"]
    np.testing.assert_array_equal(found, expected)


def test_a_package_can_be_opened_both_ways_and_each_has_its_own_cache_entry() -> None:
    package = _compiled("fp16").info.package
    assert not np.isnan(cl.load(package).predict({"x": X})["y"]).any()
    assert np.isnan(cl.load(package, precision="faithful").predict({"x": X})["y"][2])
    assert not np.isnan(cl.load(package, precision="widened").predict({"x": X})["y"]).any()


def test_the_setting_holds_for_load_and_for_tensors() -> None:
    package = _compiled("fp16").info.package
    with cl.configure(precision="faithful"):
        assert np.isnan(cl.load(package).predict({"x": X})["y"][2])
        x = cl.tensor(X)
        assert np.isnan((x * 300.0 - x * 299.0).numpy()[2])


def test_the_plan_says_so() -> None:
    assert "each result rounded to fp16" in _compiled("faithful").plan.title
    assert "rounded" not in _compiled("fp16").plan.title


@pytest.mark.parametrize("how", ["fp8", "fp16"])
def test_a_precision_that_load_does_not_know_is_refused(how: str) -> None:
    with pytest.raises(UnknownParameter, match=how):
        cl.load(_compiled("fp16").info.package, precision=how)
