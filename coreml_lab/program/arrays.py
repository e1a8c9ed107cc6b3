"""What users give, as arrays of the element types that Core ML has."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.errors import ShapeError
from coreml_lab.program import exchange
from coreml_lab.program.graph import MIL_NAME, NUMPY_NAME, Array

# Core ML has no wider element types at run time; these are narrowed on the way in.
NARROWED = {"float64": np.float32, "int64": np.int32, "uint64": np.int32, "uint32": np.int32}
# What NumPy makes new arrays of; other things may lend it their memory.
NEW = (list, tuple, int, float, np.generic)
PLAIN = "make it a plain array on the CPU first: .to_dense(), .float(), .resolve_neg(), .cpu()"


def brought(data: Any) -> tuple[Array, bool]:
    """An array of what was given, of whatever type, and whether that is new memory.

    Raises:
        ShapeError: for what NumPy can make no array of.
    """
    hint = PLAIN if hasattr(data, "__dlpack_device__") else "give nested lists of equal length"
    try:
        given, fetched = exchange.host(data)
        return np.asarray(given), fetched or isinstance(given, NEW)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ShapeError(
            f"cannot make an array of {type(data).__name__}: {error}", hint=hint
        ) from error


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array as another element type; whole numbers do not wrap around.

    Raises:
        ShapeError: for one that the other type does not hold.
    """
    if array.dtype.kind in "iu" and dtype.kind in "iu" and array.size and array.dtype != dtype:
        low, high, limits = int(array.min()), int(array.max()), np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            raise ShapeError(
                f"{low if low < limits.min else high} does not fit {dtype.name}, "
                f"which holds {limits.min} to {limits.max}",
                hint="array.astype(np.float32) holds it, rounded",
            )
    return array.astype(dtype, copy=False)


def as_data(data: Any) -> Array:
    """``data`` as an array of an element type that Core ML has.

    Raises:
        ShapeError: for what is not numbers, has more than five dimensions, or has whole numbers
            that int32 does not hold.
    """
    return taken(data)[0]


def taken(data: Any, dtype: np.dtype[Any] | None = None) -> tuple[Array, bool]:
    """``as_data``, of an element type that may be asked for, and whether that is new memory.

    Raises:
        ShapeError: as ``as_data``.
    """
    given, new = brought(data)
    array = given if dtype is None else cast(given, dtype)
    array = cast(array, np.dtype(NARROWED.get(array.dtype.name, array.dtype.newbyteorder("="))))
    _check(array)
    return array, new or not np.may_share_memory(array, given)


def _check(array: Array) -> None:
    if array.dtype.name not in MIL_NAME:
        raise ShapeError(
            f"Core ML has no element type {array.dtype}",
            hint="one of " + ", ".join(sorted(NUMPY_NAME)),
        )
    if array.ndim > 5:  # noqa: PLR2004 - Core ML's limit
        raise ShapeError(
            f"a tensor of rank {array.ndim}: Core ML's tensors have at most 5 dimensions",
            hint="reshape it first",
        )
