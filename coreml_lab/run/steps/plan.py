"""Graph -> a list of steps over numbered slots, each a torch lowering with its operands prepared.

What is constant is computed when a program is loaded, by the ops' NumPy bodies: constants and what
compression made of them become tensors on the device. Arithmetic on shapes, which flexible programs
are full of, stays with NumPy at run time: a device that were asked for it would have to be waited
for. Everything else is the op's ``torch=`` lowering. A value leaves its slot after its last reader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import (
    CONTROL_FLOW,
    LEAVES,
    Array,
    Block,
    Graph,
    Node,
    Value,
    signature,
)
from coreml_lab.program.ops import OPS, Op
from coreml_lab.run.bodies import evaluate
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.fusion import (
    Attention,
    Chosen,
    Rectified,
    Whole,
    attention_torch,
    attentions,
    chosen,
    rectified,
    rectified_torch,
)
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.step import Plan, Routine, Slots, Step, released
from coreml_lab.run.steps.ways import Way, few_scores, lowering

# The largest constant whose elements a lowering may ask for (axes, sizes, places).
KNOWN = 4096
PLAIN = Way()


def plan(graph: Graph, space: Space, way: Way = PLAIN, *, rounded: bool = False) -> Plan:
    """Prepare a program for a device.

    Args:
        graph: the program.
        space: where it runs.
        way: how.
        rounded: round every fp16 result to fp16 where fp16 values are held as fp32.

    Raises:
        UnsupportedOp: for an op that has no torch lowering; the message names it.
    """
    whole: dict[Node, Whole | onednn.Layer] = {
        **chosen(graph),
        **({} if rounded else attentions(graph)),
    }
    whole |= rectified(graph) if way.rectify else {}
    whole |= onednn.layers(graph) if way.layers else {}
    space.channels_last = way.channels_last
    builder = _Builder(space, way, rounded, whole)
    for name, node in graph.inputs.items():
        builder.made.inputs[name] = builder.slot(Value(node))
    for name, node in graph.states.items():
        builder.made.states[name] = builder.slot(Value(node))
    steps = [step for node in graph for step in builder.steps(node)]
    builder.made.outputs = {k: builder.read(v) for k, v in graph.outputs.items()}
    builder.made.updates = {k: builder.read(v) for k, v in graph.updates.items()}
    kept = {*builder.made.outputs.values(), *builder.made.updates.values()}
    builder.made.steps = released(steps, kept | builder.constants)
    return builder.made


class _Builder:
    """Slots and steps while a plan is being made."""

    def __init__(
        self,
        space: Space,
        way: Way,
        rounded: bool,
        whole: Mapping[Node, Whole | onednn.Layer],
    ) -> None:
        self.space = space
        self.made = Plan(space, way)
        self._way = way
        self.constants: set[int] = set()
        self._rounded = rounded
        self._whole = whole
        self._absorbed = {node for found in whole.values() for node in found.absorbed}
        self._slots: dict[Value, int] = {}
        # Constants of the program and what follows from them; and values NumPy computes each run.
        self._arrays: dict[Value, Array] = {}
        self._hosted: set[Value] = set()

    def slot(self, value: Value) -> int:
        """The number of a value."""
        if value not in self._slots:
            self._slots[value] = len(self.made.template)
            self.made.template.append(None)
        return self._slots[value]

    def read(self, value: Value) -> int:
        """The number of a value that a step reads: a constant goes to the device here."""
        slot = self.slot(value)
        array = self._array(value)
        if array is not None and self.made.template[slot] is None:
            self.made.template[slot] = self._placed(array)
            self.constants.add(slot)
        return slot

    def _array(self, value: Value) -> Array | None:
        return value.const if value.const is not None else self._arrays.get(value)

    def steps(self, node: Node) -> list[Step]:
        """What runs a node: nothing where its results are known now."""
        if node.op in LEAVES or node in self._absorbed:
            return []
        if node in self._whole:
            return [self._as_one(node, self._whole[node])]
        if node.op in CONTROL_FLOW:
            return [self._control(node)]
        declared, operands = OPS.get(node.op), list(node.operands())
        random = declared is not None and declared.law is not None
        self.made.static &= not random
        known = declared is not None and not random
        if known and all(self._array(v) is not None for v in operands):
            self._fold(node)
            return []
        if declared is None or declared.torch is None:
            raise UnsupportedOp(
                f"{signature(node)}: the PyTorch engine has no {node.op!r}"
                + (f" (at {node.name})" if node.name else ""),
                node=node.name,
                engine="pytorch",
                hint="see cl.doctor() for what this version runs",
            )
        if not random and (node.op == "shape" or self._sizes(node, operands)):
            return [self._host_step(node)]
        return [
            self._torch_step(node, dataclasses.replace(declared, torch=lowering(node, self._way)))
        ]

    def _fold(self, node: Node) -> None:
        def value(v: Value) -> Array:
            array = self._array(v)
            assert array is not None  # noqa: S101 - asked before
            return array

        for i, array in enumerate(evaluate(node, value)):
            self._arrays[Value(node, i)] = array

    def _sizes(self, node: Node, operands: Sequence[Value]) -> bool:
        """Whether a node only computes with sizes: small numbers that NumPy knows already."""
        return (
            any(v in self._hosted for v in operands)
            and all(v in self._hosted or self._small(v) for v in operands)
            and all(t.rank <= 1 for t in node.types)
        )

    def _small(self, value: Value) -> bool:
        array = self._array(value)
        return array is not None and array.size <= KNOWN

    def _host_step(self, node: Node) -> Step:
        self._hosted.update(Value(node, i) for i in range(len(node.types)))
        space, writes = self.space, self._writes(node)
        # ``shape`` reads no elements: a view of no memory stands for its operand.
        reads = {v: self.read(v) for v in node.operands()}

        def run(slots: Slots) -> None:
            def value(v: Value) -> Array:
                tensor = slots[reads[v]]
                if node.op == "shape":
                    return np.broadcast_to(np.float32(0), tuple(tensor.shape))
                return np.asarray(tensor.known).astype(v.type.dtype, copy=False)

            for slot, array in zip(writes, evaluate(node, value), strict=True):
                slots[slot] = space.known(array)

        return Step(node, run, tuple(reads.values()), writes)

    def _torch_step(self, node: Node, declared: Op) -> Step:
        operands = tuple(self._operand(node, k) for k in declared.operands)
        # A constant parameter may come from another op: compressed weights do.
        more = {k: v for k, v in node.inputs.items() if k not in declared.operands}
        fetched = {k: self._parameter(v) for k, v in more.items()}
        # The bounds of random numbers keep their type: it decides which is the last below ``high``.
        plain = self._plain if declared.law is None else _as_it_is
        constants = {k: plain(v) for k, v in node.attrs.items() if k not in declared.operands}
        given = {k: v for k, v in {**declared.defaults, **constants}.items() if k not in fetched}
        space, rule, finish = self.space, declared.torch, self._finish(node)
        assert rule is not None  # noqa: S101 - asked before

        def run(slots: Slots) -> None:
            own = {k: get(slots) for k, get in fetched.items()}
            finish(slots, rule(space, *(get(slots) for get in operands), **given, **own))

        return Step(node, run, self._reads(node), self._writes(node))

    def _as_one(self, node: Node, found: Whole | onednn.Layer) -> Step:
        if isinstance(found, Attention):
            return self._attention(node, found)
        if isinstance(found, Chosen):
            return self._chosen(node, found)
        if isinstance(found, onednn.Layer):
            return self._layer(node, found)
        return self._rectified(node, found)

    def _chosen(self, node: Node, found: Chosen) -> Step:
        plain = dataclasses.replace(node, inputs={**node.inputs, "indices": found.indices})
        self._slots[Value(plain)] = self.slot(Value(node))
        step = self._torch_step(plain, OPS[node.op])
        step.node, step.fused = node, tuple(n.name for n in found.absorbed)
        return step

    def _attention(self, node: Node, found: Attention) -> Step:
        reads = tuple(self.read(v) for v in (found.query, found.key, found.value))
        kernel, finish = self.space.nn.functional.scaled_dot_product_attention, self._finish(node)
        if self._way.products and few_scores(node):
            kernel = partial(attention_torch, self.space)
        scale, (query_turn, key_turn) = found.scale, found.turns

        def run(slots: Slots) -> None:
            query, key, value = (slots[i] for i in reads)
            query = query.permute(query_turn) if query_turn else query
            key = key.permute(key_turn) if key_turn else key
            finish(slots, kernel(query, key.mT if found.turned else key, value, scale=scale))

        names = tuple(n.name for n in found.absorbed)
        return Step(node, run, reads, self._writes(node), fused=names)

    def _rectified(self, node: Node, found: Rectified) -> Step:
        conv, declared = found.conv, OPS[found.conv.op]
        operands = [self._operand(conv, k) for k in ("x", "weight", "bias")]
        more = (lambda _: None) if found.more is None else self._fetched(found.more)
        given = {**declared.defaults, **self._settled(conv, declared)}
        values = (*conv.operands(), *(() if found.more is None else (found.more,)))
        space, finish = self.space, self._finish(node)

        def run(slots: Slots) -> None:
            tensors = (get(slots) for get in (*operands, more))
            finish(slots, rectified_torch(space, *tensors, **given))

        names = tuple(n.name for n in found.absorbed)
        reads = tuple(self.read(v) for v in values)
        return Step(node, run, reads, self._writes(node), fused=names)

    def _layer(self, node: Node, found: onednn.Layer) -> Step:
        core, torch = found.core, self.space.torch
        held = {k: onednn.constant(core, k) for k in ("weight", "bias")}
        weight, bias = (None if a is None else self._kept(a) for a in held.values())
        if core.op == "linear":
            kernel = onednn.linear(torch, weight, bias, found)
        else:
            how = {**OPS[core.op].defaults, **self._settled(core, OPS[core.op])}
            kernel = onednn.convolution(torch, weight, bias, found, **how)
        values = [core.inputs["x"], *(() if found.more is None else (found.more,))]
        reads, finish = tuple(self.read(v) for v in values), self._finish(node)
        x, more = reads[0], reads[-1] if found.more is not None else None

        def run(slots: Slots) -> None:
            finish(slots, kernel(slots[x], None if more is None else slots[more]))

        return Step(
            node, run, reads, self._writes(node), fused=tuple(n.name for n in found.absorbed)
        )

    def _settled(self, node: Node, declared: Op) -> dict[str, Any]:
        """The constant parameters of a node."""
        own = {k: self._array(v) for k, v in node.inputs.items() if isinstance(v, Value)}
        known = {**node.attrs, **{k: a for k, a in own.items() if a is not None}}
        return {k: self._plain(v) for k, v in known.items() if k not in declared.operands}

    def _operand(self, node: Node, name: str) -> Callable[[Slots], Any]:
        if name in node.inputs:
            return self._fetched(node.inputs[name])
        if name not in node.attrs:
            return lambda _: None
        # Opsets differ in which parameters must be constant; the declaration follows the newest.
        value = node.attrs[name]
        array = isinstance(value, np.ndarray | np.generic)
        held = self._kept(np.asarray(value)) if array else value
        return lambda _: held

    def _fetched(self, operand: Value | tuple[Value, ...]) -> Callable[[Slots], Any]:
        if isinstance(operand, tuple):
            places = tuple(self.read(v) for v in operand)
            return lambda slots: [slots[i] for i in places]
        place = self.read(operand)
        return lambda slots: slots[place]

    def _parameter(self, operand: Value | tuple[Value, ...]) -> Callable[[Slots], Any]:
        array = None if isinstance(operand, tuple) else self._array(operand)
        if array is None or array.dtype.kind == "f":
            return self._fetched(operand)
        plain = self._plain(array)
        return lambda _: plain

    def _plain(self, value: Any) -> Any:
        """A constant parameter: weights on the device, sizes as arrays, numbers as Python's."""
        if isinstance(value, np.ndarray) and value.ndim:
            return self._kept(value) if value.dtype.kind == "f" else value
        return value.item() if isinstance(value, np.generic | np.ndarray) else value

    def _kept(self, array: Array) -> Any:
        """An attribute on the device: it lies with the step that reads it, and not in a slot."""
        tensor = self._placed(array)
        self.made.attributes += tensor.nbytes
        return tensor

    def _placed(self, array: Array) -> Any:
        space = self.space
        small = array.size <= KNOWN
        tensor = space.known(array) if small else space.moved(array).to(space.kind(array.dtype))
        images = tensor.dim() == 4 and tensor.is_floating_point()  # noqa: PLR2004
        if space.channels_last and images:
            laid = tensor.to(memory_format=space.torch.channels_last)
            laid.known = getattr(tensor, "known", None)
            return laid
        return tensor

    def _reads(self, node: Node) -> tuple[int, ...]:
        return tuple(self.read(v) for v in node.operands())

    def _writes(self, node: Node) -> tuple[int, ...]:
        return tuple(self.slot(Value(node, i)) for i in range(len(node.types)))

    def _finish(self, node: Node) -> Callable[[Slots, Any], None]:
        """What stores results: in the element types their declared ones are held in."""
        space, writes = self.space, self._writes(node)
        kinds = tuple(space.kind(t.dtype) for t in node.types)
        halves = tuple(self._rounded and t.dtype == np.float16 for t in node.types)

        def finish(slots: Slots, results: Any) -> None:
            several = results if isinstance(results, tuple | list) else (results,)
            for slot, kind, half, result in zip(writes, kinds, halves, several, strict=True):
                made = result.half() if half else result
                slots[slot] = made if made.dtype == kind else made.to(kind)

        return finish

    # -- control flow --------------------------------------------------------------------------

    def _control(self, node: Node) -> Step:
        self.made.static = False
        blocks = [self._block(b) for b in node.blocks]
        make = self._cond if node.op == "cond" else self._loop
        return Step(node, make(node, blocks), self._reads(node), self._writes(node))

    def _block(self, block: Block) -> Routine:
        inputs = tuple(self.slot(Value(n)) for n in block.inputs)
        steps = [step for node in block.nodes for step in self.steps(node)]
        outputs = tuple(self.read(v) for v in block.outputs)
        outside = {self.read(v) for v in block.captured}
        return Routine(
            inputs, released(steps, {*outputs, *outside, *inputs} | self.constants), outputs
        )

    def _cond(self, node: Node, blocks: Sequence[Routine]) -> Callable[[Slots], None]:
        (pred,) = (
            self.read(v) for k, v in node.inputs.items() if k == "pred" and isinstance(v, Value)
        )
        writes = self._writes(node)

        def run(slots: Slots) -> None:
            branch = blocks[0 if bool(slots[pred]) else 1]
            for slot, result in zip(writes, branch.run(slots, ()), strict=True):
                slots[slot] = result

        return run

    def _loop(self, node: Node, blocks: Sequence[Routine]) -> Callable[[Slots], None]:
        variables, (going_on, body) = node.inputs["loop_vars"], blocks
        assert isinstance(variables, tuple)  # noqa: S101 - MIL's own type rule
        first, writes = tuple(self.read(v) for v in variables), self._writes(node)

        def run(slots: Slots) -> None:
            values = [slots[i] for i in first]
            while bool(going_on.run(slots, values)[0]):
                values = body.run(slots, values)
            for slot, result in zip(writes, values, strict=True):
                slots[slot] = result

        return run


def _as_it_is(value: Any) -> Any:
    return value
