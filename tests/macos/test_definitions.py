"""Core ML against the NumPy definition of every operation: no operation is named here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.config import configure
from coreml_lab.program.graph import Array, Graph
from coreml_lab.program.tensors import Tensor
from coreml_lab.run import compiler
from tests.support.op_cases import CASES, Case, Results, assert_agrees, expected, run_together

pytestmark = [pytest.mark.macos, pytest.mark.slow]

# fp32 on the CPU, fp16 wherever Core ML likes.
UNITS = {"fp32": "CPU_ONLY", "fp16": "ALL"}
ROADS = [
    pytest.param(case, precision, id=f"{case.id}-{precision}")
    for precision in UNITS
    for case in CASES
    if not case.op.stored and not case.op.opaque
]


@functools.cache
def computed(family: str, precision: str, folder: Path) -> Results:
    """What Core ML makes of the samples of a whole family."""

    def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = {k: Tensor(v, "coreml:0") for k, v in graph.outputs.items()}
        with configure(cache_dir=folder, compute_units=UNITS[precision]):
            model = compiler.compile(outputs, precision=precision, engine="coreml")
            return model.predict(feeds)

    cases = [c for c in CASES if c.op.family == family and not c.op.stored and not c.op.opaque]
    return run_together(cases, run, alone=lambda c: bool(c.op.limits))


@pytest.mark.parametrize(("case", "precision"), ROADS)
def test_core_ml_agrees_with_the_definition(
    case: Case, precision: str, session_cache: Path, note: Any
) -> None:
    got = computed(case.op.family, precision, session_cache)[case.id]
    if isinstance(got, Exception):
        raise got
    want = expected(case, precision)
    pairs = [(g, w) for g, w in zip(got, want, strict=True) if g.shape == w.shape and w.size]
    with np.errstate(all="ignore"):
        apart = [np.abs(g.astype(np.float64) - w.astype(np.float64)).max() for g, w in pairs]
    note(largest_difference=float(max(apart, default=0.0)))
    assert_agrees(got, want, f"native {precision}")
