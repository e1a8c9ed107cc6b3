"""diff(): two models, or one on two devices, operation by operation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError, ModelError

X = {"x": np.array([1, 100, 250, 1.234], np.float32)}


def _program(x: Any) -> dict[str, Any]:
    ops = cl.ops
    return {"y": ops.sub(ops.mul(x, 300.0), ops.mul(x, 299.0))}


def _compiled(precision: str) -> Any:
    return cl.compile(_program, x=cl.spec(4), precision=precision)


def test_one_model_on_two_devices_is_identical() -> None:
    found = cl.diff(_compiled("fp32"), "cpu", X)
    assert (found.first, found.worst) == (None, None)
    assert "no operation disagrees" in found.page.headline


def test_files_are_opened() -> None:
    one, other = (_compiled(precision).info.package for precision in ("fp16", "fp32"))
    of_files = cl.diff(one, Path(other), X, min_snr=200)
    of_models = cl.diff(cl.load(one), cl.load(other), X, min_snr=200)
    assert [op.node for op in of_files.ops] == [op.node for op in of_models.ops]
    with pytest.raises(ModelError, match=r"nowhere\.mlpackage"):
        cl.diff(one, "nowhere.mlpackage", X)


def test_faithful_against_widened_names_the_operation_that_overflows() -> None:
    found = cl.diff(_compiled("faithful"), _compiled("fp16"), X)
    assert found.first is not None
    assert (found.first.op, found.first.snr) == ("sub", -math.inf)
    assert "1 of 4 values are not finite" in found.first.agreement.note
    assert found.first.node in str(found)


def test_fp16_against_fp32_matches_names_across_precisions() -> None:
    found = cl.diff(_compiled("fp16"), _compiled("fp32"), {"x": X["x"] / 10}, min_snr=200)
    assert {op.op for op in found.ops} >= {"mul", "sub"}
    assert found.worst is not None
    assert 40 < found.worst.snr < 100
    assert json.loads(found.to_json())["headline"] == found.page.headline
    assert "<table" in found._repr_html_()


def test_models_without_a_common_operation_are_refused() -> None:
    other = cl.compile(lambda x: {"z": cl.ops.relu(x)}, x=cl.spec(4), name="other")
    with pytest.raises(LabError, match="no operation in common"):
        cl.diff(_compiled("fp32"), other, X)
