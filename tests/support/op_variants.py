"""The samples of every op in every element type that MIL admits, and without elements."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program import mil
from coreml_lab.program.arrays import as_data
from coreml_lab.program.graph import NUMPY_NAME, Array, Dim, Graph, Node, TensorType, Value
from coreml_lab.program.mil.tools import SSAOpRegistry, ct, types
from coreml_lab.program.ops import Op
from coreml_lab.program.tensors import const
from tests.support.op_cases import CASES, Case

OPSETS = {n: getattr(ct.target, f"iOS{n}") for n in (15, 16, 17, 18)}
# Sub-byte integers are stored weights: tests/program/test_stored.py has them all.
DTYPES = {m: np.dtype(n) for m, n in NUMPY_NAME.items() if "64" not in m}


@dataclass(frozen=True, eq=False)
class Variant(Case):
    """A sample of an op, changed as ``label`` says."""

    label: str

    @property
    def id(self) -> str:
        """``shape-reshape-2-x=fp16``: family, op, number of the sample, what was changed."""
        return f"{self.op.family}-{self.op.name}-{self.label}"


def variant(case: Case, label: str, changed: Mapping[str, Any]) -> Variant:
    """``case`` with other arguments; its limits stay."""
    limits = tuple(
        dataclasses.replace(m, sample=0) for m in case.op.limits if m.sample in {-1, case.index}
    )
    op = dataclasses.replace(case.op, samples=(case.sample | changed,), limits=limits)
    return Variant(op, 0, f"{case.index}-{label}")


def domains(op: Op, opset: int) -> dict[str, dict[str, tuple[str, ...]]]:
    """Per group of parameters that share a type: the parameters, and the types MIL admits."""
    kind = SSAOpRegistry.core_ops.get(op.name, {}).get(OPSETS[opset])
    groups: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, spec in kind.input_spec.input_types.items() if kind else ():
        group = getattr(spec, "type_domain_id", None)
        found = kind.type_domains[group] if group else getattr(spec, "type_domain", ())
        if found and not name.startswith("_"):
            names = tuple(sorted(types.builtin_to_string(t) for t in found))
            groups.setdefault(group or name, {})[name] = names
    return groups


def retyped(value: Any, dtype: np.dtype[Any]) -> Any:
    """``value`` in another element type, rounded away from zero and cut to its range."""
    if isinstance(value, tuple | list) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(retyped(v, dtype) for v in value)
    array: Array = np.asarray(value)
    if array.dtype.kind == "f" and dtype.kind in "iu":
        array = np.nan_to_num(np.copysign(np.ceil(np.abs(array)), array), posinf=100, neginf=-100)
    if dtype.kind in "iu" and array.dtype.kind != "b":
        array = np.clip(array, np.iinfo(dtype).min, np.iinfo(dtype).max)
    with np.errstate(over="ignore"):
        made = np.asarray(array).astype(dtype)
    return made if isinstance(value, np.ndarray) else made[()]


def dtype_variants(opset: int) -> Iterator[Variant]:
    """Every sample with each group of its parameters in each type that it admits."""
    for case in CASES:
        for group, parameters in domains(case.op, opset).items():
            given = {k: v for k in parameters if (v := case.sample.get(k)) is not None}
            own = {_dtype(v) for v in given.values()}
            names = next(iter(parameters.values()))
            for name in names if len(names) > 1 else ():
                dtype = DTYPES.get(name)
                if given and dtype is not None and own != {dtype}:
                    changed = {k: retyped(v, dtype) for k, v in given.items()}
                    yield variant(case, f"{group}={name}", changed)


def _dtype(value: Any) -> np.dtype[Any]:
    first = value[0] if isinstance(value, tuple | list) and len(value) else value
    return np.asarray(first).dtype


def sizes(case: Case) -> list[int]:
    """The sizes of its operands that may be another; one of size 1 is broadcast."""
    return sorted({n for a in case.fed for n in a.shape if n > 1})


def empty_variants() -> Iterator[Variant]:
    """Every sample without elements along one size: of its first tensor, and where it recurs."""
    for case in CASES:
        for n in sizes(case):
            changed = {k: _without(v, n) for k, v in case.operands.items()}
            yield variant(case, f"{n}=0", changed)


def _without(value: Any, size: int) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_without(v, size) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    return value[tuple(slice(0, 0) if n == size else slice(None) for n in value.shape)]


def flexible(case: Case, size: int, *, empty: bool) -> tuple[Graph, dict[str, Array]]:
    """A program in which ``size`` is only known when it runs, and feeds where it is so, or 0."""
    dim, feeds = Dim("n", 0), dict[str, Array]()

    def operand(value: Any, name: str, *, bake: bool) -> Any:
        if isinstance(value, tuple | list) and any(isinstance(v, np.ndarray) for v in value):
            return tuple(operand(v, f"{name}_{i}", bake=bake) for i, v in enumerate(value))
        if bake or not isinstance(value, np.ndarray):
            return const(as_data(value))
        feeds[name] = np.asarray(_without(value, size)) if empty else value
        shape = tuple(dim if n == size else n for n in value.shape)
        return Value(Node("input", (TensorType(shape, value.dtype),), name=name))

    inputs = {k: operand(v, k, bake=k in case.op.baked) for k, v in case.operands.items()}
    types = mil.infer(case.op.name, inputs, case.attrs)
    node = Node(case.op.name, types, inputs, case.attrs, name="made")
    return Graph({f"out{i}": Value(node, i) for i in range(len(types))}), feeds
