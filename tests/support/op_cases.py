"""Every sample of every op as a case, and ways to run many in one program; no op is named."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from coreml_lab.program import mil
from coreml_lab.program.arrays import as_data
from coreml_lab.program.graph import Array, Dim, Graph, Node, Operand, TensorType, Value
from coreml_lab.program.mil.tools import nptype_from_builtin, types
from coreml_lab.program.ops import OPS, Op
from coreml_lab.program.tensors import const

# Relative and absolute, per precision; integers and truth values must be equal.
TOLERANCE = {"fp32": (1e-5, 1e-5), "fp16": (5e-3, 5e-3)}
# Core ML's own arithmetic, on whichever processor.
TOLERANCE |= {"native fp32": (1e-4, 1e-4), "native fp16": (2e-2, 2e-2)}
# What a Limit may speak of: an engine, being captured as a CUDA graph, Apple's own evaluation, or
# a precision on any engine.
LIMITED = ("portable", "reference", "pytorch", "captured", "apple", "fp16")
Results = dict[str, "tuple[Array, ...] | Exception"]


@dataclass(frozen=True, eq=False)
class Case:
    """One sample of one op."""

    op: Op
    index: int

    @property
    def id(self) -> str:
        """``activation-softmax-1``: family, op, number of the sample."""
        return f"{self.op.family}-{self.op.name}-{self.index}"

    @property
    def sample(self) -> dict[str, Any]:
        """A fresh copy of the arguments: some evaluations write into theirs."""
        return {k: native(copy.deepcopy(v)) for k, v in self.op.samples[self.index].items()}

    @property
    def operands(self) -> dict[str, Any]:
        """The tensor arguments that are given."""
        return {k: v for k, v in self.sample.items() if k in self.op.operands and v is not None}

    @property
    def attrs(self) -> dict[str, Any]:
        """The constant arguments that are given."""
        return {k: v for k, v in self.sample.items() if k not in self.op.operands and v is not None}

    @property
    def fed(self) -> list[Array]:
        """The arrays that a program of this case is fed."""
        given = [v for k, v in self.operands.items() if k not in self.op.baked]
        flat = [a for v in given for a in (v if isinstance(v, tuple | list) else (v,))]
        return [a for a in flat if isinstance(a, np.ndarray)]

    def limit(self, *engines: str) -> str:
        """Why one of ``engines`` cannot do it, or an empty string."""
        found = [
            m.why for m in self.op.limits if m.engine in engines and m.sample in {-1, self.index}
        ]
        return found[0] if found else ""


def native(value: Any) -> Any:
    """A sample marked as int4, uint1, … as coremltools marks such arrays."""
    kind = isinstance(value, np.ndarray) and (value.dtype.metadata or {}).get("mil")
    return value.astype(nptype_from_builtin(types.string_to_builtin(kind))) if kind else value


CASES = tuple(Case(op, i) for op in OPS.values() for i in range(len(op.samples)))


def family(case: Case) -> tuple[Case, ...]:
    """The cases that run together with ``case``."""
    return tuple(c for c in CASES if c.op.family == case.op.family)


def parameters(*engines: str, cases: Iterable[Case] = CASES) -> list[Any]:
    """The cases as test parameters; a limit of ``engines`` must fail, a stale one is an error."""

    def marks(case: Case) -> list[Any]:
        why = case.limit(*engines)
        return [pytest.mark.xfail(reason=why, strict=True)] if why else []

    return [pytest.param(c, id=c.id, marks=marks(c)) for c in cases]


def halved(value: Any) -> Any:
    """``value`` with floating-point arrays rounded to half precision, kept as single."""
    if isinstance(value, list | tuple):
        return type(value)(halved(v) for v in value)
    is_float = isinstance(value, np.ndarray) and value.dtype == np.float32
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(np.float32) if is_float else value


@functools.cache
def expected(case: Case, precision: str = "fp32") -> tuple[Array, ...]:
    """What the op's NumPy body computes (on rounded inputs in half precision)."""
    sample = {k: halved(v) if precision == "fp16" else v for k, v in case.sample.items()}
    with np.errstate(all="ignore"):
        result = case.op.reference(**sample)
    return tuple(np.asarray(r) for r in (result if isinstance(result, tuple | list) else (result,)))


def record(case: Case, feeds: dict[str, Array]) -> Node:
    """The case as a node of a program; arrays become inputs, which are added to ``feeds``."""
    operands = {
        k: _operand(v, f"{case.id}-{k}".replace("-", "_"), feeds, bake=k in case.op.baked)
        for k, v in case.operands.items()
    }
    types = (
        # MIL's rules ask for lists and states, which are tensors here.
        tuple(TensorType(v.shape, v.dtype) for v in expected(case))
        if case.op.opaque
        else mil.infer(case.op.name, operands, case.attrs)
    )
    return Node(case.op.name, types, operands, case.attrs, name=case.id.replace("-", "_"))


def _operand(value: Any, name: str, feeds: dict[str, Array], *, bake: bool) -> Operand:
    if isinstance(value, tuple | list) and any(isinstance(v, np.ndarray) for v in value):
        parts = [_operand(v, f"{name}_{i}", feeds, bake=bake) for i, v in enumerate(value)]
        return tuple(p for p in parts if isinstance(p, Value))
    if bake or not isinstance(value, np.ndarray):
        return const(as_data(value))
    feeds[name] = value
    return Value(Node("input", (TensorType(value.shape, value.dtype),), name=name))


def program(cases: Iterable[Case]) -> tuple[Graph, dict[str, Array]]:
    """All the cases side by side in one program, and what to feed it."""
    feeds: dict[str, Array] = {}
    nodes = {c: record(c, feeds) for c in cases}
    outputs = {f"{n.name}_out{i}": Value(n, i) for n in nodes.values() for i in range(len(n.types))}
    return Graph(outputs), feeds


Run = Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]


def run_together(cases: list[Case], run: Run, *, alone: Callable[[Case], bool]) -> Results:
    """Results per case: of one program or, where that fails, of its halves: only culprits fail."""
    results = _halving([c for c in cases if not alone(c)], run)
    for case in cases:
        if alone(case):
            results |= _halving([case], run)
    return results


def _halving(cases: list[Case], run: Run) -> Results:
    try:
        return dict(_run(cases, run))
    except Exception as error:  # noqa: BLE001 - raised by the test of the case that caused it
        if len(cases) == 1:
            return {cases[0].id: error}
        middle = len(cases) // 2
        return _halving(cases[:middle], run) | _halving(cases[middle:], run)


def _run(cases: list[Case], run: Run) -> dict[str, tuple[Array, ...]]:
    graph, feeds = program(cases)
    got = run(graph, feeds) if cases else {}
    prefix = {c.id: c.id.replace("-", "_") for c in cases}
    return {
        k: tuple(got[n] for n in graph.outputs if n.rpartition("_out")[0] == p)
        for k, p in prefix.items()
    }


def assert_agrees(got: Iterable[Any], want: tuple[Array, ...], precision: str = "fp32") -> None:
    """Equal number of results, shapes and kinds; values within the tolerance of ``precision``."""
    found = tuple(np.asarray(g) for g in got)
    assert len(found) == len(want)
    rtol, atol = TOLERANCE[precision]
    for g, w in zip(found, want, strict=True):
        assert g.shape == w.shape
        if w.dtype.kind == "f":
            assert g.dtype.kind == "f"
            np.testing.assert_allclose(
                g.astype(np.float32), w.astype(np.float32), rtol=rtol, atol=atol
            )
        else:
            np.testing.assert_array_equal(g, w)


def fits(kind: TensorType, value: Array) -> bool:
    """Whether ``value`` is of that type; a flexible dimension fits any size."""
    sizes = len(kind.shape) == value.ndim and all(
        isinstance(d, Dim) or d == n for d, n in zip(kind.shape, value.shape, strict=True)
    )
    return sizes and kind.dtype == value.dtype
