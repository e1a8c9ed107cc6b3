"""Values between layers: a classic network knows numbers only, MIL tells types apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.registry import LayerError
from coreml_lab.program.mil.tools import is_symbolic, mb, types

RANK5 = 5
# What a condition must exceed to count as true (BranchLayerParams).
TRUE = 1e-6


@dataclass(frozen=True)
class Blob:
    """What a layer made: a MIL variable, and whether a leading axis of length 1 is left out of it.

    Old networks call every value [sequence, batch, channel, height, width]; nearly always the
    sequence has one element, and the program is written without it.
    """

    var: Any
    hidden: bool = False

    @property
    def whole(self) -> Any:
        """The variable with all axes."""
        return mb.expand_dims(x=self.var, axes=[0]) if self.hidden else self.var


def is_float(x: Any) -> bool:
    """Whether a variable holds real numbers."""
    return bool(types.is_float(x.dtype))


def is_bool(x: Any) -> bool:
    """Whether a variable holds truth values."""
    return bool(types.is_bool(x.dtype))


def as_float(x: Any) -> Any:
    """A variable as real numbers, truth as 1."""
    return x if is_float(x) else mb.cast(x=x, dtype="fp32")


def as_int(x: Any) -> Any:
    """A variable as indices or sizes."""
    return x if types.is_int(x.dtype) else mb.cast(x=x, dtype="int32")


def as_bool(x: Any) -> Any:
    """A variable as truth values: what is not 0 is true."""
    return x if is_bool(x) else mb.cast(x=x, dtype="bool")


def same(xs: Sequence[Any]) -> list[Any]:
    """Variables of one type: whole numbers where all are such, else real ones."""
    if len({x.dtype for x in xs}) == 1 and not is_bool(xs[0]):
        return list(xs)
    whole = all(types.is_int(x.dtype) for x in xs)
    return [as_int(x) if whole else as_float(x) for x in xs]


def unknown(x: Any) -> Any:
    """A copy whose value MIL does not know, even where it could: as loops need their variables."""
    copy = mb.identity(x=x)
    copy._sym_val = None  # noqa: SLF001 - or it is taken for the value of every round
    return copy


def scalar(x: Any) -> Any:
    """A variable of one element, of whatever rank, without axes."""
    if not x.rank:
        return x
    return mb.squeeze(x=x, axes=list(range(x.rank)))


def vector(x: Any) -> Any:
    """A variable of few numbers, of whatever rank, along one axis."""
    return x if x.rank == 1 else mb.reshape(x=x, shape=[-1])


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        LayerError: where there is no such axis.
    """
    if not -rank <= axis < rank:
        raise LayerError(f"axis {axis} is not one of {rank}")
    return int(axis) % rank


def at_least(x: Any, rank: int) -> None:
    """Refuse a value of fewer axes.

    Raises:
        LayerError: naming both.
    """
    if x.rank < rank:
        raise LayerError(f"its input has {x.rank} axes, it needs at least {rank}")


def sizes(x: Any) -> list[Any]:
    """The sizes of a variable: numbers, or variables where they are only known when it runs."""
    if not any(is_symbolic(d) for d in x.shape):
        return [int(d) for d in x.shape]
    shape = mb.shape(x=x)
    return [
        mb.slice_by_index(x=shape, begin=[i], end=[i + 1]) if is_symbolic(d) else int(d)
        for i, d in enumerate(x.shape)
    ]


def shape_of(dims: Sequence[Any]) -> Any:
    """Sizes as what ``reshape`` and its like take."""
    if all(isinstance(d, int) for d in dims):
        return np.array(dims, np.int32)
    parts = [np.array([d], np.int32) if isinstance(d, int) else vector(d) for d in dims]
    return mb.concat(values=parts, axis=0)


def product(dims: Sequence[Any]) -> Any:
    """The product of sizes."""
    known = int(np.prod([d for d in dims if isinstance(d, int)], dtype=np.int64))
    result = None
    for d in dims:
        if not isinstance(d, int):
            result = d if result is None else mb.mul(x=result, y=d)
    if result is None:
        return known
    return result if known == 1 else mb.mul(x=result, y=np.int32(known))


def reshape(x: Any, dims: Sequence[Any]) -> Any:
    """A variable in another shape; nothing where it has that shape."""
    if all(isinstance(d, int) for d in dims) and tuple(dims) == tuple(x.shape):
        return x
    unknown = [i for i, d in enumerate(dims) if not isinstance(d, int)]
    known = all(d for d in dims if isinstance(d, int))
    if len(unknown) == 1 and known:
        # One size that is not known needs no arithmetic on shapes.
        dims = [-1 if i in unknown else d for i, d in enumerate(dims)]
    return mb.reshape(x=x, shape=shape_of(dims))


def batched(x: Any, rank: int, body: Callable[[Any], Any]) -> Any:
    """Run ``body`` on a variable whose leading axes are one, so that it has ``rank`` axes.

    Raises:
        LayerError: where it has too few axes.
    """
    if x.rank == rank:
        return body(x)
    if x.rank == rank - 1:
        return mb.squeeze(x=body(mb.expand_dims(x=x, axes=[0])), axes=[0])
    at_least(x, rank)
    dims = sizes(x)
    lead, own = dims[: x.rank - rank + 1], dims[x.rank - rank + 1 :]
    result = body(reshape(x, [product(lead), *own]))
    return reshape(result, [*lead, *sizes(result)[1:]])
