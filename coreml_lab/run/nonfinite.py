"""Which operation first makes NaN or infinity of finite numbers, and what to say of it. Pure.

*NaN* is a fault wherever no operand holds one. *Infinity* is a fault where no operand holds one:
it overflowed, or something was divided by zero. What comes from a constant, an input or a state is
intended (the minus infinity of an attention mask), and so is what operations pass on of it, and
the largest or smallest of nothing. ``log`` of zero is by definition minus infinity: that is
intended too, as long as no output shows it (``Fault.by_definition``).

A loop or branch makes nothing itself: the operations inside it are judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.errors import NumericalError
from coreml_lab.program.graph import Array, Node, TensorType, Value
from coreml_lab.records import ProgramInfo

BY_DEFINITION = frozenset({"log"})
DIVISIONS = frozenset({"real_div", "floor_div", "mod", "inverse", "rsqrt", "pow"})
PARTIAL = frozenset({"log", "sqrt", "rsqrt", "pow", "acos", "asin", "atanh", "acosh"})
EXPONENTIALS = frozenset({"exp", "exp2", "sinh", "cosh"})
LARGEST_HALF = 65504
# Of fp16: all ones in what is infinite or NaN.
EXPONENT = 0x7C00
MASKED = (
    "an operand is infinite: inf - inf, 0 x inf, or a softmax over nothing but -inf are NaN; "
    "mask with -1e4 in place of -inf, or leave no row masked as a whole"
)
OVERFLOWN = (
    f"fp16 ends at {LARGEST_HALF}: compute in fp32 (cl.load with precision='widened' on device "
    "'coreml', cl.compile with 'fp32'), or scale the values down before it"
)
Made = Mapping[Value, Array]
Operands = tuple[tuple[str, TensorType, Array], ...]


@dataclass(frozen=True)
class Fault:
    """A result that is not finite, though nothing that went into it is to blame."""

    node: Node
    index: int
    result: Array
    operands: Operands
    by_definition: bool = False

    @property
    def nan(self) -> int:
        """How many values are NaN."""
        return int(np.isnan(self.result).sum())

    @property
    def infinite(self) -> int:
        """How many values are infinite."""
        return int(np.isinf(self.result).sum())

    @property
    def place(self) -> tuple[int, ...]:
        """The first of them; NaN where there is any."""
        odd = np.isnan(self.result) if self.nan else np.isinf(self.result)
        return tuple(int(i) for i in np.unravel_index(int(odd.argmax()), odd.shape))


def find(node: Node, made: Made, results: tuple[Array, ...]) -> Fault | None:
    """The first result of an operation that is a fault; none where all are as they must be."""
    for index, result in enumerate(results):
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            return _judged(Fault(node, index, result, operands(node, made)))
    return None


def _judged(fault: Fault) -> Fault | None:
    arrays = [array for _, _, array in fault.operands if array.dtype.kind == "f"]
    if any(np.isnan(array).any() for array in arrays):
        return None
    if fault.nan:
        return fault
    if any(np.isinf(array).any() for array in arrays) or any(not a.size for a in arrays):
        return None
    known = fault.node.op in BY_DEFINITION and bool((fault.result < np.inf).all())
    return Fault(fault.node, fault.index, fault.result, fault.operands, by_definition=known)


def operands(node: Node, made: Made) -> Operands:
    """What an operation reads, by the names of its parameters; constants among them."""
    found = []
    for name, operand in node.inputs.items():
        if isinstance(operand, tuple):
            found += [(f"{name}[{i}]", v.type, made[v]) for i, v in enumerate(operand)]
        else:
            found.append((name, operand.type, made[operand]))
    for name, attr in node.attrs.items():
        array = np.asarray(attr)
        if array.dtype.kind == "f":  # an axis is no value
            found.append((name, TensorType(array.shape, array.dtype), array))
    return tuple(found)


def error(
    fault: Fault, program: ProgramInfo, *, inside: str = "", rounded: bool = False
) -> NumericalError:
    """What is raised: the operation, its result, its operands, and what to try.

    Args:
        fault: what was found.
        program: the model.
        inside: the loop or branch around the operation.
        rounded: whether results of fp16 are rounded to fp16.
    """
    node = fault.node
    counts = [f"{fault.nan} NaN"] * bool(fault.nan)
    counts += [f"{fault.infinite} infinite"] * bool(fault.infinite)
    where = next((op.where for op in program.ops if op.name == node.name), "")
    # A file that was loaded only says that the operation is in it.
    where = "" if not where or where.endswith(f": {node.name}") else f" ({where})"
    around = f" inside {inside}" if inside else ""
    rows = [("result", node.types[fault.index], fault.result), *fault.operands]
    width = max(len(name) for name, *_ in rows)
    told = f"{program.name}: {node.op} {node.name!r}{around}{where} is the first to make "
    told += f"{' and '.join(counts)} of {fault.result.size} values"
    lines = [f"  {name:<{width}}  {_described(kind, a, fault)}" for name, kind, a in rows]
    hint = advice(fault, rounded=rounded)
    return NumericalError("\n".join([told, *lines]), node=node.name, hint=hint)


def given(name: str, array: Array, program: str, what: str = "input") -> NumericalError | None:
    """The error for an input or state that holds NaN; infinities may be a mask."""
    bad = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    if not bad:
        return None
    return NumericalError(
        f"{program}: {what} {name!r} holds {bad} NaN of {array.size} values before anything runs",
        node=name,
        hint="look at where it comes from; np.nan_to_num replaces NaN",
    )


def _described(kind: TensorType, array: Array, fault: Fault) -> str:
    """Type and shape, the range of what is finite, the value where the fault is."""
    text = str(TensorType(array.shape, kind.dtype))
    if not array.size or array.dtype.kind not in "fiu":
        return text
    finite = array[np.isfinite(array)]
    if array.size == 1:
        return f"{text} {_number(array.reshape(-1)[0])}"
    if finite.size:
        low, high = _number(finite.min()), _number(finite.max())
        text += f" from {low} to {high}" if low != high else f" all {low}"
    for count, word in ((np.isnan(array).sum(), "NaN"), (np.isinf(array).sum(), "infinite")):
        text += f", {count} {word}" if count else ""
    place = f"[{', '.join(map(str, fault.place))}]"
    if array.shape == fault.result.shape:
        text += f"; {_number(array[fault.place])} at {place}"
    return text


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def advice(fault: Fault, *, rounded: bool) -> str:
    """What to try, by what happened: the first row that is true."""
    floats = [a for _, _, a in fault.operands if a.dtype.kind == "f" and a.size]
    named = [a for name, _, a in fault.operands if name in {"x", "y"}]
    op, half = fault.node.op, fault.node.types[fault.index].dtype == np.float16
    rows = (
        (
            fault.nan > 0 and any(np.isinf(a).any() for a in floats),
            MASKED,
        ),
        (
            fault.by_definition,
            "log of zero is minus infinity, and an output shows it: cl.ops.clip before it",
        ),
        (
            op in DIVISIONS and any((a == 0).any() for a in named),
            "it divides by zero: keep the divisor away from it, cl.ops.maximum(y, 1e-6)",
        ),
        (
            op in PARTIAL and any((a < 0).any() for a in floats),
            "it is not defined below zero: cl.ops.clip or cl.ops.relu before it",
        ),
        (
            half and rounded,
            OVERFLOWN,
        ),
        (
            op in EXPONENTIALS,
            "exponentials overflow above 88.7 in fp32: subtract the largest value first",
        ),
    )
    otherwise = "look at its operands: they are too large, or it is not defined for them"
    return next((text for true, text in rows if true), otherwise)


def finite(arrays: Mapping[str, Array]) -> bool:
    """Whether no number in them is NaN or infinite."""
    return all(_finite(a).all() for a in arrays.values() if a.dtype.kind == "f")


def _finite(array: Array) -> Array:
    if array.dtype != np.float16:
        return np.isfinite(array)
    # NumPy's own takes ten times as long.
    found: Array = (array.view(np.uint16) & EXPONENT) != EXPONENT
    return found


def overflowed(inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, apart: bool) -> bool:
    """Whether a result is not finite though what it was made of is.

    ``apart``: row by row, where rows are independent: one may hold NaN, and another overflow.
    """
    if finite(outputs):
        return False
    counts = {len(a) if a.ndim else 0 for a in (*inputs.values(), *outputs.values())}
    if not apart or len(counts) > 1:
        return finite(inputs)
    return bool((_finite_rows(inputs) & ~_finite_rows(outputs)).any())


def _finite_rows(arrays: Mapping[str, Array]) -> Array:
    floats = [a for a in arrays.values() if a.dtype.kind == "f"]
    found = [_finite(a.reshape(len(a), -1)).all(axis=1) for a in floats]
    return np.logical_and.reduce(found) if found else np.array(True)
