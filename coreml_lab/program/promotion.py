"""The rules behind tensors' operators: which type numbers meet in, and what NumPy allows.

Numbers of different types meet in their common one, as in NumPy, limited to what Core ML computes
with: fp32, fp16 and int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.errors import ShapeError
from coreml_lab.program.arrays import NARROWED, brought, cast
from coreml_lab.program.graph import MIL_NAME, NUMPY_NAME

BOOL, INT32, FLOAT32 = np.dtype(bool), np.dtype(np.int32), np.dtype(np.float32)


def is_tensor(value: Any) -> bool:
    """Whether it is one of our tensors."""
    from coreml_lab.program.tensors import Tensor  # noqa: PLC0415 - tensors are written with this

    return isinstance(value, Tensor)


def op(name: str, *operands: Any, **constants: Any) -> Any:
    """Record the MIL operation ``name``."""
    from coreml_lab.program.ops import OPS  # noqa: PLC0415 - the operations are declared on tensors

    return OPS[name](*operands, **constants)


def sugar(name: str, *operands: Any, **constants: Any) -> Any:
    """Record what the friendly spelling ``name`` stands for."""
    from coreml_lab.program.ops import sugar as spelling  # noqa: PLC0415 - as above

    return getattr(spelling, name)(*operands, **constants)


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which Core ML computes with numbers of ``dtype``."""
    if dtype.kind == "f":
        return dtype if dtype == np.float16 else FLOAT32
    return INT32


def element_type(dtype: Any) -> np.dtype[Any]:
    """A Core ML element type by MIL's name, NumPy's, or Python's.

    Raises:
        ShapeError: for a type that Core ML does not have.
    """
    try:
        found = np.dtype(NUMPY_NAME.get(str(dtype), dtype))
    except TypeError:
        found = np.dtype(object)
    found = np.dtype(NARROWED.get(found.name, found))
    if found.name not in MIL_NAME:
        raise ShapeError(
            f"Core ML has no element type {dtype!r}", hint="one of " + ", ".join(sorted(NUMPY_NAME))
        )
    return found


def as_type(value: Any, dtype: np.dtype[Any]) -> Any:
    """A tensor cast to ``dtype`` where it has another; anything else as an array of it."""
    if not is_tensor(value):
        return cast(np.asarray(value), dtype)
    return value if value.dtype == dtype else op("cast", value, dtype=MIL_NAME[dtype.name])


def plain(*values: Any) -> list[Any]:
    """Tensors and bare numbers as they are, arrays of other libraries and lists as NumPy's.

    Raises:
        ShapeError: for what NumPy can make no array of.
    """
    numbers = bool | int | float
    return [v if is_tensor(v) or isinstance(v, numbers) else brought(v)[0] for v in values]


def common_type(*values: Any) -> np.dtype[Any]:
    """The type in which the values meet; a bare number adapts to the others.

    Raises:
        ShapeError: where it does not fit theirs.
    """

    def kind(value: Any) -> Any:
        if isinstance(value, bool | int | float):
            return value
        return value.dtype if is_tensor(value) else np.asarray(value).dtype

    try:
        return np.result_type(*map(kind, values))
    except OverflowError as error:
        raise ShapeError(str(error), hint="cast the tensor first: x.astype('fp32')") from error


def binary(name: str, x: Any, y: Any, *, real: bool = False) -> Any:
    """Record a binary operation on numbers; ``real`` ones turn integers into real numbers."""
    if any(v is None or isinstance(v, str | bytes | dict | set) for v in (x, y)):
        return NotImplemented
    x, y = plain(x, y)
    common = computed(common_type(x, y))
    kind = FLOAT32 if real and common.kind != "f" else common
    return op(name, as_type(x, kind), as_type(y, kind))


def logical(name: str, x: Any, y: Any) -> Any:
    """Record a binary operation on truth values."""
    x, y = plain(x, y)
    if common_type(x, y) != BOOL:
        raise ShapeError(
            f"{name}: its operands must be truth values",
            hint="compare first: (x > 0) & (x < 1); Core ML has no bitwise operations",
        )
    return op(name, as_type(x, BOOL), as_type(y, BOOL))


def expanded(x: Any, axis: int) -> Any:
    """``x``, tensor or array, with a new dimension of size 1."""
    return op("expand_dims", x, axes=[axis]) if is_tensor(x) else np.expand_dims(x, axis)


def matmul(x: Any, y: Any) -> Any:
    """The matrix product with NumPy's rules for vectors, which MIL does not have."""
    x, y = plain(x, y)
    kind = computed(common_type(x, y))
    x, y = as_type(x, kind), as_type(y, kind)
    if not x.ndim or not y.ndim:
        raise ShapeError("a matrix product with a number", hint="use * instead")
    vectors = [axis for axis, v in ((-2, x), (-1, y)) if v.ndim == 1]
    product = op(
        "matmul", expanded(x, 0) if x.ndim == 1 else x, expanded(y, 1) if y.ndim == 1 else y
    )
    return op("squeeze", product, axes=vectors) if vectors else product
