"""fp16 with islands of fp32: the operations that overflow on given data, found by running them.

A value that fp16 cannot hold keeps in fp32 the operation that makes it and those that read it. What
follows is then seen by running: faithfully, each fp16 result rounded, until all is finite.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreml_lab import config
from coreml_lab.errors import LabError, NumericalError
from coreml_lab.explain.diff import results
from coreml_lab.program import mil
from coreml_lab.program.graph import Array, Graph, Node
from coreml_lab.program.naming import common
from coreml_lab.run import compiler
from coreml_lab.run.model import Model
from coreml_lab.run.nonfinite import LARGEST_HALF

FLOAT16 = "float16"
# Each round finds at least one operation more that must stay in fp32.
ROUNDS = 32
# What coremltools adds to the names of casts: of a value on its way to fp16 and back.
CASTS = ("_to_fp16", "_to_fp32")
Samples = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Islands:
    """The operations that stay in fp32, and what is still not finite, if anything.

    Attributes:
        skip: names of operations, in the order in which they run.
        left: why results are not finite all the same; empty where they are.
    """

    skip: tuple[str, ...]
    left: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of it."""
        kept = [f"in fp32 for these data: {', '.join(self.skip)}"] if self.skip else []
        return (*kept, *([f"not finite in fp16: {self.left}"] if self.left else []))


def float16(package: Path, target: Path, data: Samples, skip: Sequence[str] = ()) -> Islands:
    """Write a copy that computes in fp16, but for what overflows there on the data.

    Args:
        package: the model's file.
        target: where to write.
        data: inputs, name -> array; all of them are run.
        skip: operations that stay in fp32 anyway.

    Returns:
        The islands. Where an operation that cannot be kept in fp32 is to blame, they say so.

    Raises:
        UnknownParameter: for a name in ``skip`` that no operation bears.
        CompileError: where coremltools refuses the model.
        InputError: where the data do not fit.
    """
    original = compiler.load(package, engine="portable")
    graph = original.program.graph
    may = {n.name for n in (*graph.ops, *graph.nested) if mil.computes(n.op)}
    kept, left = set(skip), ""
    for _ in range(ROUNDS):
        shutil.rmtree(target, ignore_errors=True)
        mil.rewrite(package, target, method=FLOAT16, arguments={"skip": sorted(kept)})
        found = _fault(target, data)
        if found is None:
            left = ""
            break
        inputs, fault = found
        left = fault.message.partition("\n")[0]
        more = ((_too_large(original, inputs) | _blamed(graph, fault)) & may) - kept
        if not more:
            break
        kept |= more
    order = [n.name for n in (*graph.ops, *graph.nested) if n.name in kept]
    return Islands(tuple(order), left)


def _too_large(original: Model, inputs: Mapping[str, Array]) -> set[str]:
    """Makers and readers of values that fp16 cannot hold, where the model shows its values."""
    found: set[str] = set()
    if original.states:
        return found
    for value, array in results(original, inputs).values():
        if array.dtype.kind == "f" and _largest(array) > LARGEST_HALF:
            found |= {value.node.name, *_readers(original.program.graph, value.node)}
    return found


def _largest(array: Array) -> float:
    finite = np.abs(array[np.isfinite(array)].astype(np.float64))
    return float(finite.max()) if finite.size else 0.0


def _readers(graph: Graph, node: Node) -> Iterator[str]:
    for reader in (*graph.ops, *graph.nested):
        if any(value.node is node for value in reader.operands()):
            yield reader.name


def _fault(package: Path, data: Samples) -> tuple[Mapping[str, Array], NumericalError] | None:
    """The first operation that makes NaN or infinity in fp16, and on which data."""
    model = faithful(lambda: compiler.load(package, engine="portable", precision="faithful"))
    for inputs in data:
        try:
            model.debug(inputs, model.make_state() if model.states else None)
        except NumericalError as fault:
            return inputs, fault
    return None


def faithful(load: Callable[[], Model]) -> Model:
    """A model that shows what overflows: nothing is computed once more in fp32."""
    with config.configure(recover=False, rivals=False):
        return load()


def _blamed(graph: Graph, fault: NumericalError) -> set[str]:
    """What in the original is to stay in fp32 for a fault of the copy."""
    name = common(fault.node)
    for end in CASTS:
        name = name.removesuffix(end)
    made = next((n for n in (*graph.ops, *graph.nested) if common(n.name) == name), None)
    if made is None:
        inputs = [n for key, n in graph.inputs.items() if key == name]
        return set(_readers(graph, inputs[0])) if inputs else set()
    # Whoever reads what it makes gets it in fp32, too, or it would overflow on its way there.
    return {made.name, *_readers(graph, made)}


def loss_model(load: Callable[[Mapping[str, object]], Model]) -> Model | None:
    """A model as fp16 hardware computes, for its loss; None where no engine here can."""
    try:
        return faithful(lambda: load({"engine": "portable", "precision": "faithful"}))
    except LabError as error:
        if isinstance(error, KeyboardInterrupt):  # a run that was interrupted is both
            raise
        return None
