"""Arrays of other libraries (PyTorch, JAX, CuPy, anything with DLPack) as NumPy's, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array

# DLPack's numbers of devices whose memory the CPU reads: its own, pinned and managed memory.
READABLE = frozenset({1, 3, 11, 13})
# The methods that fetch an array from a device: PyTorch's, CuPy's.
FETCHES = ("cpu", "get")


def host(data: Any) -> tuple[Any, bool]:
    """``data`` as NumPy reads it, and whether it was copied here from another device.

    An array in the CPU's memory is not copied; what has no DLPack is left as it is.

    Raises:
        ValueError: for an array that can be brought here by no method that is known.
    """
    if isinstance(data, np.ndarray) or not hasattr(data, "__dlpack_device__"):
        return data, False
    try:
        return _host(data)
    except (TypeError, RuntimeError, BufferError) as error:
        # Each library refuses its own kinds in its own way: sparse, float8, negated views.
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error


def immutable(array: Array) -> bool:
    """Whether nobody can write to the memory of an array: read-only down to who owns it.

    A read-only view says nothing of what it is a view of, nor a library that lends its memory.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        if owner.base is None:
            return owner.flags.owndata
        owner = owner.base
    return isinstance(owner, bytes)


def _host(data: Any) -> tuple[Any, bool]:
    if getattr(data, "requires_grad", False):
        data = data.detach()
    if int(data.__dlpack_device__()[0]) not in READABLE:
        return np.asarray(_fetched(data)), True
    if str(data.dtype).endswith("bfloat16"):  # NumPy has no such type: its numbers fit into float32
        return np.asarray(_widened(data)), True
    if hasattr(data, "__array__"):
        return np.asarray(data), False
    # What lends its memory may change it, whatever the array says.
    return np.from_dlpack(data).view(), False


def _fetched(data: Any) -> Any:
    for name in FETCHES:
        if callable(fetch := getattr(data, name, None)):
            return host(fetch())[0]
    try:
        return np.from_dlpack(data, device="cpu")
    except (TypeError, BufferError, RuntimeError) as error:
        raise ValueError(f"it lies on a device, and cannot be brought here: {error}") from error


def _widened(data: Any) -> Any:
    return data.float() if hasattr(data, "float") else data.astype(np.float32)


def lent(array: Array, **how: Any) -> tuple[Any, bool]:
    """A DLPack capsule of a read-only array, and whether it holds a copy.

    Consumers that know of read-only memory get the array's own; others get a copy.

    Raises:
        BufferError: where only a copy could be given, and none is wanted.
    """
    try:
        return array.__dlpack__(**how), bool(how.get("copy"))
    except (BufferError, TypeError):
        if how.get("copy") is False:
            raise
        return array.copy().__dlpack__(stream=how.get("stream")), True
