"""Functions of one number, and reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import as_float, at_least, axis_of
from coreml_lab.program.mil.tools import mb

# Layer types that are an operation of MIL, parameters and all.
SAME = ("ceil", "floor", "sign", "round", "exp2", "sin", "cos", "tan", "asin", "acos", "atan")
HYPERBOLIC = ("sinh", "cosh", "tanh", "atanh", "erf")
SQRT, RSQRT, INVERSE, POWER, EXP, LOG, ABS, THRESHOLD = range(8)
AXES = {0: [-3, -2, -1], 1: [-2, -1], 2: [-3], 3: [-2], 4: [-1]}
OLD = {
    0: "reduce_sum",
    1: "reduce_mean",
    2: "reduce_prod",
    4: "reduce_sum_square",
    5: "reduce_l1_norm",
    6: "reduce_l2_norm",
    7: "reduce_max",
    8: "reduce_min",
}
LOG_SUM, ARGMAX = 3, 9
SMALL = 1e-6
REDUCED = {
    "reduceL1": "reduce_l1_norm",
    "reduceL2": "reduce_l2_norm",
    "reduceMax": "reduce_max",
    "reduceMin": "reduce_min",
    "reduceSum": "reduce_sum",
    "reduceProd": "reduce_prod",
    "reduceMean": "reduce_mean",
    "reduceLogSum": "reduce_log_sum",
    "reduceSumSquare": "reduce_sum_square",
    "reduceLogSumExp": "reduce_log_sum_exp",
}


def _mil(op: str) -> Callable[..., Any]:
    return lambda _p, x: getattr(mb, op)(x=x)


for _op in (*SAME, *HYPERBOLIC):
    layer(_op, doc=f"MIL's ``{_op}``.")(_mil(_op))


@layer("asinh")
def asinh(_p: Any, x: Any) -> Any:
    """``sign(x) log(|x| + sqrt(x² + 1))``, which MIL does not have."""
    size = mb.abs(x=x)
    root = mb.sqrt(x=mb.add(x=mb.mul(x=x, y=x), y=np.float32(1)))
    return mb.mul(x=mb.sign(x=x), y=_log(mb.add(x=size, y=root)))


@layer("acosh")
def acosh(_p: Any, x: Any) -> Any:
    """``log(x + sqrt(x² - 1))``, which MIL does not have."""
    root = mb.sqrt(x=mb.sub(x=mb.mul(x=x, y=x), y=np.float32(1)))
    return _log(mb.add(x=x, y=root))


def _log(x: Any) -> Any:
    return mb.log(x=x, epsilon=np.float32(0))


@layer("unary", images=True)
def unary(p: Any, x: Any) -> Any:
    """One of eight functions of ``scale * x + shift``."""
    scale = np.float32(p.scale or 1)
    if scale != 1:
        x = mb.mul(x=x, y=scale)
    if p.shift:
        x = mb.add(x=x, y=np.float32(p.shift))
    epsilon = np.float32(p.epsilon or SMALL)
    alpha = np.float32(p.alpha)
    bodies: dict[int, Callable[[], Any]] = {
        SQRT: lambda: mb.sqrt(x=x),
        RSQRT: lambda: mb.rsqrt(x=x, epsilon=epsilon),
        INVERSE: lambda: mb.inverse(x=x, epsilon=epsilon),
        POWER: lambda: mb.pow(x=x, y=alpha),
        EXP: lambda: mb.exp(x=x),
        LOG: lambda: _log(x),
        ABS: lambda: mb.abs(x=x),
        THRESHOLD: lambda: mb.maximum(x=x, y=alpha),
    }
    return bodies[p.type]()


@layer("reduce", images=True)
def reduce(p: Any, x: Any) -> Any:
    """A reduction over channels, height or width, which stay as axes of length 1."""
    axes = AXES[p.axis]
    at_least(x, -min(axes))
    if p.mode == LOG_SUM:
        logs = _log(mb.add(x=x, y=np.float32(p.epsilon or SMALL)))
        return mb.reduce_sum(x=logs, axes=axes, keep_dims=True)
    if p.mode == ARGMAX:
        if len(axes) > 1:
            raise LayerError("ARGMAX is of one axis: C, H or W")
        return mb.reduce_argmax(x=x, axis=axes[0], keep_dims=True)
    return getattr(mb, OLD[p.mode])(x=x, axes=axes, keep_dims=True)


def _reduced(op: str) -> Callable[..., Any]:
    def body(p: Any, x: Any) -> Any:
        axes = [axis_of(a, x.rank) for a in p.axes]
        axes = list(range(x.rank)) if p.reduceAll or not axes else sorted(set(axes))
        result = getattr(mb, op)(x=x, axes=axes, keep_dims=bool(p.keepDims))
        # A classic network has no values without axes.
        return result if result.rank else mb.expand_dims(x=result, axes=[0])

    return body


for _kind, _op in REDUCED.items():
    layer(_kind, doc=f"MIL's ``{_op}``, over some axes or all.")(_reduced(_op))


def _arg(op: str) -> Callable[..., Any]:
    def body(p: Any, x: Any) -> Any:
        keep = not p.removeDim or x.rank == 1
        return getattr(mb, op)(x=as_float(x), axis=axis_of(p.axis, x.rank), keep_dims=keep)

    return body


layer("argMax", doc="The index of the largest along an axis.")(_arg("reduce_argmax"))
layer("argMin", doc="The index of the smallest along an axis.")(_arg("reduce_argmin"))
