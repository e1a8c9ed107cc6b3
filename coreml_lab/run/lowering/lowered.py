"""A program lowered to ONNX, in a folder: the model, and which operation stands behind each node.

Every engine that takes ONNX reads this folder; who lowers a program first leaves it in the cache.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from coreml_lab.metrics import Provenance
from coreml_lab.program.cache import Cache, Found
from coreml_lab.program.graph import CONTROL_FLOW, LEAVES, Array, Graph, Node, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import OpSpan
from coreml_lab.run import stages
from coreml_lab.run.fusion import absorbed, leader
from coreml_lab.run.lowering import packed
from coreml_lab.run.state import State

T = TypeVar("T")
MODEL = "portable.onnx"
ORIGIN = "origin.json"


def supports(node: Node) -> bool:
    """Whether the operation has an ONNX lowering."""
    from coreml_lab.program.ops import OPS  # noqa: PLC0415 - a warm cache does without them

    return node.op in LEAVES | CONTROL_FLOW or (node.op in OPS and OPS[node.op].onnx is not None)


def opened(
    program: Program,
    cache: Cache | None,
    read: Callable[[Path], T],
    *,
    faithful: bool = False,
    keep: str = packed.OFF,
) -> T:
    """What ``read`` makes of the folder of a program, from the cache or made now.

    It may be called while the weights in the cache are still being checked, and again if they
    turn out to be damaged. Without a cache the folder goes afterwards. Faithful numerics round
    dequantized weights, too, and ``keep`` none of them packed.
    """
    keep = packed.OFF if faithful else keep
    if cache is None:
        with tempfile.TemporaryDirectory() as temporary:
            _write(Path(temporary), program.graph, faithful, keep, apart=False)
            return read(Path(temporary))
    suffix = "-faithful" if faithful else "" if keep == packed.OFF else f"-{keep}"
    key = f"{program.key}-portable{suffix}"
    found = cache.find(key)
    if found is not None:
        made = _attempt(found, read)
        if made:
            return made[0]
        found.remove()
    folder = cache.put(
        key,
        lambda f: _write(f, program.graph, faithful, keep, apart=True),
        title=program.info.name,
    )
    program.release()
    return read(folder)


def _attempt(found: Found, read: Callable[[Path], T]) -> tuple[T] | None:
    """What ``read`` makes of an entry; None where that is damaged, whatever came of reading it."""
    try:
        made = (read(found.folder),)
    except Exception:
        if found.whole():
            raise
        return None
    return made if found.whole() else None


@stages.step("lowering")
def _write(folder: Path, graph: Graph, faithful: bool, keep: str, *, apart: bool) -> None:
    from coreml_lab.run.lowering.graph import lower  # noqa: PLC0415 - a warm cache does without onnx

    made = lower(graph, faithful=faithful, keep=keep, wide_states=True)
    made.write(folder / MODEL, apart=apart)
    parents = {
        n.name: next((v.node.name for v in n.operands() if v.node.op not in LEAVES), "")
        for n in graph.ops
    }
    data = {
        "origin": dict(made.origin),
        "ops": {n.name: n.op for n in graph.ops},
        "parents": parents,
        "nested": made.nested,
        "states": {
            name: (made.states[name], node.type.sizes, node.type.dtype.name, made.kept[name])
            for name, node in graph.states.items()
        },
        "entropy": made.entropy,
    }
    (folder / ORIGIN).write_text(json.dumps(data), encoding="utf-8")


@dataclass(frozen=True)
class Kernel:
    """What an engine says of one kernel that ran: its label, its own kind, and when."""

    label: str
    kind: str
    start_ns: int
    duration_ns: int
    bytes: int = 0


@dataclass(frozen=True)
class Origin:
    """Which operation of the program stands behind a node of the ONNX model.

    Attributes:
        nodes: name of an ONNX node -> operation.
        ops: operation -> kind, in execution order.
        parents: operation -> the one that computes its first operand.
        nested: nodes inside loops and branches.
        states: state -> (output that holds its new contents, sizes, element type, element type in
            which it is kept from run to run).
        entropy: the input that wants new random words for each run, or "".
        bytes: what the model and its weights take as files.
    """

    nodes: Mapping[str, str]
    ops: Mapping[str, str]
    parents: Mapping[str, str]
    nested: frozenset[str]
    states: Mapping[str, tuple[str, list[int], str, str]]
    entropy: str = ""
    bytes: int = 0

    @staticmethod
    def read(folder: Path) -> Origin:
        """What was written beside the model."""
        data: dict[str, Any] = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        return Origin(
            data["origin"],
            data["ops"],
            data["parents"],
            frozenset(data.get("nested", ())),
            data.get("states", {}),
            data.get("entropy", ""),
            sum(file.stat().st_size for file in folder.glob(f"{MODEL}*")),
        )

    def fed(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs of one run: with new random words, where the program draws numbers."""
        if not self.entropy:
            return inputs
        words = np.frombuffer(bytearray(os.urandom(8)), np.uint32)
        return {**inputs, self.entropy: words}

    @property
    def state_types(self) -> dict[str, TensorType]:
        """The type of each state."""
        return {k: TensorType(tuple(n), np.dtype(d)) for k, (_, n, d, _) in self.states.items()}

    @property
    def kept_types(self) -> dict[str, TensorType]:
        """The type in which each state is kept from run to run."""
        return {k: TensorType(tuple(n), np.dtype(d)) for k, (_, n, _, d) in self.states.items()}

    def contents(self, state: State) -> dict[str, Array]:
        """What a state holds, as the model takes it."""
        return {k: state.read(k).astype(t.dtype) for k, t in self.kept_types.items()}

    @property
    def changed(self) -> dict[str, str]:
        """State -> the output with its new contents, where the program changes it."""
        return {k: new for k, (new, *_) in self.states.items() if new}

    def label_of(self, name: str) -> str:
        """The node a kernel was named after: its name is built on a node's or a value's."""
        label = name
        while label not in self.nodes:
            # Values are called "node:0"; rewrites append "_nchwc", "_bn_nchwc", "/MatMulAddFusion"…
            shorter = re.sub(r":\d+$", "", label)
            shorter = re.sub(r"[_/][^_/]*$", "", label) if shorter == label else shorter
            if shorter == label:
                return name
            label = shorter
        return label

    def spans(
        self, kernels: list[Kernel], ran: AbstractSet[str], engine: str, device: str
    ) -> tuple[OpSpan, ...]:
        """A measured span per kernel, credited to the operation that does its work.

        ``ran`` holds the labels of every kernel seen, in this run or another.
        """
        names = {label: str(self.nodes.get(label, label)) for label in ran}
        fused = absorbed(self.ops, self.parents, frozenset(names.values()))
        return tuple(self._span(k, names[k.label], fused, engine, device) for k in kernels)

    def _span(
        self,
        kernel: Kernel,
        name: str,
        fused: Mapping[str, tuple[str, ...]],
        engine: str,
        device: str,
    ) -> OpSpan:
        group = (name, *fused.get(name, ()))
        node = leader(name, group[1:], self.ops)
        return OpSpan(
            node=node,
            op=self.ops.get(node, f"[{kernel.kind}]"),
            engine=engine,
            device=device,
            start_ns=kernel.start_ns,
            duration_ns=kernel.duration_ns,
            bytes=kernel.bytes,
            provenance=Provenance.MEASURED,
            fused=tuple(n for n in group if n != node),
        )
