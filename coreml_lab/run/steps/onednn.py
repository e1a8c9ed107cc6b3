"""Convolutions and linear layers with what follows them as one kernel of oneDNN's, on a CPU.

PyTorch brings oneDNN, and torch.compile calls it so where weights are frozen; eager code does not.
The weights are laid out once for the processor, and the addition and the activation behind a layer
are done while its results are still in the caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array, Graph, Node, Value
from coreml_lab.program.ops.windows import Window, torch_pad
from coreml_lab.run.steps.fusion import readers_of

# What PyTorch names oneDNN's activations: name, numbers, and which way of computing it.
Behind = tuple[str, list[float], str]
# A layer of its input and of what is added to it, which may be None.
Run = Callable[[Any, Any], Any]
NOTHING: Behind = ("none", [], "")
ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "silu": "swish"}
# oneDNN makes 0 of what is not a number when it cuts: that is done where the result is, instead.
CUTS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda y: y.relu_(),
    "relu6": lambda y: y.clamp_(0, 6),
}
GELU = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
KERNELS = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_reorder_linear_weight",
    "_linear_pointwise",
)
IMAGES = 4


@dataclass(frozen=True)
class Layer:
    """``activation(layer(x) + more)``, of which nothing in between is read by others.

    Attributes:
        core: the convolution of images or the linear layer; its weights are constant.
        more: what is added to a convolution, if anything.
        behind: the activation that is part of the kernel.
        cut: the name of one that is done in place, behind it.
        absorbed: the operations that the last one stands for, too.
    """

    core: Node
    more: Value | None
    behind: Behind
    cut: str
    absorbed: tuple[Node, ...]


def usable(torch: Any) -> bool:
    """Whether this PyTorch has oneDNN and the kernels that are called here."""
    kernels = getattr(torch.ops, "mkldnn", None)
    available = bool(torch.backends.mkldnn.is_available())
    return available and all(hasattr(kernels, name) for name in KERNELS)


def layers(graph: Graph) -> dict[Node, Layer]:
    """Every layer that oneDNN can run, by the last operation it stands for."""
    readers = readers_of(graph)
    after = {v: node for node in graph.ops for v in node.operands() if readers[v] == 1}
    found: dict[Node, Layer] = {}
    taken: set[Node] = set()
    for node in graph.ops:
        if _layer(node):
            last, layer = _grown(node, after, taken)
            found[last] = layer
            taken.update((last, *layer.absorbed))
    return found


def _layer(node: Node) -> bool:
    """A layer of numbers that are all known, whose sizes are known: for others nothing is laid."""
    if node.op not in {"conv", "linear"}:
        return False
    x, weight, bias = node.inputs.get("x"), constant(node, "weight"), constant(node, "bias")
    if not isinstance(x, Value) or weight is None or (bias is None and node.given("bias")):
        return False
    sized = x.type.rank > 1 and all(isinstance(n, int) and n > 0 for n in x.type.shape)
    kinds = (x.type.dtype, weight.dtype, *(t.dtype for t in node.types))
    real = all(kind.kind == "f" for kind in kinds)
    return sized and real and (node.op == "linear" or weight.ndim == IMAGES)


def constant(node: Node, name: str) -> Array | None:
    """A parameter that is an array and known; None where it is not."""
    held = _held(node.given(name))
    return np.asarray(held) if isinstance(held, np.ndarray | np.generic) else None


def _held(value: Any) -> Any:
    return value.const if isinstance(value, Value) else value


def _grown(node: Node, after: Mapping[Value, Node], taken: set[Node]) -> tuple[Node, Layer]:
    """The layer with what follows it, and the last of that."""
    last, more, absorbed = node, None, list[Node]()
    adding = after.get(Value(node))
    if node.op == "conv" and adding is not None and adding not in taken:
        more = _added(adding, Value(node))
        if more is not None:
            absorbed.append(last)
            last = adding
    next_one = after.get(Value(last))
    if next_one is not None and next_one not in taken:
        absorbed.append(last)
        behind = None if more is not None else _activation(next_one)
        if next_one.op in CUTS:
            return next_one, Layer(node, more, NOTHING, next_one.op, tuple(absorbed))
        if behind is not None:
            return next_one, Layer(node, None, behind, "", tuple(absorbed))
        absorbed.pop()
    return last, Layer(node, more, NOTHING, "", tuple(absorbed))


def _added(node: Node, value: Value) -> Value | None:
    """The other side of an addition of two values of one shape."""
    sides = [v for v in node.inputs.values() if isinstance(v, Value)]
    if node.op != "add" or len(sides) != 2 or sides[0] == sides[1]:  # noqa: PLR2004 - x and y
        return None
    other = sides[1] if sides[0] == value else sides[0]
    return other if other.type == value.type and other.const is None else None


def _activation(node: Node) -> Behind | None:
    """What oneDNN calls it, where it does the same."""
    if node.op == "gelu":
        mode = _held(node.given("mode"))
        way = GELU.get("EXACT" if mode is None else str(mode))
        return None if way is None else ("gelu", [], way)
    name = ACTIVATIONS.get(node.op)
    return None if name is None else (name, [], "")


def convolution(
    torch: Any, weight: Any, bias: Any, found: Layer, *, groups: int, **how: Any
) -> Run:
    """What computes ``activation(conv(x) + more)``; ``more`` is None where nothing is added."""
    kernels, window = torch.ops.mkldnn, Window.of(weight.shape[2:], **how)
    size = [int(n) for n in _shape(found)]
    pads = window.pads(size[2:])
    uneven = any(low != high for low, high in pads)
    if uneven:
        size[2:] = [n + sum(pad) for n, pad in zip(size[2:], pads, strict=True)]
    rest = ([0 if uneven else low for low, _ in pads], window.strides, window.dilations, groups)
    packed = kernels._reorder_convolution_weight(weight, *rest, size)  # noqa: SLF001

    def run(x: Any, more: Any) -> Any:
        given = (torch_pad(torch, x, pads) if uneven else x, packed, bias, *rest)
        if more is None:
            return kernels._convolution_pointwise(*given, *found.behind)  # noqa: SLF001
        (x, *others) = given
        return kernels._convolution_pointwise.binary(  # noqa: SLF001
            x, more, *others, "add", 1.0, None, [], ""
        )

    return _cut(run, found)


def linear(torch: Any, weight: Any, bias: Any, found: Layer) -> Run:
    """What computes ``activation(linear(x))``; nothing is added to it."""
    kernels = torch.ops.mkldnn
    packed = kernels._reorder_linear_weight(weight, math.prod(_shape(found)[:-1]))  # noqa: SLF001

    def run(x: Any, _: Any) -> Any:
        return kernels._linear_pointwise(x, packed, bias, *found.behind)  # noqa: SLF001

    return _cut(run, found)


def _cut(run: Run, found: Layer) -> Run:
    cut = CUTS.get(found.cut)
    return run if cut is None else lambda x, more: cut(run(x, more))


def _shape(found: Layer) -> tuple[Any, ...]:
    x = found.core.inputs["x"]
    assert isinstance(x, Value)  # noqa: S101 - asked when it was found
    return x.type.shape
