"""In what type a program computes: fp16, fp32, or fp16 with islands of fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coremltools.converters.mil.mil import ListVar
from coremltools.converters.mil.mil.passes.defs.quantization import (
    CastTypeQuantization,
    FP16ComputePrecision,
)
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

from coreml_lab.errors import CompileError, UnknownParameter
from coreml_lab.program.mil.rewriting.package import passed

# Operations that only hand values on, or whose types others decide.
UNTOUCHED = frozenset({"const", *FP16ComputePrecision._UNSUPPORTED_FP16_OPS})  # noqa: SLF001 - its own list


def float16(model: Any, *, skip: Sequence[str] = ()) -> Any:
    """Compute in fp16, but for the operations named in ``skip``; inputs and outputs stay.

    Raises:
        UnknownParameter: for a name in ``skip`` that no operation bears.
    """
    left = set(skip)

    def chosen(op: Any) -> bool:
        # Who reads a file sees the names of results; PyTorch's converter gives operations others.
        names = {op.name, *(result.name for result in op.outputs)}
        left.difference_update(names)
        return names.isdisjoint(skip) and not _lists(op)

    def checked(_: Any) -> None:
        if left:
            raise UnknownParameter(
                f"skip: no operation that could be computed in fp16 is called {min(left)!r}",
                hint="model.info.ops has their names",
            )

    return passed(model, [FP16ComputePrecision(op_selector=chosen), checked, *_tidy()])


def float32(model: Any) -> Any:
    """Compute in fp32: weights keep the rounding they have had, results get none any more.

    Raises:
        CompileError: where weights are compressed to fp16.
    """
    return passed(model, [_whole, _Float32ComputePrecision(), _join, *_tidy()])


def _lists(op: Any) -> bool:
    """Whether an operation has to do with lists, such as a classifier's labels: they have no type.

    What it takes besides stays in fp32: a classifier's probabilities are outputs anyway.
    """
    given = (
        v for held in op.inputs.values() for v in (held if isinstance(held, tuple) else [held])
    )
    return any(isinstance(var, ListVar) for var in (*given, *op.outputs))


class _Float32ComputePrecision(CastTypeQuantization):  # type: ignore[misc]
    """Each operation between casts to fp32 and back."""

    @property
    def origin_dtype(self) -> str:
        return "fp16"

    @property
    def target_dtype(self) -> str:
        return "fp32"

    def is_valid_op(self, op: Any) -> bool:
        return op.op_type not in UNTOUCHED and not _lists(op)


def _whole(block: Any) -> None:
    for op in block.operations:
        if op.op_type.startswith("constexpr_"):
            raise CompileError(
                f"{op.name} holds compressed weights",
                node=op.name,
                hint="apply decompress_weights first",
            )


def _join(block: Any) -> None:
    """Drop fp32 -> fp16 -> fp32: the rounding that is not wanted any more."""
    for op in list(block.operations):
        for inner in op.blocks:
            with inner:
                _join(inner)
        if op.op_type != "cast" or op.dtype.val != "fp32":
            continue
        narrow = op.x.op
        if (
            narrow is not None
            and narrow.op_type == "cast"
            and narrow.x.dtype == op.outputs[0].dtype
        ):
            block.replace_uses_of_var_after_op(
                anchor_op=op, old_var=op.outputs[0], new_var=narrow.x, force_replace=True
            )


def _tidy() -> list[Any]:
    names = ("const_elimination", "dead_code_elimination", "cast_optimization")
    return [PASS_REGISTRY[f"common::{name}"] for name in names]
