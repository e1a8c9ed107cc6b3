"""Arithmetic on several inputs, with a number where there is only one; comparison and logic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import MANY, LayerError, layer
from coreml_lab.program.mil.neural_network.values import as_bool, as_float, at_least, same
from coreml_lab.program.mil.tools import mb, types

IMAGE = 3
BROADCAST = {
    "addBroadcastable": "add",
    "subtractBroadcastable": "sub",
    "multiplyBroadcastable": "mul",
    "maxBroadcastable": "maximum",
    "minBroadcastable": "minimum",
}
REAL = {
    "divideBroadcastable": "real_div",
    "floorDivBroadcastable": "floor_div",
    "modBroadcastable": "mod",
    "powBroadcastable": "pow",
}
COMPARED = {
    "equal": "equal",
    "notEqual": "not_equal",
    "lessThan": "less",
    "lessEqual": "less_equal",
    "greaterThan": "greater",
    "greaterEqual": "greater_equal",
}
JOINED = {"logicalAnd": "logical_and", "logicalOr": "logical_or", "logicalXor": "logical_xor"}


def _all(op: str, xs: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda a, b: getattr(mb, op)(x=a, y=b), xs)


@layer("add", inputs=(1, MANY), images=True)
def add(p: Any, *xs: Any) -> Any:
    """The sum of its inputs, or of its input and alpha."""
    return _all("add", xs) if len(xs) > 1 else mb.add(x=xs[0], y=np.float32(p.alpha))


@layer("multiply", inputs=(1, MANY), images=True)
def multiply(p: Any, *xs: Any) -> Any:
    """The product of its inputs, or of its input and alpha."""
    return _all("mul", xs) if len(xs) > 1 else mb.mul(x=xs[0], y=np.float32(p.alpha))


@layer("average", inputs=(1, MANY), images=True)
def average(_p: Any, *xs: Any) -> Any:
    """The mean of its inputs."""
    return mb.mul(x=_all("add", xs), y=np.float32(1 / len(xs)))


@layer("max", inputs=(1, MANY), images=True)
def largest(_p: Any, *xs: Any) -> Any:
    """The largest of its inputs."""
    return _all("maximum", xs)


@layer("min", inputs=(1, MANY), images=True)
def smallest(_p: Any, *xs: Any) -> Any:
    """The smallest of its inputs."""
    return _all("minimum", xs)


def _same(op: str) -> Callable[..., Any]:
    def body(_p: Any, a: Any, b: Any) -> Any:
        x, y = same([a, b])
        return getattr(mb, op)(x=x, y=y)

    return body


def _real(op: str) -> Callable[..., Any]:
    def body(_p: Any, a: Any, b: Any) -> Any:
        whole = op in {"floor_div", "mod"} and all(types.is_int(x.dtype) for x in (a, b))
        x, y = (a, b) if whole else (as_float(a), as_float(b))
        return getattr(mb, op)(x=x, y=y)

    return body


for _kind, _op in BROADCAST.items():
    layer(_kind, inputs=2, floats=False, doc=f"MIL's ``{_op}``.")(_same(_op))
for _kind, _op in REAL.items():
    layer(_kind, inputs=2, floats=False, doc=f"MIL's ``{_op}``.")(_real(_op))


def _compared(op: str) -> Callable[..., Any]:
    def body(p: Any, a: Any, b: Any = None) -> Any:
        if b is None:
            return getattr(mb, op)(x=as_float(a), y=np.float32(p.alpha))
        x, y = same([a, b])
        return getattr(mb, op)(x=x, y=y)

    return body


def _joined(op: str) -> Callable[..., Any]:
    return lambda _p, a, b: getattr(mb, op)(x=as_bool(a), y=as_bool(b))


for _kind, _op in COMPARED.items():
    _told = f"MIL's ``{_op}``, of two inputs or of one and a number."
    layer(_kind, inputs=(1, 2), floats=False, doc=_told)(_compared(_op))
for _kind, _op in JOINED.items():
    _told = f"MIL's ``{_op}``: what is not 0 is true."
    layer(_kind, inputs=2, floats=False, doc=_told)(_joined(_op))


@layer("logicalNot", floats=False)
def logical_not(_p: Any, x: Any) -> Any:
    """1 where its input is 0, else 0."""
    return mb.logical_not(x=as_bool(x))


@layer("whereBroadcastable", inputs=3, floats=False)
def where(_p: Any, condition: Any, a: Any, b: Any) -> Any:
    """The second input where the first is not 0, else the third."""
    x, y = same([a, b])
    return mb.select(cond=as_bool(condition), a=x, b=y)


@layer("bias", images=True)
def bias(p: Any, x: Any) -> Any:
    """A bias of shape [1], [C], [1, H, W] or [C, H, W] added."""
    return mb.add(x=x, y=_spread(p.bias, p.shape, x))


@layer("scale", images=True)
def scale(p: Any, x: Any) -> Any:
    """Multiplied by a scale of shape [1], [C], [1, H, W] or [C, H, W], and a bias added."""
    scaled = mb.mul(x=x, y=_spread(p.scale, p.shapeScale, x))
    return mb.add(x=scaled, y=_spread(p.bias, p.shapeBias, x)) if p.hasBias else scaled


def _spread(params: Any, shape: Any, x: Any) -> Any:
    """Weights so that they meet the channels, the third axis from the end."""
    at_least(x, IMAGE)
    dims = [int(n) for n in shape]
    if len(dims) not in {1, IMAGE}:
        raise LayerError(f"its weights have shape {dims}; it must have one or three numbers")
    found = weights.array(params, dims)
    return found.reshape(-1, 1, 1) if len(dims) == 1 else found
