"""Program: a graph after Core ML's passes, its package, and its description."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from coreml_lab.errors import ModelError, NumericalError
from coreml_lab.plain import from_plain, to_plain
from coreml_lab.program import mil
from coreml_lab.program.digest import digests
from coreml_lab.program.graph import MIL_NAME, Dim, Graph, TensorType, signature
from coreml_lab.program.naming import place, places
from coreml_lab.records import OpInfo, PortInfo, ProgramInfo

FILE = "program.json"
# Programs of packages up to here stay in memory when they are loaded.
KEPT = 16 << 20


class Program:
    """What engines run; ``graph`` is read from ``package`` on first use, with coremltools."""

    def __init__(self, info: ProgramInfo, package: Path, graph: Graph | None = None) -> None:
        self.info = info
        self.package = package
        if graph is not None:
            self.graph = graph

    @property
    def key(self) -> str:
        """Content hash of what it does."""
        return self.info.key

    @functools.cached_property
    def graph(self) -> Graph:
        """The operations as Core ML executes them."""
        return mil.read(self.package, function=self.info.function or None)

    def release(self) -> None:
        """Let go of the operations where their weights are big: who asks for them reads again."""
        if self.info.size_bytes > KEPT:
            self.__dict__.pop("graph", None)

    def save(self, folder: Path) -> None:
        """Write the description into ``folder``."""
        (folder / FILE).write_text(json.dumps(to_plain(self.info)), encoding="utf-8")

    @staticmethod
    def open(folder: Path, package: Path, name: str, graph: Graph | None = None) -> Program:
        """The program whose description ``save`` wrote, wherever its package is now."""
        try:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
            info = from_plain(ProgramInfo, told)
            info = replace(info, name=name, package=str(package.absolute()))
            return Program(info, package, graph)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ModelError(
                f"the compile cache entry {folder.name} is damaged: {error}",
                hint="cl.cache().clear()",
            ) from error


def placed(program: Program, written: Graph) -> Program:
    """The program that came of ``written``, each operation with the line that wrote it."""
    known = places(written)
    ops = (replace(op, where=place(known, op.name) or op.where) for op in program.info.ops)
    program.info = replace(program.info, ops=tuple(ops))
    return program


def describe(
    graph: Graph, *, name: str, key: str, package: Path, function: str, size: int
) -> ProgramInfo:
    """Everything about a program that can be shown."""
    return ProgramInfo(
        name=name,
        key=key,
        package=str(package),
        precision=precision_of(graph),
        inputs=tuple(port(k, n.type) for k, n in graph.inputs.items()),
        outputs=tuple(port(k, v.type) for k, v in graph.outputs.items()),
        ops=_op_infos(graph),
        size_bytes=size,
        function=function,
        dims=bounds(graph),
    )


def bounds(graph: Graph) -> dict[str, tuple[int, int]]:
    """Bounds of the flexible dimensions of the inputs."""
    dims = [d for n in graph.inputs.values() for d in n.type.shape if isinstance(d, Dim)]
    return {d.name: (d.low, d.high) for d in dims}


def port(name: str, kind: TensorType) -> PortInfo:
    """An input or output, as plain data."""
    return PortInfo(
        name,
        tuple(d if isinstance(d, int) else str(d) for d in kind.shape),
        MIL_NAME.get(kind.dtype.name, kind.dtype.name),
    )


def _op_infos(graph: Graph) -> tuple[OpInfo, ...]:
    """One row per op; weights that several ops share are stored once and count for the first."""
    counted: set[int] = set()
    ops = graph.ops
    rows, work = [], digests(graph, ops)
    for node in ops:
        arrays = [v.const for v in node.operands() if v.const is not None]
        attrs = [a for n in (node, *node.nested) for a in n.attrs.values()]
        arrays += [a for a in attrs if isinstance(a, np.ndarray)]
        fresh = {id(a): a.nbytes for a in arrays if id(a) not in counted}
        counted.update(fresh)
        kind, size = port(node.name, node.type), sum(fresh.values())
        row = OpInfo(node.name, node.op, kind.shape, kind.dtype, size, node.where, work[node.name])
        rows.append(row)
    return tuple(rows)


def precision_of(graph: Graph) -> str:
    """The float type most ops have; without floats, the type of the results."""
    nodes = (*graph.ops, *graph.nested)
    floats = [n.type.dtype.name for n in nodes if n.type.dtype.kind == "f" and n.op != "cast"]
    if not floats:
        floats = [v.type.dtype.name for v in graph.outputs.values()] or ["float32"]
    return MIL_NAME.get(max(set(floats), key=floats.count), "fp32")


def check_constants(graph: Graph) -> None:
    """Refuse weights that hold NaN: everything computed from them would be NaN.

    Raises:
        NumericalError: naming the operation and the count.
    """
    for node in (*graph.ops, *graph.nested):
        named = [
            (k, v.const)
            for k, operand in node.inputs.items()
            for v in (operand if isinstance(operand, tuple) else (operand,))
        ]
        for name, array in [
            *named,
            *((k, a) for k, a in node.attrs.items() if isinstance(a, np.ndarray)),
        ]:
            if (
                array is not None
                and array.dtype.kind == "f"
                and (bad := int(np.isnan(array).sum()))
            ):
                place = f" at {node.where or node.name}" if node.name else ""
                raise NumericalError(
                    f"{signature(node)}{place}: its {name} holds {bad} NaN of {array.size} values",
                    node=node.name,
                    hint="look at where these weights were made; np.nan_to_num replaces NaN",
                )
