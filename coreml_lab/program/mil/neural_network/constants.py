"""Layers that make values out of nothing: constants, ranges, random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import MANY, LayerError, layer
from coreml_lab.program.mil.neural_network.values import (
    as_float,
    as_int,
    axis_of,
    product,
    reshape,
    scalar,
    shape_of,
    sizes,
    vector,
)
from coreml_lab.program.mil.tools import mb

TINY = 1e-10
MOST = 1 << 26


@layer("loadConstant", inputs=0)
def load_constant(p: Any) -> Array:
    """An array [1, 1, C, H, W] that the layer brings."""
    return weights.array(p.data, [1, 1, *p.shape])


@layer("loadConstantND", inputs=0)
def load_constant_nd(p: Any) -> Array:
    """An array that the layer brings."""
    return weights.array(p.data, p.shape)


@layer("fillLike", floats=False)
def fill_like(p: Any, x: Any) -> Any:
    """One number everywhere, in the shape of the input."""
    return mb.fill(shape=shape_of(sizes(x)), value=np.float32(p.value))


@layer("fillStatic", inputs=0)
def fill_static(p: Any) -> Array:
    """One number everywhere, in a given shape."""
    _believable(math.prod(p.targetShape))
    return np.full([int(n) for n in p.targetShape], p.value, np.float32)


def _believable(count: float) -> None:
    """Refuse numbers out of nothing that no memory holds: weights are as many as the file has."""
    if not 0 <= count <= MOST:
        raise LayerError(f"it makes {count:.0f} numbers; at most {MOST} are believed")


@layer("fillDynamic", floats=False)
def fill_dynamic(p: Any, shape: Any) -> Any:
    """One number everywhere, in the shape that is the input."""
    return mb.fill(shape=as_int(vector(shape)), value=np.float32(p.value))


@layer("rangeStatic", inputs=0)
def range_static(p: Any) -> Array:
    """Numbers from a start up to an end by a step."""
    step = p.stepSizeValue
    if not step:
        raise LayerError("its step is 0")
    _believable(max((p.endValue - p.startValue) / step, 0))
    return np.arange(p.startValue, p.endValue, step, np.float32)


@layer("rangeDynamic", inputs=(1, 3), floats=False)
def range_dynamic(p: Any, end: Any, start: Any = None, step: Any = None) -> Any:
    """Numbers from a start up to an end by a step, which are computed or of the layer."""
    return mb.range_1d(
        end=scalar(as_float(end)),
        start=np.float32(p.startValue) if start is None else scalar(as_float(start)),
        step=np.float32(p.stepSizeValue) if step is None else scalar(as_float(step)),
    )


def _normal(p: Any) -> dict[str, Any]:
    return {"mean": np.float32(p.mean), "stddev": np.float32(p.stdDev)}


def _uniform(p: Any) -> dict[str, Any]:
    return {"low": np.float32(p.minVal), "high": np.float32(p.maxVal)}


def _bernoulli(p: Any) -> dict[str, Any]:
    return {"prob": np.float32(p.prob)}


LAWS = {
    "Normal": ("random_normal", _normal),
    "Uniform": ("random_uniform", _uniform),
    "Bernoulli": ("random_bernoulli", _bernoulli),
}


def _draws(op: str, law: Callable[[Any], dict[str, Any]]) -> tuple[Callable[..., Any], ...]:
    """Bodies of the three layers of a law: a shape like the input's, a given, a computed one."""

    def drawn(p: Any, shape: Any) -> Any:
        return as_float(getattr(mb, op)(shape=shape, seed=np.int32(p.seed), **law(p)))

    return (
        lambda p, x: drawn(p, shape_of(sizes(x))),
        lambda p: drawn(p, [int(n) for n in p.outputShape]),
        lambda p, x: drawn(p, as_int(vector(x))),
    )


for _name, (_op, _law) in LAWS.items():
    _like, _static, _dynamic = _draws(_op, _law)
    _told = f"MIL's ``{_op}``, in "
    layer(f"random{_name}Like", floats=False, doc=_told + "the shape of the input.")(_like)
    layer(f"random{_name}Static", inputs=0, doc=_told + "a given shape.")(_static)
    layer(f"random{_name}Dynamic", floats=False, doc=_told + "a computed shape.")(_dynamic)


@layer("categoricalDistribution")
def categorical(p: Any, x: Any) -> Any:
    """Indices drawn by the probabilities, or their logarithms, along the last axis."""
    temperature = np.float32(p.temperature or 1)
    if not p.isLogits:
        x = mb.log(x=x, epsilon=np.float32(p.eps or TINY))
    if temperature != 1:
        x = mb.real_div(x=x, y=temperature)
    lead, size = sizes(x)[:-1], sizes(x)[-1]
    flat = reshape(x, [product(lead), size])
    drawn = mb.random_categorical(
        x=flat, mode="logits", size=int(p.numSamples), seed=np.int32(p.seed)
    )
    return reshape(as_float(drawn), [*lead, int(p.numSamples)])


@layer("oneHot", inputs=(1, 2), floats=False)
def one_hot(p: Any, indices: Any, size: Any = None) -> Any:
    """Along a new axis one number at each index, another one elsewhere."""
    length = np.int32(p.oneHotVectorSize) if size is None else scalar(as_int(size))
    return mb.one_hot(
        indices=as_int(indices),
        one_hot_vector_size=length,
        axis=axis_of(p.axis, indices.rank + 1),
        on_value=np.float32(p.onValue),
        off_value=np.float32(p.offValue),
    )


@layer("custom", inputs=(0, MANY), limits="its code is in an app; the message names its class")
def custom(p: Any, *_xs: Any) -> Any:
    """A layer whose code is in an app, not in the file."""
    raise LayerError(f"it is a custom layer of class {p.className!r}, whose code is in an app")
