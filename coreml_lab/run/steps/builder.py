"""Nodes -> steps over numbered slots, each a torch lowering with its operands prepared.

What is constant is computed when a program is loaded, by the ops' NumPy bodies: constants and what
compression made of them become tensors on the device. Arithmetic on shapes, which flexible programs
are full of, stays with NumPy at run time: a device that were asked for it would have to be waited
for. Everything else is the op's ``torch=`` lowering, or one step for several nodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import CONTROL_FLOW, LEAVES, Array, Block, Node, Value
from coreml_lab.program.ops import OPS, Op
from coreml_lab.run.bodies import evaluate
from coreml_lab.run.engine import unsupported
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.fusion import Attention, Chosen, Rectified, Siblings
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.step import Plan, Routine, Slots, Step, released
from coreml_lab.run.steps.ways import Way, lowering

# The largest constant whose elements a lowering may ask for (axes, sizes, places).
KNOWN = 4096
# Several nodes that run as one step.
Whole = Attention | Chosen | Rectified | Siblings | onednn.Layer
# Makes one step of a node and of those that it stands for.
AsOne = Callable[["Builder", Node, Whole], Step]


class Builder:
    """Slots and steps while a plan is being made."""

    def __init__(
        self,
        space: Space,
        way: Way,
        rounded: bool,
        whole: Mapping[Node, Whole],
        as_one: AsOne,
    ) -> None:
        self.space = space
        self.made = Plan(space, way)
        self.way = way
        self.constants: set[int] = set()
        self._rounded = rounded
        self._whole, self._as_one = whole, as_one
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

    def rename(self, value: Value, other: Value) -> None:
        """``value`` is kept where ``other`` is."""
        self._slots[value] = self.slot(other)

    def read(self, value: Value) -> int:
        """The number of a value that a step reads: a constant goes to the device here."""
        slot = self.slot(value)
        array = self.array(value)
        if array is not None and self.made.template[slot] is None:
            self.made.template[slot] = self._placed(array)
            self.constants.add(slot)
        return slot

    def array(self, value: Value) -> Array | None:
        """What a value holds, where that is known by now."""
        return value.const if value.const is not None else self._arrays.get(value)

    def steps(self, node: Node) -> list[Step]:
        """What runs a node: nothing where its results are known now."""
        if node.op in LEAVES or node in self._absorbed:
            return []
        if node in self._whole:
            return [self._as_one(self, node, self._whole[node])]
        if node.op in CONTROL_FLOW:
            return [self._control(node)]
        declared, operands = OPS.get(node.op), list(node.operands())
        random = declared is not None and declared.law is not None
        self.made.static &= not random
        known = declared is not None and not random
        if known and all(self.array(v) is not None for v in operands):
            self._fold(node)
            return []
        if declared is None or declared.torch is None:
            raise unsupported(node, "pytorch", "PyTorch")
        if not random and (node.op == "shape" or self._sizes(node, operands)):
            return [self._host_step(node)]
        return [
            self.torch_step(node, dataclasses.replace(declared, torch=lowering(node, self.way)))
        ]

    def known(self, value: Value) -> Array:
        """What a value holds that follows from constants alone."""
        if self.array(value) is None:
            self._fold(value.node)
        array = self.array(value)
        assert array is not None  # noqa: S101 - whoever asks has made sure
        return array

    def _fold(self, node: Node) -> None:
        if Value(node) not in self._arrays:
            for i, array in enumerate(evaluate(node, self.known)):
                self._arrays[Value(node, i)] = array

    def _sizes(self, node: Node, operands: Sequence[Value]) -> bool:
        """Whether a node only computes with sizes: small numbers that NumPy knows already."""
        return (
            any(v in self._hosted for v in operands)
            and all(v in self._hosted or self._small(v) for v in operands)
            and all(t.rank <= 1 for t in node.types)
        )

    def _small(self, value: Value) -> bool:
        array = self.array(value)
        return array is not None and array.size <= KNOWN

    def _host_step(self, node: Node) -> Step:
        self._hosted.update(Value(node, i) for i in range(len(node.types)))
        space, writes = self.space, self.writes(node)
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

    def torch_step(self, node: Node, declared: Op) -> Step:
        """What runs an op's torch lowering."""
        operands = tuple(self.operand(node, k) for k in declared.operands)
        # A constant parameter may come from another op: compressed weights do.
        more = {k: v for k, v in node.inputs.items() if k not in declared.operands}
        fetched = {k: self._parameter(v) for k, v in more.items()}
        # The bounds of random numbers keep their type: it decides which is the last below ``high``.
        plain = self._plain if declared.law is None else _as_it_is
        constants = {k: plain(v) for k, v in node.attrs.items() if k not in declared.operands}
        given = {k: v for k, v in {**declared.defaults, **constants}.items() if k not in fetched}
        space, rule, finish = self.space, declared.torch, self.finish(node)
        assert rule is not None  # noqa: S101 - asked before

        def run(slots: Slots) -> None:
            own = {k: get(slots) for k, get in fetched.items()}
            finish(slots, rule(space, *(get(slots) for get in operands), **given, **own))

        return Step(node, run, self._reads(node), self.writes(node))

    def settled(self, node: Node, declared: Op) -> dict[str, Any]:
        """The constant parameters of a node."""
        own = {k: self.array(v) for k, v in node.inputs.items() if isinstance(v, Value)}
        known = {**node.attrs, **{k: a for k, a in own.items() if a is not None}}
        return {k: self._plain(v) for k, v in known.items() if k not in declared.operands}

    def operand(self, node: Node, name: str) -> Callable[[Slots], Any]:
        """What fetches an operand: None where it is not given."""
        if name in node.inputs:
            return self.fetched(node.inputs[name])
        if name not in node.attrs:
            return lambda _: None
        # Opsets differ in which parameters must be constant; the declaration follows the newest.
        value = node.attrs[name]
        array = isinstance(value, np.ndarray | np.generic)
        held = self.kept(np.asarray(value)) if array else value
        return lambda _: held

    def fetched(self, operand: Value | tuple[Value, ...]) -> Callable[[Slots], Any]:
        """What fetches a value, or a list of them."""
        if isinstance(operand, tuple):
            places = tuple(self.read(v) for v in operand)
            return lambda slots: [slots[i] for i in places]
        place = self.read(operand)
        return lambda slots: slots[place]

    def _parameter(self, operand: Value | tuple[Value, ...]) -> Callable[[Slots], Any]:
        array = None if isinstance(operand, tuple) else self.array(operand)
        if array is None or array.dtype.kind == "f":
            return self.fetched(operand)
        plain = self._plain(array)
        return lambda _: plain

    def _plain(self, value: Any) -> Any:
        """A constant parameter: weights on the device, sizes as arrays, numbers as Python's."""
        if isinstance(value, np.ndarray) and value.ndim:
            return self.kept(value) if value.dtype.kind == "f" else value
        return value.item() if isinstance(value, np.generic | np.ndarray) else value

    def kept(self, array: Array) -> Any:
        """An attribute on the device: it lies with the step that reads it, and not in a slot."""
        tensor = self._placed(array)
        self.made.attributes += tensor.nbytes
        return tensor

    def _placed(self, array: Array) -> Any:
        space = self.space
        small = array.size <= KNOWN
        tensor = space.known(array) if small else space.held(array).to(space.kind(array.dtype))
        images = tensor.dim() == 4 and tensor.is_floating_point()  # noqa: PLR2004
        if space.channels_last and images:
            laid = tensor.to(memory_format=space.torch.channels_last)
            laid.known = getattr(tensor, "known", None)
            return laid
        return tensor

    def _reads(self, node: Node) -> tuple[int, ...]:
        return tuple(self.read(v) for v in node.operands())

    def writes(self, node: Node) -> tuple[int, ...]:
        """The numbers of a node's results."""
        return tuple(self.slot(Value(node, i)) for i in range(len(node.types)))

    def finish(self, node: Node) -> Callable[[Slots, Any], None]:
        """What stores results: in the element types their declared ones are held in."""
        space, writes = self.space, self.writes(node)
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
        return Step(node, make(node, blocks), self._reads(node), self.writes(node))

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
        writes = self.writes(node)

        def run(slots: Slots) -> None:
            branch = blocks[0 if bool(slots[pred]) else 1]
            for slot, result in zip(writes, branch.run(slots, ()), strict=True):
                slots[slot] = result

        return run

    def _loop(self, node: Node, blocks: Sequence[Routine]) -> Callable[[Slots], None]:
        variables, (going_on, body) = node.inputs["loop_vars"], blocks
        assert isinstance(variables, tuple)  # noqa: S101 - MIL's own type rule
        first, writes = tuple(self.read(v) for v in variables), self.writes(node)

        def run(slots: Slots) -> None:
            values = [slots[i] for i in first]
            while bool(going_on.run(slots, values)[0]):
                values = body.run(slots, values)
            for slot, result in zip(writes, values, strict=True):
                slots[slot] = result

        return run


def _as_it_is(value: Any) -> Any:
    return value
