"""Graph -> ONNX: a namespace of ONNX operators, and the walk that lowers each MIL op.

Numerics are *widened*: fp16 values are held as fp32 (their weights were rounded to fp16 before),
8- and 16-bit integers as int32, because ONNX Runtime's CPU kernels for the narrow types are slower,
rarer or both. The interface keeps the declared types. *Faithful* lowering also rounds every fp16
result to fp16, so that overflow shows where it shows on hardware that computes in fp16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import (
    CONTROL_FLOW,
    LEAVES,
    Array,
    Graph,
    Node,
    Operand,
    TensorType,
    Value,
)
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.draws import apart_onnx
from coreml_lab.run.engine import unsupported
from coreml_lab.run.lowering import blocks, borders, packed
from coreml_lab.run.lowering.model import Constant, Lowered
from coreml_lab.run.lowering.nodes import domains, live, reads, scaled_last
from coreml_lab.run.lowering.packed import Plan

OPSET = 21
IR_VERSION = 10
WIDENED = {
    "float16": np.float32,
    "int8": np.int32,
    "uint8": np.int32,
    "int16": np.int32,
    "uint16": np.int32,
    "float64": np.float32,
}
SMALL = 64
# Two random words that whoever runs the model makes anew for each run; no MIL name has a colon.
ENTROPY = "coreml_lab:entropy"


def widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The element type that values of ``dtype`` have inside the ONNX graph."""
    return np.dtype(WIDENED.get(dtype.name, dtype))


class Ref(str):
    """The name of an ONNX value; ``type`` is known for MIL values, ``kept`` for constants."""

    __slots__ = ("kept", "type")
    type: TensorType | None
    kept: Constant | None

    @staticmethod
    def of(name: str, kind: TensorType | None = None, kept: Constant | None = None) -> Ref:
        """A name with what is known about it."""
        ref = Ref(name)
        ref.type, ref.kept = kind, kept
        return ref

    @property
    def const(self) -> Array | None:
        """The array it always is (widened: of a big fp16 one, a copy), or None."""
        return None if self.kept is None else self.kept.value

    @property
    def known(self) -> TensorType:
        """The type; asking it of an intermediate value is a fault of the lowering."""
        if self.type is None:
            raise AssertionError(f"the type of {self!s} is not known")
        return self.type

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes (a ``Dim`` where flexible)."""
        return self.known.shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return self.known.rank

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type inside the ONNX graph (widened)."""
        return self.known.dtype


@dataclass
class OnnxBuilder:
    """A namespace of ONNX operators: ``o.Softmax(x, axis=1)`` adds a node and returns its result.

    ``outputs=n`` gives a tuple of n results; attributes and trailing inputs that are ``None`` are
    left out.
    ``o.node`` is the MIL node being lowered, ``o.out`` the type of its first result; ``o.owner``
    names the outermost operation with blocks, to which everything that lowers it belongs.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    node: Node = field(default_factory=lambda: Node("none", ()))
    faithful: bool = False
    owner: str = ""
    nested: list[str] = field(default_factory=list)
    # The counts of the loops around what is being lowered.
    rounds: list[Ref] = field(default_factory=list)
    # How often new random words were asked for.
    drawn: int = 0
    _depth: int = 0
    # What MIL's values are called here, as far as they have been lowered.
    refs: dict[Value, Ref] = field(default_factory=dict)
    # int8 weights by the name of their dense form: the numbers, and a scale for each filter.
    packed: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    # Products whose weights stay as they are stored.
    kept: Plan = field(default_factory=Plan)
    _small: dict[Any, Ref] = field(default_factory=dict)

    @property
    def out(self) -> TensorType:
        """The declared type of the first result."""
        return self.node.type

    def __getattr__(self, op_type: str) -> Any:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def add(*inputs: str | None, outputs: int = 1, **attrs: Any) -> Any:
            return self.add(op_type, inputs, outputs, attrs)

        return add

    def add(
        self, op_type: str, inputs: tuple[str | None, ...], outputs: int, attrs: Mapping[str, Any]
    ) -> Any:
        """Append a node; the attribute syntax ``o.Relu(x)`` ends here."""
        name = self.node.name or self.node.op
        label = name if name not in self.origin else f"{name}#{len(self.origin)}"
        self.origin[label] = self.owner or name
        if self._depth:
            self.nested.append(label)
        names = [i if i is not None else "" for i in inputs]
        while names and not names[-1]:
            names.pop()
        results = [Ref.of(f"{label}:{i}") for i in range(outputs)]
        given = {k: _attribute(v) for k, v in attrs.items() if v is not None}
        self.nodes.append(helper.make_node(op_type, names, list(results), name=label, **given))
        return results[0] if outputs == 1 else tuple(results)

    def graph(
        self,
        inputs: Sequence[Ref],
        body: Callable[[], Sequence[Ref]],
        dtypes: Iterable[np.dtype[Any]],
    ) -> onnx.GraphProto:
        """What ``body`` adds, as a nested graph; it reads what was made before by its name."""
        outer, self.nodes, node = self.nodes, [], self.node
        self._depth += 1
        # An output must be made inside, also where a block hands back what it was given.
        results = [self.add("Identity", (ref,), 1, {}) for ref in body()]
        nodes = live(self.nodes, set(results))
        self.nodes, self.node = outer, node
        self._depth -= 1
        return helper.make_graph(
            nodes,
            f"{node.name or node.op}#{len(self.origin)}",
            [_nested_info(ref, ref.dtype, ref.rank) for ref in inputs],
            [_nested_info(r, widened(d)) for r, d in zip(results, dtypes, strict=True)],
        )

    @staticmethod
    def typed(name: str, kind: TensorType) -> Ref:
        """A name whose MIL type is known: what runs has its widened form."""
        return Ref.of(name, TensorType(kind.shape, widened(kind.dtype)))

    def unique(self, kind: TensorType) -> Ref:
        """A new name for what a nested graph is handed."""
        name = f"{self.node.name or self.node.op}#{len(self.origin)}"
        self.origin[name] = self.node.name or self.node.op
        return self.typed(name, kind)

    def const(self, value: Any, dtype: Any = None, *, raw: bool = False, own: bool = False) -> Ref:
        """A constant, widened unless ``raw``; small ones are shared unless ``own``."""
        array = np.asarray(value)
        wanted = array.dtype if dtype is None else np.dtype(dtype)
        inner = wanted if raw else widened(wanted)
        # What is rounded and widened again must be rounded first.
        kept = Constant(array if inner == wanted else array.astype(wanted, copy=False), inner)
        key = None
        if array.size <= SMALL and not own:
            key = (kept.dtype.str, array.shape, kept.value.tobytes())
            if key in self._small:
                return self._small[key]
        ref = Ref.of(f"const:{len(self.constants)}", TensorType(array.shape, kept.dtype), kept)
        self.constants[ref] = kept
        if key is not None:
            self._small[key] = ref
        return ref

    def ints(self, values: Any) -> Ref:
        """Shapes, axes and indices as ONNX wants them: int64, constant where they are known."""
        if isinstance(values, Ref):
            return (
                self.const(values.const, np.int64, raw=True)
                if values.const is not None
                else self.cast(values, np.int64)
            )
        return self.const(np.asarray(values), np.int64, raw=True)

    def scalar(self, value: float, like: Ref) -> Ref:
        """A number of the element type of ``like``."""
        return self.const(value, like.dtype)

    def entropy(self) -> Ref:
        """Two random words: others for each run, each call of this, and each round of a loop."""
        self.drawn += 1
        words: Ref = apart_onnx(self, ENTROPY, self.drawn)
        for count in self.rounds:
            words = apart_onnx(self, words, count)
        return words

    def cast(self, x: str, dtype: Any) -> Ref:
        """``x`` as another ONNX element type."""
        result: Ref = self.add(
            "Cast", (x,), 1, {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
        )
        return result

    def swap(self, x: Ref) -> Ref:
        """``x`` with its last two dimensions exchanged."""
        perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        result: Ref = self.add("Transpose", (x,), 1, {"perm": perm})
        return result

    def fold(self, body: Any, /, *args: Any, **kwargs: Any) -> Ref:
        """What ``body`` computes now, as a constant: for ops whose operands never change."""
        return self.const(np.asarray(body(*args, **kwargs)))


def _attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | tuple):
        return [_attribute(v) for v in value]
    return value


def lower(
    graph: Graph, *, faithful: bool = False, keep: str = packed.OFF, wide_states: bool = False
) -> Lowered:
    """Graph -> ONNX, each op through its own ``onnx=`` lowering; states are inputs and outputs.

    Args:
        graph: what to lower.
        faithful: round every fp16 result to fp16.
        keep: which weights of products stay packed; see ``packed``.
        wide_states: hold fp16 states as fp32 from run to run.

    Raises:
        UnsupportedOp: for an op that has none; the message names it.
    """
    o = OnnxBuilder(faithful=faithful, kept=packed.plan(graph, keep))
    made = o.refs
    states = borders.States.of(graph, wide=wide_states)
    inputs = {k: n.type for k, n in graph.inputs.items()}
    inputs |= {k: states.held(n.type) for k, n in graph.states.items()}
    for name, node in (*graph.inputs.items(), *graph.states.items()):
        o.node = node
        made[Value(node)] = borders.enter(o, name, inputs[name])
    for node in graph:
        if node.op == "const":
            value = Value(node)
            made[value] = o.const(value.const)
        elif node in o.kept.unread:
            made[Value(node)] = o.typed("", node.type)
        elif node.op not in LEAVES:
            _lower_node(o, node, made)
            states.settle(o, node)
    outputs = {k: v.type for k, v in graph.outputs.items()}
    for name, value in graph.outputs.items():
        borders.leave(o, name, value, value.type)
    outputs |= states.leave(o)
    nodes = live(o.nodes, set(outputs))
    scaled_last(nodes, {k for k, c in o.constants.items() if c.array.ndim == 0}, outputs.keys())
    used = {i for n in nodes for i in reads(n)}
    entropy = {ENTROPY: TensorType((2,), np.dtype(np.uint32))} if ENTROPY in used else {}
    body = helper.make_graph(
        nodes,
        "main",
        [_info(k, t) for k, t in (inputs | entropy).items()],
        [_info(k, t) for k, t in outputs.items()],
    )
    frame = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid(d, 1 if d else OPSET) for d in {"", *domains(nodes)}],
        ir_version=IR_VERSION,
        producer_name="coreml_lab",
    )
    constants = {name: c for name, c in o.constants.items() if name in used}
    fresh = next(iter(entropy), "")
    kept = {k: inputs[k].dtype.name for k in graph.states}
    return Lowered(frame, constants, o.origin, states.new, tuple(o.nested), fresh, kept)


def _lower_node(o: OnnxBuilder, node: Node, made: dict[Value, Ref]) -> None:
    if node.op in CONTROL_FLOW:
        blocks.lower(o, node, made, _lower_node)
        return
    declared = OPS.get(node.op)
    if declared is None or declared.onnx is None:
        raise unsupported(node, "portable", "portable")
    o.node = node

    def ref(operand: Operand) -> Any:
        return tuple(made[v] for v in operand) if isinstance(operand, tuple) else made[operand]

    inputs = {k: ref(v) for k, v in node.inputs.items()}
    # Opsets differ in which parameters must be constant; the declaration follows the newest one.
    given = {k: v for k, v in node.attrs.items() if k not in declared.operands}
    inputs |= {k: o.const(v) for k, v in node.attrs.items() if k in declared.operands}
    # A constant parameter may come from a constexpr op: that has been folded, its array is known.
    # An operand that only older opsets have may be computed.
    given |= {
        k: v if v.const is None else v.const
        for k, v in inputs.items()
        if k not in declared.operands
    }
    known = all(v.type.static for v in node.operands())
    if known and all(kind.empty for kind in node.types):
        # Some of ONNX Runtime's kernels end the process for tensors without elements. Of flexible
        # operands, a size of 0 in a result need not mean that: MIL keeps reshape's 0 as it stands.
        result: Any = [o.Expand(o.const(0, kind.dtype), o.ints(kind.sizes)) for kind in node.types]
    elif node in o.kept.products:
        result = packed.lower(o, o.kept.products[node], inputs, given)
    else:
        try:
            result = declared.call(declared.onnx, o, inputs, given)
        except UnsupportedOp as error:
            error.node = error.node or node.name
            raise
    results = result if isinstance(result, tuple | list) else (result,)
    for i, (kind, found) in enumerate(zip(node.types, results, strict=True)):
        kept = found.kept if isinstance(found, Ref) else None
        if o.faithful and kept is None and kind.dtype == np.float16:
            found = o.cast(o.cast(found, np.float16), np.float32)  # noqa: PLW2901 - the same, rounded
        made[Value(node, i)] = Ref.of(str(found), TensorType(kind.shape, widened(kind.dtype)), kept)


def _info(name: str, kind: TensorType) -> onnx.ValueInfoProto:
    shape = [d if isinstance(d, int) else str(d) for d in kind.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind.dtype), shape)


def _nested_info(name: str, dtype: np.dtype[Any], rank: int = -1) -> onnx.ValueInfoProto:
    """Without a shape, except for single numbers: what a loop carries may change its own."""
    shape: list[int] | None = None if rank else []
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
