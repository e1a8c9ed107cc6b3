"""Single operations as graphs have them, for rules that look at one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.explain.placing.reasons import Context
from coreml_lab.explain.placing.tables import chip
from coreml_lab.program.graph import Dim, Graph, Node, TensorType, Value
from coreml_lab.program.program import describe


def kind(*shape: int | Dim, dtype: Any = np.float16) -> TensorType:
    return TensorType(shape, np.dtype(dtype))


def given(*shape: int | Dim, dtype: Any = np.float16, name: str = "x") -> Value:
    """An input."""
    return Value(Node("input", (kind(*shape, dtype=dtype),), name=name))


def held(*shape: int, dtype: Any = np.float16) -> Value:
    """A constant of zeros."""
    array = np.zeros(shape, dtype)
    return Value(Node("const", (kind(*shape, dtype=dtype),), attrs={"val": array}))


def node(
    op: str,
    inputs: Mapping[str, Any] | None = None,
    results: TensorType | Sequence[TensorType] | None = None,
    *,
    name: str = "",
    **attrs: Any,
) -> Node:
    """An operation; its result is like its ``x`` where nothing is said."""
    inputs = {"x": given(1, 64, 32, 32)} if inputs is None else inputs
    if results is None:
        results = inputs["x"].type
    types = (results,) if isinstance(results, TensorType) else tuple(results)
    return Node(op, types, inputs, attrs, name=name or f"{op}_0")


def conv(x: Value, *kernel: int, channels: int = 64, name: str = "conv", **attrs: Any) -> Node:
    """A convolution that keeps the size of its input."""
    weight = held(channels, x.type.sizes[1], *(kernel or (3, 3)))
    shape = (x.type.shape[0], channels, *x.type.shape[2:])
    return node(
        "conv", {"x": x, "weight": weight}, TensorType(shape, x.type.dtype), name=name, **attrs
    )


def on(name: str = "M4", **options: Any) -> Context:
    return Context(chip(name), **options)


def described(graph: Graph, name: str = "net") -> Any:
    """Its description."""
    from pathlib import Path

    return describe(graph, name=name, key="", package=Path("net.mlpackage"), function="", size=0)
