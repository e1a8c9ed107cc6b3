"""Every sample as a stored program of the older opsets: read, run, put to the vote. Names no op."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.config import configure
from coreml_lab.program.graph import Array
from coreml_lab.program.ops import OPS, Op
from tests.support.op_cases import CASES, Case, assert_agrees, expected
from tests.support.op_versions import Stored, as_stored, evaluated, results_of

# The newest is what all other tests write; definitions change in each of these.
OLDER = (15, 16, 17)
DEVICES = {"portable": "coreml", "reference": "cpu", "pytorch": "cpu"}
EVERYWHERE = ("portable", "reference")
# What only compression writes, and lists and states, have tests of their own.
PLAIN = [o for o in OPS.values() if not (o.stored and o.name != "cast") and not o.opaque]
EACH = pytest.mark.parametrize(
    ("opset", "name"),
    [
        pytest.param(n, o.name, id=f"iOS{n}-{o.name}", marks=pytest.mark.xdist_group(f"iOS{n}"))
        for n in OLDER
        for o in PLAIN
    ],
)


@functools.cache
def stored(opset: int, folder: Path) -> tuple[Stored, Path]:
    """All samples that the opset takes, in one file."""
    program = Stored(opset)
    names = {o.name for o in PLAIN}
    # One that an engine cannot run would keep it from the whole file.
    cases = [c for c in CASES if c.op.name in names and not c.limit(*DEVICES)]
    return program, program.save(cases, folder / f"iOS{opset}.mlpackage")


@functools.cache
def outputs(opset: int, engine: str, folder: Path) -> Mapping[str, Array]:
    """What the file computes on an engine."""
    program, path = stored(opset, folder)
    with configure(cache_dir=folder):
        found: Mapping[str, Array] = cl.load(path, device=DEVICES[engine], engine=engine).predict(
            program.feeds
        )
    return found


def older_operands(op: Op) -> set[str]:
    """Parameters that only earlier opsets have."""
    return set(inspect.signature(op.reference).parameters) - set(op.signature.parameters)


def of(name: str, program: Stored) -> list[Case]:
    """The cases of an op that are in the file."""
    return [c for c in program.cases if c.op.name == name]


def agrees(opset: int, name: str, engine: str, folder: Path) -> None:
    """Every case of an op on an engine, from the one run of the whole file there."""
    program, _ = stored(opset, folder)
    for case in of(name, program):
        got, want = results_of(case, outputs(opset, engine, folder)), expected(case)
        half = any(w.dtype == np.float16 for w in want)
        assert_agrees(got, as_stored(want), "fp16" if half else "fp32")


@EACH
def test_an_older_program_computes_what_the_definition_says(
    opset: int, name: str, session_cache: Path
) -> None:
    for engine in EVERYWHERE:
        agrees(opset, name, engine, session_cache)


@pytest.mark.torch
@EACH
def test_torch_computes_what_the_definition_of_an_older_opset_says(
    opset: int, name: str, session_cache: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    agrees(opset, name, "pytorch", session_cache)


@EACH
def test_the_older_evaluation_of_apple_agrees_with_the_definition(
    opset: int, name: str, session_cache: Path
) -> None:
    program, _ = stored(opset, session_cache)
    for case in of(name, program):
        value = None if case.limit("apple") else evaluated(case, opset)
        if value is not None:
            assert_agrees(value, expected(case))


@pytest.mark.parametrize("opset", OLDER)
def test_what_an_older_opset_refuses_is_what_it_does_not_have(
    opset: int, session_cache: Path
) -> None:
    program, _ = stored(opset, session_cache)
    silent = {o.name for o in PLAIN} - {c.op.name for c in program.cases}
    lacking = {c.op.name for c, why in program.refused.items() if why.startswith("LookupError")}
    # Ops that are newer; and those that had other operands, which are tested by hand.
    assert silent <= lacking | {o.name for o in PLAIN if older_operands(o)}
    kinds = {why.partition(":")[0] for why in program.refused.values()}
    assert kinds <= {"LookupError", "ValueError", "NotImplementedError"}
