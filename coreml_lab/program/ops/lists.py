"""Lists of tensors of one shape: held as one tensor, the elements along a first dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import NUMPY_NAME, Array, Dim
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import integers, normal
from coreml_lab.program.ops.sizes import as_ints, host

GROWS = Limit("captured", "how long the list gets depends on what is written where")
LIST = np.arange(12, dtype=np.float32).reshape(4, 3)


def _make_onnx(o: Any, elem_shape: Any, init_length: Any, *, dtype: Any, **_: Any) -> Any:
    parts = elem_shape if isinstance(elem_shape, tuple) else (elem_shape,)
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.ravel(s.const) for s in parts)])
    length = o.ints([1]) if init_length is None else o.Reshape(o.ints(init_length), o.ints([1]))
    zero = o.const(np.zeros((), NUMPY_NAME[str(dtype)]))
    return o.Expand(zero, o.Concat(length, o.ints(sizes), axis=0))


def _flexible(ls: Any) -> bool:
    return any(isinstance(d, Dim) for d in ls.shape)


def _grown(o: Any, ls: Any, length: Any, element: Any) -> Any:
    """``ls`` with zeros behind it, up to a length and, where not known before, an element size."""
    wanted = o.Concat(length, element, axis=0)
    missing = o.Max(o.Sub(wanted, o.Shape(ls)), o.ints([0]))
    return o.Pad(ls, o.Concat(o.ints([0] * ls.rank), missing, axis=0), None)


def _write_onnx(o: Any, ls: Any, index: Any, value: Any) -> Any:
    at = o.Reshape(o.ints(index), o.ints([1, 1]))
    if _flexible(ls):
        length = o.Add(o.Reshape(at, o.ints([1])), o.ints([1]))
        ls = _grown(o, ls, length, o.Shape(value))
    return o.ScatterND(ls, at, o.Unsqueeze(value, o.ints([0])))


def _scatter_onnx(o: Any, ls: Any, indices: Any, value: Any) -> Any:
    at = o.ints(indices)
    if _flexible(ls):
        # The -1 is for updates that are none.
        last = o.ReduceMax(o.Concat(o.ints([-1]), at, axis=0), keepdims=1)
        element = o.Slice(o.Shape(value), o.ints([1]), o.ints([value.rank]))
        ls = _grown(o, ls, o.Add(last, o.ints([1])), element)
    return o.ScatterND(ls, o.Unsqueeze(at, o.ints([-1])), value)


def _made_torch(t: Any, elem_shape: Any, init_length: Any, *, dtype: Any, **_: Any) -> Any:
    parts = elem_shape if isinstance(elem_shape, tuple | list) else (elem_shape,)
    sizes = [n for part in parts for n in np.ravel(host(part)).tolist()]
    length = 1 if init_length is None else int(host(init_length))
    return t.full([length, *sizes], 0, dtype=t.kind(NUMPY_NAME[str(dtype)]))


def _grown_torch(t: Any, ls: Any, length: int, element: Sequence[int]) -> Any:
    """``ls`` with zeros behind it, as ``_grown``."""
    pairs = zip((max(length, len(ls)), *element), ls.shape, strict=True)
    missing = [max(0, wanted - n) for wanted, n in pairs]
    flat = [n for more in reversed(missing) for n in (0, more)]
    return t.nn.functional.pad(ls, flat) if any(missing) else ls


def _write_torch(t: Any, ls: Any, index: Any, value: Any) -> Any:
    at = int(host(index))
    grown = _grown_torch(t, ls, at + 1, value.shape).clone()
    grown[at] = value
    return grown


def _scatter_torch(t: Any, ls: Any, indices: Any, value: Any) -> Any:
    places = as_ints(indices)
    grown = _grown_torch(t, ls, max(places, default=-1) + 1, value.shape[1:])
    return grown.index_copy(0, t.within(indices, len(grown)), value)


def _fitted(ls: Array, length: int, element: Sequence[int]) -> Array:
    wanted = (max(length, len(ls)), *element)
    return np.pad(ls, [(0, max(0, w - n)) for w, n in zip(wanted, ls.shape, strict=True)])


@op(
    samples=[
        {"elem_shape": (np.int32(2), np.int32(3)), "init_length": np.int32(4)},
        {"elem_shape": (np.int32(3),), "dtype": "int32", "dynamic_length": False},
    ],
    onnx=_make_onnx,
    torch=_made_torch,
    stored=True,
    opaque=True,
)
def make_list(
    elem_shape: Sequence[int],
    init_length: Any = 1,
    *,
    dynamic_length: bool = True,  # noqa: ARG001 - its type says whether it grows
    dtype: str = "fp32",
) -> Array:
    """A list of zeros; one of dynamic length grows when something is written behind its end."""
    length = 1 if init_length is None else int(init_length)
    return np.zeros((length, *(int(s) for s in elem_shape)), NUMPY_NAME[dtype])


@op(
    samples=[{"ls": LIST}],
    onnx=lambda o, ls: o.cast(o.Gather(o.Shape(ls), o.ints(0)), np.int32),
    torch=lambda t, ls: t.tensor(len(ls), dtype=t.int32),
    stored=True,
    opaque=True,
)
def list_length(ls: Array) -> Array:
    """How many elements the list has."""
    return np.asarray(len(ls), np.int32)


@op(
    samples=[
        {"ls": LIST, "index": np.int32(2), "value": normal(3)},
    ],
    onnx=_write_onnx,
    torch=_write_torch,
    stored=True,
    opaque=True,
)
def list_write(ls: Array, index: Any, value: Array) -> Array:
    """The list with the element at ``index`` replaced; what lies between is zero."""
    grown = _fitted(ls, int(index) + 1, value.shape)
    grown[int(index)] = value
    return grown


@op(
    samples=[{"ls": LIST, "index": np.int32(2)}],
    onnx=lambda o, ls, index: o.Gather(ls, o.Reshape(index, o.ints(np.zeros(0, np.int64)))),
    torch=lambda t, ls, index: ls[t.within(index, len(ls))].reshape(ls.shape[1:]),
    stored=True,
    opaque=True,
)
def list_read(ls: Array, index: Any) -> Array:
    """The element at ``index``."""
    return np.asarray(ls[int(index)])


@op(
    samples=[{"ls": LIST, "indices": integers(5, low=0, high=4)}],
    onnx=lambda o, ls, indices: o.Gather(ls, indices),
    torch=lambda t, ls, indices: ls[t.within(indices, len(ls))],
    stored=True,
    opaque=True,
)
def list_gather(ls: Array, indices: Array) -> Array:
    """The elements at ``indices``, side by side in one tensor."""
    return np.asarray(ls[indices])


@op(
    samples=[
        {"ls": LIST, "indices": np.array([3, 1], np.int32), "value": normal(2, 3)},
    ],
    onnx=_scatter_onnx,
    torch=_scatter_torch,
    limits=(GROWS,),
    stored=True,
    opaque=True,
)
def list_scatter(ls: Array, indices: Array, value: Array) -> Array:
    """The list with the elements at ``indices`` replaced by those of ``value``."""
    grown = _fitted(ls, int(max(indices, default=-1)) + 1, value.shape[1:])
    grown[indices] = value
    return grown
