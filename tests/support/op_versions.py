"""The samples of every op as a stored program of any opset: what older files hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.inference import accepted
from coreml_lab.program.mil.tools import Function, Program, SSAOpRegistry, ct, mb, quiet
from tests.support.converting import convert
from tests.support.op_cases import Case
from tests.support.op_variants import OPSETS


@dataclass
class Stored:
    """Cases side by side in one program: what to feed it, and whom MIL refused, and why."""

    opset: int
    cases: list[Case] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    refused: dict[Case, str] = field(default_factory=dict)

    def save(self, cases: Iterable[Case], path: Path) -> Path:
        """Write the program of those ``cases`` that the opset has."""
        with quiet(), np.errstate(all="ignore"):
            self.cases = [c for c in cases if self.admits(c)]
            block = self._function(self.cases)
            program = Program()
            program.add_function("main", block)
            model = convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=OPSETS[self.opset],
                compute_precision=ct.precision.FLOAT32,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            )
            model.save(str(path))
        self.feeds = {k: _entering(v) for c in self.cases for k, v in _fed(c).items()}
        return path

    def _function(self, cases: list[Case]) -> Any:
        specs = {k: mb.placeholder(*_border(v)) for c in cases for k, v in _fed(c).items()}
        specs = specs or {"unused": mb.placeholder(shape=(1,))}
        with Function(specs, opset_version=OPSETS[self.opset]) as block:
            block.set_outputs([v for case in cases for v in self._add(case, block.inputs)])
        return block

    def admits(self, case: Case) -> bool:
        """Whether the opset has it; if not, why is kept in ``refused``."""
        try:
            self._function([case])
        except Exception as error:  # noqa: BLE001 - kept, and looked at by the tests
            self.refused[case] = f"{type(error).__name__}: {error}"
        return case not in self.refused

    def _add(self, case: Case, inputs: Any) -> list[Any]:
        arrays = _fed(case)
        operands = {
            k: _operand(v, f"{_prefix(case)}_{k}", inputs, arrays)
            for k, v in given_in(case, self.opset).items()
        }
        made = getattr(mb, case.op.name)(**operands)
        results = made if isinstance(made, tuple | list) else (made,)
        return [_out(v, f"{_prefix(case)}_out{i}") for i, v in enumerate(results)]


def given_in(case: Case, opset: int) -> dict[str, Any]:
    """The arguments, less those that the opset does not know and that say nothing there.

    Raises:
        LookupError: where one that means something is not known there.
    """
    kind = SSAOpRegistry.core_ops.get(case.op.name, {}).get(OPSETS[opset])
    if kind is None:
        raise LookupError(f"iOS{opset} has no {case.op.name}")
    given = {k: v for k, v in case.sample.items() if v is not None}
    known = kind.input_spec.input_types
    defaults = {k: p.default for k, p in case.op.signature.parameters.items()}
    if lost := {k for k in given if k not in known and not np.array_equal(given[k], defaults[k])}:
        raise LookupError(f"in iOS{opset}, {case.op.name} has no {', '.join(sorted(lost))}")
    return {k: v for k, v in given.items() if k in known}


def evaluated(case: Case, opset: int) -> tuple[Array, ...] | None:
    """What Apple's ``value_inference`` of that opset computes, or None where it has none."""
    given = {k: accepted(case.op.name, k, v) for k, v in given_in(case, opset).items()}
    unused = {"unused": mb.placeholder(shape=(1,))}
    with quiet(), Function(unused, opset_version=OPSETS[opset]), np.errstate(all="ignore"):
        made = getattr(mb, case.op.name)(**given)
    results = made if isinstance(made, tuple | list) else (made,)
    return (
        None if any(v.val is None for v in results) else tuple(np.asarray(v.val) for v in results)
    )


def results_of(case: Case, outputs: Mapping[str, Array]) -> list[Array]:
    """The results of a case among those of its program."""
    start = f"{_prefix(case)}_out"
    return [v for k, v in outputs.items() if k.startswith(start) and k[len(start) :].isdigit()]


def as_stored(results: Iterable[Array]) -> tuple[Array, ...]:
    """Results as the program gives them: in 32 bits."""
    return tuple(r.astype(np.float32 if r.dtype.kind == "f" else np.int32) for r in results)


def _prefix(case: Case) -> str:
    return case.id.replace("-", "_").replace("=", "_")


def _fed(case: Case) -> dict[str, Array]:
    """The arrays that the program is fed, by name."""
    found: dict[str, Array] = {}
    for k, v in case.operands.items():
        if k in case.op.baked:
            continue
        listed = isinstance(v, tuple | list) and any(isinstance(a, np.ndarray) for a in v)
        parts = {f"{k}_{i}": a for i, a in enumerate(v)} if listed else {k: v}
        found |= {f"{_prefix(case)}_{n}": a for n, a in parts.items() if isinstance(a, np.ndarray)}
    return found


def _entering(array: Array) -> Array:
    """As Core ML's interface takes it: not a single number, in 32 bits."""
    wide = np.float32 if array.dtype.kind == "f" else np.int32
    return np.atleast_1d(array).astype(wide)


def _border(array: Array) -> tuple[Any, Any]:
    entering = _entering(array)
    return entering.shape, ct.converters.mil.mil.types.numpy_type_to_builtin_type(entering.dtype)


def _operand(value: Any, name: str, inputs: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, tuple | list) and any(isinstance(a, np.ndarray) for a in value):
        return tuple(_operand(a, f"{name}_{i}", inputs, arrays) for i, a in enumerate(value))
    if name not in arrays:
        return value
    var, array = inputs[name], arrays[name]
    var = var if array.ndim else mb.squeeze(x=var, axes=[0])
    same = _entering(array).dtype == array.dtype
    return var if same else mb.cast(x=var, dtype=MIL[array.dtype.name])


MIL = {"float16": "fp16", "float32": "fp32"} | {
    n: n for n in ("int8", "uint8", "int16", "uint16", "int32", "bool")
}


def _out(var: Any, name: str) -> Any:
    """A result in 32 bits."""
    real = var.dtype in (ct.converters.mil.mil.types.fp16, ct.converters.mil.mil.types.fp32)
    return mb.cast(x=var, dtype="fp32" if real else "int32", name=name)
