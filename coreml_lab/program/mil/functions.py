"""One function of a loaded program -> Graph; control flow becomes blocks, states become values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from coreml_lab.errors import ModelError
from coreml_lab.program.graph import Block, Dim, Graph, Node, Operand, TensorType, Value
from coreml_lab.program.mil.description import feature
from coreml_lab.program.mil.tools import is_symbolic, nptype_from_builtin, types

# coremltools numbers its targets from iOS13 = 4; MIL opsets are named after the iOS release.
OPSET_OFFSET = 9
# For the Neural Engine's sake coremltools casts integers to 16 bits before gathers, negative ones
# to uint16 too. Core ML is reported not to narrow there (apple/coremltools#2222), so neither do we.
NARROW = frozenset({"int16", "uint16"})
UPDATE = "coreml_update_state"
# A classifier's label and dictionary are made outside of the program, by its Model.
OUTSIDE = frozenset({"const", "classify"})


def _plain(value: Any) -> Any:
    """Flags, counts and names as Python's own; floats keep their width."""
    return value.item() if isinstance(value, np.bool_ | np.integer | np.str_) else value


class FunctionReader:
    """Reads one function of a file; ``description`` is the function's interface."""

    def __init__(self, file: str, description: Any) -> None:
        self.file = file
        self.description = description
        # Of a state's variable: what the state holds at this point of the program.
        self.made: dict[Any, Value] = {}
        self.consts: dict[Any, Value] = {}
        self.dims: dict[str, Dim] = {}
        self.opset = 0

    def graph(self, function: Any) -> Graph:
        """The whole function."""
        self.opset = int(function.opset_version.value) + OPSET_OFFSET
        self._bounds(function)
        inputs: dict[str, Node] = {}
        states: dict[str, Node] = {}
        held: dict[str, Any] = {}
        for name, var in function.inputs.items():
            is_state = types.is_state(var.sym_type)
            node = self._leaf("state" if is_state else "input", var, name)
            (states if is_state else inputs)[name] = node
            if is_state:
                held[name] = var
        self._operations(function.operations)
        return Graph(
            {var.name: self._value(tensor) for var, tensor in _tensors(function.outputs)},
            inputs,
            states,
            {name: self.made[var] for name, var in held.items()},
        )

    def _bounds(self, function: Any) -> None:
        """Names and bounds of flexible dimensions, from the model's description."""
        described = {f.name: f for f in self.description.input}
        for name, var in function.inputs.items():
            bounds = feature(self.file, described[name]).bounds if name in described else ()
            for symbol, (low, high) in zip(var.shape, bounds, strict=False):
                if is_symbolic(symbol):
                    self.dims.setdefault(str(symbol), Dim(f"d{len(self.dims)}", low, high))

    def _leaf(self, op: str, var: Any, name: str) -> Node:
        """A value that is handed in: an input, a state, or what a loop hands its blocks."""
        node = Node(op, (self._type(var),), name=name, where=self.file, opset=self.opset)
        self.made[var] = Value(node)
        return node

    def _type(self, var: Any) -> TensorType:
        if types.is_list(var.sym_type):
            return self._list_type(var)
        try:
            dtype = np.dtype(nptype_from_builtin(var.dtype))
        except (TypeError, AttributeError) as error:
            raise ModelError(
                f"{self.file}: {var.name} is not a tensor ({var.sym_type})",
                hint="see cl.doctor() for what runs",
            ) from error
        dtype = np.dtype(np.int32) if dtype.name in NARROW else dtype
        return TensorType(tuple(self._size(d) for d in var.shape), dtype)

    def _list_type(self, var: Any) -> TensorType:
        """A list is a tensor of its elements, side by side along a first dimension."""
        element = var.elem_type
        if not types.is_tensor(element):
            raise ModelError(
                f"{self.file}: the list {var.name} does not say what its elements are",
                hint="give make_list an elem_shape and convert the model again",
            )
        fixed = var.init_length if not var.dynamic_length else None
        shape = tuple(self._size(d) for d in element.get_shape())
        dtype = np.dtype(nptype_from_builtin(element.get_primitive()))
        return TensorType((Dim("length", 0) if fixed is None else int(fixed), *shape), dtype)

    def _size(self, size: Any) -> int | Dim:
        """A size as ours, numbered: coremltools' symbols differ from process to process."""
        if not is_symbolic(size):
            return int(size)
        return self.dims.setdefault(str(size), Dim(f"d{len(self.dims)}"))

    def _operations(self, operations: Iterable[Any]) -> list[Node]:
        return [
            self._node(op)
            for op in operations
            if op.op_type not in OUTSIDE and not all(v.val is not None for v in op.outputs)
        ]

    def _node(self, op: Any) -> Node:
        inputs: dict[str, Operand] = {}
        attrs: dict[str, Any] = {}
        for name, var in op.inputs.items():
            if var is None or name.startswith("_"):
                continue
            if isinstance(var, tuple | list):
                inputs[name] = tuple(self._value(v) for v in var)
            elif var in self.made or not op.input_spec.input_types[name].const:
                inputs[name] = self._value(var)
            else:
                attrs[name] = _plain(var.val)
        if op.op_type == "cast" and attrs["dtype"] in NARROW:
            attrs["dtype"] = "int32"
        types = tuple(self._type(v) for v in op.outputs)
        states = tuple(dict.fromkeys(s for b in op.blocks for s in _updated(b.operations)))
        held = tuple(self.made[s] for s in states)
        if op.op_type == "while_loop" and isinstance(loop_vars := inputs["loop_vars"], tuple):
            inputs["loop_vars"] = (*loop_vars, *held)
        blocks = tuple(self._block(op.op_type, i, b, states) for i, b in enumerate(op.blocks))
        first = op.outputs[0].name
        node = Node(
            op.op_type,
            (*types, *(v.type for v in held)),
            inputs,
            attrs,
            blocks,
            first,
            f"{self.file}: {first}",
            self.opset,
        )
        self.made.update({var: Value(node, i) for i, var in enumerate((*op.outputs, *states))})
        if op.op_type == UPDATE:
            self.made[op.state] = Value(node)
        return node

    def _block(self, outer: str, index: int, block: Any, states: tuple[Any, ...]) -> Block:
        """A nested block; states it changes are handed through it like loop variables."""
        before = {s: self.made[s] for s in states}
        loop = outer == "while_loop"
        handed = (*block.inputs, *states) if loop else block.inputs
        inputs = tuple(self._leaf("input", v, v.name) for v in handed)
        nodes = self._operations(block.operations)
        outputs = tuple(self._value(v) for v in block.outputs)
        # A loop's first block only decides whether to go on.
        if not loop or index == 1:
            outputs += tuple(self.made[s] for s in states)
        self.made.update(before)
        return Block(inputs, _needed(nodes, outputs), outputs)

    def _value(self, var: Any) -> Value:
        if var in self.made:
            return self.made[var]
        if var.val is None:
            raise ModelError(
                f"{self.file}: {var.name} is used but nothing computes it",
                hint="the program is damaged: convert it again",
            )
        if var not in self.consts:
            # A size that is only known when the program runs has a name: lists grow into it.
            array = np.asarray(0 if isinstance(var.val, str) and _is_size(var) else var.val)
            self.consts[var] = Value(
                Node(
                    "const",
                    (TensorType(array.shape, array.dtype),),
                    attrs={"val": array},
                    name=var.name,
                )
            )
        return self.consts[var]


def _tensors(outputs: Any) -> Iterator[tuple[Any, Any]]:
    """Each output with the tensor behind it: a classifier's dictionary has its probabilities."""
    for var in outputs:
        if var.op is None or var.op.op_type != "classify":
            yield var, var
        elif var is var.op.outputs[1]:
            yield var, var.op.inputs["probabilities"]


def _is_size(var: Any) -> bool:
    return any(op.op_type == "make_list" and var in op.inputs["elem_shape"] for op in var.child_ops)


def _updated(operations: Iterable[Any]) -> Iterator[Any]:
    """The states that operations change, those inside their blocks included."""
    for op in operations:
        if op.op_type == UPDATE:
            yield op.state
        for block in op.blocks:
            yield from _updated(block.operations)


def _needed(nodes: list[Node], outputs: tuple[Value, ...]) -> tuple[Node, ...]:
    """The nodes that the outputs depend on, in order."""
    needed = {v.node for v in outputs}
    kept = []
    for node in reversed(nodes):
        if node in needed:
            kept.append(node)
            needed.update(v.node for v in node.operands())
    return tuple(kept[::-1])
