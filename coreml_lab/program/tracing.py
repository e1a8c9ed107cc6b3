"""Functions and tensors -> a Graph with named inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from coreml_lab.errors import GraphError, UnknownParameter
from coreml_lab.program.graph import Array, Graph, Node, Operand, TensorType, Value
from coreml_lab.program.tensors import Tensor, placeholder, traced_on


def trace(function: Callable[..., Any], specs: Mapping[str, TensorType], device: str) -> Graph:
    """The graph that ``function`` records when it is called with a placeholder per input.

    Raises:
        UnknownParameter: where inputs and parameters differ.
        GraphError: where it returns something else than tensors.
    """
    try:
        inspect.signature(function).bind(**specs)
    except TypeError as error:
        called = f"{_name(function)}{inspect.signature(function)}"
        raise UnknownParameter(
            f"{called} cannot be called with inputs {', '.join(specs) or '(none)'}: {error}",
            hint="give one spec per parameter: cl.compile(f, x=cl.spec(1, 3, 224, 224))",
        ) from error
    inputs = {name: placeholder(name, kind, device) for name, kind in specs.items()}
    with traced_on(device):
        graph = gather(function(**inputs))
    return bake(Graph(graph.outputs, {name: t.value.node for name, t in inputs.items()}))


def gather(result: Any) -> Graph:
    """Tensors (one, several, or a dictionary of them) as the outputs of a graph."""
    named: dict[str, Any]
    if isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, tuple | list):
        named = {f"output_{i}": t for i, t in enumerate(result)}
    else:
        named = {"output": result}
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise GraphError(
                f"output {name!r} is a {type(value).__name__}, not a tensor",
                hint="return tensors, or a dictionary of them",
            )
        if not name.isidentifier():
            raise GraphError(
                f"output name {name!r} is not an identifier",
                hint="use letters, digits and underscores",
            )
    return Graph({name: t.value for name, t in named.items()})


def bake(graph: Graph) -> Graph:
    """The same graph with every held array a constant: what a compiled program is."""
    return _rewrite(
        graph, lambda node: Node("const", node.types, attrs={"val": node.attrs["data"]})
    )


def bind(graph: Graph) -> tuple[Graph, dict[str, Array]]:
    """The graph with every held array an input, and those arrays: equal code compiles once."""
    feeds: dict[str, Array] = {}

    def as_input(node: Node) -> Node:
        name = f"input_{len(feeds)}"
        feeds[name] = node.attrs["data"] if node.op == "data" else _drawn[node]
        return Node("input", (TensorType(feeds[name].shape, feeds[name].dtype),), name=name)

    bound = _rewrite(graph, as_input, lambda node: node.op == "data" or node in _drawn)
    # What only led to numbers that have been drawn is not part of it any more.
    return bound, {name: feeds[name] for name in bound.inputs if name in feeds}


# What tensors drew without a seed: a tensor has one value, however often it is looked at.
_drawn: WeakKeyDictionary[Node, Array] = WeakKeyDictionary()


def keep(drawn: Mapping[Node, Array]) -> None:
    """Remember what was drawn for as long as a tensor may ask for it."""
    _drawn.update(drawn)


def draws(graph: Graph) -> list[Node]:
    """The operations that are to draw without a seed, and have not yet."""
    from coreml_lab.program.ops import OPS  # noqa: PLC0415 - a warm cache does without them
    from coreml_lab.program.ops.draws import FRESH  # noqa: PLC0415

    return [
        node
        for node in graph.ops
        if node.op in OPS
        and OPS[node.op].law is not None
        and node.attrs["seed"] == FRESH
        and node not in _drawn
    ]


def _rewrite(
    graph: Graph,
    replace: Callable[[Node], Node],
    held: Callable[[Node], bool] = lambda node: node.op == "data",
) -> Graph:
    new: dict[Node, Node] = {}

    def moved(operand: Operand) -> Operand:
        if isinstance(operand, tuple):
            return tuple(Value(new[v.node], v.index) for v in operand)
        return Value(new[operand.node], operand.index)

    for node in graph:
        if held(node):
            new[node] = replace(node)
        elif all(new[v.node] is v.node for v in node.operands()):
            new[node] = node
        else:
            new[node] = Node(
                node.op,
                node.types,
                {k: moved(v) for k, v in node.inputs.items()},
                node.attrs,
                node.blocks,
                node.name,
                node.where,
                node.opset,
            )
    return Graph(
        {k: Value(new[v.node], v.index) for k, v in graph.outputs.items()},
        {k: new.get(n, n) for k, n in graph.inputs.items()},
    )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
