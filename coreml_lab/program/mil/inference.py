"""Shape and dtype rules, asked of Core ML's own type inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import ShapeError, UnknownParameter
from coreml_lab.program.graph import Array, Dim, Operand, TensorType, Value
from coreml_lab.program.mil.tools import (
    LOCK,
    TARGET,
    Function,
    SSAOpRegistry,
    TupleInputType,
    get_new_symbol,
    is_symbolic,
    mb,
    nptype_from_builtin,
    numpy_type_to_builtin_type,
)

# Small constants (shapes, axes, indices) decide the type of a result by their values; large ones
# (weights) only by their own type.
DECIDES = 64
# Longer constants are named by their shape in messages.
READABLE = 8
_known: dict[Any, tuple[TensorType, ...]] = {}


class Symbols:
    """Our named dimensions and coremltools' symbols, in both directions."""

    def __init__(self) -> None:
        self.symbol: dict[Dim, Any] = {}
        self.dim: dict[str, Dim] = {}

    def shape_in(self, shape: tuple[int | Dim, ...]) -> tuple[Any, ...]:
        """Our shape as coremltools'."""
        return tuple(self._symbol(d) if isinstance(d, Dim) else d for d in shape)

    def shape_out(self, shape: Any) -> tuple[int | Dim, ...]:
        """Coremltools' shape as ours; a computed size becomes a dimension named by its formula."""
        return tuple(self.dim.get(str(d), Dim(str(d))) if is_symbolic(d) else int(d) for d in shape)

    def _symbol(self, dim: Dim) -> Any:
        if dim not in self.symbol:
            self.symbol[dim] = get_new_symbol()
            self.dim[str(self.symbol[dim])] = dim
        return self.symbol[dim]


def placeholder(kind: TensorType, symbols: Symbols) -> Any:
    """A run-time value of that type, for the builder."""
    dtype = numpy_type_to_builtin_type(kind.dtype)
    # Core ML's interface has no scalars; inside a program they are ordinary (a sum over all axes).
    return mb.placeholder(symbols.shape_in(kind.shape), dtype, allow_rank0_input=not kind.shape)


def type_of(var: Any, symbols: Symbols) -> TensorType:
    """The type of one of coremltools' variables."""
    return TensorType(symbols.shape_out(var.shape), np.dtype(nptype_from_builtin(var.dtype)))


def infer(
    op: str, operands: Mapping[str, Operand], attrs: Mapping[str, Any]
) -> tuple[TensorType, ...]:
    """See ``mil.infer``."""
    key = (
        op,
        *((k, _freeze_operand(v)) for k, v in operands.items()),
        *((k, _freeze(v)) for k, v in sorted(attrs.items())),
    )
    if key not in _known:
        _known[key] = _infer(op, operands, attrs)
    return _known[key]


def _infer(
    op: str, operands: Mapping[str, Operand], attrs: Mapping[str, Any]
) -> tuple[TensorType, ...]:
    if op not in SSAOpRegistry.core_ops:
        raise UnknownParameter(
            f"MIL has no operation {op!r}", hint="see cl.ops for the operations there are"
        )
    symbols = Symbols()
    values = {
        f"{k}_{i}": v
        for k, operand in operands.items()
        for i, v in enumerate(_list(operand))
        if not _given_whole(k, v)
    }
    # Its rules divide by sizes, also by those that are 0.
    with LOCK, np.errstate(all="ignore"):
        try:
            with Function(
                {k: placeholder(v.type, symbols) for k, v in values.items()}, opset_version=TARGET
            ) as block:
                for k, v in values.items():
                    # MIL lets only constant weights be dilated.
                    block.inputs[k].is_descendant_of_const = v.const is not None
                given = {
                    k: accepted(op, k, _argument(k, v, block.inputs)) for k, v in operands.items()
                }
                results = getattr(mb, op)(**given, **attrs)
                outputs = results if isinstance(results, tuple | list) else (results,)
                types = tuple(type_of(var, symbols) for var in outputs)
                _check_axes(op, operands, attrs, types)
                _check_sizes(types)
                return types
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            AssertionError,
            AttributeError,
            NameError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            shown = ", ".join(
                [
                    *(f"{k}: {_show(v)}" for k, v in operands.items()),
                    *(f"{k}={_short(v)}" for k, v in attrs.items()),
                ]
            )
            raise ShapeError(
                f"{op}({shown}): {error}", hint=f"help(cl.ops.{op}) shows what it takes"
            ) from error


def _check_axes(
    op: str,
    operands: Mapping[str, Operand],
    attrs: Mapping[str, Any],
    types: tuple[TensorType, ...],
) -> None:
    """Refuse axes that MIL's own rules count from the wrong end, or drop, without a word."""
    named = [int(a) for k in ("axis", "axes") for a in np.ravel(attrs.get(k, []))]
    first = next((v.type for operand in operands.values() for v in _list(operand)), types[0])
    # An op that adds dimensions counts them in its result; flatten2d may cut after the last.
    rank = max(first.rank, types[0].rank) + (op == "flatten2d")
    if wrong := [a for a in named if not -rank <= a < rank]:
        raise ValueError(f"there is no axis {wrong[0]}: they go from {-rank} to {rank - 1}")
    if len({a % rank for a in named}) < len(named):
        raise ValueError("an axis is named twice")
    if op == "squeeze" and (wide := [a for a in named if first.shape[a] != 1]):
        raise ValueError(f"axis {wide[0]} has size {first.shape[wide[0]]}, not 1")


def _check_sizes(types: tuple[TensorType, ...]) -> None:
    """Refuse results that end before they begin, which MIL's own rules compute without a word."""
    for kind in types:
        if any(isinstance(d, int) and d < 0 for d in kind.shape):
            raise ValueError(f"the result would be {kind}")


def accepted(op: str, name: str, value: Any) -> Any:
    """A constant as MIL's builder takes it: no array where it wants a number or a list."""
    if not isinstance(value, np.ndarray):
        return value
    kind = SSAOpRegistry.core_ops[op][TARGET].input_spec.input_types.get(name)
    if value.size <= DECIDES:
        value = value.copy()  # its rules of slices write to the bounds they are given
    return tuple(value) if isinstance(kind, TupleInputType) else value[()]


def _list(operand: Operand) -> tuple[Value, ...]:
    return operand if isinstance(operand, tuple) else (operand,)


def _given_whole(name: str, value: Value) -> bool:
    # The type rule of conv_transpose reads its bias where the type would do.
    return _decides(value) or (name == "bias" and value.const is not None)


def _decides(value: Value) -> bool:
    """Whether the value itself, not only its type, may decide the result's type."""
    return (
        value.const is not None and value.const.size <= DECIDES and value.const.dtype.kind in "iub"
    )


def _argument(name: str, operand: Operand, inputs: Mapping[str, Any]) -> Any:
    found = tuple(
        v.const if _given_whole(name, v) else inputs[f"{name}_{i}"]
        for i, v in enumerate(_list(operand))
    )
    return found if isinstance(operand, tuple) else found[0]


def _freeze_operand(operand: Operand) -> Any:
    return tuple(
        (v.type, v.const.tobytes())
        if _decides(v) and v.const is not None
        else (v.type, v.const is not None)
        for v in _list(operand)
    )


def _freeze(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes() if value.size <= DECIDES else b"")
    return (
        (type(value).__name__, tuple(_freeze(v) for v in value))
        if isinstance(value, list | tuple)
        else (type(value).__name__, value)
    )


def _show(operand: Operand) -> str:
    return (
        "(" + ", ".join(str(v.type) for v in operand) + ")"
        if isinstance(operand, tuple)
        else str(operand.type)
    )


def _short(value: Any) -> str:
    large = isinstance(value, np.ndarray) and value.size > READABLE
    return f"array{value.shape}" if large else repr(value)


def parameters(op: str) -> dict[str, bool]:
    """MIL's parameters of ``op``: name -> whether it must be a constant."""
    spec = SSAOpRegistry.core_ops[op][TARGET].input_spec.input_types
    return {name: bool(kind.const) for name, kind in spec.items() if not name.startswith("_")}


def forms() -> dict[str, tuple[str, ...]]:
    """Each operation of MIL with the opsets that gave it a form of its own, the oldest first."""
    found = {}
    for op, versions in sorted(SSAOpRegistry.core_ops.items()):
        kinds = dict.fromkeys(kind for _, kind in sorted(versions.items(), key=_opset))
        # coremltools keeps what began before iOS15 with iOS15's, the first that has programs.
        homes = tuple(kind.__module__.split(".")[-2] for kind in kinds)
        # What is not of an opset (the dialect of states) is only registered once it is used, and
        # whoever asks the registry for a name that it lacks leaves an empty entry there.
        if homes and all(home.startswith("iOS") for home in homes):
            found[op] = homes
    return found


def _opset(version: tuple[Any, Any]) -> int:
    return int(version[0].value)


def apple_value(op: str, arguments: Mapping[str, Any]) -> tuple[Array, ...] | None:
    """What Apple's ``value_inference`` computes for constants, or None where it has none."""
    with LOCK, Function({"unused": mb.placeholder(shape=(1,))}, opset_version=TARGET):
        results = getattr(mb, op)(**{k: accepted(op, k, v) for k, v in arguments.items()})
    outputs = results if isinstance(results, tuple | list) else (results,)
    return (
        None if any(v.val is None for v in outputs) else tuple(np.asarray(v.val) for v in outputs)
    )
