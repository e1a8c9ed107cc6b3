"""Graph -> Core ML model package, through coremltools' own optimisation passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import CompileError, LabError
from coreml_lab.program import heap
from coreml_lab.program.graph import Dim, Graph, Node, Operand, TensorType, Value, signature
from coreml_lab.program.mil.inference import Symbols, accepted, placeholder
from coreml_lab.program.mil.tools import TARGET, Function, Program, ct, mb, quiet
from coreml_lab.program.naming import border, names


def build(graph: Graph, package: Path, *, precision: str) -> None:
    """See ``mil.build``."""
    with quiet(), heap.apart():
        symbols = Symbols()
        program = Program()
        program.add_function("main", _function(graph, symbols))
        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                inputs=_flexible(graph),
                minimum_deployment_target=TARGET,
                compute_precision=ct.precision.FLOAT16
                if precision == "fp16"
                else ct.precision.FLOAT32,
                skip_model_load=True,
            )
            model.save(str(package))
        except LabError:
            raise
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"coremltools refused the program: {type(error).__name__}: {error}",
                stage="passes",
                hint="print(listing(graph)) shows it",
            ) from error


def _function(graph: Graph, symbols: Symbols) -> Function:
    specs = {name: placeholder(_entry(node.type), symbols) for name, node in graph.inputs.items()}
    called = names(graph)
    with Function(specs, opset_version=TARGET) as block:
        made = {Value(n): _input(n, block.inputs[name]) for name, n in graph.inputs.items()}
        for node in graph.ops:
            _record(node, made, called[node])
        block.set_outputs([_output(name, value, made) for name, value in graph.outputs.items()])
    return block


def _entry(kind: TensorType) -> TensorType:
    """The type of an input: Core ML's functions take no scalars, so one enters as one element."""
    return border(kind) if kind.rank else TensorType((1,), border(kind).dtype)


def _input(node: Node, var: Any) -> Any:
    var = var if node.type.rank else mb.squeeze(x=var, axes=[0])
    return var if border(node.type) == node.type else mb.cast(x=var, dtype=node.type.dtype.name)


def _record(node: Node, made: dict[Value, Any], name: str) -> None:
    def var(operand: Operand) -> Any:
        if isinstance(operand, tuple):
            return tuple(var(v) for v in operand)
        return made.get(operand, operand.const)

    operands = {k: accepted(node.op, k, var(v)) for k, v in node.inputs.items()}
    try:
        results = getattr(mb, node.op)(**operands, **_spelled_out(node), name=name)
    except Exception as error:  # coremltools raises bare Exceptions of every kind
        raise CompileError(
            f"{signature(node)}: coremltools refused it: {error}", node=node.name, stage="build"
        ) from error
    for i, result in enumerate(results if isinstance(results, tuple | list) else (results,)):
        made[Value(node, i)] = result


def _spelled_out(node: Node) -> Mapping[str, Any]:
    """The attributes, and defaults without which coremltools 9.0 fails.

    Its pass that folds batch norms into convolutions takes ``gamma`` and ``beta`` for granted.
    """
    if node.op != "batch_norm":
        return node.attrs
    mean = np.asarray(node.attrs["mean"])
    given = {k: v for k, v in node.attrs.items() if v is not None}
    return {"gamma": np.ones_like(mean), "beta": np.zeros_like(mean), **given}


def _output(name: str, value: Value, made: Mapping[Value, Any]) -> Any:
    """A result under its public name; a copy, where something else bears that value."""
    var = made.get(value, value.const)
    if border(value.type) != value.type:
        return mb.cast(x=var, dtype="int32", name=name)
    return var if getattr(var, "name", None) == name else mb.identity(x=var, name=name)


def _flexible(graph: Graph) -> list[Any] | None:
    """Bounds of the flexible dimensions, where there are any."""
    if all(node.type.static for node in graph.inputs.values()):
        return None

    def size(d: int | Dim) -> Any:
        return ct.RangeDim(d.low, d.high or -1) if isinstance(d, Dim) else d

    return [
        ct.TensorType(
            name=name,
            shape=tuple(size(d) for d in node.type.shape),
            dtype=border(node.type).dtype.type,
        )
        for name, node in graph.inputs.items()
    ]
