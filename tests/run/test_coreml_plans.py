"""Core ML's plans in the compile cache: whose they are, and what becomes of those that go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.caches import cleared_when_found
from tests.support.native import MAC, Double

WEIGHT = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)


def compiled(engine: str = "coreml") -> Any:
    return cl.compile(lambda x: {"y": cl.ops.matmul(x, WEIGHT)}, x=cl.spec(2, 8), engine=engine)


def test_a_plan_is_that_of_one_chip_and_what_was_compiled_serves_them_all(
    double: Double, cache_dir: Path
) -> None:
    model = compiled("portable")
    for chip in ("Apple M3", "Apple M3 Pro", "Apple M3"):
        engine = replace(double.engine(cl.cache()), host=replace(MAC, chip=chip))
        engine.load(model.program, "coreml:0", model.options)
    assert (len(double.calls("compile")), len(double.calls("plan"))) == (1, 2)


def test_a_plan_that_is_cleared_while_it_is_read_is_asked_for_again(
    mac: Double, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled()
    cleared_when_found(monkeypatch, "-plan")
    assert compiled().plan.placements
    assert len(mac.calls("plan")) == 2
